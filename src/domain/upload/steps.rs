//! Following one upload until it is over.

use std::time::Duration;

use entity::{UploadIntentId, upload_intent};

use super::{by_id, is_open};
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::error::{Error, Result};

/// Follows one intent: its state now, and at each step until it is over.
pub struct Steps {
    app: App,
    actor: Actor,
    id: UploadIntentId,
    news: tokio::sync::broadcast::Receiver<UploadIntentId>,
    last: Option<upload_intent::Model>,
}

impl Steps {
    /// Follows the intent `id`.
    #[must_use]
    pub fn new(app: &App, actor: &Actor, id: UploadIntentId) -> Self {
        Self { app: app.clone(), actor: actor.clone(), id, news: app.announcements(), last: None }
    }

    /// The next state; none once the intent is over.
    ///
    /// # Errors
    /// `NOT_FOUND`, and when the actor may not read.
    pub async fn next(&mut self) -> Result<Option<upload_intent::Model>> {
        if self.last.as_ref().is_some_and(|last| !is_open(last.status)) {
            return Ok(None);
        }
        loop {
            let intent = by_id(&self.app, &self.actor, self.id).await?;
            let intent = intent.ok_or_else(|| Error::NotFound(format!("there is no upload {}", self.id)))?;
            let moved_on = self.last.as_ref().is_none_or(|last| last.status != intent.status);
            if moved_on {
                self.last = Some(intent.clone());
                return Ok(Some(intent));
            }
            self.wait().await;
        }
    }

    /// Waits for news of this intent, or for a moment: another server may have done it, or time has.
    async fn wait(&mut self) {
        let news = async {
            while let Ok(id) = self.news.recv().await {
                if id == self.id {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), news).await;
    }
}
