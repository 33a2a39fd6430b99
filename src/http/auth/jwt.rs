//! People known by JSON Web Tokens (RFC 7519): the signature, then the claims.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entity::{Actor as Stamp, ActorKind, Timestamp};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::keys::KeySet;
use super::ring;
use crate::config::{Jwt as Settings, Keys};
use crate::domain::actor::{Actor, Role};
use crate::domain::error::{Error, Result};

/// How far the clocks of signers may be off, in seconds.
const LEEWAY: i64 = 2;
/// Longest token, in bytes.
const MAX_BYTES: usize = 16 * 1024;
/// Longest name and subject that are remembered, in bytes.
const MAX_NAME: usize = 255;

/// Verifies JWTs.
pub struct Jwt {
    settings: Settings,
    keys: Source,
}

enum Source {
    Shared(DecodingKey),
    Set(Arc<KeySet>),
}

/// What a token tells.
#[derive(Debug)]
pub struct Known {
    /// Who shows it.
    pub actor: Actor,
    /// It is refused from then on.
    pub until: Timestamp,
}

impl Jwt {
    /// Verifies by these settings.
    ///
    /// # Errors
    /// When the machine has no certificates to trust.
    pub fn new(settings: Settings) -> std::io::Result<Self> {
        ring::install();
        let keys = match &settings.keys {
            Keys::Shared(secret) => Source::Shared(DecodingKey::from_secret(secret.reveal().as_bytes())),
            Keys::Set(url, refresh) => Source::Set(Arc::new(KeySet::new(url.clone(), *refresh)?)),
        };
        Ok(Self { settings, keys })
    }

    /// Whether a text has the shape of a JWT.
    pub fn is_one(text: &str) -> bool {
        text.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Who shows a token.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when it is not to be trusted, `STORAGE_UNAVAILABLE` while the keys cannot be read.
    pub async fn known(&self, token: &str, now: Timestamp) -> Result<Known> {
        if token.len() > MAX_BYTES {
            return Err(refuse(format!("is longer than {MAX_BYTES} bytes")));
        }
        let header = decode_header(token).map_err(|_| refuse("cannot be read"))?;
        if has_extensions(token) {
            return Err(refuse("has extensions in crit that are not known here"));
        }
        let claims = match &self.keys {
            Source::Shared(key) => {
                let algorithms = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
                self.claims(token, header.alg, &algorithms, key)?
            }
            Source::Set(set) => {
                let mut claims = Err(refuse("is signed with a key that is not known"));
                for found in set.find(header.kid.as_deref()).await? {
                    claims = self.claims(token, header.alg, &found.algorithms, &found.key);
                    if claims.is_ok() {
                        break;
                    }
                }
                claims?
            }
        };
        self.read(&claims, now)
    }

    fn claims(
        &self,
        token: &str,
        algorithm: Algorithm,
        allowed: &[Algorithm],
        key: &DecodingKey,
    ) -> Result<Map<String, Value>> {
        // The key says what may sign with it, never the token.
        if !allowed.contains(&algorithm) {
            return Err(refuse("is signed in a way that its key is not for"));
        }
        let mut validation = Validation::new(algorithm);
        // Times are checked by the library's clock.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        validation.validate_aud = self.settings.audience.is_some();
        if let Some(audience) = &self.settings.audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        if let Some(issuer) = &self.settings.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        decode::<Claims>(token, key, &validation).map(|token| token.claims.0).map_err(|error| {
            refuse(match error.kind() {
                ErrorKind::InvalidSignature => "has a signature that does not fit",
                ErrorKind::InvalidAudience => "is for another audience",
                ErrorKind::InvalidIssuer => "is from another issuer",
                ErrorKind::MissingRequiredClaim(_) => "has no issuer or audience",
                _ => "cannot be read",
            })
        })
    }

    fn read(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<Known> {
        let expires = seconds(claims, "exp")?.ok_or_else(|| refuse("never expires: it needs exp"))?;
        let until = Timestamp((expires.saturating_add(LEEWAY)).saturating_mul(1000));
        if until <= now {
            return Err(refuse("has expired"));
        }
        let begins = seconds(claims, "nbf")?.unwrap_or(i64::MIN);
        if begins.saturating_sub(LEEWAY).saturating_mul(1000) > now.0 {
            return Err(refuse("is not valid yet"));
        }
        // The library takes a list of issuers, too (RFC 7519, section 4.1.1).
        if claims.get("iss").is_some_and(|issuer| !issuer.is_string()) {
            return Err(refuse("has an iss that is no text"));
        }
        let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| fits(text));
        let subject = text("sub").ok_or_else(|| refuse("has no sub, or one that is too long"))?;
        let role = self.role(claims).ok_or_else(|| {
            refuse(format!("names no role that is known here in its claim {}", self.settings.role_claim))
        })?;
        let name = text(&self.settings.name_claim).map(ToOwned::to_owned);
        let stamp = Stamp { kind: ActorKind::User, id: subject.to_owned(), name };
        Ok(Known { actor: Actor { stamp, role }, until })
    }

    /// The greatest of the roles that are claimed.
    fn role(&self, claims: &Map<String, Value>) -> Option<Role> {
        let path = &self.settings.role_claim;
        let claimed = claims.get(path).or_else(|| {
            let mut names = path.split('.');
            let first = claims.get(names.next()?)?;
            names.try_fold(first, |value, name| value.get(name))
        });
        let words: Vec<&str> = match claimed {
            Some(Value::String(text)) => text.split_whitespace().chain([text.as_str()]).collect(),
            Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let known = words.into_iter().filter_map(|word| self.settings.roles.get(word).copied());
        known.max().or(self.settings.default_role)
    }
}

/// Claims, each of which stands once: of several, programs take different ones (RFC 7519, section 4).
struct Claims(Map<String, Value>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Once;

        impl<'de> Visitor<'de> for Once {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("claims as a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> std::result::Result<Claims, A::Error> {
                let mut claims = Map::new();
                while let Some((name, value)) = entries.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("a claim stands twice"));
                    }
                }
                Ok(Claims(claims))
            }
        }

        deserializer.deserialize_map(Once)
    }
}

/// Whether the header names extensions that have to be understood (RFC 7515, section 4.1.11): none are.
fn has_extensions(token: &str) -> bool {
    let header = token.split('.').next().and_then(|header| URL_SAFE_NO_PAD.decode(header).ok());
    let header = header.and_then(|header| serde_json::from_slice::<Map<String, Value>>(&header).ok());
    header.is_none_or(|header| header.contains_key("crit"))
}

fn fits(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && !text.contains('\0')
}

/// A time of a claim: a number of seconds, maybe with a fraction.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => {
            #[expect(clippy::cast_possible_truncation, reason = "saturates, far beyond any date")]
            let whole = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64));
            whole.map(Some).ok_or_else(|| refuse(format!("has a claim {name} that is no time")))
        }
    }
}

fn refuse(why: impl fmt::Display) -> Error {
    Error::Unauthenticated(format!("the JWT {why}"))
}
