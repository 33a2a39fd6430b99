//! Vellum's rows: SeaORM entities, a file a table, and the value types that columns share.

pub mod actor;
pub mod asset;
pub mod asset_tag;
pub mod asset_text;
pub mod blob;
pub mod change;
pub mod change_folder;
pub mod changelog_head;
pub mod deletion;
pub mod folder;
pub mod folder_text;
pub mod former_path;
pub mod garbage;
pub mod id;
pub mod name;
pub mod setting;
pub mod stored_file;
pub mod timestamp;
pub mod token;
pub mod upload_intent;
pub mod upload_part;
pub mod version;

pub use actor::{Actor, ActorKind};
pub use id::{AssetId, BlobId, DeletionId, FolderId, StoredFileId, TokenId, UploadIntentId, VersionId};
pub use timestamp::Timestamp;
