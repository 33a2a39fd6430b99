//! API tokens: what programs show to be known. Only a hash of a secret is kept, so a copy of the database opens nothing.

use std::collections::HashMap;
use std::sync::Arc;

use entity::{Timestamp, TokenId, token};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, Condition, EntityTrait as _,
    IntoSimpleExpr as _, PaginatorTrait as _, QueryFilter as _, QuerySelect as _, QueryTrait as _,
};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::actor::{Actor, Role};
use super::error::{Error, Result};
use super::page::{Direction, Page, Position, Slice, SortKey, Source, fetch};
use super::{commit, text};
use crate::app::App;

/// What secrets begin with, so that scanners of source code know one when they see it.
pub const PREFIX: &str = "vellum_";
/// The word that cursors of tokens carry.
pub const ORDER: &str = "CREATED_AT";
/// How exactly it is known when a token was used last, in milliseconds: writing it each time would cost a commit.
const USE_KNOWN_TO_MS: i64 = 60_000;
/// Ids in one statement.
const AT_ONCE: usize = 400;

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What people call it.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// It is refused from then on; none never.
    pub expires_at: Option<Timestamp>,
}

/// A token that was made.
#[derive(Debug, Clone)]
pub struct Created {
    /// Its row.
    pub token: token::Model,
    /// What its holder shows. It cannot be read again.
    pub secret: String,
}

/// Makes a token.
///
/// # Errors
/// `BAD_USER_INPUT` for a name that is empty, the role of nobody, an expiry that is over; when the actor is no admin.
pub async fn create(app: &App, actor: &Actor, new: NewToken) -> Result<Created> {
    actor.require(Role::Admin)?;
    let name = text::title(&new.name, "input.name")?;
    let role = match new.role {
        Role::Viewer => token::Role::Viewer,
        Role::Editor => token::Role::Editor,
        Role::Admin => token::Role::Admin,
        Role::Anonymous => {
            let message = "must be VIEWER, EDITOR or ADMIN: who shows no token is anonymous";
            return Err(Error::bad_input("input.role", message));
        }
    };
    if new.expires_at.is_some_and(|at| at <= app.clock().now()) {
        return Err(Error::bad_input("input.expiresAt", "must be in the future"));
    }
    let (id, secret) = new_secret(app);
    let hash = sha256_hex(&secret);
    let made = commit(app, actor, move |edit| {
        Box::pin(async move {
            let row = token::ActiveModel {
                id: Set(id),
                name: Set(name),
                role: Set(role),
                secret_sha256: Set(hash),
                created_at: Set(edit.now()),
                created_by: Set(edit.by()),
                expires_at: Set(new.expires_at),
                last_used_at: Set(None),
                revoked_at: Set(None),
            };
            Ok(row.insert(edit.conn()).await?)
        })
    });
    Ok(Created { token: made.await?.value, secret })
}

/// An id, and a secret that names it: 244 random bits behind it.
fn new_secret(app: &App) -> (TokenId, String) {
    let id = TokenId(app.clock().new_id());
    let text = id.to_string();
    let own = text.strip_prefix(TokenId::PREFIX).unwrap_or(&text).trim_start_matches('_');
    let random = || app.clock().secret_id().simple().to_string();
    (id, format!("{PREFIX}{own}_{}{}", random(), random()))
}

/// The token that a secret names, if it has the shape of one.
fn id_in(secret: &str) -> Option<TokenId> {
    let (id, _) = secret.strip_prefix(PREFIX)?.split_once('_')?;
    format!("{}_{id}", TokenId::PREFIX).parse().ok()
}

fn sha256_hex(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Ends a token: it is refused at once, and subscriptions of its holders end within seconds. Again changes nothing.
///
/// # Errors
/// `NOT_FOUND`; when the actor is no admin.
pub async fn revoke(app: &App, actor: &Actor, id: TokenId) -> Result<token::Model> {
    actor.require(Role::Admin)?;
    let revoked = commit(app, actor, move |edit| {
        Box::pin(async move {
            let row = token::Entity::find_by_id(id).one(edit.conn()).await?;
            let row = row.ok_or_else(|| Error::NotFound(format!("there is no token {id}")))?;
            if row.revoked_at.is_some() {
                return Ok(row);
            }
            let change =
                token::ActiveModel { id: Set(id), revoked_at: Set(Some(edit.now())), ..Default::default() };
            Ok(change.update(edit.conn()).await?)
        })
    });
    let revoked = revoked.await?.value;
    app.known_tokens().invalidate(&id);
    Ok(revoked)
}

/// A page of the tokens, newest first, those that are revoked or expired too.
///
/// # Errors
/// When the actor is no admin.
pub async fn list(app: &App, actor: &Actor, page: Page) -> Result<Slice<token::Model>> {
    actor.require(Role::Admin)?;
    let source = Source {
        rows: token::Entity::find().into_query(),
        page: page.clone(),
        key: token::Column::CreatedAt.into_simple_expr(),
        direction: Direction::Descending,
    };
    let found = fetch::<token::Entity>(app.read(), vec![source], |_, row| position(row)).await?;
    Ok(page.slice(found.into_iter().next().unwrap_or_default()))
}

/// Where a token stands among all.
#[must_use]
pub fn position(row: &token::Model) -> Position {
    Position { key: SortKey::Int(row.created_at.0), id: row.id.0 }
}

/// How many tokens there are.
///
/// # Errors
/// What the database says.
pub async fn count(app: &App) -> Result<i64> {
    Ok(i64::try_from(token::Entity::find().count(app.read()).await?).unwrap_or(i64::MAX))
}

/// Tokens by id; none for who is no admin.
///
/// # Errors
/// What the database says.
pub async fn by_ids(app: &App, actor: &Actor, ids: &[TokenId]) -> Result<HashMap<TokenId, token::Model>> {
    if actor.require(Role::Admin).is_err() {
        return Ok(HashMap::new());
    }
    let rows = token::Entity::find().filter(token::Column::Id.is_in(ids.iter().copied())).all(app.read());
    Ok(rows.await?.into_iter().map(|row| (row.id, row)).collect())
}

/// The token that a secret opens now.
///
/// # Errors
/// `UNAUTHENTICATED` when it is none, revoked or expired.
pub async fn authenticate(app: &App, secret: &str) -> Result<Arc<token::Model>> {
    let unknown =
        || Error::Unauthenticated("the token is not known: ask an admin for another one".to_owned());
    let id = id_in(secret).ok_or_else(unknown)?;
    let token = match app.known_tokens().get(&id) {
        Some(token) => token,
        None => find(app, id).await?.ok_or_else(unknown)?,
    };
    if !bool::from(sha256_hex(secret).as_bytes().ct_eq(token.secret_sha256.as_bytes())) {
        return Err(unknown());
    }
    let now = app.clock().now();
    if token.revoked_at.is_some() {
        return Err(Error::Unauthenticated("the token was revoked: ask an admin for another one".to_owned()));
    }
    if token.expires_at.is_some_and(|at| at <= now) {
        return Err(Error::Unauthenticated("the token has expired: ask an admin for another one".to_owned()));
    }
    Ok(token)
}

/// Reads a token and keeps it for a moment. Who found it lets it be known as used.
async fn find(app: &App, id: TokenId) -> Result<Option<Arc<token::Model>>> {
    let Some(row) = token::Entity::find_by_id(id).one(app.read()).await? else { return Ok(None) };
    let now = app.clock().now();
    let usable = row.revoked_at.is_none() && row.expires_at.is_none_or(|at| at > now);
    if usable && row.last_used_at.is_none_or(|at| now.0 - at.0 >= USE_KNOWN_TO_MS) {
        let app_of_use = app.clone();
        app.spawn(async move {
            if let Err(error) = note_use(&app_of_use, id).await {
                tracing::debug!(%error, "when a token was used could not be written");
            }
        });
    }
    let row = Arc::new(row);
    app.known_tokens().insert(id, Arc::clone(&row));
    Ok(Some(row))
}

async fn note_use(app: &App, id: TokenId) -> Result<()> {
    let system = Actor::system();
    let noted = commit(app, &system, move |edit| {
        Box::pin(async move {
            let now = edit.now();
            let older = Condition::any()
                .add(token::Column::LastUsedAt.is_null())
                .add(token::Column::LastUsedAt.lte(Timestamp(now.0 - USE_KNOWN_TO_MS)));
            let update = token::Entity::update_many()
                .col_expr(token::Column::LastUsedAt, Expr::value(now.0))
                .filter(token::Column::Id.eq(id))
                .filter(older);
            Ok(update.exec(edit.conn()).await.map(drop)?)
        })
    });
    noted.await.map(drop)
}

/// Which of these tokens open nothing any more because somebody revoked them.
///
/// # Errors
/// What the database says.
pub async fn revoked_among(app: &App, ids: &[TokenId]) -> Result<Vec<TokenId>> {
    let mut revoked = Vec::new();
    for ids in ids.chunks(AT_ONCE) {
        let rows: Vec<TokenId> = token::Entity::find()
            .select_only()
            .column(token::Column::Id)
            .filter(token::Column::Id.is_in(ids.iter().copied()))
            .filter(token::Column::RevokedAt.is_not_null())
            .into_tuple()
            .all(app.read())
            .await?;
        revoked.extend(rows);
    }
    Ok(revoked)
}

impl From<token::Role> for Role {
    fn from(role: token::Role) -> Self {
        match role {
            token::Role::Viewer => Self::Viewer,
            token::Role::Editor => Self::Editor,
            token::Role::Admin => Self::Admin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_names_its_token_and_nothing_else_does() {
        let id = TokenId(uuid::Uuid::from_u128(7));
        let text = id.to_string();
        let own = text.split_once('_').expect("a prefix").1;
        assert_eq!(id_in(&format!("vellum_{own}_abc")), Some(id));
        for wrong in ["", "vellum_", "vellum__x", &text, &format!("vellum_{own}"), "vellum_é_x", "a.b.c"] {
            assert_eq!(id_in(wrong), None, "{wrong}");
        }
    }
}
