//! Who is asking, and who did something.

use async_graphql::{Context, Enum, Object, SimpleObject};

use super::context::ContextExt as _;
use crate::domain::actor;

/// Who did something: a user from a token or JWT, an API token, the server itself, or nobody known.
#[derive(SimpleObject, Debug, Clone)]
pub struct Actor {
    /// Stable name of the actor among those of its kind. Not a node: it cannot be fetched.
    #[graphql(name = "id")]
    pub id: String,
    /// What people call it.
    pub name: Option<String>,
    /// What kind of actor it is.
    pub kind: ActorKind,
}

/// What kind of actor did something.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "entity::ActorKind")]
pub enum ActorKind {
    /// A person, known from a token or JWT.
    User,
    /// An API token.
    Token,
    /// The server itself.
    System,
    /// Nobody known.
    Anonymous,
}

impl From<entity::Actor> for Actor {
    fn from(stamp: entity::Actor) -> Self {
        Self { id: stamp.id, name: stamp.name, kind: stamp.kind.into() }
    }
}

/// What an actor may do; each role may do all that those before it may.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "actor::Role")]
pub enum Role {
    /// May read what is public.
    Anonymous,
    /// May read everything but tokens.
    Viewer,
    /// May also write.
    Editor,
    /// May do all.
    Admin,
}

/// Who is asking.
#[derive(SimpleObject, Debug, Clone)]
pub struct Viewer {
    /// What is remembered of who asks, with everything that they do.
    actor: Actor,
    /// What they may do.
    role: Role,
}

/// Queries about who is asking.
#[derive(Default)]
pub struct ViewerQuery;

#[Object]
impl ViewerQuery {
    /// Who is asking, and what they may do.
    async fn viewer(&self, ctx: &Context<'_>) -> Viewer {
        let actor = ctx.actor();
        Viewer { actor: actor.stamp.clone().into(), role: actor.role.into() }
    }
}
