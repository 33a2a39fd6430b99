//! Every setting and its default. The only reader of configuration files and of the environment.

mod graphql;
mod jwt;
mod range;
mod rate;
mod storage;
mod traces;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use url::Url;

pub use graphql::Graphql;
pub use jwt::{Jwt, Keys};
pub use rate::{Rate, Rates};
pub use storage::{Backend, Bucket, Reads, Secret};
pub use traces::Traces;

use crate::blob::LocalStore;
use range::{bound, in_range, memory, seconds};

/// The commented defaults, as a file that a user can start from.
pub const DEFAULTS: &str = include_str!("../config.default.toml");

/// Prefix of the environment variables that set something.
const ENV_PREFIX: &str = "VELLUM_";

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file, variable or flag has the wrong shape, or names no setting.
    #[error("configuration: {0}")]
    Source(String),
    /// A value is not among those allowed.
    #[error("setting {name}: {problem}; allowed: {allowed}")]
    Value {
        /// Which setting.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
        /// What may stand there.
        allowed: &'static str,
    },
}

/// Flags given on the command line; what is left out comes from the environment, the file or the defaults.
#[derive(Debug, Default, Clone, Serialize, clap::Args)]
pub struct Flags {
    /// Address and port to listen on, e.g. 127.0.0.1:4000.
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Folder for the database file, the bytes and the admin token.
    #[arg(long, value_name = "FOLDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// <sqlite://path> or <postgres://user@host/database>.
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_url: Option<String>,
    /// How clients reach this server, e.g. <https://assets.example.com>.
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// One machine: loopback only, and everyone who can connect is admin.
    #[arg(long)]
    #[serde(skip_serializing_if = "is_false")]
    pub dev: bool,
    /// What is logged: error, warn, info, debug, trace, or a filter.
    #[arg(long, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// text or json.
    #[arg(long, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes references")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people at a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// Settings as a file, the environment and flags give them, before they are checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    listen: String,
    data_dir: PathBuf,
    database_url: String,
    public_url: String,
    dev: bool,
    allowed_origins: Vec<String>,
    trusted_proxies: Vec<String>,
    metrics_listen: String,
    upload_ttl_seconds: i64,
    trash_ttl_seconds: i64,
    changelog_ttl_seconds: i64,
    max_upload_bytes: i64,
    max_concurrent_uploads: i64,
    min_upload_bytes_per_second: i64,
    file_cache_bytes: i64,
    max_connections: i64,
    max_connections_per_address: i64,
    max_operations: i64,
    max_buffered_bytes: i64,
    max_buffered_bytes_per_client: i64,
    shutdown_grace_seconds: i64,
    default_storage: String,
    #[serde(default)]
    storage: BTreeMap<String, storage::Raw>,
    jwt: Option<jwt::Raw>,
    graphql: graphql::Raw,
    rate_limit: rate::Raw,
    traces: traces::Raw,
    log: String,
    log_format: String,
}

/// Settings that were checked and can be used.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Folder for the database file, the bytes and the admin token.
    pub data_dir: PathBuf,
    /// Where the rows are.
    pub database_url: String,
    /// How clients reach this server, without a trailing slash; none means `http://` and the bound address.
    pub public_url: Option<String>,
    /// Everyone is admin; loopback only.
    pub dev: bool,
    /// Browser origins, besides the server's own, whose pages may use `/graphql`.
    pub allowed_origins: Vec<String>,
    /// How long an upload intent lives.
    pub upload_ttl: Duration,
    /// How long the trash keeps things.
    pub trash_ttl: Duration,
    /// How long the changelog keeps its entries.
    pub changelog_ttl: Duration,
    /// Longest file accepted, in bytes.
    pub max_upload_bytes: i64,
    /// Uploads received at the same time.
    pub max_concurrent_uploads: usize,
    /// Slowest pace of an upload.
    pub min_upload_bytes_per_second: u64,
    /// Bytes of short files that are kept in memory.
    pub file_cache_bytes: u64,
    /// Connections of subscribers, by WebSocket or event stream, at the same time.
    pub max_connections: usize,
    /// Those of them, and other connections, that one address may have without a token that is accepted.
    pub max_connections_per_address: usize,
    /// Operations that run on all WebSocket connections at the same time.
    pub max_operations: usize,
    /// Memory for requests that come in and answers that are not read yet, in bytes.
    pub max_buffered_bytes: usize,
    /// The part of it that one client may have.
    pub max_buffered_bytes_per_client: usize,
    /// Where bytes may lie, by name.
    pub storage: BTreeMap<String, Backend>,
    /// Which of them takes new bytes, unless an admin chose another one.
    pub default_storage: String,
    /// Proxies whose word on where a request comes from is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Where metrics are served to whoever reaches it; none, only with a token.
    pub metrics_listen: Option<SocketAddr>,
    /// How often one may ask.
    pub rates: Rates,
    /// Bounds of GraphQL requests.
    pub graphql: Graphql,
    /// How people are known by JSON Web Tokens; none, not at all.
    pub jwt: Option<Jwt>,
    /// How long running requests may take after SIGTERM.
    pub shutdown_grace: Duration,
    /// Where traces go; none, nowhere.
    pub traces: Option<Traces>,
    /// A tracing filter.
    pub log: String,
    /// How log lines are written.
    pub log_format: LogFormat,
}

impl Config {
    /// Reads defaults, `file`, the environment and `flags`, each over the one before, and checks the result.
    ///
    /// # Errors
    /// When a source cannot be read, names an unknown setting, or a value is not allowed.
    pub fn load(file: Option<&Path>, flags: &Flags) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(path) = file {
            if !path.is_file() {
                return Err(ConfigError::Source(format!("{} is not a file", path.display())));
            }
            figment = figment.merge(Toml::file(path));
        }
        let is_setting = |name: &str| !name.starts_with("TEST_") && name != "CONFIG";
        let env =
            Env::prefixed(ENV_PREFIX).filter(move |name| is_setting(&name.as_str().to_ascii_uppercase()));
        // VELLUM_STORAGE__MEDIA__BUCKET is storage.media.bucket.
        let env = env.split("__");
        let raw = figment.merge(env).merge(Serialized::defaults(flags)).extract();
        let raw: Raw = raw.map_err(|error| ConfigError::Source(error.to_string()))?;
        raw.check()
    }
}

impl Raw {
    fn check(self) -> Result<Config, ConfigError> {
        let listen = listen_address(&self.listen)?;
        if self.dev && !is_loopback(listen.ip()) {
            return Err(ConfigError::Value {
                name: "listen",
                problem: format!(
                    "{} can be reached from other machines, and with dev everyone is admin",
                    self.listen
                ),
                allowed: "a loopback address such as 127.0.0.1:4000, or dev = false",
            });
        }
        let data_dir = self.data_dir;
        let storage = storage::backends(self.storage, data_dir.clone())?;
        let default_storage = default_storage(self.default_storage, &storage)?;
        Ok(Config {
            storage,
            default_storage,
            jwt: self.jwt.map(jwt::Raw::check).transpose()?,
            graphql: self.graphql.check()?,
            trusted_proxies: self
                .trusted_proxies
                .iter()
                .map(|text| network(text))
                .collect::<Result<_, _>>()?,
            metrics_listen: metrics_address(&self.metrics_listen)?,
            rates: self.rate_limit.check()?,
            traces: self.traces.check()?,
            listen,
            database_url: database_url(self.database_url, &data_dir)?,
            data_dir,
            public_url: public_url(&self.public_url)?,
            dev: self.dev,
            allowed_origins: self
                .allowed_origins
                .iter()
                .map(|text| origin(text))
                .collect::<Result<_, _>>()?,
            upload_ttl: seconds("upload_ttl_seconds", self.upload_ttl_seconds, 60..=604_800, "60 to 604800")?,
            trash_ttl: seconds(
                "trash_ttl_seconds",
                self.trash_ttl_seconds,
                60..=3_153_600_000,
                "60 to 3153600000 (100 years)",
            )?,
            changelog_ttl: seconds(
                "changelog_ttl_seconds",
                self.changelog_ttl_seconds,
                60..=3_153_600_000,
                "60 to 3153600000 (100 years)",
            )?,
            max_upload_bytes: in_range(
                "max_upload_bytes",
                self.max_upload_bytes,
                1..=5_497_558_138_880,
                "1 to 5497558138880 (5 TiB)",
            )?,
            max_concurrent_uploads: usize::try_from(in_range(
                "max_concurrent_uploads",
                self.max_concurrent_uploads,
                1..=10_000,
                "1 to 10000",
            )?)
            .expect("at most 10000"),
            min_upload_bytes_per_second: in_range(
                "min_upload_bytes_per_second",
                self.min_upload_bytes_per_second,
                0..=1_000_000_000,
                "0 to 1000000000",
            )?
            .unsigned_abs(),
            file_cache_bytes: in_range(
                "file_cache_bytes",
                self.file_cache_bytes,
                0..=1_099_511_627_776,
                "0 to 1099511627776 (1 TiB)",
            )?
            .unsigned_abs(),
            max_connections: bound("max_connections", self.max_connections)?,
            max_connections_per_address: bound(
                "max_connections_per_address",
                self.max_connections_per_address,
            )?,
            max_operations: bound("max_operations", self.max_operations)?,
            max_buffered_bytes: memory("max_buffered_bytes", self.max_buffered_bytes)?,
            max_buffered_bytes_per_client: memory(
                "max_buffered_bytes_per_client",
                self.max_buffered_bytes_per_client,
            )?,
            shutdown_grace: seconds(
                "shutdown_grace_seconds",
                self.shutdown_grace_seconds,
                0..=3600,
                "0 to 3600",
            )?,
            log_format: log_format(&self.log_format)?,
            log: log_filter(self.log)?,
        })
    }
}

/// The point at which a test lets the process die; see `app/crash.rs`.
#[cfg(debug_assertions)]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
#[must_use]
pub fn crash_at() -> Option<&'static str> {
    static POINT: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    POINT.get_or_init(|| std::env::var("VELLUM_TEST_CRASH_AT").ok()).as_deref()
}

fn listen_address(text: &str) -> Result<SocketAddr, ConfigError> {
    let found = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| ConfigError::Value {
        name: "listen",
        problem: format!("{text:?} is not an address and port"),
        allowed: "ADDRESS:PORT, e.g. 127.0.0.1:4000, [::1]:4000 or localhost:4000",
    })
}

fn metrics_address(text: &str) -> Result<Option<SocketAddr>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    listen_address(text).map(Some).map_err(|_| ConfigError::Value {
        name: "metrics_listen",
        problem: format!("{text:?} is not an address and port"),
        allowed: "ADDRESS:PORT, e.g. 127.0.0.1:9464, or nothing",
    })
}

/// Whether only programs on this machine can reach the address.
fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn database_url(text: String, data_dir: &Path) -> Result<String, ConfigError> {
    if text.is_empty() {
        return Ok(format!("sqlite://{}", data_dir.join("vellum.db").display()));
    }
    let known = ["sqlite://", "postgres://", "postgresql://"];
    if known.iter().any(|scheme| text.starts_with(scheme)) {
        return Ok(text);
    }
    let scheme = text.split("://").next().unwrap_or_default();
    Err(ConfigError::Value {
        name: "database_url",
        problem: format!("no database is known for {scheme:?}"),
        allowed: "sqlite://path/to/file.db or postgres://user:password@host:5432/database",
    })
}

fn public_url(text: &str) -> Result<Option<String>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    let refuse = |problem: String| ConfigError::Value {
        name: "public_url",
        problem,
        allowed: "an http:// or https:// URL without query or fragment",
    };
    let url = Url::parse(text).map_err(|error| refuse(format!("{text:?} is not a URL ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
        return Err(refuse(format!("{text:?} will not do")));
    }
    Ok(Some(url.as_str().trim_end_matches('/').to_owned()))
}

fn default_storage(name: String, storage: &BTreeMap<String, Backend>) -> Result<String, ConfigError> {
    if name.is_empty() {
        return Ok(LocalStore::NAME.to_owned());
    }
    if storage.contains_key(&name) {
        return Ok(name);
    }
    Err(ConfigError::Value {
        name: "default_storage",
        problem: format!("no backend {name:?} is configured"),
        allowed: "\"local\", or the name of a [storage.name] section",
    })
}

fn origin(text: &str) -> Result<String, ConfigError> {
    let parsed = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    parsed.map(|url| url.origin().ascii_serialization()).ok_or_else(|| ConfigError::Value {
        name: "allowed_origins",
        problem: format!("{text:?} is not an origin"),
        allowed: "a list of origins, e.g. [\"https://app.example.com\"]",
    })
}

fn network(text: &str) -> Result<IpNet, ConfigError> {
    let found = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    found.map_err(|_| ConfigError::Value {
        name: "trusted_proxies",
        problem: format!("{text:?} is no address and no network"),
        allowed: "a list of these, e.g. [\"127.0.0.1\", \"10.0.0.0/8\"]",
    })
}

fn log_format(text: &str) -> Result<LogFormat, ConfigError> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(ConfigError::Value {
            name: "log_format",
            problem: format!("{other:?} is unknown"),
            allowed: "\"text\" or \"json\"",
        }),
    }
}

fn log_filter(text: String) -> Result<String, ConfigError> {
    match tracing_subscriber::EnvFilter::try_new(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(ConfigError::Value {
            name: "log",
            problem: format!("{text:?} is not a filter ({error})"),
            allowed: "error, warn, info, debug, trace, or e.g. \"info,vellum=debug\"",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(flags: &Flags) -> Result<Config, String> {
        Config::load(None, flags).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_usable() {
        let config = with(&Flags::default()).expect("defaults");
        assert_eq!(config.listen.to_string(), "127.0.0.1:4000");
        assert_eq!(config.database_url, "sqlite://./data/vellum.db");
        assert_eq!(config.upload_ttl, Duration::from_secs(3600));
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_name_and_what_is_allowed() {
        let cases = [
            (Flags { listen: Some("here".into()), ..Flags::default() }, "setting listen"),
            (Flags { listen: Some("0.0.0.0:1".into()), dev: true, ..Flags::default() }, "loopback"),
            (Flags { database_url: Some("mysql://x".into()), ..Flags::default() }, "setting database_url"),
            (Flags { public_url: Some("ftp://x".into()), ..Flags::default() }, "setting public_url"),
            (Flags { log_format: Some("xml".into()), ..Flags::default() }, "\"text\" or \"json\""),
        ];
        for (flags, expected) in cases {
            let error = with(&flags).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_file_overrides_defaults_and_an_unknown_setting_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("vellum.toml");
        std::fs::write(&path, "upload_ttl_seconds = 120").expect("write");
        let config = Config::load(Some(&path), &Flags::default()).expect("config");
        assert_eq!(config.upload_ttl, Duration::from_secs(120));
        std::fs::write(&path, "lisen = 'x'").expect("write");
        let error = Config::load(Some(&path), &Flags::default()).expect_err("unknown").to_string();
        assert!(error.contains("lisen"), "{error}");
    }
}
