//! Looking at what clients sent straight to a bucket.

use entity::UploadIntentId;
use entity::upload_intent::{self, Status};

use super::receive::{Accepted, Rejection, compare, max_single, settle};
use super::{as_of_now, check_not_over, discard_staged, expected, is_open, load, store, whole_key};
use crate::app::App;
use crate::blob::{Collected, StagingKey};
use crate::domain::error::{Error, Result, UploadError};

/// Looks at the bytes of an intent that came in one request to a bucket. Where none came, or they go to the server,
/// the intent waits on.
pub(super) async fn collect(app: &App, intent: upload_intent::Model) -> Result<upload_intent::Model> {
    check_not_over(&intent)?;
    if store(app, &intent)?.direct().is_none() {
        return Ok(intent);
    }
    let library = app.clone();
    once(app, intent.id, async move { look(&library, intent).await }).await
}

async fn look(app: &App, intent: upload_intent::Model) -> Result<()> {
    let store = store(app, &intent)?;
    let Some(direct) = store.direct() else { return Ok(()) };
    let limit = intent.declared_size_bytes.unwrap_or(max_single(app)).unsigned_abs();
    let sent = whole_key(app, intent.id);
    let frozen = StagingKey { intent: intent.id, attempt: app.clock().new_id() };
    let permit = app.stores().verifying(&intent.backend).await.map_err(Error::storage)?;
    let collected = match direct.collect(&sent, &frozen, &expected(&intent), limit).await {
        Ok(collected) => collected,
        Err(error) => {
            discard_staged(app, &intent, &frozen).await;
            return Err(Error::storage(error));
        }
    };
    drop(permit);
    let (key, verdict) = match collected {
        None => return Ok(()),
        Some(Collected::TooLong(size)) => (sent, Err(Rejection::too_long(limit, size))),
        Some(Collected::Staged(key, staged)) => (key, compare(&intent, staged)),
    };
    conclude(app, &intent, key, verdict).await?;
    if key != sent {
        discard_staged(app, &intent, &sent).await;
    }
    Ok(())
}

/// Lets the intent know what came of its bytes; those that it does not take are removed.
pub(super) async fn conclude(
    app: &App,
    intent: &upload_intent::Model,
    key: StagingKey,
    verdict: std::result::Result<Accepted, Rejection>,
) -> Result<()> {
    let outcome = settle(app, intent, key, verdict).await;
    let taken = if let Ok(intent) = &outcome {
        intent.status == Status::Received
    } else {
        // Another server may have settled on the very same bytes, or it is not known what came of it.
        let now = load(app.read(), intent.id).await?;
        is_open(now.status) && now.staging_key.is_none_or(|settled| settled == key.to_string())
    };
    if !taken {
        discard_staged(app, intent, &key).await;
    }
    match outcome {
        // Another server may have done the same just now.
        Ok(_) | Err(Error::Upload { reason: UploadError::AlreadyReceived, .. }) => {}
        Err(error) => return Err(error),
    }
    app.announce(intent.id);
    Ok(())
}

/// Does work on an upload that may take longer than the caller waits: it goes on without it, and whoever finishes
/// meanwhile waits for the same. Answers with the intent as it is then.
pub(super) async fn once(
    app: &App,
    id: UploadIntentId,
    work: impl Future<Output = Result<()>> + Send + 'static,
) -> Result<upload_intent::Model> {
    let work = async move {
        work.await.map_err(|error| {
            error.cause().map_or_else(|| error.to_string(), |cause| format!("{cause:?}")).into()
        })
    };
    let outcome = app.joins().run(id, work).await;
    // The row tells what came of it, whoever did it.
    let now = as_of_now(load(app.read(), id).await?, app.clock().now());
    check_not_over(&now)?;
    match (now.status, outcome) {
        (Status::Created | Status::Received, Err(problem)) => Err(Error::storage(problem)),
        _ => Ok(now),
    }
}
