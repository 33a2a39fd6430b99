//! Where things were before they moved: old URLs lead on while nothing is at their path.
//!
//! Who leaves a path, by a move or for the trash, leaves a row, and the rows of folders hold for all that was below
//! them then. A path leads to the asset that was there last. Where that one is gone the URL answers 404, whoever was
//! there before it.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use entity::{AssetId, DeletionId, FolderId, asset, folder, former_path};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use super::Edit;
use super::asset::{self as assets, Asset};
use super::error::Result;
use super::path::{TreePath, is_within, join, lineage_paths, name_of, parent_of};

/// How many former paths are told of an asset.
const MAX_STEPS: usize = 64;
/// How many moves are followed for an old URL, or for the former paths of a page of assets.
const MAX_STEPS_OF_PAGE: usize = 256;
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

/// Records where assets were that went to the trash with a folder and are purged now, as far as others had been at
/// one of their paths before: their own paths are not to lead to those.
///
/// # Errors
/// What the database says.
pub async fn forget(edit: Edit<'_>, deletion: DeletionId, gone: &[&Asset]) -> Result<()> {
    let conn = edit.conn();
    let Some(trail) = former_path::Entity::find_by_id(deletion.0).one(conn).await? else { return Ok(()) };
    let mut walks = Vec::with_capacity(gone.len());
    let mut parents = HashMap::new();
    for asset in gone {
        let chain = chain_in_trash(conn, asset.row.folder_id, &trail, &mut parents).await?;
        walks.push(Walk::new(asset.row.id, asset.path(), chain, trail.id));
    }
    let mut rows = Vec::new();
    let chains: Vec<Vec<FolderId>> = walks.iter().map(|walk| walk.chain.clone()).collect();
    let walks = walk_back(conn, walks).await?;
    let lineages = walks.iter().flat_map(Walk::paths).flat_map(|path| lineage_paths(path));
    let others = by_paths(conn, lineages.collect()).await?;
    let cut = others.len() >= usize::try_from(MAX_TRAILS).unwrap_or(usize::MAX);
    for ((walk, asset), chain) in walks.iter().zip(gone).zip(chains) {
        // Whatever left one of its paths, or a folder above it, without it.
        let after_another = others.iter().any(|trail| {
            let without_it = walk.found.iter().all(|moment| moment.at != left(trail));
            without_it && walk.paths().any(|path| is_within(path, &trail.path) && concerns(trail, path))
        });
        if cut || after_another {
            let mover = Mover::Asset(walk.asset);
            let mut row = row(edit.new_id(), &asset.path(), mover, None, &chain);
            row.back_id = Set(Some(deletion.0));
            rows.push(row);
        }
    }
    leave(edit, rows).await
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

/// The asset that was at `path` last, if nothing is there now. The look-ups are the same in either case.
///
/// # Errors
/// What the database says.
pub async fn resolve(conn: &impl ConnectionTrait, path: &TreePath) -> Result<Option<Asset>> {
    let folder = super::folder::find(conn, path).await?;
    let asset = assets::find(conn, path).await?;
    let last = last_at(conn, path.as_str(), &mut MAX_STEPS_OF_PAGE.clone()).await?;
    Ok(last.filter(|_| folder.is_none() && asset.is_none()))
}

/// Whether `folder` was the last that left `path`.
///
/// # Errors
/// What the database says.
pub async fn left_by(conn: &impl ConnectionTrait, path: &str, folder: FolderId) -> Result<bool> {
    let trails = by_paths(conn, HashSet::from([path.to_owned()])).await?;
    let last = trails.into_iter().max_by_key(left);
    Ok(last.is_some_and(|trail| trail.folder_id == Some(folder)))
}

/// The paths that lead to each asset, newest first.
///
/// # Errors
/// What the database says.
pub async fn paths(conn: &impl ConnectionTrait, assets: &[&Asset]) -> Result<HashMap<AssetId, Vec<String>>> {
    let walks = walk_back(conn, walks_of(conn, assets).await?).await?;
    let candidates: HashSet<&str> = walks.iter().flat_map(Walk::paths).map(String::as_str).collect();
    let taken = taken(conn, &candidates).await?;
    let lineages = candidates.iter().flat_map(|path| lineage_paths(path)).collect();
    let trails = by_paths(conn, lineages).await?;
    let mut by_path: HashMap<&str, Vec<&former_path::Model>> = HashMap::new();
    for trail in &trails {
        by_path.entry(&trail.path).or_default().push(trail);
    }
    let mut steps = MAX_STEPS_OF_PAGE;
    let mut told = HashMap::with_capacity(walks.len());
    for walk in &walks {
        let mut paths: Vec<String> = Vec::new();
        for Left { path, at } in &walk.found {
            if taken.contains(path) || paths.contains(path) {
                continue;
            }
            let lineage = lineage_paths(path);
            let trails = lineage.iter().filter_map(|above| by_path.get(above.as_str())).flatten();
            let last = trails.filter(|trail| concerns(trail, path)).map(|trail| left(trail)).max();
            let leads_here = last == Some(*at)
                || last_at(conn, path, &mut steps).await?.is_some_and(|asset| asset.row.id == walk.asset);
            if leads_here {
                paths.push(path.clone());
            }
        }
        told.insert(walk.asset, paths);
    }
    Ok(told)
}

/// The moment at which somebody left, as an id.
fn left(trail: &former_path::Model) -> Uuid {
    match (&trail.next_path, trail.back_id) {
        // What was purged left when it went to the trash.
        (None, Some(went)) => went,
        _ => trail.id,
    }
}

/// Whether a trail of a path or of one above it says something of what was at `path`: below an asset is nothing.
fn concerns(trail: &former_path::Model, path: &str) -> bool {
    trail.asset_id.is_none() || trail.path == path
}

/// The asset that was at `path` last, wherever it is now. None also when that one is gone.
async fn last_at(conn: &impl ConnectionTrait, path: &str, steps: &mut usize) -> Result<Option<Asset>> {
    let mut trails = by_paths(conn, lineage_paths(path).into_iter().collect()).await?;
    trails.retain(|trail| concerns(trail, path));
    trails.sort_unstable_by_key(|trail| Reverse(left(trail)));
    for trail in trails {
        match follow(conn, path, trail, steps).await? {
            End::There(asset) => return Ok(Some(*asset)),
            End::Gone => return Ok(None),
            End::WasNotThere => {}
        }
    }
    Ok(None)
}

/// Where a trail ends.
enum End {
    /// The asset is somewhere.
    There(Box<Asset>),
    /// It is in the trash, or purged, or too far away.
    Gone,
    /// No asset was at the path then.
    WasNotThere,
}

/// Where the asset is now that was at `path` when `first` was left there. From where it went, whatever leaves next is
/// this thing again, or a folder above it: no two things are at a path at one time.
async fn follow(
    conn: &impl ConnectionTrait,
    path: &str,
    first: former_path::Model,
    steps: &mut usize,
) -> Result<End> {
    let moment = left(&first);
    let was_there = |walks: Vec<Walk>| {
        walks.iter().any(|walk| walk.found.iter().any(|left| left.at == moment && left.path == path))
    };
    let surely = first.asset_id;
    let mut trail = first;
    let mut at = path.to_owned();
    loop {
        let Some(fewer) = steps.checked_sub(1) else { return Ok(End::Gone) };
        *steps = fewer;
        if trail.path == at && trail.asset_id.is_none() {
            // A folder.
            return Ok(End::WasNotThere);
        }
        let Some(next) = &trail.next_path else {
            let gone =
                surely.is_some() || was_there(walk_back(conn, in_trash(conn, &trail, &at).await?).await?);
            return Ok(if gone { End::Gone } else { End::WasNotThere });
        };
        at = format!("{next}{}", &at[trail.path.len()..]);
        let since = trail.back_id.unwrap_or(trail.id);
        let later = former_path::Entity::find()
            .filter(former_path::Column::Path.is_in(lineage_paths(&at)))
            .filter(former_path::Column::Id.gt(since))
            .order_by_asc(former_path::Column::Id)
            .limit(MAX_TRAILS)
            .all(conn)
            .await?
            .into_iter();
        let later = later.filter(|later| left(later) > since && concerns(later, &at));
        if let Some(later) = later.min_by_key(left) {
            trail = later;
            continue;
        }
        let found = assets::find(conn, &TreePath::trusted(at)).await?;
        return Ok(match (surely, found) {
            (Some(id), Some(asset)) if asset.row.id == id => End::There(Box::new(asset)),
            // It moved on meanwhile.
            (Some(_), _) => End::Gone,
            (None, Some(asset)) if was_there(walk_back(conn, walks_of(conn, &[&asset]).await?).await?) => {
                End::There(Box::new(asset))
            }
            (None, _) => End::WasNotThere,
        });
    }
}

/// The assets that may have been at `path` when `trail` left it for the trash.
async fn in_trash(conn: &impl ConnectionTrait, trail: &former_path::Model, path: &str) -> Result<Vec<Walk>> {
    if let Some(id) = trail.asset_id {
        return Ok(vec![Walk::new(id, trail.path.clone(), folders_in(&trail.above), left(trail))]);
    }
    let mut walks = Vec::new();
    let went_along = asset::Entity::find()
        .inner_join(folder::Entity)
        .filter(folder::Column::Path.eq(parent_of(path)))
        .filter(folder::Column::DeletionId.eq(trail.id))
        .filter(asset::Column::DeletionId.is_null())
        .filter(asset::Column::Name.eq(name_of(path)));
    for asset in went_along.all(conn).await? {
        let chain = chain_in_trash(conn, asset.folder_id, trail, &mut HashMap::new()).await?;
        walks.push(Walk::new(asset.id, path.to_owned(), chain, trail.id));
    }
    let purged = by_paths(conn, HashSet::from([path.to_owned()])).await?;
    for row in purged.iter().filter(|row| row.next_path.is_none() && row.back_id == Some(trail.id)) {
        if let Some(id) = row.asset_id {
            walks.push(Walk::new(id, path.to_owned(), folders_in(&row.above), trail.id));
        }
    }
    Ok(walks)
}

/// The folders above something that went to the trash with a folder, as they were then.
async fn chain_in_trash(
    conn: &impl ConnectionTrait,
    folder: FolderId,
    trail: &former_path::Model,
    known: &mut HashMap<FolderId, Option<FolderId>>,
) -> Result<Vec<FolderId>> {
    let mut chain = super::folder::chain(conn, folder, known).await?;
    if let Some(top) = chain.iter().position(|id| Some(*id) == trail.folder_id) {
        chain.truncate(top + 1);
    }
    chain.extend(folders_in(&trail.above));
    Ok(chain)
}

/// The folders that a row has as bytes.
fn folders_in(above: &[u8]) -> Vec<FolderId> {
    above.as_chunks::<16>().0.iter().map(|bytes| FolderId(Uuid::from_bytes(*bytes))).collect()
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
}

impl Walk {
    /// Starts where an asset was at a moment.
    fn new(asset: AssetId, path: String, chain: Vec<FolderId>, at: Uuid) -> Self {
        let found = vec![Left { path: path.clone(), at }];
        Self { asset, path, chain, at, found }
    }

    /// Where it was, newest first; some more than once.
    fn paths(&self) -> impl Iterator<Item = &String> {
        self.found.iter().map(|left| &left.path)
    }

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
        let before = folders_in(&trail.above);
        match index {
            None => {
                self.path.clone_from(&trail.path);
                self.chain = before;
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
        self.found.push(Left { path: self.path.clone(), at: trail.id });
        true
    }
}

/// Starts at where assets are now.
async fn walks_of(conn: &impl ConnectionTrait, assets: &[&Asset]) -> Result<Vec<Walk>> {
    let parents = assets.iter().flat_map(|asset| lineage_paths(&asset.folder.path));
    let mut above: HashMap<String, FolderId> = HashMap::new();
    for folder in folders_at(conn, parents.collect()).await? {
        above.insert(folder.path, folder.id);
    }
    let walk = |asset: &&Asset| {
        let chain = lineage_paths(&asset.folder.path);
        let chain = chain.iter().rev().filter(|path| !path.is_empty()).filter_map(|path| above.get(path));
        Walk::new(asset.row.id, asset.path(), chain.copied().collect(), Uuid::max())
    };
    Ok(assets.iter().map(walk).collect())
}

/// Goes back to where each began, or to the furthest that is told.
async fn walk_back(conn: &impl ConnectionTrait, mut walks: Vec<Walk>) -> Result<Vec<Walk>> {
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
    Ok(walks)
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

/// Those of some paths at which something is now.
async fn taken(conn: &impl ConnectionTrait, paths: &HashSet<&str>) -> Result<HashSet<String>> {
    let places: HashSet<String> =
        paths.iter().flat_map(|path| [(*path).to_owned(), parent_of(path).to_owned()]).collect();
    let folders = folders_at(conn, places.into_iter().collect()).await?;
    let mut taken = HashSet::new();
    let by_id: HashMap<FolderId, &str> =
        folders.iter().map(|folder| (folder.id, folder.path.as_str())).collect();
    let names: HashSet<&str> = paths.iter().map(|path| name_of(path)).collect();
    let there = asset::Entity::find()
        .filter(asset::Column::FolderId.is_in(by_id.keys().copied()))
        .filter(asset::Column::Name.is_in(names))
        .filter(asset::Column::DeletionId.is_null());
    for asset in there.all(conn).await? {
        if let Some(folder) = by_id.get(&asset.folder_id) {
            taken.insert(join(folder, &asset.name));
        }
    }
    taken.extend(folders.into_iter().map(|folder| folder.path));
    Ok(taken)
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
