//! Who asks, and what they may do. Every operation takes one and checks it first.

use entity::{Actor as Stamp, ActorKind, token};

use super::error::{Error, Result};

/// What an actor may do; each role may do all that those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// Somebody who asks for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// What they are remembered as in rows and in the changelog.
    pub stamp: Stamp,
    /// What they may do.
    pub role: Role,
}

impl Actor {
    /// Nobody known.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new(ActorKind::Anonymous, "anonymous", Role::Anonymous)
    }

    /// Whoever uses a server in `dev` mode.
    #[must_use]
    pub fn dev() -> Self {
        Self::new(ActorKind::User, "dev", Role::Admin)
    }

    /// Who holds the admin token that the server wrote to its data folder.
    #[must_use]
    pub fn admin_token() -> Self {
        Self::new(ActorKind::Token, "admin-token", Role::Admin)
    }

    /// Who holds an API token.
    #[must_use]
    pub fn api_token(token: &token::Model) -> Self {
        let stamp =
            Stamp { kind: ActorKind::Token, id: token.id.to_string(), name: Some(token.name.clone()) };
        Self { stamp, role: token.role.into() }
    }

    /// The server itself, when it cleans up.
    #[must_use]
    pub fn system() -> Self {
        Self::new(ActorKind::System, "vellum", Role::Admin)
    }

    /// All subscribers of a role: what they are told depends on nothing else of them.
    #[must_use]
    pub fn subscribers(role: Role) -> Self {
        Self::new(ActorKind::Anonymous, "subscribers", role)
    }

    /// Whoever started something, acting through a signed URL that it was given.
    #[must_use]
    pub const fn on_behalf_of(stamp: Stamp) -> Self {
        Self { stamp, role: Role::Editor }
    }

    fn new(kind: ActorKind, id: &str, role: Role) -> Self {
        Self { stamp: Stamp { kind, id: id.to_owned(), name: None }, role }
    }

    /// Lets those pass who have at least `role`.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for an anonymous actor, `FORBIDDEN` for one whose role is too small.
    pub fn require(&self, role: Role) -> Result<()> {
        if self.role >= role {
            return Ok(());
        }
        if self.role == Role::Anonymous {
            return Err(Error::Unauthenticated("send a token: Authorization: Bearer …".to_owned()));
        }
        Err(Error::Forbidden(format!("this needs the role {role:?}, and yours is {:?}", self.role)))
    }
}
