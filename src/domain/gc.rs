//! Removing bytes that no row names any more. Each is tried by itself: one that cannot be removed is tried again
//! later, and blocks no other.

use std::collections::BTreeMap;
use std::time::Duration;

use entity::{BlobId, Timestamp, garbage};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _};

use super::actor::Actor;
use super::commit;
use super::error::Result;
use super::{change, trash, upload};
use crate::app::App;
use crate::blob::BlobKey;

/// Objects that one round removes, at most; the next one goes on.
const ROUND: u64 = 500;
/// Time between two rounds of all cleaning.
const INTERVAL: Duration = Duration::from_secs(30);
/// Every so many rounds the staging areas are tidied up.
const TIDY: u32 = 10;
/// Wait before a failed removal is tried again; it doubles each time.
const RETRY_MS: i64 = 30_000;
/// Longest such wait.
const MAX_RETRY_MS: i64 = 3_600_000;

/// Removes the bytes that are due; answers how many objects it removed.
///
/// # Errors
/// What the database says.
pub async fn collect(app: &App) -> Result<usize> {
    let mut removed = 0;
    loop {
        let due = claim(app).await?;
        if due.is_empty() {
            return Ok(removed);
        }
        let mut gone = Vec::new();
        for row in due {
            match remove(app, &row).await {
                Ok(()) => gone.push(row),
                Err(error) => {
                    tracing::warn!(%error, blob = %row.id, attempts = row.attempts, "cannot remove bytes; trying again later");
                }
            }
        }
        crate::app::crash_point("gc-bytes");
        removed += gone.len();
        forget(app, gone).await?;
    }
}

/// Takes garbage that is due: until it is tried again, nobody brings bytes back to where it lies.
async fn claim(app: &App) -> Result<Vec<garbage::Model>> {
    let is_due = || garbage::Column::TryAt.lte(app.clock().now());
    if garbage::Entity::find().filter(is_due()).one(app.read()).await?.is_none() {
        return Ok(Vec::new());
    }
    let system = Actor::system();
    let claimed = commit(app, &system, move |edit| {
        Box::pin(async move {
            let due = garbage::Entity::find()
                .filter(garbage::Column::TryAt.lte(edit.now()))
                .order_by_asc(garbage::Column::TryAt)
                .limit(ROUND)
                .lock_exclusive()
                .all(edit.conn())
                .await?;
            let mut by_attempts: BTreeMap<i32, Vec<garbage::Model>> = BTreeMap::new();
            for row in &due {
                by_attempts.entry(row.attempts).or_default().push(row.clone());
            }
            for (attempts, rows) in by_attempts {
                let wait = Ord::min(RETRY_MS << attempts.clamp(0, 10), MAX_RETRY_MS);
                for (backend, ids) in by_backend(rows) {
                    garbage::Entity::update_many()
                        .col_expr(garbage::Column::Attempts, Expr::value(attempts.saturating_add(1)))
                        .col_expr(garbage::Column::TryAt, Expr::value(Timestamp(edit.now().0 + wait)))
                        .filter(garbage::Column::Backend.eq(backend))
                        .filter(garbage::Column::Id.is_in(ids))
                        .exec(edit.conn())
                        .await?;
                }
            }
            Ok(due)
        })
    });
    Ok(claimed.await?.value)
}

async fn remove(app: &App, row: &garbage::Model) -> std::io::Result<()> {
    app.store(&row.backend)?.remove(&BlobKey::new(row.id)).await
}

async fn forget(app: &App, gone: Vec<garbage::Model>) -> Result<()> {
    commit(app, &Actor::system(), move |edit| {
        Box::pin(async move {
            for (backend, ids) in by_backend(gone) {
                garbage::Entity::delete_many()
                    .filter(garbage::Column::Backend.eq(backend))
                    .filter(garbage::Column::Id.is_in(ids))
                    .exec(edit.conn())
                    .await?;
            }
            Ok(())
        })
    })
    .await
    .map(drop)
}

fn by_backend(rows: Vec<garbage::Model>) -> BTreeMap<String, Vec<BlobId>> {
    let mut ids: BTreeMap<String, Vec<BlobId>> = BTreeMap::new();
    for row in rows {
        ids.entry(row.backend).or_default().push(row.id);
    }
    ids
}

/// Removes what is due without letting anybody wait for it.
pub fn collect_soon(app: &App) {
    let app = app.clone();
    app.clone().spawn(async move {
        if let Err(error) = collect(&app).await {
            tracing::error!(%error, cause = ?error.cause(), "cannot remove bytes that nothing needs; trying again");
        }
    });
}

/// Cleans until the library closes: uploads that are over, what the trash lets go of, bytes that nothing needs, old
/// entries of the changelog. Of several servers one does it at a time.
pub async fn clean_forever(app: App) {
    let mut interval = tokio::time::interval(INTERVAL);
    let mut round = 0_u32;
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let _turn = match app.turn().await {
            Ok(Some(turn)) => turn,
            Ok(None) => continue,
            Err(error) => {
                tracing::error!(%error, "cannot tell whose turn it is to clean; trying again");
                continue;
            }
        };
        if let Err(error) = upload::sweep(&app).await {
            tracing::error!(%error, cause = ?error.cause(), "cannot sweep uploads; trying again");
        }
        if round.is_multiple_of(TIDY) {
            upload::tidy(&app).await;
        }
        round = round.wrapping_add(1);
        if let Err(error) = trash::purge_due(&app, &Actor::system()).await {
            tracing::error!(%error, cause = ?error.cause(), "cannot empty the trash; trying again");
        }
        if let Err(error) = collect(&app).await {
            tracing::error!(%error, cause = ?error.cause(), "cannot remove bytes that nothing needs; trying again");
        }
        if let Err(error) = change::forget_old(&app).await {
            tracing::error!(%error, cause = ?error.cause(), "cannot forget old entries; trying again");
        }
    }
}
