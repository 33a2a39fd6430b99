//! What the seeded library holds, by arithmetic: paths, ids, times and numbers follow from how many assets it has,
//! so that nothing has to be remembered to know what an answer must be.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use entity::{AssetId, BlobId, FolderId, StoredFileId, Timestamp, VersionId};
use uuid::Uuid;

use crate::blobs::{Blob, blobs};
use crate::random::Random;

/// Assets in a folder below `library`.
pub const PER_FOLDER: u32 = 100;
/// Versions of each of them; the last one is published.
pub const VERSIONS: i32 = 3;
/// Versions of `versions/many`.
pub const MANY_VERSIONS: i32 = 19;
/// Media type of all versions.
pub const CONTENT_TYPE: &str = "image/jpeg";

/// A day: the library was made before now, so that all that the server adds is newer.
const AGE_MS: i64 = 24 * 60 * 60 * 1000;

/// A library with a given number of assets. Each entry of its changelog has its own millisecond.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Assets below `library`.
    pub assets: u32,
    /// The bytes that all versions share.
    pub blobs: Vec<Blob>,
    began_ms: i64,
}

/// A folder of the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folder {
    /// `library`, in the root.
    Library,
    /// `versions`, in the root.
    Versions,
    /// One of those below `library`.
    Numbered(u32),
}

/// An asset of the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asset {
    /// One of those below `library`.
    Numbered(u32),
    /// `versions/many`.
    Many,
}

impl Folder {
    /// Last segment of its path.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Library => "library".to_owned(),
            Self::Versions => "versions".to_owned(),
            Self::Numbered(number) => format!("f{number:04}"),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(self) -> String {
        match self.parent() {
            Some(parent) => format!("{}/{}", parent.path(), self.name()),
            None => self.name(),
        }
    }

    /// The folder that it is in; none for those in the root.
    #[must_use]
    pub const fn parent(self) -> Option<Self> {
        match self {
            Self::Library | Self::Versions => None,
            Self::Numbered(_) => Some(Self::Library),
        }
    }

    /// Number of the entry that tells of its creation.
    #[must_use]
    pub fn seq(self) -> i64 {
        match self {
            Self::Library => 1,
            Self::Versions => 2,
            Self::Numbered(number) => 3 + i64::from(number),
        }
    }
}

impl Asset {
    /// Last segment of its path.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Numbered(number) => format!("a{number:07}"),
            Self::Many => "many".to_owned(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(self) -> String {
        format!("{}/{}", self.folder().path(), self.name())
    }

    /// Name of the file that each of its versions was.
    #[must_use]
    pub fn filename(self) -> String {
        format!("{}.jpg", self.name())
    }

    /// The folder that it is in.
    #[must_use]
    pub const fn folder(self) -> Folder {
        match self {
            Self::Numbered(number) => Folder::Numbered(number / PER_FOLDER),
            Self::Many => Folder::Versions,
        }
    }

    /// How many versions it has; the last one is published.
    #[must_use]
    pub const fn versions(self) -> i32 {
        match self {
            Self::Numbered(_) => VERSIONS,
            Self::Many => MANY_VERSIONS,
        }
    }
}

impl Plan {
    /// A library of `assets`, made a day ago.
    ///
    /// # Errors
    /// When the clock of the machine is before 1970.
    #[expect(clippy::disallowed_methods, reason = "there is no library yet whose clock could be asked")]
    pub fn new(assets: u32) -> anyhow::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        let began_ms = i64::try_from(now.as_millis())? - AGE_MS;
        Ok(Self { assets, blobs: blobs(), began_ms })
    }

    /// Folders below `library`.
    #[must_use]
    pub const fn folders(&self) -> u32 {
        self.assets.div_ceil(PER_FOLDER)
    }

    /// Those of them that have all their assets.
    #[must_use]
    pub const fn full_folders(&self) -> u32 {
        self.assets / PER_FOLDER
    }

    /// Number of the entry that tells of the asset's creation. Its versions have those that follow.
    #[must_use]
    pub fn asset_seq(&self, asset: Asset) -> i64 {
        let before = match asset {
            Asset::Numbered(number) => number,
            Asset::Many => self.assets,
        };
        3 + i64::from(self.folders()) + i64::from(before) * i64::from(1 + VERSIONS)
    }

    /// Number of the newest entry.
    #[must_use]
    pub fn last_seq(&self) -> i64 {
        self.asset_seq(Asset::Many) + i64::from(MANY_VERSIONS)
    }

    /// When the entry with this number was written.
    #[must_use]
    pub const fn at(&self, seq: i64) -> Timestamp {
        Timestamp(self.began_ms + seq)
    }

    /// Id of a folder.
    #[must_use]
    pub fn folder_id(&self, folder: Folder) -> FolderId {
        FolderId(self.id(folder.seq(), 1))
    }

    /// Id of an asset.
    #[must_use]
    pub fn asset_id(&self, asset: Asset) -> AssetId {
        AssetId(self.id(self.asset_seq(asset), 1))
    }

    /// Id of a version.
    #[must_use]
    pub fn version_id(&self, asset: Asset, number: i32) -> VersionId {
        VersionId(self.id(self.asset_seq(asset) + i64::from(number), 2))
    }

    /// Id of the bytes with this index among [`Plan::blobs`].
    #[must_use]
    pub fn blob_id(&self, index: usize) -> BlobId {
        BlobId(self.id(-1, 3 + index as u64))
    }

    /// Id of the stored file that has these bytes: the first one that did.
    #[must_use]
    pub fn file_id(&self, index: usize) -> StoredFileId {
        StoredFileId(self.blob_id(index).0)
    }

    /// Which of [`Plan::blobs`] a version has.
    #[must_use]
    pub fn blob_index(&self, asset: Asset, number: i32) -> usize {
        let place = self.asset_seq(asset) + i64::from(number);
        usize::try_from(place).unwrap_or(0) % self.blobs.len()
    }

    /// The bytes of a version.
    #[must_use]
    pub fn blob(&self, asset: Asset, number: i32) -> &Blob {
        &self.blobs[self.blob_index(asset, number)]
    }

    /// A `UUIDv7` of the moment of an entry; `salt` tells apart what it made.
    fn id(&self, seq: i64, salt: u64) -> Uuid {
        let mut bytes = [0; 10];
        Random::new((seq.cast_unsigned() << 8) | salt).fill(&mut bytes);
        uuid::Builder::from_unix_timestamp_millis(self.at(seq).0.unsigned_abs(), &bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_has_a_number_of_its_own_without_holes() {
        let plan = Plan::new(250).expect("a plan");
        let folders = [Folder::Library, Folder::Versions].into_iter().chain((0..3).map(Folder::Numbered));
        let assets = (0..250).map(Asset::Numbered).chain([Asset::Many]);
        let mut numbers: Vec<i64> = folders.map(Folder::seq).collect();
        for asset in assets {
            let created = plan.asset_seq(asset);
            numbers.extend(created..=created + i64::from(asset.versions()));
        }
        assert_eq!(numbers, (1..=plan.last_seq()).collect::<Vec<_>>());
    }
}
