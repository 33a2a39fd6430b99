//! Reading and following the changelog as an actor, and watching one thing by it.

use std::sync::Arc;

use entity::{Timestamp, change};
use sea_orm::{ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _};

use super::actor::{Actor, Role};
use super::asset::{self, Asset};
use super::error::{Error, Result};
use super::path::{TreePath, is_within, parent_of};
use super::{commit, commit_alone, folder};
use crate::app::App;
use crate::feed::{self, Batch, Cursor, CursorError, Filter, Follow, FollowError, IndexPage};

/// A page of the changelog.
#[derive(Debug, Clone)]
pub struct ChangePage {
    /// The entries, oldest first.
    pub entries: Vec<change::Model>,
    /// Ask again with it for what comes next.
    pub next_cursor: String,
    /// Whether there may be more.
    pub has_next_page: bool,
    /// Whether there are entries ahead of the page.
    pub has_previous_page: bool,
}

/// The cursor of the newest entry.
///
/// # Errors
/// When the actor may not read.
pub async fn head_cursor(app: &App, actor: &Actor) -> Result<String> {
    actor.require(Role::Viewer)?;
    let (_, head) = app.feed().bounds().await?;
    Ok(app.feed().encode(head))
}

/// The entries behind `after`, oldest first; without `after` from the oldest that is kept.
///
/// # Errors
/// `BAD_USER_INPUT` for garbage, `CURSOR_EXPIRED` for a cursor that is too old or from elsewhere.
pub async fn page(
    app: &App,
    actor: &Actor,
    after: Option<&str>,
    filter: &Filter,
    limit: usize,
) -> Result<ChangePage> {
    actor.require(Role::Viewer)?;
    let (floor, head) = bounds(app).await?;
    let after = start(app, after, floor, head)?;
    let page = feed::page(app.read(), after, filter, limit).await?;
    Ok(ChangePage {
        entries: page.entries,
        next_cursor: app.feed().encode(page.next_seq),
        has_next_page: page.more,
        has_previous_page: after > floor,
    })
}

/// The oldest place that can be read from, and the newest.
///
/// # Errors
/// What the database says.
pub async fn bounds(app: &App) -> Result<(i64, i64)> {
    Ok(app.feed().bounds().await?)
}

/// The place that a cursor stands for; none is the oldest.
///
/// # Errors
/// As [`page`].
pub fn start(app: &App, after: Option<&str>, floor: i64, head: i64) -> Result<i64> {
    after.map_or(Ok(floor), |text| check_cursor(app, text, floor, head))
}

fn check_cursor(app: &App, text: &str, floor: i64, head: i64) -> Result<i64> {
    let expired =
        |why: &str| Error::CursorExpired(format!("{why}: read a snapshot and start from headCursor"));
    match Cursor::decode(text, app.feed().epoch()) {
        Ok(Cursor(seq)) if seq < floor => Err(expired("the entries behind this cursor are no longer kept")),
        // This database never gave it out: it was restored from an older copy.
        Ok(Cursor(seq)) if seq > head => Err(expired("this cursor is ahead of the changelog")),
        Ok(Cursor(seq)) => Ok(seq),
        Err(CursorError::Foreign) => Err(expired("this cursor is from another database")),
        Err(CursorError::Garbage) => Err(Error::bad_input("after", "is not a cursor of the changelog")),
    }
}

/// Forgets the entries that are older than the changelog keeps them; answers how many.
///
/// # Errors
/// What the database says; what is forgotten until then stays so.
pub async fn forget_old(app: &App) -> Result<u64> {
    let keep = i64::try_from(app.config().changelog_ttl.as_millis()).unwrap_or(i64::MAX);
    let before = Timestamp(app.clock().now().0.saturating_sub(keep));
    let (floor, head) = bounds(app).await?;
    let last = last_before(app.read(), before, floor, head).await?;
    if last > floor {
        // What follows can be gone on from.
        commit_alone(app, &Actor::system(), move |edit| {
            Box::pin(async move { Ok(feed::raise_floor(edit.conn(), last).await?) })
        })
        .await?;
    }
    let mut forgotten = 0;
    loop {
        let removed = commit(app, &Actor::system(), |edit| {
            Box::pin(async move { Ok(feed::remove_below_floor(edit.conn()).await?) })
        })
        .await?;
        match removed.value {
            0 => return Ok(forgotten),
            rows => forgotten += rows,
        }
    }
}

/// The last entry before an instant, `floor` when there is none; the numbers being dense, by halving.
pub(super) async fn last_before(
    conn: &impl ConnectionTrait,
    at: Timestamp,
    floor: i64,
    head: i64,
) -> Result<i64> {
    let (mut low, mut high) = (floor, head);
    while low < high {
        let middle = low + (high - low + 1) / 2;
        let row = change::Entity::find_by_id(middle).one(conn).await?;
        if row.is_some_and(|row| row.at <= at) { low = middle } else { high = middle - 1 }
    }
    Ok(low)
}

/// Several pages of the entries of single things, by one statement.
///
/// # Errors
/// What the database says.
pub async fn pages(app: &App, pages: &[IndexPage]) -> Result<Vec<Vec<change::Model>>> {
    Ok(feed::by_index(app.read(), pages).await?)
}

/// Entries by number.
///
/// # Errors
/// What the database says.
pub async fn by_numbers(app: &App, seqs: &[i64]) -> Result<Vec<change::Model>> {
    let rows = change::Entity::find().filter(change::Column::Seq.is_in(seqs.iter().copied())).all(app.read());
    Ok(rows.await?)
}

/// A follower of the changelog on behalf of an actor.
pub struct Following {
    app: App,
    actor: Actor,
    follow: Follow,
}

/// Follows the changelog: with `after`, first all that was missed since, then what happens; without, from now
/// on. Each entry once, in order.
///
/// # Errors
/// As [`page`].
pub async fn follow(app: &App, actor: &Actor, after: Option<&str>, filter: Filter) -> Result<Following> {
    actor.require(Role::Viewer)?;
    let (floor, head) = bounds(app).await?;
    let after = after.map_or(Ok(head), |text| check_cursor(app, text, floor, head))?;
    let follow = Follow::new(app.feed(), after, filter);
    Ok(Following { app: app.clone(), actor: actor.clone(), follow })
}

impl Following {
    /// The next entries, or a checkpoint. What the actor may see is decided now, not when it began.
    ///
    /// # Errors
    /// `CURSOR_EXPIRED` when it fell behind what is kept; when the actor may no longer read.
    pub async fn next(&mut self) -> Result<Batch> {
        let batch = self.follow.next().await.map_err(|error| {
            match error {
            FollowError::Expired => Error::CursorExpired(
                "the entries behind this cursor are no longer kept: read a snapshot and start from headCursor"
                    .to_owned(),
            ),
            FollowError::Database(error) => error.into(),
        }
        })?;
        self.actor.require(Role::Viewer)?;
        Ok(batch)
    }

    /// The text that stands for the end of a batch.
    #[must_use]
    pub fn cursor(&self, batch: &Batch) -> String {
        self.app.feed().encode(batch.seq)
    }
}

/// Watches the thing at a path: its state now, and again whenever the changelog tells of it.
pub struct Watch {
    following: Following,
    path: TreePath,
    started: bool,
}

impl Watch {
    /// Watches `path`.
    ///
    /// # Errors
    /// When the actor may not read.
    pub async fn new(app: &App, actor: &Actor, path: TreePath) -> Result<Self> {
        // The follower first, then the state: what happens between is told again, not lost.
        let following = follow(app, actor, None, Filter::default()).await?;
        Ok(Self { following, path, started: false })
    }

    /// The asset at the path, now and whenever it changes; none while there is none.
    ///
    /// # Errors
    /// When the actor may no longer read.
    pub async fn asset(&mut self) -> Result<Option<Asset>> {
        let path = self.path.clone();
        self.wait(|entry| concerns_asset(entry, path.as_str())).await?;
        asset::at_path(&self.following.app, &self.following.actor, &self.path).await
    }

    /// The folder at the path, now and whenever it or something right in it changes; none while there is none.
    ///
    /// # Errors
    /// When the actor may no longer read.
    pub async fn folder(&mut self) -> Result<Option<entity::folder::Model>> {
        let path = self.path.clone();
        self.wait(|entry| concerns_folder(entry, path.as_str())).await?;
        folder::at_path(&self.following.app, &self.following.actor, &self.path).await
    }

    /// Returns at once the first time, then when an entry concerns what is watched.
    async fn wait(&mut self, concerns: impl Fn(&change::Model) -> bool) -> Result<()> {
        if !std::mem::replace(&mut self.started, true) {
            return Ok(());
        }
        loop {
            let batch = self.following.next().await?;
            let news = |entry: &Arc<change::Model>| concerns(entry);
            if batch.entries.iter().any(news) {
                return Ok(());
            }
        }
    }
}

fn concerns_asset(entry: &change::Model, path: &str) -> bool {
    let at = |changed: &str| match entry.asset_id {
        Some(_) => changed == path,
        // A folder above it: the asset came or went with it.
        None => feed::takes_along(entry.kind) && is_within(path, changed),
    };
    at(&entry.path) || entry.old_path.as_deref().is_some_and(at)
}

fn concerns_folder(entry: &change::Model, path: &str) -> bool {
    let at = |changed: &str| {
        let directly_inside = !changed.is_empty() && parent_of(changed) == path;
        let itself = entry.asset_id.is_none() && changed == path;
        let above = entry.asset_id.is_none() && feed::takes_along(entry.kind) && is_within(path, changed);
        directly_inside || itself || above
    };
    at(&entry.path) || entry.old_path.as_deref().is_some_and(at)
}
