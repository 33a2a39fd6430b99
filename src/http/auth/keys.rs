//! The public keys of whoever signs JWTs (RFC 7517): read from a URL, kept, and read again when they are old or when a
//! token names one that is not known.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use url::Url;

use crate::domain::error::{Error, Result};

/// How long the keys may take to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer, in bytes.
const MAX_BYTES: usize = 1024 * 1024;
/// Most keys that are kept.
const MAX_KEYS: usize = 100;
/// Time between two readings: a token that names a key which is not there must not cause one each.
const PAUSE: Duration = Duration::from_secs(5);
/// How long keys are used that cannot be read again.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// A public key, and what it may check.
#[derive(Clone)]
pub struct PublicKey {
    id: Option<String>,
    pub(super) key: DecodingKey,
    pub(super) algorithms: Vec<Algorithm>,
}

/// The keys at a URL.
pub struct KeySet {
    url: Url,
    refresh: Duration,
    client: Client<HttpsConnector<HttpConnector>, Empty<bytes::Bytes>>,
    kept: RwLock<Kept>,
    reading: Mutex<()>,
}

#[derive(Clone, Default)]
struct Kept {
    keys: Arc<[PublicKey]>,
    /// When they were read.
    read_at: Option<Instant>,
    /// When they were asked for last.
    tried_at: Option<Instant>,
}

impl KeySet {
    /// The keys at `url`, read when they are needed.
    ///
    /// # Errors
    /// When the machine has no certificates to trust.
    pub fn new(url: Url, refresh: Duration) -> std::io::Result<Self> {
        let connector = HttpsConnectorBuilder::new();
        let connector = connector.with_native_roots()?.https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { url, refresh, client, kept: RwLock::default(), reading: Mutex::new(()) })
    }

    /// The keys that a token may be signed with which names the key `id`, or none.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE` while there are no keys to be had.
    pub async fn find(self: &Arc<Self>, id: Option<&str>) -> Result<Vec<PublicKey>> {
        let kept = self.kept();
        let age = kept.read_at.map(|at| at.elapsed());
        let found = kept.matching(id);
        if age.is_some_and(|age| age < self.refresh) && !found.is_empty() {
            return Ok(found);
        }
        if age.is_some_and(|age| age < MAX_AGE) && !found.is_empty() {
            // Good enough for now; who comes later has the new ones.
            let set = Arc::clone(self);
            tokio::spawn(async move { set.read_again(kept.tried_at).await });
            return Ok(found);
        }
        self.read_again(kept.tried_at).await;
        let kept = self.kept();
        match kept.read_at {
            Some(at) if at.elapsed() < MAX_AGE => Ok(kept.matching(id)),
            _ => Err(Error::unavailable(
                "the keys that tokens are signed with cannot be read now; try again later",
                "no key set",
            )),
        }
    }

    fn kept(&self) -> Kept {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the keys, unless somebody did so since `seen`, or tried a moment ago.
    async fn read_again(&self, seen: Option<Instant>) {
        let _one_at_a_time = self.reading.lock().await;
        let tried = self.kept().tried_at;
        if tried != seen || tried.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        let read =
            timeout(PATIENCE, self.read()).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let now = Instant::now();
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.tried_at = Some(now);
        match read {
            Ok(keys) => {
                kept.keys = keys;
                kept.read_at = Some(now);
            }
            Err(error) => tracing::warn!(%error, url = %self.url, "the keys of JWTs could not be read"),
        }
    }

    async fn read(&self) -> std::result::Result<Arc<[PublicKey]>, String> {
        let uri = self.url.as_str().parse().map_err(|error| format!("{error}"))?;
        let response = self.client.get(uri).await.map_err(|error| format!("{error:?}"))?;
        if !response.status().is_success() {
            return Err(format!("answered {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        let set: JwkSet = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let keys: Vec<_> = set.keys.iter().filter_map(usable).take(MAX_KEYS).collect();
        if keys.is_empty() {
            return Err("there is no key among them that signatures can be checked with".to_owned());
        }
        Ok(keys.into())
    }
}

impl Kept {
    fn matching(&self, id: Option<&str>) -> Vec<PublicKey> {
        let matches = |key: &&PublicKey| id.is_none() || key.id.as_deref() == id;
        self.keys.iter().filter(matches).cloned().collect()
    }
}

/// A key that checks signatures, if it is one. What a key set says in secret is nobody's to check with.
fn usable(jwk: &Jwk) -> Option<PublicKey> {
    if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
        return None;
    }
    if jwk.common.key_operations.as_ref().is_some_and(|all| !all.contains(&KeyOperations::Verify)) {
        return None;
    }
    let possible: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => &[Algorithm::ES256],
            EllipticCurve::P384 => &[Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        _ => return None,
    };
    let algorithms: Vec<_> = match &jwk.common.key_algorithm {
        Some(only) => {
            let only: Algorithm = only.to_string().parse().ok()?;
            possible.iter().copied().filter(|algorithm| *algorithm == only).collect()
        }
        None => possible.to_vec(),
    };
    let key = DecodingKey::from_jwk(jwk).ok()?;
    (!algorithms.is_empty()).then(|| PublicKey { id: jwk.common.key_id.clone(), key, algorithms })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_checks_signatures_unless_it_is_said_to_be_for_something_else() {
        for (use_, operations, checks) in [
            (None, None, true),
            (Some("sig"), None, true),
            (Some("sig"), Some(json!(["verify"])), true),
            (None, Some(json!(["sign", "verify"])), true),
            (Some("enc"), None, false),
            (None, Some(json!(["encrypt", "wrapKey"])), false),
            (Some("sig"), Some(json!([])), false),
        ] {
            let mut key = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "A".repeat(43) });
            if let Some(use_) = use_ {
                key["use"] = json!(use_);
            }
            if let Some(operations) = &operations {
                key["key_ops"] = operations.clone();
            }
            let jwk = serde_json::from_value(key).expect("a key");
            assert_eq!(usable(&jwk).is_some(), checks, "{use_:?} {operations:?}");
        }
    }
}
