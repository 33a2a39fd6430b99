//! Who a request comes from.

mod admin;
mod jwt;
mod keys;
mod ring;
mod session;

use std::time::Duration;

use anyhow::Context as _;
use axum::http::{HeaderMap, header};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::error::{Error, Result};
use crate::domain::token;

pub use admin::token_path;
use jwt::Jwt;
use session::Sessions;
pub use session::{Ending, Session};

/// What holders of a token are told that is over.
pub const SESSION_OVER: &str = "the token was revoked or has expired: come again with another one";

/// Tokens that are remembered as accepted, and for how long. Of more, those are forgotten that were not shown for longest.
const ACCEPTED: u64 = 200_000;
const ACCEPTED_FOR: Duration = Duration::from_secs(600);

/// Knows who asks by what they send.
pub struct Auth {
    app: App,
    /// A client with this one is admin.
    admin: Option<String>,
    jwt: Option<Jwt>,
    sessions: Sessions,
    /// Digests of tokens that were accepted lately: these are counted by themselves.
    accepted: Cache<[u8; 32], ()>,
}

impl Auth {
    /// Reads the admin token of the data folder, making it the first time; in dev mode none is needed. Sessions are looked
    /// after until the library closes.
    ///
    /// # Errors
    /// When the token cannot be read or written, or JWTs cannot be verified.
    pub fn open(app: &App) -> anyhow::Result<Self> {
        let config = app.config();
        let jwt = config.jwt.clone().map(Jwt::new).transpose().context("cannot verify JWTs")?;
        let sessions = Sessions::default();
        app.spawn(sessions.clone().look_after(app.clone()));
        let has_one = token_path(&config.data_dir).exists();
        let admin = (has_one || !config.dev).then(|| admin::token(&config.data_dir)).transpose()?;
        let accepted = Cache::builder().max_capacity(ACCEPTED).eviction_policy(EvictionPolicy::lru());
        let accepted = accepted.time_to_live(ACCEPTED_FOR).build();
        Ok(Self { app: app.clone(), admin, jwt, sessions, accepted })
    }

    /// Who sent these headers.
    ///
    /// # Errors
    /// As [`Auth::session_of`].
    pub async fn session(&self, headers: &HeaderMap) -> Result<Session> {
        self.session_of(authorization(headers)?).await
    }

    /// Who sent this `Authorization`.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for a token that is unknown, revoked or expired; `STORAGE_UNAVAILABLE` when that cannot be told.
    pub async fn session_of(&self, authorization: Option<&str>) -> Result<Session> {
        let Some(value) = authorization else {
            // In dev mode everyone who can connect is admin; only programs of this machine can.
            let is_dev = self.app.config().dev;
            return Ok(Session::lasting(if is_dev { Actor::dev() } else { Actor::anonymous() }));
        };
        let shown = bearer(value);
        let digest = Sha256::digest(shown).into();
        let session = self.verify(shown).await;
        match &session {
            Ok(_) => self.accepted.insert(digest, ()),
            Err(Error::Unauthenticated(_)) => self.accepted.invalidate(&digest),
            // It may be as good as before.
            Err(_) => {}
        }
        Ok(Session { digest: Some(digest), ..session? })
    }

    /// The digest of the token of this `Authorization`, if it was accepted lately.
    #[must_use]
    pub fn accepted(&self, authorization: &str) -> Option<[u8; 32]> {
        let digest = Sha256::digest(bearer(authorization)).into();
        self.accepted.contains_key(&digest).then_some(digest)
    }

    /// Tells when a session is over.
    #[must_use]
    pub fn watch(&self, session: &Session) -> Ending {
        self.sessions.watch(session)
    }

    async fn verify(&self, shown: &str) -> Result<Session> {
        let is_admins = |admin: &String| bool::from(shown.as_bytes().ct_eq(admin.as_bytes()));
        if self.admin.as_ref().is_some_and(is_admins) {
            return Ok(Session::lasting(Actor::admin_token()));
        }
        if let Some(jwt) = self.jwt.as_ref().filter(|_| Jwt::is_one(shown)) {
            let known = jwt.known(shown, self.app.clock().now()).await?;
            return Ok(Session { until: Some(known.until), ..Session::lasting(known.actor) });
        }
        if !shown.starts_with(token::PREFIX) {
            let message = "the token is not known: send Authorization: Bearer and a valid one";
            return Err(Error::Unauthenticated(message.to_owned()));
        }
        let token = token::authenticate(&self.app, shown).await?;
        let actor = Actor::api_token(&token);
        Ok(Session { until: token.expires_at, token: Some(token.id), ..Session::lasting(actor) })
    }
}

/// What the headers say of who asks; what is no text says nothing that is known.
///
/// # Errors
/// `UNAUTHENTICATED` when they say it more than once.
pub fn authorization(headers: &HeaderMap) -> Result<Option<&str>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().map(|value| value.to_str().unwrap_or_default());
    if values.next().is_some() {
        return Err(Error::Unauthenticated("send one Authorization header, not several".to_owned()));
    }
    Ok(value)
}

/// The token of `Bearer <token>`; empty when it is not that (RFC 6750, section 2.1).
fn bearer(authorization: &str) -> &str {
    let scheme_and_token =
        authorization.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    scheme_and_token.map(|(_, token)| token.trim()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_is_one() {
        assert_eq!((bearer("Bearer secret"), bearer("bearer  secret ")), ("secret", "secret"));
        for wrong in ["Bearer", "secret", "Basic secret", ""] {
            assert_eq!(bearer(wrong), "", "{wrong}");
        }
    }
}
