//! Documents that clients name instead of sending them: trusted ones, which an administrator gives, and those that were
//! sent before (automatic persisted queries, <https://www.apollographql.com/docs/apollo-server/performance/apq>).

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use moka::sync::Cache;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Params;
use super::document::Refusal;

/// Memory for the texts of persisted queries, in bytes.
const KEPT_BYTES: u64 = 16 * 1024 * 1024;

/// Documents by name.
#[derive(Clone)]
pub struct Stored {
    /// None, where all documents are executed.
    trusted: Option<Arc<Trusted>>,
    /// None, where documents have to be sent.
    persisted: Option<Cache<String, Arc<str>>>,
}

/// Documents that are executed, and no others.
#[derive(Debug, Default)]
pub struct Trusted {
    by_name: HashMap<String, Arc<str>>,
    texts: HashSet<Arc<str>>,
}

/// The text that a request is about.
#[derive(Debug)]
pub struct Named {
    /// The document.
    pub text: Arc<str>,
    /// The hash that it is to be kept by, once it proved to be valid.
    pub keep_as: Option<String>,
}

impl Stored {
    /// Knows what is trusted, and keeps what is sent with its hash if `persist` says so.
    pub fn new(trusted: Option<Trusted>, persist: bool) -> Self {
        let weigh =
            |hash: &String, text: &Arc<str>| u32::try_from(hash.len() + text.len()).unwrap_or(u32::MAX);
        // Who trusts only what was given before has no use for what is sent.
        let persist = persist && trusted.is_none();
        let persisted = persist.then(|| Cache::builder().weigher(weigh).max_capacity(KEPT_BYTES).build());
        Self { trusted: trusted.map(Arc::new), persisted }
    }

    /// The document that a request sends or names.
    ///
    /// # Errors
    /// `PERSISTED_QUERY_NOT_FOUND` for a name that is not known, `FORBIDDEN` for a document that is not trusted,
    /// `BAD_USER_INPUT` for a hash that is not that of the document.
    pub fn find(&self, params: &Params) -> Result<Named, Refusal> {
        let hash = params.persisted_hash.as_deref();
        let name = params.document_id.as_deref().or(hash);
        let Some(text) = params.query.as_deref().filter(|text| !text.is_empty()) else {
            let name = name.ok_or_else(|| Refusal::new("query is missing", "BAD_USER_INPUT"))?;
            let text = self.named(name).ok_or_else(|| self.unknown(hash.is_some()))?;
            return Ok(Named { text, keep_as: None });
        };
        if let Some(hash) = hash
            && !hash.eq_ignore_ascii_case(&sha256_hex(text))
        {
            let message = "the document is not the one with this sha256Hash";
            return Err(Refusal::new(message, "BAD_USER_INPUT"));
        }
        if let Some(trusted) = &self.trusted
            && !trusted.texts.contains(text)
        {
            let message = "only documents that were approved before are executed here, and this one was not";
            return Err(Refusal::new(message, "FORBIDDEN"));
        }
        let keep_as = hash.filter(|_| self.persisted.is_some()).map(str::to_ascii_lowercase);
        Ok(Named { text: text.into(), keep_as })
    }

    /// Keeps a document that is valid.
    pub fn keep(&self, hash: String, text: &Arc<str>) {
        if let Some(persisted) = &self.persisted {
            persisted.insert(hash, Arc::clone(text));
        }
    }

    fn named(&self, name: &str) -> Option<Arc<str>> {
        let of_hash = name.strip_prefix("sha256:").unwrap_or(name).to_ascii_lowercase();
        let trusted = self
            .trusted
            .as_ref()
            .and_then(|trusted| trusted.by_name.get(name).or_else(|| trusted.by_name.get(&of_hash)).cloned());
        trusted.or_else(|| self.persisted.as_ref()?.get(&of_hash))
    }

    /// Clients that send hashes know these words: they send the document as well, or stop sending hashes.
    fn unknown(&self, by_hash: bool) -> Refusal {
        if by_hash && self.persisted.is_none() && self.trusted.is_none() {
            return Refusal::new("PersistedQueryNotSupported", "PERSISTED_QUERY_NOT_SUPPORTED");
        }
        Refusal::new("PersistedQueryNotFound", "PERSISTED_QUERY_NOT_FOUND")
    }
}

impl Trusted {
    /// Reads a folder of `.graphql` files, or a JSON file: an object from names to documents, as Relay's compiler and
    /// graphql-codegen write it, or a manifest of Apollo's.
    ///
    /// # Errors
    /// When it cannot be read, or has no documents.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let mut trusted = Self::default();
        let what = || format!("cannot read the trusted documents in {}", path.display());
        if path.is_dir() {
            trusted.read_folder(path).with_context(what)?;
        } else {
            let text = std::fs::read_to_string(path).with_context(what)?;
            trusted.read_manifest(&serde_json::from_str(&text).with_context(what)?).with_context(what)?;
        }
        ensure!(!trusted.texts.is_empty(), "there are no trusted documents in {}", path.display());
        Ok(trusted)
    }

    fn read_folder(&mut self, folder: &Path) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                self.read_folder(&path)?;
            } else if path.extension().is_some_and(|ending| ending == "graphql" || ending == "gql") {
                let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                self.add(None, &text);
            }
        }
        Ok(())
    }

    fn read_manifest(&mut self, manifest: &Value) -> anyhow::Result<()> {
        if let Some(operations) = manifest.get("operations").and_then(Value::as_array) {
            for operation in operations {
                match (operation["id"].as_str(), operation["body"].as_str()) {
                    (Some(id), Some(body)) => self.add(Some(id), body),
                    _ => bail!("an operation has no id or no body"),
                }
            }
            return Ok(());
        }
        for (name, text) in manifest.as_object().context("it is no JSON object")? {
            self.add(Some(name), text.as_str().with_context(|| format!("{name} is no text"))?);
        }
        Ok(())
    }

    fn add(&mut self, name: Option<&str>, text: &str) {
        let text: Arc<str> = text.into();
        self.by_name.insert(sha256_hex(&text), Arc::clone(&text));
        if let Some(name) = name {
            self.by_name.insert(name.to_owned(), Arc::clone(&text));
        }
        self.texts.insert(text);
    }
}

fn sha256_hex(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
