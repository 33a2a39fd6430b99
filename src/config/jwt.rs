//! Settings of JSON Web Tokens (RFC 7519): who signs them, and which claims say who somebody is.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::{ConfigError, Secret};
use crate::domain::actor::Role;

/// Shortest shared secret, in bytes (RFC 7518, section 3.2).
const MIN_SECRET: usize = 32;

/// How JWTs are verified and read.
#[derive(Debug, Clone)]
pub struct Jwt {
    /// What their signatures are checked with.
    pub keys: Keys,
    /// What `iss` has to be, if anything.
    pub issuer: Option<String>,
    /// What `aud` has to be or contain, if anything.
    pub audience: Option<String>,
    /// The claim that names roles: a claim, or names joined by dots that lead into objects.
    pub role_claim: String,
    /// What its values mean.
    pub roles: BTreeMap<String, Role>,
    /// What somebody may do of whom no known role is claimed; none refuses them.
    pub default_role: Option<Role>,
    /// The claim that says what people call somebody.
    pub name_claim: String,
}

/// What signatures are checked with.
#[derive(Debug, Clone)]
pub enum Keys {
    /// A secret that the signer has too (HS256, HS384, HS512).
    Shared(Secret),
    /// The public keys at a URL (RFC 7517), read again after this time, or when one is not known.
    Set(Url, Duration),
}

/// The section as files and the environment give it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    secret: Option<Secret>,
    jwks_url: Option<String>,
    jwks_refresh_seconds: Option<u64>,
    issuer: Option<String>,
    audience: Option<String>,
    role_claim: Option<String>,
    #[serde(default)]
    roles: BTreeMap<String, String>,
    default_role: Option<String>,
    name_claim: Option<String>,
}

fn refuse(name: &'static str, problem: impl Into<String>, allowed: &'static str) -> ConfigError {
    ConfigError::Value { name, problem: problem.into(), allowed }
}

impl Raw {
    pub(super) fn check(self) -> Result<Jwt, ConfigError> {
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (issuer, audience) = (some(self.issuer), some(self.audience));
        let secret = self.secret.filter(|secret| !secret.reveal().is_empty());
        let keys = match (secret, some(self.jwks_url)) {
            (Some(secret), None) if secret.reveal().len() < MIN_SECRET => {
                return Err(refuse("jwt.secret", "is too short", "at least 32 bytes"));
            }
            (Some(secret), None) => Keys::Shared(secret),
            (None, Some(url)) => {
                if issuer.is_none() && audience.is_none() {
                    let problem = "jwks_url without them lets in whoever these keys sign for, for whatever";
                    return Err(refuse("jwt.audience, jwt.issuer", problem, "one of them, or both"));
                }
                Keys::Set(key_set_url(&url)?, refresh(self.jwks_refresh_seconds)?)
            }
            _ => return Err(refuse("jwt", "needs one way to check signatures", "secret, or jwks_url")),
        };
        Ok(Jwt {
            keys,
            issuer,
            audience,
            role_claim: some(self.role_claim).unwrap_or_else(|| "role".to_owned()),
            roles: roles(self.roles)?,
            default_role: some(self.default_role).map(|text| role("jwt.default_role", &text)).transpose()?,
            name_claim: some(self.name_claim).unwrap_or_else(|| "name".to_owned()),
        })
    }
}

/// What claimed roles mean; unless said otherwise, they are called as ours are.
fn roles(given: BTreeMap<String, String>) -> Result<BTreeMap<String, Role>, ConfigError> {
    if given.is_empty() {
        let own = [("viewer", Role::Viewer), ("editor", Role::Editor), ("admin", Role::Admin)];
        return Ok(own.map(|(name, role)| (name.to_owned(), role)).into());
    }
    given.into_iter().map(|(claimed, text)| Ok((claimed, role("jwt.roles", &text)?))).collect()
}

fn role(name: &'static str, text: &str) -> Result<Role, ConfigError> {
    match text.to_ascii_lowercase().as_str() {
        "anonymous" => Ok(Role::Anonymous),
        "viewer" => Ok(Role::Viewer),
        "editor" => Ok(Role::Editor),
        "admin" => Ok(Role::Admin),
        _ => Err(refuse(name, format!("{text:?} is no role"), "anonymous, viewer, editor or admin")),
    }
}

fn key_set_url(text: &str) -> Result<Url, ConfigError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| refuse("jwt.jwks_url", format!("{text:?} will not do"), "an http:// or https:// URL"))
}

fn refresh(seconds: Option<u64>) -> Result<Duration, ConfigError> {
    let seconds = seconds.unwrap_or(600);
    if !(1..=86_400).contains(&seconds) {
        let problem = format!("{seconds} is out of range");
        return Err(refuse("jwt.jwks_refresh_seconds", problem, "1 to 86400"));
    }
    Ok(Duration::from_secs(seconds))
}
