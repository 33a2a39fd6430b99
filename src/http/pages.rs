//! Which pages, and by which host names, may talk to the server.

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use url::Url;

use super::Server;
use super::error::HttpError;
use crate::config::Config;
use crate::domain::error::Error;

/// The pages that may use the API.
pub struct Pages {
    dev: bool,
    allowed_origins: Vec<String>,
    public_host: Option<String>,
    own_origin: Option<String>,
    /// Whether it was said how clients reach the server.
    is_named: bool,
}

impl Pages {
    /// As the settings have it. `public_url` is how clients reach the server.
    pub fn new(config: &Config, public_url: &str) -> Self {
        let public = Url::parse(public_url).ok();
        Self {
            dev: config.dev,
            allowed_origins: config.allowed_origins.clone(),
            public_host: public.as_ref().and_then(|url| url.host_str().map(ToOwned::to_owned)),
            own_origin: public.map(|url| url.origin().ascii_serialization()),
            is_named: config.public_url.is_some(),
        }
    }

    /// Whether a page of this origin may use the API.
    #[must_use]
    pub fn trusts_origin(&self, origin: &str) -> bool {
        let configured = self.allowed_origins.iter().any(|allowed| allowed == origin);
        let own = self.own_origin.as_deref() == Some(origin);
        let local =
            self.dev && Url::parse(origin).is_ok_and(|url| url.host_str().is_some_and(is_loopback_name));
        configured || own || local
    }

    /// Whether a page that sent these headers may use the API: it is none, is our own, or is trusted.
    #[must_use]
    pub fn trusts_page(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return true;
        };
        let Ok(origin) = origin.to_str() else { return false };
        self.trusts_origin(origin) || (!self.is_named && is_of_host(origin, headers))
    }

    /// In dev mode a page on the internet could reach the server by a name that it points at this machine;
    /// only names that mean this machine are answered.
    fn answers_to(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        if !self.dev {
            return true;
        }
        let said = headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
        let mut hosts = said.chain(uri.authority().map(|authority| authority.as_str().as_bytes())).peekable();
        hosts.peek().is_some() && hosts.all(|host| self.is_ours(host))
    }

    fn is_ours(&self, host: &[u8]) -> bool {
        let Ok(authority) = Authority::try_from(host) else { return false };
        let name = authority.host().to_ascii_lowercase();
        let is_ours = is_loopback_name(&name) || self.public_host.as_deref() == Some(&name);
        is_ours && !authority.as_str().contains('@')
    }
}

/// Refuses requests for a host name that is not ours, in dev mode; and scripts that would run between the server and its
/// pages, since the only ones of this origin would be uploaded files.
pub async fn guard(
    State(server): State<Server>,
    request: Request,
    next: Next,
) -> Result<Response, HttpError> {
    if !server.pages().answers_to(request.uri(), request.headers()) {
        let message = "in dev mode the server answers to localhost, loopback addresses and public_url alone: name one of them in Host";
        return Err(Error::Forbidden(message.to_owned()).into());
    }
    if request.headers().contains_key("service-worker") {
        let message = "nothing on this server is the script of a service worker";
        return Err(Error::Forbidden(message.to_owned()).into());
    }
    Ok(next.run(request).await)
}

/// Whether a page comes from the host that it talks to: where nobody said what the server is called, its own pages can be
/// told by that alone.
fn is_of_host(origin: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    host.is_some() && authority == host
}

fn is_loopback_name(name: &str) -> bool {
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name == "localhost" || name.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn pages(dev: bool) -> Pages {
        Pages {
            dev,
            allowed_origins: vec!["https://app.example".to_owned()],
            public_host: Some("assets.example".to_owned()),
            own_origin: Some("https://assets.example".to_owned()),
            is_named: false,
        }
    }

    #[test]
    fn pages_are_trusted_by_origin() {
        let (token, dev) = (pages(false), pages(true));
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
        let named = Pages { is_named: true, ..pages(false) };
        assert!(!named.trusts_page(&headers("http://127.0.0.1:4000")), "the server is called otherwise");
        assert!(named.trusts_page(&headers("https://assets.example")));
    }

    #[test]
    fn in_dev_mode_only_names_of_this_machine_are_answered() {
        let dev = pages(true);
        for (target, hosts, answered) in [
            ("/", &["localhost:4000"][..], true),
            ("/", &["127.0.0.1"], true),
            ("/", &["[::1]:4000"], true),
            ("/", &["Assets.Example"], true),
            ("http://localhost:4000/", &[], true),
            ("http://localhost:4000/", &["localhost:4000"], true),
            ("/", &[], false),
            ("/", &[""], false),
            ("/", &["evil.example:4000"], false),
            ("/", &["10.0.0.1"], false),
            ("/", &["localhost@evil.example"], false),
            ("/", &["evil.example@localhost"], false),
            ("/", &["localhost:4000", "evil.example"], false),
            ("http://evil.example/", &["localhost:4000"], false),
            ("http://localhost/", &["evil.example"], false),
        ] {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_static(host));
            }
            let target: Uri = target.parse().expect("a target");
            assert_eq!(dev.answers_to(&target, &headers), answered, "{target} {hosts:?}");
            assert!(pages(false).answers_to(&target, &headers), "outside dev mode every host is answered");
        }
    }
}
