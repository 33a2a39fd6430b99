//! What has to come back: a verdict, what it tells, and the entries that it wrote.

use serde_json::{Value, json};

use super::super::operation::{Operation, Thing, VersionAt};
use super::super::request;

/// A request with what has to come back.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub operation: Operation,
    pub verdict: Verdict,
}

pub type Verdict = Result<Outcome, Refusals>;

/// What an operation did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub entries: Vec<Entry>,
    pub facts: Vec<Fact>,
    /// Of a dry run: nothing was written.
    pub dry: bool,
}

/// An entry of the changelog.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub kind: &'static str,
    pub path: String,
    pub old_path: Option<String>,
    pub thing: Thing,
    /// Number and content, when it is about a version.
    pub version: Option<(usize, usize)>,
}

/// Something that an answer has to tell, at a JSON pointer below the payload.
#[derive(Clone, Debug)]
pub enum Fact {
    Is(&'static str, Value),
    Id(&'static str, Thing),
    Version(&'static str, VersionAt),
}

/// Why an operation is refused. The rules do not order refusals: where several hold, any is right.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    pub any_of: Vec<Refusal>,
    /// The rules leave it open: an answer that changes nothing is right as well.
    pub or_unchanged: bool,
    /// Which operation of several, and its name.
    pub operation: Option<(usize, &'static str)>,
    /// What else is right.
    pub others: Vec<Self>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: &'static str,
    pub field: Option<&'static str>,
    pub current_revision: Option<i64>,
}

impl Refusal {
    pub const fn code(code: &'static str) -> Self {
        Self { code, field: None, current_revision: None }
    }

    pub const fn field(field: &'static str) -> Self {
        Self { code: "BAD_USER_INPUT", field: Some(field), current_revision: None }
    }

    pub const fn conflict(current: i64) -> Self {
        Self { code: "REVISION_CONFLICT", field: None, current_revision: Some(current) }
    }
}

pub const NOT_FOUND: Refusal = Refusal::code("NOT_FOUND");
pub const TAKEN: Refusal = Refusal::code("ALREADY_EXISTS");

impl From<Refusal> for Refusals {
    fn from(refusal: Refusal) -> Self {
        Self { any_of: vec![refusal], ..Self::default() }
    }
}

impl Refusals {
    /// Of one of several operations.
    pub fn of(self, index: usize, operation: &Operation) -> Self {
        Self { operation: Some((index, request::name(operation))), ..self }
    }

    /// Refused, or answered without a change.
    pub fn or_unchanged(any_of: impl Into<Vec<Refusal>>) -> Self {
        Self { any_of: any_of.into(), or_unchanged: true, ..Self::default() }
    }
}

/// Refusals that are found one after another.
#[derive(Default)]
pub struct Checks(Vec<Refusal>);

impl Checks {
    /// Refused unless it holds.
    pub fn that(mut self, holds: bool, refusal: Refusal) -> Self {
        if !holds {
            self.0.push(refusal);
        }
        self
    }

    /// What was found; the refusal is kept.
    pub fn find<T>(&mut self, found: Result<T, Refusal>) -> Option<T> {
        found.map_err(|refusal| self.0.push(refusal)).ok()
    }

    pub fn end(self) -> Result<(), Refusals> {
        if self.0.is_empty() { Ok(()) } else { Err(Refusals { any_of: self.0, ..Refusals::default() }) }
    }
}

impl Outcome {
    /// What holds already: no entries.
    pub fn unchanged() -> Self {
        Self::default()
    }

    pub fn wrote(entries: Vec<Entry>) -> Self {
        Self { entries, ..Self::default() }
    }

    pub fn is(mut self, pointer: &'static str, value: impl Into<Value>) -> Self {
        self.facts.push(Fact::Is(pointer, value.into()));
        self
    }

    pub fn id(mut self, pointer: &'static str, thing: Thing) -> Self {
        self.facts.push(Fact::Id(pointer, thing));
        self
    }

    pub fn version(mut self, version: VersionAt) -> Self {
        self.facts.push(Fact::Version("/version/id", version));
        self.facts.push(Fact::Is("/version/number", json!(version.number)));
        self
    }
}

impl Entry {
    pub fn new(kind: &'static str, thing: Thing, path: &str) -> Self {
        Self { kind, path: path.to_owned(), old_path: None, thing, version: None }
    }

    pub fn from(self, old_path: &str) -> Self {
        Self { old_path: Some(old_path.to_owned()), ..self }
    }

    pub fn about(self, number: usize, content: usize) -> Self {
        Self { version: Some((number, content)), ..self }
    }
}
