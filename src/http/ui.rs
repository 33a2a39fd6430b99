//! The explorer page: GraphiQL, with everything that it loads, from the binary itself.

use axum::extract::{Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{Server, error, pages};

/// What a file of the page may load when a browser opens it by itself.
const FILE_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

const PAGE: &str = include_str!("../../ui/explorer/dist/index.html");

/// Name, media type and gzip-compressed content. The page names them with a hash of their content.
const FILES: [(&str, &str, &[u8]); 4] = [
    ("app.js", "text/javascript; charset=utf-8", include_bytes!("../../ui/explorer/dist/app.js.gz")),
    ("app.css", "text/css; charset=utf-8", include_bytes!("../../ui/explorer/dist/app.css.gz")),
    ("worker.js", "text/javascript; charset=utf-8", include_bytes!("../../ui/explorer/dist/worker.js.gz")),
    ("LICENSES.txt", "text/plain; charset=utf-8", include_bytes!("../../ui/explorer/dist/LICENSES.txt.gz")),
];

/// The page.
pub fn explorer_page(server: &Server, request: &Parts) -> Response {
    let hosts = [pages::asked_host(request), server.pages().public_authority()].into_iter().flatten();
    let mut hosts: Vec<String> = hosts.filter_map(source).collect();
    hosts.dedup();
    let policy = policy(&hosts);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::VARY, HeaderValue::from_static("Accept")),
    ];
    (StatusCode::OK, headers, PAGE).into_response()
}

/// What the page may load: scripts, styles and fonts from its own folder, which has no uploaded files, and the API. `'self'`
/// cannot be narrowed to a folder, so the folder is named by the hosts that clients reach the server by.
fn policy(hosts: &[String]) -> HeaderValue {
    let each = |prefix: &str, suffix: &str| {
        hosts.iter().map(|host| format!(" {prefix}{host}{suffix}")).collect::<String>()
    };
    // A policy has no way to write an IPv6 address.
    let folder = if hosts.is_empty() { " 'self'".to_owned() } else { each("", "/explorer/") };
    let policy = format!(
        "default-src 'none'; script-src{folder}; worker-src{folder}; style-src{folder} 'unsafe-inline'; \
         font-src{folder} data:; img-src 'self' data:; connect-src 'self'{}{}; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        each("ws://", ""),
        each("wss://", ""),
    );
    HeaderValue::from_str(&policy).expect("hosts of a policy are plain text")
}

/// A host with its port, if a policy can name it (CSP3, `host-source`).
fn source(host: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':');
    let is_one = !host.is_empty() && host.len() <= 255 && host.chars().all(is_plain);
    is_one.then(|| host.to_ascii_lowercase())
}

/// `GET /explorer/{file}`: what the page loads.
pub async fn explorer_file(State(server): State<Server>, Path(name): Path<String>) -> Response {
    if !server.app().config().graphql.explorer {
        return error::no_route().await;
    }
    let Some((_, content_type, content)) = FILES.iter().find(|(file, ..)| *file == name) else {
        return error::no_route().await;
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_ENCODING, HeaderValue::from_static("gzip")),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(FILE_POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (StatusCode::OK, headers, *content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_takes_scripts_from_its_own_folder_alone() {
        let policy = policy(&["127.0.0.1:4000".to_owned(), "assets.example".to_owned()]);
        let policy = policy.to_str().expect("a text");
        let scripts = policy.split("; ").find(|part| part.starts_with("script-src")).expect("scripts");
        assert_eq!(scripts, "script-src 127.0.0.1:4000/explorer/ assets.example/explorer/");
        assert!(
            policy.contains("connect-src 'self' ws://127.0.0.1:4000 ws://assets.example wss://"),
            "{policy}"
        );
    }

    #[test]
    fn a_host_cannot_widen_the_policy() {
        for host in ["", "*", "a b", "a;script-src *", "a,b", "'self'", "[::1]:4000", "a/b"] {
            assert_eq!(source(host), None, "{host}");
        }
        assert_eq!(source("Assets.example:4000").as_deref(), Some("assets.example:4000"));
    }
}
