//! What clients ask for: every operation, over a small alphabet of names, so that they get in each other's way.

use std::collections::BTreeSet;
use std::fmt;

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::library::Library;

/// Names of folders and assets alike.
const NAMES: [&str; 3] = ["a", "b", "ü %"];
const TITLES: [&str; 2] = ["One", "Two"];
const LABELS: [&str; 2] = ["first", "final"];
/// How many contents there are; few, so that bytes are the same often.
pub const CONTENTS: usize = 3;

/// Something with a path, by the order in which it was made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Thing {
    Folder(usize),
    Asset(usize),
}

/// A version: the asset that has it, and its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VersionAt {
    pub asset: usize,
    pub number: usize,
}

/// Names a folder or an asset, as `FolderRef` and `AssetRef` do. Paths are below the folder of the case.
#[derive(Clone, PartialEq, Eq)]
pub enum At {
    Path(String),
    Id(usize),
}

/// What is given as `ifRevision`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum If {
    Any,
    Current,
    Stale,
    /// 0: there must be no such asset.
    Absent,
    /// What one of these came to when it was asked.
    Exactly(i64),
}

/// One request; `Upload` stands for three.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    CreateFolder { path: String },
    UpdateFolder { folder: At, title: &'static str, revision: If },
    MoveFolder { folder: At, to: String, dry_run: bool, revision: If },
    DeleteFolder { folder: At, recursive: bool, revision: If },
    CreateAsset { path: String },
    UpdateAsset { asset: At, title: Option<&'static str>, revision: If },
    MoveAsset { asset: At, to: At, revision: If },
    RenameAsset { asset: At, name: &'static str, revision: If },
    DeleteAsset { asset: At, revision: If },
    FinishUpload { upload: usize },
    CreateVersion { path: String, file: usize, publish: bool, label: Option<&'static str>, revision: If },
    PublishVersion { version: VersionAt, revision: If },
    ArchiveVersion { version: VersionAt, revision: If },
    RestoreVersion { version: VersionAt, label: Option<&'static str>, revision: If },
    UpdateVersion { version: VersionAt, label: Option<&'static str> },
    RestoreFromTrash { thing: Thing, to: Option<String> },
    StartUpload { path: String, publish: bool, declared: Option<usize>, revision: If },
    SendBytes { upload: usize, content: usize },
    CancelUpload { upload: usize },
    Upload { path: String, content: usize, publish: bool },
    StoreFile { content: usize },
    DeleteStoredFile { file: usize },
    DeleteAssets { folder: At, names: Option<BTreeSet<&'static str>> },
    PurgeTrash { thing: Thing },
    ApplyChanges { operations: Vec<Self>, dry_run: bool },
    UploadsExpire,
}

/// What else the strategies need to know: whether time can be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    Movable,
    Real,
}

/// Any operation that makes some sense in this library.
pub fn any(library: &Library, time: Time) -> BoxedStrategy<Operation> {
    let expiring = u32::from(time == Time::Movable);
    prop_oneof![
        40 => single(library),
        14 => uploading(library),
        6 => storing(library),
        10 => discarding(library),
        6 => batch(library),
        expiring => Just(Operation::UploadsExpire),
    ]
    .boxed()
}

/// An operation that `applyChanges` takes as well.
fn single(library: &Library) -> BoxedStrategy<Operation> {
    prop_oneof![
        3 => on_folders(library),
        3 => on_assets(library),
        4 => on_versions(library),
        2 => deleting(library),
        2 => restoring(library),
        1 => upload(library).prop_map(|upload| Operation::FinishUpload { upload }),
    ]
    .boxed()
}

fn on_folders(library: &Library) -> BoxedStrategy<Operation> {
    let folder = || folder(library);
    prop_oneof![
        2 => path(library).prop_map(|path| Operation::CreateFolder { path }),
        1 => (folder(), select(&TITLES[..]), revision())
            .prop_map(|(folder, title, revision)| Operation::UpdateFolder { folder, title, revision }),
        3 => (folder(), path(library), prop::bool::weighted(0.1), revision()).prop_map(
            |(folder, to, dry_run, revision)| Operation::MoveFolder { folder, to, dry_run, revision }
        ),
    ]
    .boxed()
}

fn on_assets(library: &Library) -> BoxedStrategy<Operation> {
    let asset = || asset(library);
    prop_oneof![
        2 => path(library).prop_map(|path| Operation::CreateAsset { path }),
        1 => (asset(), option::of(select(&TITLES[..])), revision())
            .prop_map(|(asset, title, revision)| Operation::UpdateAsset { asset, title, revision }),
        2 => (asset(), target(library), revision())
            .prop_map(|(asset, to, revision)| Operation::MoveAsset { asset, to, revision }),
        2 => (asset(), select(&NAMES[..]), revision())
            .prop_map(|(asset, name, revision)| Operation::RenameAsset { asset, name, revision }),
    ]
    .boxed()
}

fn on_versions(library: &Library) -> BoxedStrategy<Operation> {
    let version = || version(library);
    prop_oneof![
        (path(library), file(library), any_bool(), label(), creating_revision()).prop_map(
            |(path, file, publish, label, revision)| {
                Operation::CreateVersion { path, file, publish, label, revision }
            }
        ),
        (version(), revision())
            .prop_map(|(version, revision)| Operation::PublishVersion { version, revision }),
        (version(), revision())
            .prop_map(|(version, revision)| Operation::ArchiveVersion { version, revision }),
        (version(), label(), revision()).prop_map(|(version, label, revision)| {
            Operation::RestoreVersion { version, label, revision }
        }),
        (version(), label()).prop_map(|(version, label)| Operation::UpdateVersion { version, label }),
    ]
    .boxed()
}

fn deleting(library: &Library) -> BoxedStrategy<Operation> {
    prop_oneof![
        (folder(library), prop::bool::weighted(0.8), revision()).prop_map(|(folder, recursive, revision)| {
            Operation::DeleteFolder { folder, recursive, revision }
        }),
        (asset(library), revision()).prop_map(|(asset, revision)| Operation::DeleteAsset { asset, revision }),
    ]
    .boxed()
}

fn restoring(library: &Library) -> BoxedStrategy<Operation> {
    (thing(library), option::weighted(0.3, path(library)))
        .prop_map(|(thing, to)| Operation::RestoreFromTrash { thing, to })
        .boxed()
}

fn uploading(library: &Library) -> BoxedStrategy<Operation> {
    prop_oneof![
        6 => (path(library), content(), prop::bool::weighted(0.8))
            .prop_map(|(path, content, publish)| Operation::Upload { path, content, publish }),
        3 => (path(library), any_bool(), option::weighted(0.2, content()), creating_revision()).prop_map(
            |(path, publish, declared, revision)| {
                Operation::StartUpload { path, publish, declared, revision }
            }
        ),
        3 => (upload(library), content())
            .prop_map(|(upload, content)| Operation::SendBytes { upload, content }),
        3 => upload(library).prop_map(|upload| Operation::FinishUpload { upload }),
        1 => upload(library).prop_map(|upload| Operation::CancelUpload { upload }),
    ]
    .boxed()
}

fn storing(library: &Library) -> BoxedStrategy<Operation> {
    prop_oneof![
        2 => content().prop_map(|content| Operation::StoreFile { content }),
        1 => file(library).prop_map(|file| Operation::DeleteStoredFile { file }),
    ]
    .boxed()
}

fn discarding(library: &Library) -> BoxedStrategy<Operation> {
    let names = option::weighted(0.7, btree_set(select(&NAMES[..]), 0..=2));
    prop_oneof![
        2 => (target(library), names).prop_map(|(folder, names)| Operation::DeleteAssets { folder, names }),
        2 => deleting(library),
        2 => restoring(library),
        2 => thing(library).prop_map(|thing| Operation::PurgeTrash { thing }),
    ]
    .boxed()
}

fn batch(library: &Library) -> BoxedStrategy<Operation> {
    (vec(single(library), 1..=4), prop::bool::weighted(0.25))
        .prop_map(|(operations, dry_run)| Operation::ApplyChanges { operations, dry_run })
        .boxed()
}

/// A path where something may be: of what there is, what was, or any.
fn path(library: &Library) -> BoxedStrategy<String> {
    let known = library.paths();
    let any = vec(select(&NAMES[..]), 1..=3).prop_map(|names| names.join("/"));
    if known.is_empty() { any.boxed() } else { prop_oneof![2 => any, 1 => select(known)].boxed() }
}

fn folder(library: &Library) -> BoxedStrategy<At> {
    at(path(library), 1..library.folders.len() + 1)
}

/// A folder that something goes into: the folder of the case too.
fn target(library: &Library) -> BoxedStrategy<At> {
    prop_oneof![3 => folder(library), 1 => Just(At::Path(String::new())), 1 => Just(At::Id(0))].boxed()
}

fn asset(library: &Library) -> BoxedStrategy<At> {
    at(path(library), 0..library.assets.len() + 1)
}

fn at(path: BoxedStrategy<String>, ids: std::ops::Range<usize>) -> BoxedStrategy<At> {
    prop_oneof![path.prop_map(At::Path), ids.prop_map(At::Id)].boxed()
}

fn thing(library: &Library) -> BoxedStrategy<Thing> {
    let any = prop_oneof![
        (1..library.folders.len() + 1).prop_map(Thing::Folder),
        (0..library.assets.len() + 1).prop_map(Thing::Asset),
    ];
    let trashed = library.trash();
    if trashed.is_empty() { any.boxed() } else { prop_oneof![1 => any, 4 => select(trashed)].boxed() }
}

fn version(library: &Library) -> BoxedStrategy<VersionAt> {
    let any =
        (0..library.assets.len() + 1, 1..4_usize).prop_map(|(asset, number)| VersionAt { asset, number });
    let known = library.versions();
    if known.is_empty() { any.boxed() } else { prop_oneof![1 => any, 6 => select(known)].boxed() }
}

fn upload(library: &Library) -> BoxedStrategy<usize> {
    let any = 0..library.uploads.len() + 1;
    let open = library.open_uploads();
    if open.is_empty() { any.boxed() } else { prop_oneof![1 => any, 3 => select(open)].boxed() }
}

fn file(library: &Library) -> BoxedStrategy<usize> {
    (0..library.files.len().max(1)).boxed()
}

fn content() -> BoxedStrategy<usize> {
    (0..CONTENTS).boxed()
}

fn any_bool() -> BoxedStrategy<bool> {
    prop::bool::ANY.boxed()
}

fn label() -> BoxedStrategy<Option<&'static str>> {
    option::of(select(&LABELS[..])).boxed()
}

fn revision() -> BoxedStrategy<If> {
    prop_oneof![6 => Just(If::Any), 2 => Just(If::Current), 1 => Just(If::Stale)].boxed()
}

fn creating_revision() -> BoxedStrategy<If> {
    prop_oneof![6 => Just(If::Any), 2 => Just(If::Current), 1 => Just(If::Stale), 1 => Just(If::Absent)]
        .boxed()
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{path:?}"),
            Self::Id(number) => write!(f, "#{number}"),
        }
    }
}

impl fmt::Debug for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(number) => write!(f, "folder #{number}"),
            Self::Asset(number) => write!(f, "asset #{number}"),
        }
    }
}

impl fmt::Debug for VersionAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "asset #{} v{}", self.asset, self.number)
    }
}
