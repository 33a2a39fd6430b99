//! Asks the real server what the model was asked, and compares verdicts, answers and entries.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

use reqwest::Method;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use vellum::app::Clock;

use super::library::{Entry, Exchange, Fact, Library, Life, Outcome, Refusal, Refusals};
use super::operation::{Operation, Thing, VersionAt};
use super::replay::Replay;
use super::request::{self, CHANGES, Ids, UploadHandle};
use crate::support::{sha256, text};

const HOUR_MS: i64 = 3_600_000;

/// Why a client cannot go on.
#[derive(Debug)]
pub enum Failure {
    /// The server does not do what the model says.
    Differs(String),
    /// The server does not answer.
    Away(String),
}

pub type Checked<T = ()> = Result<T, Failure>;

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self::Away(error.to_string())
    }
}

impl From<String> for Failure {
    fn from(difference: String) -> Self {
        Self::Differs(difference)
    }
}

/// A client that works in a folder of its own.
#[derive(Clone)]
pub struct Client {
    pub http: reqwest::Client,
    /// Asks without a token, where that makes a difference.
    pub stranger: Option<reqwest::Client>,
    /// `http://address`.
    pub base: String,
    pub ids: Ids,
    /// Makes the bytes of this client those of no other.
    pub salt: String,
    /// Moves the time of a server in this process.
    pub clock: Option<Clock>,
    /// Whether freed bytes can be known: nobody else has the same.
    pub alone: bool,
    /// Entries that the changelog has to have after `cursor`, by commit.
    pub expected: Vec<Vec<Entry>>,
    pub cursor: String,
    pub replay: Replay,
    /// Cursors after commits, with what the library was then.
    pub moments: Vec<(String, Library)>,
    /// What each thing was at when it was looked at last.
    pub revisions: HashMap<Thing, i64>,
}

/// What the server answered: a payload, or the code and extensions of an error.
type Answer = Result<Value, Value>;

impl Client {
    /// Opens a client whose folder is new.
    pub async fn open(base: &str, top: &str, salt: &str) -> Checked<Self> {
        Self::open_with(base, top, salt, None).await
    }

    /// The same, with a token. What strangers see is looked at too, who have none.
    pub async fn open_with(base: &str, top: &str, salt: &str, token: Option<&str>) -> Checked<Self> {
        let plain = reqwest::Client::builder().redirect(Policy::none()).build()?;
        let (http, stranger) = match token {
            Some(token) => {
                let bearer = HeaderValue::from_str(&format!("Bearer {token}")).expect("a value");
                let headers = HeaderMap::from_iter([(header::AUTHORIZATION, bearer)]);
                let known = reqwest::Client::builder().redirect(Policy::none()).default_headers(headers);
                (known.build()?, Some(plain))
            }
            None => (plain, None),
        };
        let mut client = Self {
            http,
            stranger,
            base: base.to_owned(),
            ids: Ids { top: top.to_owned(), ..Ids::default() },
            salt: salt.to_owned(),
            clock: None,
            alone: true,
            expected: Vec::new(),
            cursor: String::new(),
            replay: Replay::default(),
            moments: Vec::new(),
            revisions: HashMap::new(),
        };
        let create =
            "mutation($path: String!) { createFolder(input: { path: $path }) { created folder { id } } }";
        let made = client.gql(create, json!({ "path": top })).await?;
        let id = text(&made["createFolder"]["folder"]["id"]).to_owned();
        client.ids.things.insert(Thing::Folder(0), id);
        let head = client.gql("{ headCursor }", json!({})).await?;
        text(&head["headCursor"]).clone_into(&mut client.cursor);
        Ok(client)
    }

    /// Bytes of a content; `size` of them, as the model has it.
    pub fn bytes(&self, content: usize) -> Vec<u8> {
        format!("{:<30}{}", self.salt, "x".repeat(content + 1)).into_bytes()
    }

    pub fn digest(&self, content: usize) -> String {
        sha256(&self.bytes(content))
    }

    /// The data of a request that has to succeed.
    pub async fn gql(&self, query: &str, variables: Value) -> Checked<Value> {
        let mut answer = self.ask(query, variables).await?;
        match answer.get("errors") {
            None => Ok(answer["data"].take()),
            Some(errors) => Err(Failure::Differs(format!("{query}: {errors}"))),
        }
    }

    async fn ask(&self, query: &str, variables: Value) -> Checked<Value> {
        let body = json!({ "query": query, "variables": variables });
        let request = self.http.post(format!("{}/graphql", self.base)).json(&body);
        Ok(request.send().await?.json().await?)
    }

    /// Asks for all of a step, and compares.
    pub async fn step(&mut self, library: &Library) -> Checked {
        for exchange in &library.exchanges {
            self.exchange(exchange, library).await?;
        }
        Ok(())
    }

    /// Asks, and compares with what has to come back.
    pub async fn exchange(&mut self, exchange: &Exchange, library: &Library) -> Checked {
        if matches!(exchange.operation, Operation::PurgeTrash { .. }) {
            // Entries lead to things as long as these are there.
            self.read_changelog(library).await?;
        }
        let answer = self.send(&exchange.operation).await?;
        let compared = match (&exchange.verdict, &answer) {
            (Ok(outcome), Ok(payload)) => self.compare(outcome, payload),
            (Ok(outcome), Err(error)) if is_rejection(outcome) => self.compare(outcome, error),
            (Err(refusals), Err(error)) => compare_refusal(refusals, error),
            (Err(refusals), Ok(payload)) if refusals.or_unchanged => unchanged(payload),
            (Ok(_), Err(error)) => Err(format!("it is refused with {error}, and should be done")),
            (Err(refusals), Ok(payload)) => {
                Err(format!("it is done ({payload}), and should be refused: {refusals:?}"))
            }
        };
        if let Ok(payload) = answer
            && let Some(cursor) = payload.pointer("/changes").and_then(last_cursor)
            && !exchange.verdict.as_ref().is_ok_and(|outcome| outcome.dry)
        {
            self.moments.push((cursor, library.clone()));
        }
        compared.map_err(|difference| Failure::Differs(format!("{:?}: {difference}", exchange.operation)))
    }

    async fn send(&mut self, operation: &Operation) -> Checked<Answer> {
        match operation {
            Operation::SendBytes { upload, content } => self.send_bytes(*upload, *content).await,
            Operation::StoreFile { content } => self.store_file(*content).await,
            Operation::UploadsExpire => {
                self.clock.as_ref().expect("time can be moved").advance(HOUR_MS);
                Ok(Ok(Value::Null))
            }
            _ => self.mutate(operation).await,
        }
    }

    async fn mutate(&mut self, operation: &Operation) -> Checked<Answer> {
        let input = request::input(operation, &self.ids, |content| self.digest(content));
        let mut answer = self.ask(&request::document(operation), json!({ "input": input })).await?;
        if let Some(errors) = answer.get_mut("errors") {
            return Ok(Err(errors[0]["extensions"].take()));
        }
        let payload = answer["data"][request::name(operation)].take();
        if matches!(operation, Operation::StartUpload { .. }) {
            let intent = &payload["intent"];
            let target = below_base(text(&intent["target"]["url"]));
            self.ids.uploads.push(UploadHandle { id: text(&intent["id"]).to_owned(), target });
        }
        Ok(Ok(payload))
    }

    async fn send_bytes(&self, upload: usize, content: usize) -> Checked<Answer> {
        let Some(handle) = self.ids.uploads.get(upload) else {
            return Ok(Err(json!({ "code": "NOT_FOUND" })));
        };
        let response = self.http.put(format!("{}{}", self.base, handle.target)).body(self.bytes(content));
        let response = response.send().await?;
        let status = response.status();
        let body: Value = response.json().await.unwrap_or_default();
        Ok(if status.is_success() { Ok(body) } else { Err(body) })
    }

    async fn store_file(&mut self, content: usize) -> Checked<Answer> {
        let query = "mutation { generateUploadUrl { method url headers { name value } } }";
        let made = self.gql(query, json!({})).await?;
        let target = &made["generateUploadUrl"];
        let method: Method = text(&target["method"]).parse().expect("a method");
        let url = format!("{}{}", self.base, below_base(text(&target["url"])));
        let mut request = self.http.request(method, url).header("content-type", "text/plain");
        for header in target["headers"].as_array().into_iter().flatten() {
            request = request.header(text(&header["name"]), text(&header["value"]));
        }
        let response = request.body(self.bytes(content)).send().await?;
        let (status, body) = (response.status(), response.json::<Value>().await?);
        if !status.is_success() {
            return Ok(Err(body));
        }
        self.ids.files.push(text(&body["storageId"]).to_owned());
        Ok(Ok(body))
    }

    fn compare(&mut self, outcome: &Outcome, payload: &Value) -> Result<(), String> {
        let expected = in_one_order(&outcome.entries);
        if let Some(changes) = payload["changes"].as_array() {
            let changes = changes_in_one_order(changes);
            if changes.len() != expected.len() {
                return Err(format!("it wrote {changes:?}, not {expected:?}"));
            }
            for (entry, change) in expected.iter().zip(&changes) {
                self.compare_entry(entry, change)?;
                if !outcome.dry {
                    self.compare_ids(entry, change)?;
                }
            }
        }
        if outcome.dry {
            return Ok(());
        }
        if !expected.is_empty() {
            self.expected.push(expected);
        }
        outcome.facts.iter().try_for_each(|fact| self.compare_fact(fact, payload))
    }

    fn compare_fact(&self, fact: &Fact, payload: &Value) -> Result<(), String> {
        let (pointer, value) = match fact {
            Fact::Is("/freedBytes", _) if !self.alone => return Ok(()),
            Fact::Is(pointer, value) => (pointer, value.clone()),
            Fact::Id(pointer, thing) => (pointer, json!(self.ids.thing(*thing))),
            Fact::Version(pointer, version) => (pointer, json!(self.ids.versions.get(version))),
        };
        match payload.pointer(pointer) {
            Some(is) if *is == value => Ok(()),
            is => Err(format!("{pointer} is {is:?}, not {value}: {payload}")),
        }
    }

    /// Compares all but ids.
    fn compare_entry(&self, entry: &Entry, change: &Value) -> Result<(), String> {
        let old_path = entry.old_path.as_ref().map(|path| self.ids.path(path));
        let mut same = change["type"] == entry.kind
            && change["path"] == self.ids.path(&entry.path)
            && change["oldPath"] == json!(old_path);
        if let Some((number, content)) = entry.version {
            same &= change["versionNumber"] == number
                && change["sha256"] == self.digest(content)
                && change["size"] == self.bytes(content).len();
        }
        if same { Ok(()) } else { Err(format!("the entry is {change}, not {entry:?}")) }
    }

    /// Compares ids, and learns those of what is new.
    fn compare_ids(&mut self, entry: &Entry, change: &Value) -> Result<(), String> {
        let id = match entry.thing {
            Thing::Folder(_) => &change["folder"]["id"],
            Thing::Asset(_) => &change["asset"]["id"],
        };
        if entry.kind == "ASSET_PURGE" {
            return if id.is_null() { Ok(()) } else { Err(format!("what is purged is there: {change}")) };
        }
        let id = id.as_str().ok_or_else(|| format!("{change} leads nowhere"))?.to_owned();
        learn(&mut self.ids.things, entry.thing, id)?;
        if let (Some((number, _)), Thing::Asset(asset)) = (entry.version, entry.thing) {
            let id = change["version"]["id"].as_str();
            let id = id.ok_or_else(|| format!("{change} leads to no version"))?.to_owned();
            learn(&mut self.ids.versions, VersionAt { asset, number }, id)?;
        }
        Ok(())
    }

    /// Reads what the changelog has since, compares it, and replays it.
    pub async fn read_changelog(&mut self, library: &Library) -> Checked {
        let changes = self.changes_since().await?;
        let expected = std::mem::take(&mut self.expected);
        let count: usize = expected.iter().map(Vec::len).sum();
        if changes.len() != count {
            return Err(Failure::Differs(format!("the changelog has {changes:?}, not {expected:?}")));
        }
        let mut rest = &changes[..];
        for commit in expected {
            let (part, after) = rest.split_at(commit.len());
            for (entry, change) in commit.iter().zip(&changes_in_one_order(part)) {
                self.compare_entry(entry, change)?;
                if !is_purged(library, entry.thing) {
                    self.compare_ids(entry, change)?;
                }
            }
            rest = after;
        }
        self.follow(&changes)?;
        Ok(())
    }

    fn follow(&mut self, changes: &[Value]) -> Result<(), String> {
        for change in changes {
            let below = |path: &str| path.strip_prefix(&format!("{}/", self.ids.top)).map(ToOwned::to_owned);
            let path = below(text(&change["path"])).ok_or_else(|| format!("{change} is elsewhere"))?;
            let old_path = change["oldPath"].as_str().and_then(below);
            let followed = self.replay.follow(change, &path, old_path.as_deref());
            followed.map_err(|problem| format!("replaying {change}: {problem}"))?;
        }
        Ok(())
    }

    /// Lets go of all that this client has.
    pub async fn leave(&self, library: &Library) -> Checked {
        let delete = "mutation($id: ID!) { deleteFolder(input: { folder: { id: $id }, recursive: true }) {
            deletedAssets } }";
        self.gql(delete, json!({ "id": self.ids.thing(Thing::Folder(0)) })).await?;
        let trashed = library.trash();
        for thing in trashed.into_iter().chain([Thing::Folder(0)]) {
            let purge = "mutation($id: ID!) { purgeTrash(input: { id: $id }) { purgedAssets } }";
            self.gql(purge, json!({ "id": self.ids.thing(thing) })).await?;
        }
        for (file, id) in library.files.iter().zip(&self.ids.files) {
            if !file.deleted {
                let delete = "mutation($id: ID!) { deleteStoredFile(input: { id: $id }) { deletedId } }";
                self.gql(delete, json!({ "id": id })).await?;
            }
        }
        Ok(())
    }

    /// The server went away while it did the first part of a step, and did it all the same.
    pub fn expect_what_was_under_way(&mut self, attempted: &Library) {
        if let Ok(outcome) = &attempted.exchanges[0].verdict
            && !outcome.entries.is_empty()
            && !outcome.dry
        {
            self.expected.push(in_one_order(&outcome.entries));
        }
    }

    /// Entries below this client's folder since it last looked, by small pages.
    pub async fn changes_since(&mut self) -> Checked<Vec<Value>> {
        let query = format!(
            "query($after: String!) {{ changes(first: 25, after: $after) {{
                nodes {{ {} }} nextCursor pageInfo {{ hasNextPage }} }} }}",
            CHANGES.trim_start_matches("changes {").trim_end_matches('}')
        );
        let below = format!("{}/", self.ids.top);
        let mut found = Vec::new();
        loop {
            let mut page = self.gql(&query, json!({ "after": self.cursor })).await?["changes"].take();
            let nodes = page["nodes"].as_array_mut().expect("nodes");
            found.extend(nodes.drain(..).filter(|node| text(&node["path"]).starts_with(&below)));
            text(&page["nextCursor"]).clone_into(&mut self.cursor);
            if page["pageInfo"]["hasNextPage"] == false {
                return Ok(found);
            }
        }
    }
}

/// A URL of the server without what changes when it starts again elsewhere.
pub fn below_base(url: &str) -> String {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    after_scheme.find('/').map_or_else(String::new, |start| after_scheme[start..].to_owned())
}

fn last_cursor(changes: &Value) -> Option<String> {
    changes.as_array()?.last()?["cursor"].as_str().map(ToOwned::to_owned)
}

/// Whether what the model counts as done is an answer that refuses: bytes that make an upload rejected.
fn is_rejection(outcome: &Outcome) -> bool {
    outcome.facts.iter().any(|fact| matches!(fact, Fact::Is("/code", _)))
}

/// What goes alike in bulk has no order of its own; then it is that of paths.
const BULK: [&str; 2] = ["ASSET_DELETE", "ASSET_PURGE"];

fn in_one_order(entries: &[Entry]) -> Vec<Entry> {
    let mut entries = entries.to_vec();
    if entries.iter().all(|entry| BULK.contains(&entry.kind)) {
        entries.sort_by(|one, other| one.path.cmp(&other.path));
    }
    entries
}

fn changes_in_one_order(changes: &[Value]) -> Vec<Value> {
    let mut changes = changes.to_vec();
    if changes.iter().all(|change| BULK.contains(&text(&change["type"]))) {
        changes.sort_by(|one, other| text(&one["path"]).cmp(text(&other["path"])));
    }
    changes
}

fn is_purged(library: &Library, thing: Thing) -> bool {
    library.life(thing) == Some(Life::Purged)
}

fn learn<K: Hash + Eq + Debug>(ids: &mut HashMap<K, String>, thing: K, id: String) -> Result<(), String> {
    match ids.get(&thing) {
        Some(known) if *known != id => Err(format!("{thing:?} is {id}, and was {known}")),
        Some(_) => Ok(()),
        None if ids.values().any(|known| *known == id) => Err(format!("{thing:?} has an old id, {id}")),
        None => {
            ids.insert(thing, id);
            Ok(())
        }
    }
}

fn unchanged(payload: &Value) -> Result<(), String> {
    match payload["changes"].as_array() {
        Some(changes) if !changes.is_empty() => {
            Err(format!("it wrote {changes:?}, and nothing should change"))
        }
        _ => Ok(()),
    }
}

fn compare_refusal(refusals: &Refusals, error: &Value) -> Result<(), String> {
    if refusals.others.iter().chain([refusals]).any(|refusals| allows(refusals, error)) {
        return Ok(());
    }
    Err(format!("it is refused with {error}, and should be with {refusals:?}"))
}

fn allows(refusals: &Refusals, error: &Value) -> bool {
    let right = |refusal: &Refusal| {
        let field = refusal.field.map(|field| field_of(refusals, field));
        error["code"] == refusal.code
            && field.is_none_or(|field| error["field"] == field)
            && refusal.current_revision.is_none_or(|current| error["currentRevision"] == current)
    };
    let operation = refusals.operation.map(|(index, _)| index);
    error["operation"] == json!(operation) && refusals.any_of.iter().any(right)
}

/// The input that a refusal names, as it is named within several operations.
fn field_of(refusals: &Refusals, field: &str) -> String {
    match (refusals.operation, field.strip_prefix("input")) {
        (Some((index, name)), Some(rest)) => format!("input.operations.{index}.{name}{rest}"),
        _ => field.to_owned(),
    }
}
