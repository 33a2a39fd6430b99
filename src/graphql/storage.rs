//! Storage backends: objects, inputs, query, mutation.

use async_graphql::{Context, Enum, InputObject, Object, SimpleObject};

use super::context::{ContextExt as _, Result};
use super::scalar::Url;
use crate::domain::storage;

/// Where bytes are kept.
#[derive(SimpleObject)]
pub struct StorageInfo {
    /// Takes new bytes.
    default: StorageBackend,
    /// All that are configured, by name. Each file knows its own.
    backends: Vec<StorageBackend>,
}

/// What keeps bytes.
#[derive(SimpleObject)]
pub struct StorageBackend {
    /// Its name in the server's settings.
    name: String,
    /// What it is.
    kind: StorageKind,
    /// Where anyone can read what is public in it; null where the server answers readers.
    public_url: Option<Url>,
}

/// Kinds of storage backends.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "storage::Kind")]
pub enum StorageKind {
    /// A folder of the server's machine.
    Local,
    /// A bucket of an S3-compatible store.
    S3,
}

impl From<storage::Info> for StorageInfo {
    fn from(info: storage::Info) -> Self {
        Self {
            default: info.default.into(),
            backends: info.backends.into_iter().map(StorageBackend::from).collect(),
        }
    }
}

impl From<storage::Backend> for StorageBackend {
    fn from(backend: storage::Backend) -> Self {
        Self { name: backend.name, kind: backend.kind.into(), public_url: backend.public_url.map(Url) }
    }
}

/// The backend to choose.
#[derive(InputObject)]
pub struct SetDefaultStorageInput {
    /// Its name.
    backend: String,
}

/// What choosing a backend did.
#[derive(SimpleObject)]
pub struct SetDefaultStoragePayload {
    /// The backends as they are now.
    storage: StorageInfo,
}

/// Queries about storage backends.
#[derive(Default)]
pub struct StorageQuery;

#[Object]
impl StorageQuery {
    /// Where bytes are kept. For admins.
    async fn storage(&self, ctx: &Context<'_>) -> Result<StorageInfo> {
        Ok(storage::info(ctx.app(), ctx.actor()).await?.into())
    }
}

/// Mutations of storage backends.
#[derive(Default)]
pub struct StorageMutation;

#[Object]
impl StorageMutation {
    /// Chooses the backend that takes new bytes, on all servers. What lies elsewhere stays there and is read from there.
    /// For admins.
    async fn set_default_storage(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which.")] input: SetDefaultStorageInput,
    ) -> Result<SetDefaultStoragePayload> {
        let info = storage::set_default(ctx.app(), ctx.actor(), input.backend).await?;
        Ok(SetDefaultStoragePayload { storage: info.into() })
    }
}
