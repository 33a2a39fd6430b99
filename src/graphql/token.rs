//! API tokens: object, inputs, query, mutations. For admins.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use entity::token;

use super::connection::{Connection, Entry, connection};
use super::context::{ContextExt as _, Result};
use super::loaders::AllTokens;
use super::node::parse_id;
use super::scalar::DateTime;
use super::viewer::{Actor, Role};
use crate::domain::page::{Page, PageArgs};
use crate::domain::token as tokens;

/// What a program shows to be known.
#[derive(Clone)]
pub struct Token(pub Arc<token::Model>);

/// What a program shows to be known: `Authorization: Bearer` and its secret, which only createToken tells.
#[Object]
impl Token {
    /// Opaque id, the same for ever.
    pub async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// What people call it; with what its holders do, it is told as the name of the actor.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What its holders may do.
    async fn role(&self) -> Role {
        crate::domain::actor::Role::from(self.0.role).into()
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// Who made it.
    async fn created_by(&self) -> Actor {
        self.0.created_by.clone().into()
    }

    /// It is refused from then on; null never.
    async fn expires_at(&self) -> Option<DateTime> {
        self.0.expires_at.map(DateTime)
    }

    /// When it was used last, to within a minute; null before the first time.
    async fn last_used_at(&self) -> Option<DateTime> {
        self.0.last_used_at.map(DateTime)
    }

    /// When it was revoked; null while it was not.
    async fn revoked_at(&self) -> Option<DateTime> {
        self.0.revoked_at.map(DateTime)
    }
}

impl From<token::Model> for Token {
    fn from(row: token::Model) -> Self {
        Self(Arc::new(row))
    }
}

impl Entry for Token {
    type Order = ();

    fn cursor(&self, (): ()) -> String {
        tokens::position(&self.0).cursor(tokens::ORDER)
    }
}

connection!(TokenConnection, TokenEdge, Token, AllTokens, "tokens");

/// The token to make.
#[derive(InputObject)]
pub struct CreateTokenInput {
    /// What people are to call it, e.g. what uses it.
    name: String,
    /// What its holders may do; not ANONYMOUS.
    role: Role,
    /// Refuse it from then on; left out, never.
    expires_at: Option<DateTime>,
}

/// What making a token did.
#[derive(SimpleObject)]
pub struct CreateTokenPayload {
    /// The token.
    token: Token,
    /// What its holder sends as Authorization: Bearer. Shown this once; only its hash is kept.
    secret: String,
}

/// The token to end.
#[derive(InputObject)]
pub struct RevokeTokenInput {
    /// Its id.
    id: ID,
}

/// What revoking did.
#[derive(SimpleObject)]
pub struct RevokeTokenPayload {
    /// The token.
    token: Token,
}

/// Queries about tokens.
#[derive(Default)]
pub struct TokenQuery;

#[Object]
impl TokenQuery {
    /// API tokens, newest first, those that are revoked or expired too. For admins.
    async fn tokens(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many; 50 by default, at most 200.")] first: Option<i32>,
        #[graphql(desc = "Start behind this cursor.")] after: Option<String>,
    ) -> Result<TokenConnection> {
        let page = Page::new(&PageArgs { first, after, ..PageArgs::default() }, tokens::ORDER)?;
        let slice = tokens::list(ctx.app(), ctx.actor(), page).await?;
        Ok(TokenConnection::new(Connection::new(slice, (), Token::from), AllTokens))
    }
}

/// Mutations of tokens.
#[derive(Default)]
pub struct TokenMutation;

#[Object]
impl TokenMutation {
    /// Makes an API token. For admins.
    async fn create_token(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to make.")] input: CreateTokenInput,
    ) -> Result<CreateTokenPayload> {
        let new = tokens::NewToken {
            name: input.name,
            role: input.role.into(),
            expires_at: input.expires_at.map(|at| at.0),
        };
        let tokens::Created { token, secret } = tokens::create(ctx.app(), ctx.actor(), new).await?;
        Ok(CreateTokenPayload { token: token.into(), secret })
    }

    /// Ends an API token: it is refused at once, and subscriptions of its holders end within 5 seconds. Again changes
    /// nothing. For admins.
    async fn revoke_token(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which.")] input: RevokeTokenInput,
    ) -> Result<RevokeTokenPayload> {
        let id = parse_id(&input.id, "input.id")?;
        Ok(RevokeTokenPayload { token: tokens::revoke(ctx.app(), ctx.actor(), id).await?.into() })
    }
}
