//! Stands for a collector of OpenTelemetry: keeps what it is sent.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::net::TcpListener;

#[derive(Clone, Default)]
pub struct Collector {
    sent: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Collector {
    /// Starts it; answers with where it is.
    pub async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let keeper = collector.clone();
        let keep = async move |headers: HeaderMap, body: Bytes| {
            keeper.sent.lock().expect("not poisoned").push((headers, body));
            StatusCode::OK
        };
        let routes = Router::new().route("/v1/traces", post(keep));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (collector, format!("http://{address}"))
    }

    /// The headers of what was sent, and all of it as bytes: names and values of spans stand in it as they are.
    pub fn sent(&self) -> (Vec<HeaderMap>, Vec<u8>) {
        let sent = self.sent.lock().expect("not poisoned");
        let (headers, bodies): (Vec<_>, Vec<_>) = sent.iter().cloned().unzip();
        (headers, bodies.concat())
    }
}

/// Whether `part` stands in `bytes`.
pub fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
