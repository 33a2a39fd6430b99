//! Where traces go.

use std::collections::BTreeMap;

use serde::Deserialize;
use url::Url;

use super::{ConfigError, Secret};

/// How traces are sent to an OpenTelemetry collector.
#[derive(Debug, Clone)]
pub struct Traces {
    /// Where OTLP over HTTP takes traces.
    pub endpoint: Url,
    /// What its requests carry besides, e.g. a key.
    pub headers: BTreeMap<String, Secret>,
    /// How many of them are sent, of 1; those that belong to a trace which is sent already always are.
    pub share: f64,
}

/// The section as files and the environment give it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    endpoint: String,
    share: f64,
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
}

impl Raw {
    /// None when they go nowhere.
    pub(super) fn check(self) -> Result<Option<Traces>, ConfigError> {
        let refuse = |name, problem, allowed| Err(ConfigError::Value { name, problem, allowed });
        if !(0.0..=1.0).contains(&self.share) {
            return refuse("traces.share", format!("{} is out of range", self.share), "0 to 1");
        }
        if self.endpoint.is_empty() {
            return Ok(None);
        }
        let url = Url::parse(&self.endpoint).ok();
        let Some(mut endpoint) = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        else {
            let allowed = "an http:// or https:// URL, e.g. http://localhost:4318";
            return refuse("traces.endpoint", format!("{:?} will not do", self.endpoint), allowed);
        };
        let path = format!("{}/v1/traces", endpoint.path().trim_end_matches('/'));
        endpoint.set_path(&path);
        Ok(Some(Traces { endpoint, headers: self.headers, share: self.share }))
    }
}
