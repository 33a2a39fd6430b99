//! What every request passes on its way in and every answer on its way out: an id, the address that it comes from, how
//! often that one may ask, and the headers that tell browsers to be careful.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use axum::extract::{ConnectInfo, Extension, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use ipnet::IpNet;
use tracing::Instrument as _;
use tracing::field::Empty;
use uuid::Uuid;

use super::auth::Session;
use super::connections::Connection;
use super::error;
use super::limits::{Client, RETRY_AFTER, RateLimits, Resource, answers};
use super::{Server, graphql, trace};
use crate::app::{App, RequestId};
use crate::domain::error::Error;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The address of who comes by no network.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// Memory that a request takes on HTTP/2 until it is answered, besides its body, in bytes.
const STREAM: usize = 20 * 1024;
/// Longest request id that is taken from a client.
const MAX_ID: usize = 128;

/// Looks at requests.
pub struct Edge {
    proxies: Vec<IpNet>,
    limits: Option<Arc<RateLimits>>,
    /// Whether clients reach the server by https.
    encrypted: bool,
    /// Whether it was said that a proxy may be missing among `proxies`.
    warned: AtomicBool,
}

impl Edge {
    /// Counts something that a client asks for.
    ///
    /// # Errors
    /// How long to wait before the next, in seconds.
    pub fn count(&self, client: Client) -> Result<(), u64> {
        self.limits.as_ref().map_or(Ok(()), |limits| limits.count(client))
    }

    /// As the settings have it.
    pub fn new(app: &App) -> Self {
        let limits = RateLimits::new(app).map(Arc::new);
        if let Some(limits) = limits.clone() {
            app.spawn(async move {
                loop {
                    tokio::time::sleep(RateLimits::forget_every()).await;
                    limits.forget();
                }
            });
        }
        let encrypted = app.public_url().starts_with("https://");
        Self {
            proxies: app.config().trusted_proxies.clone(),
            limits,
            encrypted,
            warned: AtomicBool::new(false),
        }
    }

    /// Whether what somebody at this address says of where a request comes from is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.proxies.iter().any(|proxies| proxies.contains(&address))
    }

    /// Where a request comes from. What it says itself of that counts as far as proxies that are trusted said so: the last
    /// address that none of them has.
    fn address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut address = peer.to_canonical();
        if !self.trusts(address) {
            // Behind a proxy that is not listed, all clients are one address, and have what one may have.
            if headers.contains_key(FORWARDED_FOR) && !self.warned.swap(true, Ordering::Relaxed) {
                tracing::warn!(%address, "X-Forwarded-For comes from an address that is not among trusted_proxies");
            }
            return address;
        }
        let values: Vec<&[u8]> = headers.get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
        let mut said = values.iter().flat_map(|value| value.split(|byte| *byte == b',')).rev();
        while self.trusts(address) {
            // What is no address was not said by a proxy.
            match said.next().and_then(address_in) {
                Some(next) => address = next.to_canonical(),
                None => break,
            }
        }
        address
    }
}

/// An address, with or without a port, as proxies write it.
fn address_in(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?.trim();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    text.parse().ok().or_else(with_port).or_else(in_brackets)
}

/// Where a request comes from, and who is counted for it; an extension of requests.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// Its address.
    pub address: IpAddr,
    /// Who is counted for it.
    pub client: Client,
}

/// Lets a request pass.
pub async fn pass(State(server): State<Server>, mut request: Request, next: Next) -> Response {
    let edge = server.edge();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or(UNKNOWN, |ConnectInfo(address)| address.ip());
    let address = edge.address(peer, request.headers());
    let client = client(&server, address, authorization(request.headers()));
    let is_known = matches!(client, Client::Token(_)) || server.app().config().dev;
    let id = request_id(request.headers(), is_known || edge.trusts(peer));
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("(none)", MatchedPath::as_str);
    let method = method_name(request.method());
    let span = tracing::debug_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        otel.name = format_args!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        // Without the query string, which may have a signature.
        url.path = request.uri().path(),
        client.address = %address,
        http.response.status_code = Empty,
    );
    // Proxies hand on what strangers say of it.
    if is_known {
        trace::go_on(&span, request.headers());
    }
    let began = Instant::now();
    request.extensions_mut().insert(Caller { address, client });
    let answering = next.run(request).instrument(span.clone());
    let mut response = RequestId::new(Bytes::copy_from_slice(id.as_bytes())).scope(answering).await;
    span.record("http.response.status_code", response.status().as_u16());
    server.app().metrics().request(route, method, response.status().as_u16(), began.elapsed());
    let is_file = response.status() == StatusCode::NOT_MODIFIED
        || response.headers().contains_key(header::CONTENT_DISPOSITION);
    add_headers(response.headers_mut(), id, edge.encrypted);
    if !is_file {
        add_policy(response.headers_mut());
    }
    response
}

/// Refuses those who ask too often, or do not take what they are answered.
pub async fn limit(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let is_graphql = request.uri().path() == "/graphql";
    let connection = request.extensions().get::<Connection>().cloned();
    // An upload URL proves by its signature whose it is, and a WebSocket by its first message.
    let proves_itself =
        request.uri().path().starts_with("/uploads/") || request.headers().contains_key(header::UPGRADE);
    if let Some(connection) = connection.as_ref().filter(|_| !proves_itself)
        && let Err(exceeded) = connection.used_by(caller.client)
    {
        server.app().metrics().rate_limited();
        let mut response = error::busy(exceeded.message());
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    // Pages ask whether they may send something without the token that they will send it with.
    let asks = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let counted = if asks { Ok(()) } else { server.edge().count(caller.client) };
    if let Err(wait) = counted {
        return refuse(&server, is_graphql, too_often(wait), wait);
    }
    let version = request.version();
    // There a connection has many requests, each with buffers of its own.
    let bytes = if version == Version::HTTP_2 { STREAM } else { 0 };
    let held = match server.limits().reserve(caller.client, Resource::Memory, bytes) {
        Ok(held) => held,
        Err(exceeded) => return refuse(&server, is_graphql, exceeded.into(), RETRY_AFTER),
    };
    let response = next.run(request).await;
    drop(held);
    let busy = || connection.as_ref().map(Connection::busy);
    match answers::count(server.limits(), caller.client, version, response, busy).await {
        Ok(response) => response,
        Err((error, wait)) => refuse(&server, is_graphql, error, wait),
    }
}

fn refuse(server: &Server, is_graphql: bool, error: Error, wait: u64) -> Response {
    server.app().metrics().rate_limited();
    let mut response = if is_graphql { graphql::refused(&error) } else { error::refused(error) };
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait));
    response
}

/// What is told who asks too often.
pub fn too_often(wait: u64) -> Error {
    Error::RateLimited(format!("too many requests: come again in {wait} s"))
}

/// Who is counted for something that comes from `address` with this `Authorization`.
pub fn client(server: &Server, address: IpAddr, authorization: Option<&str>) -> Client {
    match authorization.map(|shown| server.auth().accepted(shown)) {
        None => Client::Anonymous(address),
        Some(None) => Client::Unproven(address),
        Some(Some(digest)) => Client::Token(digest),
    }
}

impl Caller {
    /// The same, now that it is known who asks.
    pub fn known_by(self, session: &Session) -> Self {
        Self { client: session.digest.map_or(Client::Anonymous(self.address), Client::Token), ..self }
    }

    /// Whose request it is.
    pub fn of(parts: &Parts) -> Self {
        let nobody = Self { address: UNKNOWN, client: Client::Anonymous(UNKNOWN) };
        parts.extensions.get().copied().unwrap_or(nobody)
    }
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default())
}

/// Methods as they are counted: others can be made up.
fn method_name(method: &Method) -> &'static str {
    const KNOWN: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE"];
    KNOWN.into_iter().find(|known| method.as_str() == *known).unwrap_or("(other)")
}

/// The id that a client or proxy gave, if its word counts and it can stand in a log, or a new one.
fn request_id(headers: &HeaderMap, counts: bool) -> HeaderValue {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:=/+".contains(byte);
    let given = headers.get(REQUEST_ID).filter(|_| counts);
    let given = given.filter(|id| (1..=MAX_ID).contains(&id.len()) && id.as_bytes().iter().all(plain));
    given.cloned().unwrap_or_else(|| HeaderValue::from_str(&new_id()).expect("hex digits are a value"))
}

/// An id that no other request has, here or at another server; not one that cannot be guessed.
fn new_id() -> String {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| Uuid::new_v4().as_u64_pair().0);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{:016x}{:016x}", *PROCESS, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// What every answer carries, unless it says something else by itself.
fn add_headers(headers: &mut HeaderMap, id: HeaderValue, encrypted: bool) {
    headers.insert(REQUEST_ID, id);
    let strict = encrypted.then_some((header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"));
    let careful = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("x-permitted-cross-domain-policies"), "none"),
    ];
    for (name, value) in careful.into_iter().chain(strict) {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// What is no file of somebody's has nothing to show in a frame, and nothing to run. (What is told of a file that did not
/// change would become what a cache tells of the file.)
fn add_policy(headers: &mut HeaderMap) {
    let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    headers.entry(header::X_FRAME_OPTIONS).or_insert(HeaderValue::from_static("DENY"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, said: &[&str]) -> String {
        let proxies = ["127.0.0.1/32", "10.0.0.0/8"].map(|net| net.parse().expect("a network")).to_vec();
        let edge = Edge { proxies, limits: None, encrypted: false, warned: AtomicBool::new(false) };
        let mut headers = HeaderMap::new();
        for value in said {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(value).expect("a value"));
        }
        edge.address(peer.parse().expect("an address"), &headers).to_string()
    }

    #[test]
    fn only_what_trusted_proxies_say_counts() {
        for (peer, said, is) in [
            ("192.0.2.1", &[][..], "192.0.2.1"),
            ("192.0.2.1", &["198.51.100.7"], "192.0.2.1"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("::ffff:127.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1", &["1.2.3.4, 198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1", &["1.2.3.4", "198.51.100.7, 10.1.1.1"], "198.51.100.7"),
            ("127.0.0.1", &["1.2.3.4, nonsense, 10.1.1.1"], "10.1.1.1"),
            ("10.0.0.1", &["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
            ("127.0.0.1", &["198.51.100.7:5678"], "198.51.100.7"),
            ("127.0.0.1", &["[2001:db8::1]:5678"], "2001:db8::1"),
            ("127.0.0.1", &["1.2.3.4, [2001:db8::1]"], "2001:db8::1"),
        ] {
            assert_eq!(address(peer, said), is, "{peer} {said:?}");
        }
    }

    #[test]
    fn where_there_is_https_browsers_are_told_to_stay_with_it() {
        for encrypted in [true, false] {
            let mut headers = HeaderMap::new();
            add_headers(&mut headers, HeaderValue::from_static("id"), encrypted);
            assert_eq!(headers.contains_key(header::STRICT_TRANSPORT_SECURITY), encrypted);
        }
    }

    #[test]
    fn an_id_that_could_forge_a_log_line_is_not_taken() {
        let given = |id: &str| {
            let headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_str(id).expect("a value"))]);
            request_id(&headers, true).to_str().expect("a text").to_owned()
        };
        assert_eq!(given("abc-123_4"), "abc-123_4");
        for bad in ["a b", "", "\"x\"", &"x".repeat(200)] {
            assert_eq!(given(bad).len(), 32, "{bad}");
        }
    }
}
