//! Hints between the servers of one PostgreSQL database: that something was committed, so that the others look at once.
//!
//! A hint carries nothing that anybody relies on. One that is lost costs the time until the next poll, one that comes
//! twice or late costs a look at a table.

use std::time::Duration;

use sea_orm::sqlx::postgres::{PgListener, PgPool};
use tokio_util::sync::CancellationToken;

use super::Feed;

/// The channel of the hints.
const CHANNEL: &str = "vellum_changes";
/// Commits in this time share a hint. A NOTIFY costs the database a lock that all of them share.
const DEBOUNCE: Duration = Duration::from_millis(5);
/// Wait before the connection is made anew.
const RETRY: Duration = Duration::from_secs(1);

/// Tells other servers what this one commits, until `stop`.
pub(super) async fn tell(feed: Feed, pool: PgPool, stop: CancellationToken) {
    let mut own = feed.own();
    while stop.run_until_cancelled(own.changed()).await.is_some_and(|changed| changed.is_ok()) {
        let seq = *own.borrow_and_update();
        let hint = sea_orm::sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(seq.to_string());
        if let Err(error) = hint.execute(&pool).await {
            tracing::warn!(%error, "other servers are not told of commits; they look by themselves");
        }
        tokio::time::sleep(DEBOUNCE).await;
    }
}

/// Listens to other servers on a connection of its own, until `stop`.
pub(super) async fn listen(feed: Feed, url: String, stop: CancellationToken) {
    stop.run_until_cancelled(async {
        loop {
            if let Err(error) = hear(&feed, &url).await {
                tracing::warn!(%error, "hints of other servers do not come; looking without them");
            }
            tokio::time::sleep(RETRY).await;
        }
    })
    .await;
}

async fn hear(feed: &Feed, url: &str) -> Result<(), sea_orm::sqlx::Error> {
    let mut listener = PgListener::connect(url).await?;
    listener.listen(CHANNEL).await?;
    loop {
        // What came before this connection was made, or while it was being made anew, is in the table.
        feed.look();
        while let Some(hint) = listener.try_recv().await? {
            if let Ok(seq) = hint.payload().parse() {
                feed.ring(seq);
            }
        }
    }
}
