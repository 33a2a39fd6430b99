//! Who a request comes from, and which pages and host names may talk to the server.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq as _;
use url::Url;
use uuid::Uuid;

use super::Server;
use super::error::HttpError;
use crate::config::Config;
use crate::domain::actor::Actor;
use crate::domain::error::{Error, Result};

/// Knows actors by what they send.
pub struct Auth {
    mode: Mode,
    allowed_origins: Vec<String>,
    public_host: Option<String>,
    own_origin: Option<String>,
}

enum Mode {
    /// Everyone who can connect is admin; only programs of this machine can.
    Dev,
    /// Whoever has this token is admin, others are anonymous.
    Token(String),
}

impl Auth {
    /// Reads the admin token of the data folder, making it the first time; with `dev` none is needed.
    ///
    /// # Errors
    /// When the token cannot be read or written.
    pub fn open(config: &Config, public_url: &str) -> anyhow::Result<Self> {
        let mode = if config.dev { Mode::Dev } else { Mode::Token(admin_token(&config.data_dir)?) };
        let public = Url::parse(public_url).ok();
        Ok(Self {
            mode,
            allowed_origins: config.allowed_origins.clone(),
            public_host: public.as_ref().and_then(|url| url.host_str().map(ToOwned::to_owned)),
            own_origin: public.map(|url| url.origin().ascii_serialization()),
        })
    }

    /// Where the admin token of a data folder is.
    #[must_use]
    pub fn token_path(data_dir: &Path) -> PathBuf {
        data_dir.join("admin-token")
    }

    /// Who sent these headers.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for a token that is unknown.
    pub fn actor(&self, headers: &HeaderMap) -> Result<Actor> {
        let value = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
        self.actor_of(value)
    }

    /// Who sent this `Authorization`.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for a token that is unknown.
    pub fn actor_of(&self, authorization: Option<&str>) -> Result<Actor> {
        let Mode::Token(token) = &self.mode else {
            return Ok(Actor::dev());
        };
        let Some(value) = authorization else {
            return Ok(Actor::anonymous());
        };
        let scheme_and_token =
            value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let sent = scheme_and_token.map(|(_, token)| token.trim()).unwrap_or_default();
        if bool::from(sent.as_bytes().ct_eq(token.as_bytes())) {
            return Ok(Actor::admin_token());
        }
        Err(Error::Unauthenticated(
            "the token is not known: send Authorization: Bearer and a valid one".to_owned(),
        ))
    }

    /// Whether a page of this origin may use the API.
    #[must_use]
    pub fn trusts_origin(&self, origin: &str) -> bool {
        let configured = self.allowed_origins.iter().any(|allowed| allowed == origin);
        let own = self.own_origin.as_deref() == Some(origin);
        let local = matches!(self.mode, Mode::Dev)
            && Url::parse(origin).is_ok_and(|url| url.host_str().is_some_and(is_loopback_name));
        configured || own || local
    }

    /// Whether a page that sent these headers may use the API: it is none, is our own, or is trusted.
    #[must_use]
    pub fn trusts_page(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return true;
        };
        let Ok(origin) = origin.to_str() else { return false };
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        (host.is_some() && authority == host) || self.trusts_origin(origin)
    }

    /// In dev mode a page on the internet could reach the server by a name that it points at this machine;
    /// only names that mean this machine are answered.
    fn answers_to(&self, host: &str) -> bool {
        let name =
            Url::parse(&format!("http://{host}")).ok().and_then(|url| url.host_str().map(ToOwned::to_owned));
        match (&self.mode, name) {
            (Mode::Token(_), _) => true,
            (Mode::Dev, Some(name)) => is_loopback_name(&name) || self.public_host.as_deref() == Some(&name),
            (Mode::Dev, None) => false,
        }
    }
}

/// Refuses requests for a host name that is not ours, in dev mode.
pub async fn known_host(
    State(server): State<Server>,
    request: Request,
    next: Next,
) -> std::result::Result<Response, HttpError> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if host.is_some_and(|host| !server.auth().answers_to(host)) {
        let message = "in dev mode the server answers to localhost and loopback addresses alone";
        return Err(Error::Forbidden(message.to_owned()).into());
    }
    Ok(next.run(request).await)
}

fn is_loopback_name(name: &str) -> bool {
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name == "localhost" || name.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn admin_token(data_dir: &Path) -> anyhow::Result<String> {
    let path = Auth::token_path(data_dir);
    if !path.exists() {
        write_token(&path).with_context(|| format!("cannot write the admin token to {}", path.display()))?;
        tracing::info!(path = %path.display(), "made an admin token");
    }
    let token = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let token = token.trim().to_owned();
    anyhow::ensure!(token.len() >= 32, "{} has no token: remove the file to get a new one", path.display());
    Ok(token)
}

fn write_token(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Whole or not at all: an empty file would lock everybody out.
    let unfinished = path.with_extension("new");
    let _ = fs::remove_file(&unfinished);
    let mut file = options.open(&unfinished)?;
    writeln!(file, "vellum_{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn auth(mode: Mode) -> Auth {
        Auth {
            mode,
            allowed_origins: vec!["https://app.example".to_owned()],
            public_host: Some("assets.example".to_owned()),
            own_origin: Some("https://assets.example".to_owned()),
        }
    }

    #[test]
    fn only_the_token_makes_an_admin() {
        let auth = auth(Mode::Token("secret".to_owned()));
        assert_eq!(auth.actor_of(Some("Bearer secret")).expect("known"), Actor::admin_token());
        assert_eq!(auth.actor_of(None).expect("nobody"), Actor::anonymous());
        for wrong in ["Bearer secre", "Bearer secrets", "Bearer", "secret", "Basic secret", ""] {
            assert_eq!(auth.actor_of(Some(wrong)).expect_err(wrong).code(), "UNAUTHENTICATED");
        }
    }

    #[test]
    fn pages_are_trusted_by_origin() {
        let (token, dev) = (auth(Mode::Token("secret".to_owned())), auth(Mode::Dev));
        assert!(token.trusts_origin("https://app.example") && token.trusts_origin("https://assets.example"));
        assert!(!token.trusts_origin("http://localhost:5173") && dev.trusts_origin("http://localhost:5173"));
        assert!(
            !dev.trusts_origin("https://evil.example") && !dev.trusts_origin("http://localhost.evil.example")
        );
        let headers = |origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:4000"));
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).expect("a value"));
            headers
        };
        assert!(token.trusts_page(&headers("http://127.0.0.1:4000")));
        assert!(
            !token.trusts_page(&headers("http://127.0.0.1:4001")) && !token.trusts_page(&headers("null"))
        );
        assert!(token.trusts_page(&HeaderMap::new()));
    }

    #[test]
    fn in_dev_mode_only_names_of_this_machine_are_answered() {
        let dev = auth(Mode::Dev);
        for (host, answered) in [
            ("localhost:4000", true),
            ("127.0.0.1", true),
            ("[::1]:4000", true),
            ("assets.example", true),
            ("evil.example:4000", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(dev.answers_to(host), answered, "{host}");
        }
    }
}
