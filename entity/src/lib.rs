//! Vellum's rows: SeaORM entities, a file a table, and the value types that columns share.

pub mod actor;
pub mod asset;
pub mod change;
pub mod change_folder;
pub mod changelog_head;
pub mod folder;
pub mod id;
pub mod name;
pub mod setting;
pub mod stored_file;
pub mod timestamp;
pub mod upload_intent;
pub mod version;

pub use actor::{Actor, ActorKind};
pub use id::{AssetId, FolderId, StoredFileId, UploadIntentId, VersionId};
pub use timestamp::Timestamp;
