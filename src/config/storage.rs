//! Settings of storage backends.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, public_url};
use crate::blob::LocalStore;

/// How long a bucket may take to answer, unless it is set, in seconds: less than a GraphQL request may.
const DEFAULT_TIMEOUT: u64 = 15;

/// A storage backend as it is configured.
#[derive(Debug, Clone)]
pub enum Backend {
    /// A folder of this machine.
    Local(PathBuf),
    /// A bucket.
    S3(Box<Bucket>),
}

/// A bucket of an S3-compatible store.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// Its name.
    pub bucket: String,
    /// Where the store answers; none means AWS.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// What every key begins with; empty, or ends with a slash.
    pub prefix: String,
    /// Whether the bucket stands in the path of URLs instead of in their host.
    pub path_style: bool,
    /// Where anyone can read the objects, e.g. a CDN; without a trailing slash.
    pub public_url: Option<String>,
    /// How readers get the bytes that `public_url` does not serve.
    pub reads: Reads,
    /// Longest wait for an answer to a request that brings no bytes, with all that is tried again.
    pub timeout: Duration,
    /// Key id and secret; none means those of the environment, as AWS's own tools find them.
    pub credentials: Option<(String, Secret)>,
}

/// How readers get bytes that no public URL serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reads {
    /// From the bucket, by a presigned URL.
    Presigned,
    /// Through the server.
    Stream,
}

/// A text that is never shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A backend as files and the environment give it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    kind: Kind,
    folder: Option<PathBuf>,
    bucket: Option<String>,
    endpoint: Option<String>,
    region: Option<String>,
    prefix: Option<String>,
    path_style: Option<bool>,
    public_url: Option<String>,
    reads: Option<Reads>,
    timeout_seconds: Option<u64>,
    access_key_id: Option<String>,
    secret_access_key: Option<Secret>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Local,
    S3,
}

/// The backends that are configured, with the one that is always there.
pub(super) fn backends(
    raw: BTreeMap<String, Raw>,
    data_dir: PathBuf,
) -> Result<BTreeMap<String, Backend>, ConfigError> {
    let mut backends = BTreeMap::from([(LocalStore::NAME.to_owned(), Backend::Local(data_dir))]);
    for (name, raw) in raw {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        if name == LocalStore::NAME || name.is_empty() || !name.chars().all(plain) {
            return Err(refuse(&name, "cannot be its name", "a-z, 0-9, - and _, and not \"local\""));
        }
        let backend = raw.check(&name)?;
        if let Some((other, _)) = backends.iter().find(|(_, other)| overlap(other, &backend)) {
            let problem = format!("is the place of {other:?}, or within it");
            return Err(refuse(&name, &problem, "a folder, or a bucket and prefix, of its own"));
        }
        backends.insert(name, backend);
    }
    Ok(backends)
}

/// Whether two backends are one place, or one lies within the other: what one removes, the other would miss.
fn overlap(one: &Backend, other: &Backend) -> bool {
    match (one, other) {
        (Backend::Local(one), Backend::Local(other)) => {
            let real = |folder: &PathBuf| std::fs::canonicalize(folder).unwrap_or_else(|_| folder.clone());
            real(one) == real(other)
        }
        (Backend::S3(one), Backend::S3(other)) => {
            let within = one.prefix.starts_with(&other.prefix) || other.prefix.starts_with(&one.prefix);
            one.endpoint == other.endpoint && one.bucket == other.bucket && within
        }
        _ => false,
    }
}

fn refuse(name: &str, problem: &str, allowed: &'static str) -> ConfigError {
    ConfigError::Value { name: "storage", problem: format!("{name}: {problem}"), allowed }
}

impl Raw {
    fn check(self, name: &str) -> Result<Backend, ConfigError> {
        match self.kind {
            Kind::Local => self.folder(name),
            Kind::S3 => self.bucket(name).map(|bucket| Backend::S3(Box::new(bucket))),
        }
    }

    fn folder(self, name: &str) -> Result<Backend, ConfigError> {
        let folder = self.folder.filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.ok_or_else(|| refuse(name, "has no folder", "folder = \"/path\""))?;
        let others = [&self.bucket, &self.endpoint, &self.region, &self.prefix, &self.public_url];
        let more =
            self.access_key_id.is_some() || self.secret_access_key.is_some() || self.path_style.is_some();
        let more = more || self.reads.is_some() || self.timeout_seconds.is_some();
        if more || others.iter().any(|other| other.is_some()) {
            return Err(refuse(name, "is a folder with settings of a bucket", "kind and folder"));
        }
        Ok(Backend::Local(folder))
    }

    fn bucket(self, name: &str) -> Result<Bucket, ConfigError> {
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        if self.folder.is_some() {
            return Err(refuse(name, "is a bucket with a folder", "bucket, endpoint, region …"));
        }
        let bucket = some(self.bucket).ok_or_else(|| refuse(name, "has no bucket", "bucket = \"name\""))?;
        let endpoint = public_url(&self.endpoint.unwrap_or_default())
            .map_err(|error| refuse(name, &format!("endpoint: {error}"), "an http:// or https:// URL"))?;
        let public_url = public_url(&self.public_url.unwrap_or_default())
            .map_err(|error| refuse(name, &format!("public_url: {error}"), "an http:// or https:// URL"))?;
        let region = match some(self.region) {
            Some(region) => region,
            None if endpoint.is_some() => "us-east-1".to_owned(),
            None => return Err(refuse(name, "has no region", "region = \"eu-central-1\"")),
        };
        let credentials = match (some(self.access_key_id), self.secret_access_key) {
            (Some(id), Some(secret)) => Some((id, secret)),
            (None, None) => None,
            _ => {
                let allowed = "access_key_id and secret_access_key, or neither";
                return Err(refuse(name, "has half of its credentials", allowed));
            }
        };
        let reads = self.reads.unwrap_or(if public_url.is_some() {
            // A presigned URL tells the key, which is all that the public URL needs.
            Reads::Stream
        } else {
            Reads::Presigned
        });
        let path_style = self.path_style.unwrap_or(endpoint.is_some());
        let prefix = checked_prefix(name, &self.prefix.unwrap_or_default())?;
        let timeout = self.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT);
        if !(1..=600).contains(&timeout) {
            return Err(refuse(name, &format!("timeout_seconds is {timeout}"), "1 to 600"));
        }
        let timeout = Duration::from_secs(timeout);
        Ok(Bucket { bucket, endpoint, region, prefix, path_style, public_url, reads, timeout, credentials })
    }
}

fn checked_prefix(name: &str, prefix: &str) -> Result<String, ConfigError> {
    let prefix = prefix.trim_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if prefix.len() > 200 || !prefix.chars().all(plain) || prefix.split('/').any(|part| part == "..") {
        return Err(refuse(name, "prefix cannot be used", "up to 200 of a-z, A-Z, 0-9, -, _, . and /"));
    }
    Ok(if prefix.is_empty() { String::new() } else { format!("{prefix}/") })
}
