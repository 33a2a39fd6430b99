//! Who asks, and how long that holds: connections of a token that is revoked or expires end within seconds.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use entity::{Timestamp, TokenId};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::token;

/// How often it is looked whether sessions are over.
const LOOK: Duration = Duration::from_secs(1);

/// Who asks, and what that hangs on.
#[derive(Debug, Clone)]
pub struct Session {
    /// Who asks.
    pub actor: Actor,
    /// It is over from then on.
    pub until: Option<Timestamp>,
    /// The API token that it hangs on.
    pub token: Option<TokenId>,
    /// The digest of what was shown, by which its holder is counted.
    pub digest: Option<[u8; 32]>,
}

/// Tells the holder of a connection when its session is over. It is looked after while this is kept.
pub struct Ending(Option<Arc<Live>>);

struct Live {
    until: Option<Timestamp>,
    token: Option<TokenId>,
    over: CancellationToken,
}

/// Sessions that connections are open for.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Mutex<Vec<Weak<Live>>>>);

impl Session {
    /// One that lasts.
    pub const fn lasting(actor: Actor) -> Self {
        Self { actor, until: None, token: None, digest: None }
    }
}

impl Ending {
    /// Of a session that lasts.
    pub const fn never() -> Self {
        Self(None)
    }

    /// Whether the session is over.
    pub fn is_over(&self) -> bool {
        self.0.as_ref().is_some_and(|live| live.over.is_cancelled())
    }

    /// Returns when the session is over, and never when it lasts.
    pub async fn over(&self) {
        match &self.0 {
            Some(live) => live.over.cancelled().await,
            None => std::future::pending().await,
        }
    }
}

impl Sessions {
    /// Lets the holder of a connection know when `session` is over.
    pub fn watch(&self, session: &Session) -> Ending {
        if session.until.is_none() && session.token.is_none() {
            return Ending::never();
        }
        let over = CancellationToken::new();
        let live = Arc::new(Live { until: session.until, token: session.token, over });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&live));
        Ending(Some(live))
    }

    /// Ends sessions that are over, for ever. Those that expire do not wait for a database that is slow.
    pub async fn look_after(self, app: App) {
        let (mut looks, mut questions) = (looks(), looks());
        let expired = async {
            loop {
                looks.tick().await;
                self.end_expired(&app);
            }
        };
        let revoked = async {
            loop {
                questions.tick().await;
                self.end_revoked(&app).await;
            }
        };
        tokio::join!(expired, revoked);
    }

    fn end_expired(&self, app: &App) {
        let now = app.clock().now();
        for session in self.live().iter().filter(|session| session.until.is_some_and(|until| until <= now)) {
            session.over.cancel();
        }
    }

    async fn end_revoked(&self, app: &App) {
        let live = self.live();
        let tokens: HashSet<TokenId> = live.iter().filter_map(|session| session.token).collect();
        if tokens.is_empty() {
            return;
        }
        let tokens: Vec<TokenId> = tokens.into_iter().collect();
        // While the database is away, nothing can be revoked, and there is nothing new to be told either.
        let revoked = token::revoked_among(app, &tokens).await.unwrap_or_else(|error| {
            tracing::warn!(cause = ?error.cause(), "cannot tell which tokens are revoked; trying again");
            Vec::new()
        });
        for id in &revoked {
            app.known_tokens().invalidate(id);
        }
        let is_revoked = |session: &&Arc<Live>| session.token.is_some_and(|id| revoked.contains(&id));
        for session in live.iter().filter(is_revoked) {
            session.over.cancel();
        }
    }

    fn live(&self) -> Vec<Arc<Live>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let live: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
        if live.len() < all.len() {
            all.retain(|session| session.strong_count() > 0);
        }
        live
    }
}

/// When it is looked.
fn looks() -> Interval {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}
