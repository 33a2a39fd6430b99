//! Ending what nobody finished, and removing what it and crashes left.

use entity::upload_intent::{self, Status};
use entity::{Timestamp, UploadIntentId};
use sea_orm::{
    ActiveEnum as _, ColumnTrait as _, Condition, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};

use std::sync::Arc;

use super::{is_open, load, store};
use crate::app::App;
use crate::blob::{BlobKey, BlobStore, Direct, StagingKey, copying_time};
use crate::domain::actor::Actor;
use crate::domain::error::{Error, Result};
use crate::domain::storage::{Away, own};
use crate::domain::{commit, stored_file};

/// How long an upload in parts may be known to the bucket alone, and a copy in parts take, in milliseconds.
const BEGINNING_MS: i64 = 24 * 3_600_000;
/// Longer than a copy in a bucket may take, besides what it takes for its bytes, in milliseconds.
const COPYING_MS: i64 = 3_600_000;
/// How long trying a backend may take, in milliseconds.
const PROBING_MS: i64 = 600_000;
/// Wait before bytes are tried again that could not be removed, in milliseconds.
const RETRY_MS: i64 = 900_000;
/// Intents that one sweep ends, at most; the next sweep goes on.
const SWEEP_BATCH: u64 = 500;

/// Ends uploads whose time ran out and removes what they and crashes left. Answers how many it ended.
///
/// # Errors
/// What the database or the disk says; what was done until then stays done.
pub async fn sweep(app: &App) -> Result<usize> {
    let now = app.clock().now();
    let due = upload_intent::Entity::find()
        .filter(upload_intent::Column::SweptAt.is_null())
        .filter(upload_intent::Column::ExpiresAt.lte(now))
        .filter(
            Condition::any()
                .add(upload_intent::Column::SweepAt.is_null())
                .add(upload_intent::Column::SweepAt.lte(now)),
        )
        .order_by_asc(upload_intent::Column::ExpiresAt)
        .limit(SWEEP_BATCH)
        .all(app.read())
        .await?;
    let ids: Vec<UploadIntentId> = due.iter().map(|intent| intent.id).collect();
    if !ids.is_empty() {
        expire(app, ids.clone()).await?;
        let open =
            |intent: &&upload_intent::Model| matches!(intent.status, Status::Created | Status::Received);
        app.metrics().uploads("expired", due.iter().filter(open).count());
        for id in &ids {
            app.announce(*id);
        }
    }
    tidy_some(app, |store| store.direct().is_none()).await;
    let (mut swept, mut later, away) = (Vec::with_capacity(ids.len()), Vec::new(), Away::default());
    for intent in due {
        let backend = intent.backend.as_str();
        match away.unless(backend, remove_unfinished(app, &intent)).await {
            Some(Ok(Remains::None)) => swept.push(intent.id),
            Some(Ok(Remains::StillOpen)) => {}
            // One that cannot be removed is tried again later and blocks no other.
            None => later.push(intent.id),
            Some(Err(error)) => {
                let cause = error.cause();
                tracing::warn!(%error, ?cause, intent = %intent.id, backend, "cannot remove the bytes of an upload");
                later.push(intent.id);
            }
        }
    }
    if !swept.is_empty() {
        mark_swept(app, swept).await?;
    }
    if !later.is_empty() {
        postpone(app, later).await?;
    }
    Ok(ids.len())
}

async fn expire(app: &App, ids: Vec<UploadIntentId>) -> Result<()> {
    commit(app, &Actor::system(), move |edit| {
        Box::pin(async move {
            upload_intent::Entity::update_many()
                .col_expr(
                    upload_intent::Column::Status,
                    sea_orm::sea_query::Expr::value(Status::Expired.to_value()),
                )
                .filter(upload_intent::Column::Id.is_in(ids))
                .filter(upload_intent::Column::Status.is_in([Status::Created, Status::Received]))
                .filter(upload_intent::Column::ExpiresAt.lte(edit.now()))
                .exec(edit.conn())
                .await?;
            Ok(())
        })
    })
    .await
    .map(drop)
}

async fn mark_swept(app: &App, ids: Vec<UploadIntentId>) -> Result<()> {
    commit(app, &Actor::system(), move |edit| {
        Box::pin(async move {
            super::parts::forget(edit, ids.clone()).await?;
            upload_intent::Entity::update_many()
                .col_expr(upload_intent::Column::SweptAt, sea_orm::sea_query::Expr::value(edit.now()))
                .filter(upload_intent::Column::Id.is_in(ids))
                .exec(edit.conn())
                .await?;
            Ok(())
        })
    })
    .await
    .map(drop)
}

/// Lets intents wait whose bytes cannot be removed now.
async fn postpone(app: &App, ids: Vec<UploadIntentId>) -> Result<()> {
    commit(app, &Actor::system(), move |edit| {
        Box::pin(async move {
            let again = Timestamp(edit.now().0 + RETRY_MS);
            upload_intent::Entity::update_many()
                .col_expr(upload_intent::Column::SweepAt, sea_orm::sea_query::Expr::value(again))
                .filter(upload_intent::Column::Id.is_in(ids))
                .exec(edit.conn())
                .await?;
            Ok(())
        })
    })
    .await
    .map(drop)
}

/// Removes what lies in the staging areas of buckets and no open upload will use: what crashes left, and what came so
/// late that its upload had been swept. It lists what is there, which buckets charge for; in folders [`sweep`] does it.
pub async fn tidy(app: &App) {
    tidy_some(app, |store| store.direct().is_some()).await;
}

async fn tidy_some(app: &App, which: impl Fn(&dyn BlobStore) -> bool) {
    for (backend, store) in app.stores().iter().filter(|(_, store)| which(store.as_ref())) {
        if let Err(error) = own(app, backend).await {
            tracing::warn!(%error, cause = ?error.cause(), backend, "cannot tidy up what was staged; trying again");
            continue;
        }
        let staged = remove_stale_staging(app, backend, store).await;
        let unfinished = match store.direct() {
            Some(direct) => end_unfinished(app, direct).await,
            None => Ok(()),
        };
        // One that is away holds up no other.
        for error in [staged, unfinished].into_iter().filter_map(Result::err) {
            tracing::warn!(%error, cause = ?error.cause(), backend, "cannot tidy up what was staged; trying again");
        }
    }
}

/// Ends uploads in parts that no open intent knows.
async fn end_unfinished(app: &App, direct: &dyn Direct) -> Result<()> {
    let unfinished = direct.unfinished().await.map_err(Error::storage)?;
    let young = app.clock().now().0 - BEGINNING_MS;
    for some in unfinished.chunks(500) {
        let intents = upload_intent::Entity::find()
            .filter(upload_intent::Column::Id.is_in(some.iter().map(|upload| upload.key.intent)))
            .all(app.read())
            .await?;
        for upload in some {
            let wanted = match intents.iter().find(|intent| intent.id == upload.key.intent) {
                Some(intent) => is_open(intent.status),
                // The bucket knows of it before the database does.
                None => upload.since_ms > young,
            };
            if !wanted && let Err(error) = direct.abort(&upload.key, &upload.upload).await {
                tracing::warn!(%error, key = %upload.key, "cannot end an upload in parts; trying again");
            }
        }
    }
    direct.end_copies(young).await.map_err(Error::storage)
}

/// Removes staging files that no open intent will use.
async fn remove_stale_staging(app: &App, backend: &str, store: &Arc<dyn BlobStore>) -> Result<()> {
    let away = Away::default();
    let staged = store.staged().await.map_err(Error::storage)?;
    for keys in staged.chunks(500) {
        let ids = keys.iter().map(|key| key.intent);
        let intents = upload_intent::Entity::find()
            .filter(upload_intent::Column::Id.is_in(ids))
            .all(app.read())
            .await?;
        let young = app.clock().now().0 - PROBING_MS;
        let wanted = |key: &StagingKey| match intents.iter().find(|intent| intent.id == key.intent) {
            Some(intent) => match intent.status {
                Status::Created => true,
                Status::Received => intent.staging_key.as_deref() == Some(key.to_string().as_str()),
                _ => false,
            },
            // Somebody may just be trying the backend.
            None => key.since_ms().is_some_and(|since| since > young),
        };
        for key in keys.iter().filter(|key| !wanted(key)) {
            let removal = async { store.remove_staged(key).await.map_err(Error::storage) };
            match away.unless(backend, removal).await {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::warn!(%error, cause = ?error.cause(), %key, "cannot remove a staged file; trying again");
                }
                None => return Ok(()),
            }
        }
    }
    Ok(())
}

/// What is left of an intent whose time ran out.
enum Remains {
    /// Nothing that nobody needs.
    None,
    /// It can still be finished: the clock was set back since it was found. Its bytes are not ours to remove.
    StillOpen,
}

/// Removes what an intent that was never finished may have under its final key. Only once it is over: then no
/// commit accepts it, so no row can come to name these bytes.
async fn remove_unfinished(app: &App, intent: &upload_intent::Model) -> Result<Remains> {
    let intent = load(app.read(), intent.id).await?;
    if is_open(intent.status) {
        return Ok(Remains::StillOpen);
    }
    super::discard_sent(app, &intent).await.map_err(Error::storage)?;
    if intent.status == Status::Finished {
        return Ok(Remains::None);
    }
    let (store, own) = (store(app, &intent)?, stored_file::own_blob(&intent));
    if store.direct().is_none() {
        store.remove(&BlobKey::new(own)).await.map_err(Error::storage)?;
        return Ok(Remains::None);
    }
    // Without what it is made from no copy begins; one may still be under way in the bucket, and gc removes what it makes.
    if let Some(Ok(key)) = intent.staging_key.as_deref().map(str::parse) {
        store.remove_staged(&key).await.map_err(Error::storage)?;
    }
    let longest = copying_time(intent.received_bytes.unsigned_abs()).as_millis();
    let longest = i64::try_from(longest).unwrap_or(i64::MAX / 2);
    commit(app, &Actor::system(), move |edit| {
        Box::pin(async move {
            let at = Timestamp(edit.now().0 + COPYING_MS + longest);
            stored_file::discard_at(edit, &[(own, &intent.backend)], at).await
        })
    })
    .await?;
    Ok(Remains::None)
}
