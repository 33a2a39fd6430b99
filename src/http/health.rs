//! Whether the process lives, and whether it can serve.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Server;
use crate::app::App;
use crate::domain::storage;

/// How long it is known whether the database and the store answer: anyone may ask, and asking them costs something.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// Knows what the server can work with.
#[derive(Default)]
pub struct Ready(Mutex<Option<(Instant, Parts)>>);

/// What is wrong with the parts that a server works with.
#[derive(Debug, Clone)]
struct Parts {
    database: Option<String>,
    storage: Option<String>,
}

impl Ready {
    /// What a look says; or what one said that somebody just had. Who comes while there is a look waits for that.
    async fn after(&self, look: impl Future<Output = Parts>) -> Parts {
        let mut known = self.0.lock().await;
        if let Some((_, parts)) = known.as_ref().filter(|(looked, _)| looked.elapsed() < KNOWN_FOR) {
            return parts.clone();
        }
        let parts = look.await;
        *known = Some((Instant::now(), parts.clone()));
        parts
    }
}

impl Parts {
    async fn look(app: &App) -> Self {
        let store = storage::check(app).await;
        let parts = Self {
            database: app.database().ping().await.map_err(|error| error.to_string()).err(),
            storage: store.err().map(|error| format!("{:?}", error.cause())),
        };
        for (part, cause) in [("database", &parts.database), ("storage", &parts.storage)] {
            if let Some(cause) = cause {
                tracing::warn!(part, cause, "not ready");
            }
        }
        parts
    }
}

/// The process lives, whatever else is away.
pub async fn live() -> &'static str {
    "ok\n"
}

/// The database and the store of bytes answer, and the server is not stopping.
pub async fn ready(State(server): State<Server>) -> Response {
    let app = server.app();
    let Parts { database, storage } = server.ready().after(Parts::look(app)).await;
    let parts = [
        ("database", database),
        ("storage", storage),
        ("server", (app.stopping().is_cancelled() || !app.takes_jobs()).then(|| "stopping".to_owned())),
    ];
    let state = |part: &(&str, Option<String>)| if part.1.is_none() { "ok" } else { "unavailable" };
    let body =
        json!({ parts[0].0: state(&parts[0]), parts[1].0: state(&parts[1]), parts[2].0: state(&parts[2]) });
    let ready = parts.iter().all(|(_, cause)| cause.is_none());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn however_many_ask_there_is_one_look_a_second() {
        let (ready, looks) = (Ready::default(), AtomicUsize::new(0));
        let look = async || {
            looks.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
            Parts { database: None, storage: None }
        };
        tokio::join!(ready.after(look()), ready.after(look()), ready.after(look()));
        assert_eq!(looks.load(Ordering::Relaxed), 1);
        tokio::time::sleep(KNOWN_FOR).await;
        ready.after(look()).await;
        assert_eq!(looks.load(Ordering::Relaxed), 2);
    }
}
