//! What resolvers take from their context.

use async_graphql::Context;

use super::fanout::Progress;
use super::loaders::Loaders;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::change::Leg;
use crate::domain::version::TextBudget;

/// Result of a resolver. A domain error keeps its code on the way: see `error.rs`.
pub type Result<T> = async_graphql::Result<T>;

/// Shorthands for what every request carries.
pub trait ContextExt {
    /// The library.
    fn app(&self) -> &App;
    /// Who asks.
    fn actor(&self) -> &Actor;
    /// Loads rows for many fields by one statement.
    fn loaders(&self) -> &Loaders;
    /// Which part of its way a subscription goes, and how far it came.
    fn progress(&self) -> Progress;
    /// Bytes of text that this request may still be answered with.
    fn texts(&self) -> &TextBudget;
}

impl ContextExt for Context<'_> {
    fn app(&self) -> &App {
        self.data_unchecked()
    }

    fn actor(&self) -> &Actor {
        self.data_unchecked()
    }

    fn loaders(&self) -> &Loaders {
        self.data_unchecked()
    }

    fn progress(&self) -> Progress {
        self.data_opt::<Progress>().cloned().unwrap_or_else(|| Progress::new(Leg::default()))
    }

    fn texts(&self) -> &TextBudget {
        self.data_unchecked()
    }
}
