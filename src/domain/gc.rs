//! Removing bytes that no row names any more. Each is tried by itself: one that cannot be removed is tried again
//! later, and blocks no other.

use std::collections::BTreeMap;
use std::time::Duration;

use entity::{BlobId, Timestamp, blob, garbage};
use futures_util::{StreamExt as _, future, stream};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, ModelTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::actor::Actor;
use super::error::{Error, Result};
use super::storage::Away;
use super::{Edit, change, commit, scope, trash, upload};
use crate::app::App;
use crate::blob::BlobKey;

/// Objects that one round removes, at most; the next one goes on.
const ROUND: u64 = 500;
/// Time between two rounds of all cleaning.
const INTERVAL: Duration = Duration::from_secs(30);
/// Every so many rounds the staging areas are tidied up.
const TIDY: u32 = 10;
/// Objects that are removed at the same time.
const REMOVALS: usize = 16;
/// Wait before a failed removal is tried again; it doubles each time. Longer than a whole round takes at worst, so that
/// no two servers remove the same.
const RETRY_MS: i64 = 900_000;
/// Longest such wait.
const MAX_RETRY_MS: i64 = 3_600_000;

/// Removes the bytes that are due; answers how many objects it removed. One at a time does it in a process: who comes
/// meanwhile waits, and finds done what was due.
///
/// # Errors
/// What the database says.
pub async fn collect(app: &App) -> Result<usize> {
    let _alone = app.collecting().lock().await;
    let (mut removed, away) = (0, Away::default());
    loop {
        let due = claim(app).await?;
        if due.is_empty() {
            return Ok(removed);
        }
        let tried = due.len();
        let removals: Vec<_> = due.into_iter().map(|row| remove(app, row, &away)).collect();
        let gone = stream::iter(removals).buffer_unordered(REMOVALS).filter_map(future::ready).collect();
        let gone: Vec<garbage::Model> = gone.await;
        crate::app::crash_point("gc-bytes");
        app.metrics().removed("removed", gone.len());
        app.metrics().removed("later", tried - gone.len());
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
            let due = without_named(edit, due).await?;
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

/// Those that no row names. There should be no others: they are told, and let go of.
async fn without_named(edit: Edit<'_>, due: Vec<garbage::Model>) -> Result<Vec<garbage::Model>> {
    let named = blob::Entity::find().filter(blob::Column::Id.is_in(due.iter().map(|row| row.id)));
    let named = named.all(edit.conn()).await?;
    let is_named =
        |row: &garbage::Model| named.iter().any(|blob| blob.id == row.id && blob.backend == row.backend);
    let (wrong, right): (Vec<_>, Vec<_>) = due.into_iter().partition(is_named);
    for row in wrong {
        tracing::error!(blob = %row.id, backend = row.backend, "bytes that are needed were taken for garbage; they stay");
        row.delete(edit.conn()).await?;
    }
    Ok(right)
}

/// Removes one object; answers with its row when it is gone.
async fn remove(app: &App, row: garbage::Model, away: &Away) -> Option<garbage::Model> {
    let removal = async {
        let store = app.store(&row.backend).map_err(Error::storage)?;
        store.remove(&BlobKey::new(row.id)).await.map_err(Error::storage)
    };
    // Where no more is asked, it was claimed, and its time comes again.
    match away.unless(&row.backend, removal).await? {
        Ok(()) => Some(row),
        Err(error) => {
            let cause = error.cause();
            tracing::warn!(%error, ?cause, blob = %row.id, attempts = row.attempts, "cannot remove bytes; trying again later");
            None
        }
    }
}

async fn forget(app: &App, gone: Vec<garbage::Model>) -> Result<()> {
    commit(app, &Actor::system(), move |edit| {
        Box::pin(async move {
            let mut by_attempts: BTreeMap<i32, Vec<garbage::Model>> = BTreeMap::new();
            for row in gone {
                by_attempts.entry(row.attempts).or_default().push(row);
            }
            for (attempts, rows) in by_attempts {
                for (backend, ids) in by_backend(rows) {
                    // Not what became garbage again meanwhile: there may be other bytes.
                    garbage::Entity::delete_many()
                        .filter(garbage::Column::Backend.eq(backend))
                        .filter(garbage::Column::Id.is_in(ids))
                        .filter(garbage::Column::Attempts.eq(attempts.saturating_add(1)))
                        .filter(garbage::Column::TryAt.gt(edit.now()))
                        .exec(edit.conn())
                        .await?;
                }
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
            if let Err(error) = scope::tidy(&app).await {
                tracing::error!(%error, cause = ?error.cause(), "cannot tidy up folders; trying again");
            }
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
