//! Serves connections: like axum's own server, with bounds on how long a client may take to say what it wants.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{ConnectInfo, Request};
use axum::http::Version;
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use super::connections::{Busy, Connection};
use super::limits::{Exceeded, RETRY_AFTER};
use super::lingering::Lingering;
use super::rest::Rest;
use super::{Server, metrics_router, router};

/// How long the first head may take to come on a connection.
const FIRST_HEAD_IN: Duration = Duration::from_secs(15);
/// How long the head of another request may take to come, from the end of the one before. Longer than nginx and Caddy keep
/// connections that nothing comes over, so that they end these and not we.
const HEAD_IN: Duration = Duration::from_secs(130);
/// How often a client that speaks HTTP/2 is asked whether it is there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PONG_IN: Duration = Duration::from_secs(150);
/// Longest head of a request, in bytes; also what of a body is read at once.
const MAX_HEAD: u32 = 64 * 1024;
/// Requests that a connection may have at the same time on HTTP/2, and bytes of each answer that wait for the client there.
const MAX_STREAMS: u32 = 100;
const MAX_SENT: usize = 64 * 1024;
/// Bytes of a body that may come there before they are read.
const MAX_COMING: u32 = 256 * 1024;
/// Clients that are told at a time that there is no place for them, and for how long.
const FAREWELLS: usize = 16;
const FAREWELL: Duration = Duration::from_secs(2);
/// Pause when no connection can be taken, for want of open files.
const PAUSE: Duration = Duration::from_millis(250);
/// A client that takes nothing of what it is sent for so long is gone.
#[cfg(target_os = "linux")]
const TAKEN_IN: Duration = Duration::from_secs(180);

/// Serves the routes of `server` until it is to stop; then what runs is brought to its end.
pub async fn serve(server: Server, listener: TcpListener) {
    let stopping = server.app().stopping().clone();
    let routes = router(server.clone());
    serve_within(listener, routes, Some(server), stopping, (FIRST_HEAD_IN, HEAD_IN)).await;
}

/// Serves the metrics of `server` in the same way, to those who look after it.
pub async fn serve_metrics(server: Server, listener: TcpListener) {
    let stopping = server.app().stopping().clone();
    serve_within(listener, metrics_router(server), None, stopping, (FIRST_HEAD_IN, HEAD_IN)).await;
}

async fn serve_within(
    listener: TcpListener,
    routes: Router,
    server: Option<Server>,
    stopping: CancellationToken,
    (first_head_in, head_in): (Duration, Duration),
) {
    let graceful = GracefulShutdown::new();
    let farewells = Arc::new(Semaphore::new(FAREWELLS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !is_of_one(&error) {
                    tracing::warn!(%error, "cannot take a connection; trying again");
                    sleep(PAUSE).await;
                }
                continue;
            }
        };
        let open = match server.as_ref().map(|server| server.open(address.ip())).transpose() {
            Ok(open) => open,
            Err(exceeded) => {
                refuse(stream, exceeded, &farewells);
                continue;
            }
        };
        prepare(&stream);
        let asked = Arc::new(Asked::default());
        let (routes, says, counted) = (routes.clone(), Arc::clone(&asked), open.clone());
        let answer = service_fn(move |request: hyper::Request<Incoming>| {
            says.something();
            let (parts, body) = request.into_parts();
            // On HTTP/2 a stream ends by itself.
            let (body, rest) = match parts.version {
                Version::HTTP_2 => (Body::new(body), None),
                _ => Rest::of(body, &parts.headers),
            };
            let mut request = Request::from_parts(parts, body);
            request.extensions_mut().insert(ConnectInfo(address));
            let busy = counted.as_ref().map(Connection::busy);
            if let Some(connection) = &counted {
                request.extensions_mut().insert(connection.clone());
            }
            let mut routes = routes.clone();
            async move {
                let response = routes.call(request).await.unwrap_or_else(|never| match never {});
                let response = match rest {
                    Some(rest) => rest.take(response).await,
                    None => response,
                };
                Ok::<_, Infallible>(while_sent(response, busy))
            }
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(head_in).max_buf_size(MAX_HEAD as usize);
        builder.http2().timer(TokioTimer::new()).enable_connect_protocol();
        builder.http2().keep_alive_interval(PING_INTERVAL).keep_alive_timeout(PONG_IN);
        builder.http2().max_header_list_size(MAX_HEAD).max_concurrent_streams(MAX_STREAMS);
        builder.http2().max_send_buf_size(MAX_SENT);
        builder.http2().initial_stream_window_size(MAX_COMING).initial_connection_window_size(2 * MAX_COMING);
        let io = TokioIo::new(Lingering::new(stream));
        let connection = builder.serve_connection_with_upgrades(io, answer).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let gone = async {
                match &open {
                    Some(open) => open.gone().await,
                    None => std::future::pending().await,
                }
            };
            let first = async {
                // The timers run only once it is known which HTTP is spoken.
                if timeout(first_head_in, asked.anything()).await.is_ok() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                ended = &mut connection => trace_end(ended),
                () = first => {}
                () = gone => {}
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// The response, which keeps its connection busy as long as a body comes that has to be read from somewhere.
fn while_sent(response: Response, busy: Option<Busy>) -> Response {
    if busy.is_none() || response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| Body::new(body.map_frame(move |frame| keep(frame, busy.as_ref()))))
}

fn keep<F>(frame: F, _: Option<&Busy>) -> F {
    frame
}

/// Tells a client that there is no place for it, as long as few have to be told.
fn refuse(stream: TcpStream, exceeded: Exceeded, farewells: &Arc<Semaphore>) {
    let Ok(place) = Arc::clone(farewells).try_acquire_owned() else { return };
    let problem = json!({
        "code": "RATE_LIMITED", "detail": exceeded.message(), "status": 503, "title": "Service Unavailable",
    });
    let problem = problem.to_string();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: {RETRY_AFTER}\r\nconnection: close\r\n\
         content-type: application/problem+json\r\ncontent-length: {}\r\n\r\n{problem}",
        problem.len()
    );
    tokio::spawn(async move {
        let mut stream = Lingering::new(stream);
        let telling = async {
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await
        };
        // The client may be gone.
        let _ = timeout(FAREWELL, telling).await;
        drop(place);
    });
}

/// Whether something was asked on a connection.
#[derive(Default)]
struct Asked {
    is_so: AtomicBool,
    tell: Notify,
}

impl Asked {
    fn something(&self) {
        if !self.is_so.swap(true, Ordering::Relaxed) {
            self.tell.notify_one();
        }
    }

    async fn anything(&self) {
        self.tell.notified().await;
    }
}

fn trace_end(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection ended");
    }
}

/// Whether it is about the one connection that was to be taken.
fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn prepare(stream: &TcpStream) {
    // Answers are written at once; waiting to fill a packet only adds delay.
    let _ = stream.set_nodelay(true);
    // An event stream or a download is otherwise kept as long as its client likes.
    #[cfg(target_os = "linux")]
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(TAKEN_IN)) {
        tracing::debug!(%error, "a client that takes nothing is waited for");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::io::AsyncReadExt as _;

    const SOON: Duration = Duration::from_millis(200);

    /// What a client is sent that says these things and waits, until the server ends the connection.
    async fn told(address: SocketAddr, says: &[&str]) -> String {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        for text in says {
            stream.write_all(text.as_bytes()).await.expect("it is sent");
        }
        let mut answer = String::new();
        // It may end by a reset.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    #[tokio::test]
    async fn who_does_not_come_to_the_end_of_a_head_is_sent_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stopping = CancellationToken::new();
        let routes = Router::new().route(
            "/",
            get(|ConnectInfo(from): ConnectInfo<SocketAddr>| async move { from.ip().to_string() }),
        );
        let serving = tokio::spawn(serve_within(listener, routes, None, stopping.clone(), (SOON, SOON)));
        for beginning in ["", "P", "GET / HTTP/1.1\r\nx: ", "PRI * HTTP/2.0\r\n"] {
            let answer = told(address, &[beginning]).await;
            assert!(!answer.contains("200 OK"), "{beginning:?}: {answer}");
        }
        let whole = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        let answer = told(address, &[whole, "GET / HTTP/1.1\r\n"]).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("127.0.0.1"), "{answer}");
        stopping.cancel();
        serving.await.expect("it ends");
        assert!(TcpStream::connect(address).await.is_err());
    }
}
