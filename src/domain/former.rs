//! Where things were before they moved: old URLs lead on while nothing else took their path.
//!
//! Who leaves a path, by a move or for the trash, leaves a row. The newest row for a path counts, and the rows of
//! folders hold for all that was below them then. A row whose thing is gone ends the trail: a deleted thing's URL
//! answers 404 at once, whoever was there before it.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use entity::{AssetId, FolderId, asset, folder, former_path};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use super::Edit;
use super::asset::Asset;
use super::error::Result;
use super::path::{TreePath, is_within, join, lineage_paths, name_of, parent_of};

/// How many moves a trail is followed, and how many former paths are told of an asset.
const MAX_STEPS: usize = 64;
/// Rows that are looked at for some paths; older ones are as good as forgotten.
const MAX_TRAILS: u64 = 1000;
/// Rows or paths in one statement.
const CHUNK: usize = 1000;

/// Something on its way from where it was.
#[derive(Debug, Clone, Copy)]
pub enum Mover {
    /// A folder, with all below it.
    Folder(FolderId),
    /// An asset.
    Asset(AssetId),
}

/// What is left at a path: `id` is the moment, `to` where the mover went (none for the trash); `above` are the
/// folders that it was in, nearest first, without the root.
#[must_use]
pub fn row(
    id: Uuid,
    path: &str,
    mover: Mover,
    to: Option<&str>,
    above: &[FolderId],
) -> former_path::ActiveModel {
    let (folder_id, asset_id) = match mover {
        Mover::Folder(id) => (Some(id), None),
        Mover::Asset(id) => (None, Some(id)),
    };
    former_path::ActiveModel {
        id: Set(id),
        path: Set(path.to_owned()),
        folder_id: Set(folder_id),
        asset_id: Set(asset_id),
        above: Set(above.iter().flat_map(|id| id.0.into_bytes()).collect()),
        next_path: Set(to.map(ToOwned::to_owned)),
        back_id: Set(None),
    }
}

/// Records that things left their paths.
///
/// # Errors
/// What the database says.
pub async fn leave(edit: Edit<'_>, rows: Vec<former_path::ActiveModel>) -> Result<()> {
    for rows in rows.chunks(CHUNK) {
        former_path::Entity::insert_many(rows.to_vec()).exec_without_returning(edit.conn()).await?;
    }
    Ok(())
}

/// Ends the trails that led to `paths`, where there are any: what took them is gone without a trace.
///
/// # Errors
/// What the database says.
pub async fn end(edit: Edit<'_>, paths: &[String]) -> Result<()> {
    let trails = by_paths(edit.conn(), paths.iter().cloned().collect()).await?;
    let led: HashSet<String> = trails.into_iter().map(|trail| trail.path).collect();
    let row = |path: &String| former_path::ActiveModel {
        id: Set(edit.new_id()),
        path: Set(path.clone()),
        folder_id: Set(None),
        asset_id: Set(None),
        above: Set(Vec::new()),
        next_path: Set(None),
        back_id: Set(None),
    };
    leave(edit, led.iter().map(row).collect()).await
}

/// Records that what left for the trash at the moment `left` is back, at `path`.
///
/// # Errors
/// What the database says.
pub async fn come_back(edit: Edit<'_>, left: Uuid, path: &str) -> Result<()> {
    former_path::Entity::update_many()
        .col_expr(former_path::Column::BackId, Expr::value(edit.new_id()))
        .col_expr(former_path::Column::NextPath, Expr::value(path))
        .filter(former_path::Column::Id.eq(left))
        .exec(edit.conn())
        .await?;
    Ok(())
}

/// The asset that was at `path` and moved on, if nothing else took the path since.
///
/// # Errors
/// What the database says.
pub async fn resolve(conn: &impl ConnectionTrait, path: &TreePath) -> Result<Option<Asset>> {
    if super::folder::find(conn, path).await?.is_some() || super::asset::find(conn, path).await?.is_some() {
        return Ok(None);
    }
    let path = path.as_str();
    let mut trails = by_paths(conn, lineage_paths(path).into_iter().collect()).await?;
    trails.sort_unstable_by_key(|trail| Reverse(trail.id));
    let mut steps = MAX_STEPS;
    for trail in trails {
        let Some(asset) = follow(conn, path, trail, &mut steps).await? else { continue };
        // A folder that left may never have had it, and something else may have been at the path since.
        let had = paths(conn, &[&asset]).await?.remove(&asset.row.id).unwrap_or_default();
        if had.iter().any(|had| had == path) {
            return Ok(Some(asset));
        }
    }
    Ok(None)
}

/// Where what was at `path` is now, supposed that it left with `trail`. From where it went, whatever leaves next is
/// this thing again, or a folder above it: no two things are at a path at one time.
async fn follow(
    conn: &impl ConnectionTrait,
    path: &str,
    mut trail: former_path::Model,
    steps: &mut usize,
) -> Result<Option<Asset>> {
    let mut path = path.to_owned();
    while let Some(left) = steps.checked_sub(1) {
        *steps = left;
        let itself = trail.path == path;
        let Some(next) = trail.next_path.filter(|_| itself == trail.asset_id.is_some()) else {
            return Ok(None);
        };
        path = format!("{next}{}", &path[trail.path.len()..]);
        let since = trail.back_id.unwrap_or(trail.id);
        let later = by_paths(conn, lineage_paths(&path).into_iter().collect()).await?.into_iter();
        let later =
            later.filter(|later| later.id > since && (later.asset_id.is_none() || later.path == path));
        match later.min_by_key(|later| later.id) {
            Some(later) => trail = later,
            None => return super::asset::find(conn, &TreePath::trusted(path)).await,
        }
    }
    Ok(None)
}

/// Whether `folder` was the last that left `path`.
///
/// # Errors
/// What the database says.
pub async fn left_by(conn: &impl ConnectionTrait, path: &str, folder: FolderId) -> Result<bool> {
    let trails = by_paths(conn, HashSet::from([path.to_owned()])).await?;
    let last = trails.into_iter().max_by_key(|trail| trail.id);
    Ok(last.is_some_and(|trail| trail.folder_id == Some(folder)))
}

/// The paths that each asset had before and that nothing else took since, newest first.
///
/// # Errors
/// What the database says.
pub async fn paths(conn: &impl ConnectionTrait, assets: &[&Asset]) -> Result<HashMap<AssetId, Vec<String>>> {
    let mut walks: Vec<Walk> = Vec::with_capacity(assets.len());
    let parents = assets.iter().flat_map(|asset| lineage_paths(&asset.folder.path));
    let mut above: HashMap<String, FolderId> = HashMap::new();
    for folder in folders_at(conn, parents.collect()).await? {
        above.insert(folder.path, folder.id);
    }
    for asset in assets {
        let chain = lineage_paths(&asset.folder.path);
        let chain = chain.iter().rev().filter(|path| !path.is_empty()).filter_map(|path| above.get(path));
        walks.push(Walk {
            asset: asset.row.id,
            path: asset.path(),
            chain: chain.copied().collect(),
            at: Uuid::max(),
            found: Vec::new(),
        });
    }
    let mut trails = Trails::default();
    for _ in 0..MAX_STEPS {
        trails.load(conn, &walks).await?;
        let mut moved = false;
        for walk in &mut walks {
            moved |= walk.step_back(&trails);
        }
        if !moved {
            break;
        }
    }
    let candidates: HashSet<String> =
        walks.iter().flat_map(|walk| walk.found.iter().map(|left| left.path.clone())).collect();
    let taken = Taken::load(conn, &candidates).await?;
    Ok(walks.into_iter().map(|walk| (walk.asset, taken.free(walk.asset, walk.found))).collect())
}

/// One asset on its way back through what it and the folders above it left.
struct Walk {
    asset: AssetId,
    path: String,
    /// The folders that it was in, nearest first, without the root.
    chain: Vec<FolderId>,
    at: Uuid,
    found: Vec<Left>,
}

/// A path that an asset left.
struct Left {
    path: String,
    /// The moment.
    at: Uuid,
    /// The folders that it was in then.
    chain: Vec<FolderId>,
}

impl Walk {
    /// Goes back over the newest move before the present moment; false when there is none.
    fn step_back(&mut self, trails: &Trails) -> bool {
        let own = trails.of_assets.get(&self.asset).into_iter().flatten().map(|trail| (trail, None));
        let above = self.chain.iter().enumerate().flat_map(|(index, id)| {
            trails.of_folders.get(id).into_iter().flatten().map(move |trail| (trail, Some(index)))
        });
        // While it was in the trash, what its folders did was not for it. Before it was made there was nothing.
        let moment = |trail: &former_path::Model| trail.back_id.unwrap_or(trail.id);
        let earlier = own
            .chain(above)
            .filter(|(trail, _)| moment(trail) < self.at && trail.id > self.asset.0)
            .max_by_key(|(trail, _)| moment(trail));
        let Some((trail, index)) = earlier else { return false };
        let before = trail.above.as_chunks::<16>().0.iter().map(|bytes| FolderId(Uuid::from_bytes(*bytes)));
        match index {
            None => {
                self.path.clone_from(&trail.path);
                self.chain = before.collect();
            }
            Some(index) => {
                // The segments below the folder that moved stay.
                let below = self.path.rmatch_indices('/').nth(index).map_or("", |(at, _)| &self.path[at..]);
                self.path = format!("{}{below}", trail.path);
                self.chain.truncate(index + 1);
                self.chain.extend(before);
            }
        }
        self.at = trail.id;
        self.found.push(Left { path: self.path.clone(), at: trail.id, chain: self.chain.clone() });
        true
    }
}

/// What was left, by who left it.
#[derive(Default)]
struct Trails {
    of_assets: HashMap<AssetId, Vec<former_path::Model>>,
    of_folders: HashMap<FolderId, Vec<former_path::Model>>,
    knows_assets: bool,
    known_folders: HashSet<FolderId>,
}

impl Trails {
    /// Loads what is not known yet of the assets and of the folders that they were in.
    async fn load(&mut self, conn: &impl ConnectionTrait, walks: &[Walk]) -> Result<()> {
        let mut wanted = Condition::any();
        if !std::mem::replace(&mut self.knows_assets, true) {
            let assets = walks.iter().map(|walk| walk.asset);
            wanted = wanted.add(former_path::Column::AssetId.is_in(assets));
        }
        let folders = walks.iter().flat_map(|walk| &walk.chain).copied();
        let folders: Vec<FolderId> = folders.filter(|id| self.known_folders.insert(*id)).collect();
        if !folders.is_empty() {
            wanted = wanted.add(former_path::Column::FolderId.is_in(folders));
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let newest = former_path::Entity::find().filter(wanted).order_by_desc(former_path::Column::Id);
        for trail in newest.limit(10 * MAX_TRAILS).all(conn).await? {
            if let Some(id) = trail.asset_id {
                self.of_assets.entry(id).or_default().push(trail);
            } else if let Some(id) = trail.folder_id {
                self.of_folders.entry(id).or_default().push(trail);
            }
        }
        Ok(())
    }
}

/// What has taken paths since: things that are there now, and newer trails.
struct Taken {
    live: HashSet<String>,
    trails: Vec<former_path::Model>,
    live_folders: HashSet<FolderId>,
    /// Assets that went to the trash with their folders, and where they were.
    trashed: Vec<(AssetId, String)>,
}

impl Taken {
    async fn load(conn: &impl ConnectionTrait, paths: &HashSet<String>) -> Result<Self> {
        let mut taken = Self {
            live: HashSet::new(),
            trails: Vec::new(),
            live_folders: HashSet::new(),
            trashed: Vec::new(),
        };
        if paths.is_empty() {
            return Ok(taken);
        }
        let places: HashSet<String> =
            paths.iter().flat_map(|path| [path.clone(), parent_of(path).to_owned()]).collect();
        let folders = folders_at(conn, places.into_iter().collect()).await?;
        let names: HashSet<&str> = paths.iter().map(|path| name_of(path)).collect();
        let by_id: HashMap<FolderId, &str> =
            folders.iter().map(|folder| (folder.id, folder.path.as_str())).collect();
        let assets = asset::Entity::find()
            .filter(asset::Column::FolderId.is_in(by_id.keys().copied()))
            .filter(asset::Column::Name.is_in(names))
            .filter(asset::Column::DeletionId.is_null())
            .all(conn)
            .await?;
        for asset in assets {
            if let Some(folder) = by_id.get(&asset.folder_id) {
                taken.live.insert(join(folder, &asset.name));
            }
        }
        taken.live.extend(folders.iter().map(|folder| folder.path.clone()));
        taken.trails = by_paths(conn, paths.iter().flat_map(|path| lineage_paths(path)).collect()).await?;
        let ids: HashSet<FolderId> = taken.trails.iter().filter_map(|trail| trail.folder_id).collect();
        let alive = super::folder::live().filter(folder::Column::Id.is_in(ids)).all(conn).await?;
        taken.live_folders = alive.into_iter().map(|folder| folder.id).collect();
        let parents: HashSet<&str> = paths.iter().map(|path| parent_of(path)).collect();
        let went_along = asset::Entity::find()
            .find_also_related(folder::Entity)
            .filter(folder::Column::Path.is_in(parents))
            .filter(folder::Column::DeletionId.is_not_null())
            .filter(asset::Column::DeletionId.is_null())
            .filter(asset::Column::Name.is_in(paths.iter().map(|path| name_of(path))));
        for (asset, folder) in went_along.all(conn).await? {
            if let Some(folder) = folder {
                taken.trashed.push((asset.id, join(&folder.path, &asset.name)));
            }
        }
        Ok(taken)
    }

    /// Those of `found` that nothing else than the asset itself has taken, each once.
    fn free(&self, asset: AssetId, found: Vec<Left>) -> Vec<String> {
        let mut told: Vec<String> = Vec::new();
        for Left { path, at, chain } in found {
            let taken = self.trails.iter().any(|trail| {
                // Another folder that was there and is gone may have had something at this very path. Of the folder
                // that the asset was in, what came to the path since is known by name.
                let gone = trail
                    .folder_id
                    .is_some_and(|id| !self.live_folders.contains(&id) && !chain.contains(&id));
                let by_another = trail.path == path && trail.asset_id != Some(asset);
                trail.id > at && (by_another || (gone && is_within(&path, &trail.path)))
            });
            let taken = taken || self.trashed.iter().any(|(taker, was)| *taker != asset && *was == path);
            if !taken && !self.live.contains(&path) && !told.contains(&path) {
                told.push(path);
            }
        }
        told
    }
}

async fn folders_at(conn: &impl ConnectionTrait, paths: Vec<String>) -> Result<Vec<folder::Model>> {
    Ok(super::folder::live().filter(folder::Column::Path.is_in(paths)).all(conn).await?)
}

async fn by_paths(conn: &impl ConnectionTrait, paths: HashSet<String>) -> Result<Vec<former_path::Model>> {
    let paths: Vec<String> = paths.into_iter().collect();
    let mut found = Vec::new();
    for some in paths.chunks(CHUNK) {
        let wanted = former_path::Column::Path.is_in(some.iter().map(String::as_str));
        let newest = former_path::Entity::find().filter(wanted).order_by_desc(former_path::Column::Id);
        found.extend(newest.limit(MAX_TRAILS).all(conn).await?);
    }
    Ok(found)
}
