//! The explorer page: GraphiQL, with everything that it loads, from the binary itself.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use super::{Server, error};

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

/// The page. Of scripts it takes the one that it names, and nothing that somebody uploaded to the same origin.
pub fn explorer_page() -> Response {
    let nonce = Uuid::new_v4().simple().to_string();
    let page = PAGE.replace("<script ", &format!("<script nonce=\"{nonce}\" "));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; worker-src 'self'; style-src 'self' 'unsafe-inline'; \
         font-src 'self' data:; img-src 'self' data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_str(&policy).expect("hex digits are a value")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::VARY, HeaderValue::from_static("Accept")),
    ];
    (StatusCode::OK, headers, page).into_response()
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
