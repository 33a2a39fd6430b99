//! Ids: UUIDv7 in the database, [TypeID](https://github.com/jetify-com/typeid) text everywhere else
//! (`asset_01jd3…`), so that a log line tells what it names and rows sort by creation.

use std::fmt;
use std::str::FromStr;

use sea_orm::{DbErr, DeriveValueType, TryFromU64};
use type_safe_id::{StaticType, TypeSafeId};
use uuid::Uuid;

/// A text that is not an id of the expected kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnId {
    /// The prefix that the id should have had.
    pub prefix: &'static str,
}

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an id of this kind: {}_ and 26 small letters and digits", self.prefix)
    }
}

impl std::error::Error for NotAnId {}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $marker:ident, $prefix:literal) => {
        #[derive(Default)]
        struct $marker;

        impl StaticType for $marker {
            const TYPE: &'static str = $prefix;
        }

        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, DeriveValueType)]
        pub struct $name(pub Uuid);

        // SeaORM asks it of every primary key; no database makes these ids from a counter.
        impl TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, DbErr> {
                Err(DbErr::ConvertFromU64(stringify!($name)))
            }
        }

        impl $name {
            /// What the text form begins with, before the underscore.
            pub const PREFIX: &'static str = $prefix;
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                TypeSafeId::<$marker>::from_uuid(self.0).fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                TypeSafeId::<$marker>::from_str(text)
                    .map(|id| Self(id.uuid()))
                    .map_err(|_| NotAnId { prefix: $prefix })
            }
        }
    };
}

typed_id!(
    /// Names a folder.
    FolderId, FolderMarker, "folder"
);
typed_id!(
    /// Names an asset.
    AssetId, AssetMarker, "asset"
);
typed_id!(
    /// Names a version of an asset.
    VersionId, VersionMarker, "version"
);
typed_id!(
    /// Names a file in storage: bytes with a type, on behalf of whoever put them there.
    StoredFileId, StoredFileMarker, "file"
);
typed_id!(
    /// Names bytes in storage. The same as that of a stored file whose bytes were the first of their kind.
    BlobId, BlobMarker, "file"
);
typed_id!(
    /// Names a deletion.
    DeletionId, DeletionMarker, "deletion"
);
typed_id!(
    /// Names an upload intent.
    UploadIntentId, UploadIntentMarker, "upload"
);

typed_id!(
    /// Names an API token.
    TokenId, TokenMarker, "token"
);

impl FolderId {
    /// The root folder, the same in every library.
    pub const ROOT: Self = Self(Uuid::nil());
}
