//! Reading and following the changelog as an actor, and watching one thing by it.

use entity::{Timestamp, change};
use sea_orm::{ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _};

use super::actor::{Actor, Role};
use super::asset::{self, Asset};
use super::error::{Error, Result};
use super::path::{TreePath, is_within, parent_of};
use super::scope::Scope;
use super::{commit, commit_alone, folder};
use crate::app::App;
use crate::feed::{self, Batch, Cursor, CursorError, Filter, Follow, FollowError, IndexPage, Span, Wanted};

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

/// Begins another epoch: cursors that were handed out until now are refused, also those of a future that a restored
/// backup knows nothing of. Servers know of it when they start.
///
/// # Errors
/// What the database says.
pub async fn begin_epoch(app: &App) -> Result<()> {
    let (epoch, system) = (app.clock().secret_id(), Actor::system());
    let begun = commit_alone(app, &system, move |edit| {
        Box::pin(async move { Ok(feed::set_epoch(edit.conn(), epoch).await?) })
    });
    begun.await.map(drop)
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

/// A part of the way of a follower, for those who take it over from another one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Leg {
    /// Goes on behind this entry, whatever the follower began with; it saw all until then.
    pub from: Option<i64>,
    /// Ends with this entry.
    pub until: Option<i64>,
}

/// A follower of the changelog on behalf of an actor.
pub struct Following {
    app: App,
    actor: Actor,
    /// The role that the actor has to have for as long as it follows.
    needs: Role,
    follow: Follow,
    start: i64,
}

/// Follows the changelog: with `after`, first all that was missed since, then what happens; without, from now
/// on. Each entry once, in order.
///
/// # Errors
/// As [`page`].
pub async fn follow(
    app: &App,
    actor: &Actor,
    after: Option<&str>,
    wants: Wanted,
    leg: Leg,
) -> Result<Following> {
    follow_as(app, actor, Role::Viewer, after, wants, leg).await
}

/// The same, for who has to have a role, or none: of what is followed, only that it happened is told.
async fn follow_as(
    app: &App,
    actor: &Actor,
    needs: Role,
    after: Option<&str>,
    wants: Wanted,
    leg: Leg,
) -> Result<Following> {
    actor.require(needs)?;
    let (floor, head) = bounds(app).await?;
    let start = match (leg.from, after) {
        (Some(from), _) if from < floor => return Err(too_old()),
        (Some(from), _) => from,
        (None, Some(text)) => check_cursor(app, text, floor, head)?,
        (None, None) => head,
    };
    let follow = Follow::new(app.feed(), Span { after: start, until: leg.until }, wants);
    Ok(Following { app: app.clone(), actor: actor.clone(), needs, follow, start })
}

fn too_old() -> Error {
    Error::CursorExpired(
        "the entries behind this cursor are no longer kept: read a snapshot and start from headCursor"
            .to_owned(),
    )
}

impl Following {
    /// The number that it begins behind.
    #[must_use]
    pub const fn start(&self) -> i64 {
        self.start
    }

    /// The next entries, or a checkpoint; none at the end of the leg. What the actor may see is decided now, not when
    /// it began.
    ///
    /// # Errors
    /// `CURSOR_EXPIRED` when it fell behind what is kept; when the actor may no longer read.
    pub async fn next(&mut self) -> Result<Option<Batch>> {
        let batch = self.follow.next().await.map_err(|error| match error {
            FollowError::Expired => too_old(),
            FollowError::Database(error) => error.into(),
        })?;
        self.actor.require(self.needs)?;
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
    thing: Thing,
    leg: Leg,
    /// Whether its state was told.
    told: bool,
    /// Whether it was told that there is nothing.
    absent: bool,
    /// All up to this entry was looked at.
    seen: i64,
}

/// What is watched at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thing {
    Asset,
    Folder,
}

/// What of the changelog led to a state of a thing.
#[derive(Debug, Clone, Copy)]
pub struct Cause {
    /// All behind this entry was looked at since the state before.
    pub after: i64,
    /// The first entry that may concern the thing; none for the state at the beginning.
    pub first: Option<i64>,
    /// All up to this entry was looked at.
    pub seq: i64,
}

impl Watch {
    /// Watches the asset at `path`. A leg that goes on from an entry does not tell the state at its beginning.
    ///
    /// # Errors
    /// What the database says.
    pub async fn asset(app: &App, actor: &Actor, path: TreePath, leg: Leg) -> Result<Self> {
        Self::new(app, actor, path, Thing::Asset, leg).await
    }

    /// Watches the folder at `path`, and what lies right in it.
    ///
    /// # Errors
    /// What the database says.
    pub async fn folder(app: &App, actor: &Actor, path: TreePath, leg: Leg) -> Result<Self> {
        Self::new(app, actor, path, Thing::Folder, leg).await
    }

    async fn new(app: &App, actor: &Actor, path: TreePath, thing: Thing, leg: Leg) -> Result<Self> {
        // The follower first, then the state: what happens between is told again, not lost.
        let (following, told) = match Self::following(app, actor, &path, thing, leg).await {
            Err(Error::CursorExpired(_)) => (Self::from_now(app, actor, &path, thing, leg).await?, false),
            following => (following?, leg.from.is_some()),
        };
        let seen = leg.from.unwrap_or(following.start());
        // What those were told who go on from an entry is not known here: it may have been shown then.
        Ok(Self { following, path, thing, leg, told, absent: false, seen })
    }

    /// Entries that are forgotten do no harm to who reads the state.
    async fn from_now(
        app: &App,
        actor: &Actor,
        path: &TreePath,
        thing: Thing,
        leg: Leg,
    ) -> Result<Following> {
        Self::following(app, actor, path, thing, Leg { from: None, ..leg }).await
    }

    /// Strangers may watch as well: they are told what they see of the thing, and never an entry.
    async fn following(
        app: &App,
        actor: &Actor,
        path: &TreePath,
        thing: Thing,
        leg: Leg,
    ) -> Result<Following> {
        let path = path.to_string();
        let wants: Wanted = Box::new(move |entry| thing.is_concerned(entry, &path));
        follow_as(app, actor, Role::Anonymous, None, wants, leg).await
    }

    /// The number that it begins behind.
    #[must_use]
    pub const fn start(&self) -> i64 {
        self.seen
    }

    /// Returns at once the first time, then when an entry concerns what is watched; none at the end of the leg.
    ///
    /// # Errors
    /// When the actor may no longer read.
    pub async fn next(&mut self) -> Result<Option<Cause>> {
        if !std::mem::replace(&mut self.told, true) {
            return Ok(Some(self.state_of(self.following.start())));
        }
        loop {
            let batch = match self.following.next().await {
                Err(Error::CursorExpired(_)) => {
                    let Following { app, actor, .. } = &self.following;
                    self.following = Self::from_now(app, actor, &self.path, self.thing, self.leg).await?;
                    return Ok(Some(self.state_of(self.following.start())));
                }
                batch => batch?,
            };
            let Some(batch) = batch else { return Ok(None) };
            if let Some(first) = batch.entries.first() {
                // That something happens to what they do not see is not for strangers either.
                if self.absent && self.following.actor.scope() == Scope::Shown && self.is_absent().await? {
                    continue;
                }
                let after = std::mem::replace(&mut self.seen, batch.seq);
                return Ok(Some(Cause { after, first: Some(first.seq), seq: batch.seq }));
            }
        }
    }

    /// The state after all up to `seq`, whatever led to it.
    fn state_of(&mut self, seq: i64) -> Cause {
        let after = std::mem::replace(&mut self.seen, seq);
        Cause { after, first: (after < seq).then_some(after + 1), seq }
    }

    /// The asset that is at the path now.
    ///
    /// # Errors
    /// What the database says.
    pub async fn asset_now(&mut self) -> Result<Option<Asset>> {
        let Following { app, actor, .. } = &self.following;
        let asset = asset::at_path(app, actor, &self.path).await?;
        self.absent = asset.is_none();
        Ok(asset)
    }

    /// The folder that is at the path now.
    ///
    /// # Errors
    /// What the database says.
    pub async fn folder_now(&mut self) -> Result<Option<entity::folder::Model>> {
        let Following { app, actor, .. } = &self.following;
        let folder = folder::at_path(app, actor, &self.path).await?;
        self.absent = folder.is_none();
        Ok(folder)
    }

    async fn is_absent(&self) -> Result<bool> {
        let Following { app, actor, .. } = &self.following;
        Ok(match self.thing {
            Thing::Asset => asset::at_path(app, actor, &self.path).await?.is_none(),
            Thing::Folder => folder::at_path(app, actor, &self.path).await?.is_none(),
        })
    }
}

impl Thing {
    /// Whether an entry concerns what is at a path.
    fn is_concerned(self, entry: &change::Model, path: &str) -> bool {
        match self {
            Self::Asset => concerns_asset(entry, path),
            Self::Folder => concerns_folder(entry, path),
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
