//! Loads rows for many fields by one statement, so that the number of statements of a query does not grow
//! with its rows. Nothing is cached: a subscription that loads twice sees what changed between.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_graphql::dataloader::{DataLoader, Loader as BatchLoader};
use entity::version::State;
use entity::{
    AssetId, DeletionId, FolderId, StoredFileId, TokenId, UploadIntentId, VersionId, change, deletion,
    folder, stored_file, token, upload_intent, version,
};

use super::batch::{AtOnce, Batches};
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::asset::{self, Asset, Selection};
use crate::domain::error::{Error, Result};
use crate::domain::folder::{self as folders, Inside};
use crate::domain::page::Slice;
use crate::domain::{
    change as changes, stored_file as stored_files, token as tokens, trash, upload, version as versions,
};
use crate::feed::IndexPage;

/// Keys in one statement; SQLite takes compound statements of at most 500 parts.
const MAX_KEYS: usize = 400;

/// The way to rows by their keys, as far as an actor may know of them.
pub struct Loader {
    app: App,
    actor: Actor,
}

impl Loader {
    /// For what `actor` asks.
    pub fn new(app: &App, actor: &Actor) -> Self {
        Self { app: app.clone(), actor: actor.clone() }
    }
}

/// Batches the keys that fields ask for at the same time.
pub struct Loaders(DataLoader<Loader>);

/// The paths that an asset had before.
#[derive(Clone)]
pub struct FormerOf(pub Arc<Asset>);

impl PartialEq for FormerOf {
    fn eq(&self, other: &Self) -> bool {
        self.0.row.id == other.0.row.id
    }
}

impl Eq for FormerOf {}

impl Hash for FormerOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.row.id.hash(state);
    }
}

/// The parts of an upload.
#[derive(Clone)]
pub struct PartsOf(pub Arc<upload_intent::Model>);

impl PartialEq for PartsOf {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for PartsOf {}

impl Hash for PartsOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

/// A version of an asset by its number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Numbered(pub AssetId, pub i32);

/// A folder by its path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FolderAt(pub String);

/// A changelog entry by its number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntryNumber(pub i64);

/// All API tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AllTokens;

/// The bounds of the changelog.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bounds;

/// How many versions an asset has, in these states.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VersionsOf(pub AssetId, pub Option<Vec<State>>);

impl Loaders {
    /// Loads by `loader` what `batches` gather.
    pub fn new(loader: Loader, batches: Batches) -> Self {
        Self(DataLoader::new(loader, batches, AtOnce).max_batch_size(MAX_KEYS))
    }

    /// The row of a key, if there is one.
    pub async fn one<K>(&self, key: K) -> Result<Option<<Loader as BatchLoader<K>>::Value>>
    where
        K: Send + Sync + Hash + Eq + Clone + 'static,
        Loader: BatchLoader<K, Error = Error>,
    {
        self.0.load_one(key).await
    }

    /// The rows of several keys.
    pub async fn many<K>(&self, keys: Vec<K>) -> Result<HashMap<K, <Loader as BatchLoader<K>>::Value>>
    where
        K: Send + Sync + Hash + Eq + Clone + 'static,
        Loader: BatchLoader<K, Error = Error>,
    {
        self.0.load_many(keys).await
    }

    /// The oldest place of the changelog that can be read from, and the newest.
    pub async fn bounds(&self) -> Result<(i64, i64)> {
        Ok(self.one(Bounds).await?.unwrap_or_default())
    }

    /// How many there are of what a key names.
    pub async fn count<K>(&self, key: K) -> Result<Option<i64>>
    where
        K: Send + Sync + Hash + Eq + Clone + 'static,
        Loader: BatchLoader<K, Value = i64, Error = Error>,
    {
        self.0.load_one(key).await
    }
}

impl BatchLoader<FolderId> for Loader {
    type Value = Arc<folder::Model>;
    type Error = Error;

    async fn load(&self, keys: &[FolderId]) -> Result<HashMap<FolderId, Self::Value>> {
        Ok(shared(folders::by_ids(&self.app, self.actor.scope(), keys).await?))
    }
}

impl BatchLoader<FolderAt> for Loader {
    type Value = Arc<folder::Model>;
    type Error = Error;

    async fn load(&self, keys: &[FolderAt]) -> Result<HashMap<FolderAt, Self::Value>> {
        let paths: Vec<String> = keys.iter().map(|key| key.0.clone()).collect();
        let found = folders::by_paths(&self.app, self.actor.scope(), &paths).await?;
        Ok(found.into_iter().map(|(path, row)| (FolderAt(path), Arc::new(row))).collect())
    }
}

impl BatchLoader<folders::Listing> for Loader {
    type Value = Slice<folder::Model>;
    type Error = Error;

    async fn load(&self, keys: &[folders::Listing]) -> Result<HashMap<folders::Listing, Self::Value>> {
        folders::list(&self.app, self.actor.scope(), keys).await
    }
}

impl BatchLoader<Inside> for Loader {
    type Value = i64;
    type Error = Error;

    async fn load(&self, keys: &[Inside]) -> Result<HashMap<Inside, i64>> {
        folders::counts(&self.app, self.actor.scope(), keys).await
    }
}

impl BatchLoader<DeletionId> for Loader {
    type Value = Arc<deletion::Model>;
    type Error = Error;

    async fn load(&self, keys: &[DeletionId]) -> Result<HashMap<DeletionId, Self::Value>> {
        Ok(shared(trash::by_ids(&self.app, keys).await?))
    }
}

impl BatchLoader<StoredFileId> for Loader {
    type Value = Arc<stored_file::Model>;
    type Error = Error;

    async fn load(&self, keys: &[StoredFileId]) -> Result<HashMap<StoredFileId, Self::Value>> {
        Ok(shared(stored_files::by_ids(&self.app, keys).await?))
    }
}

impl BatchLoader<FormerOf> for Loader {
    type Value = Vec<String>;
    type Error = Error;

    async fn load(&self, keys: &[FormerOf]) -> Result<HashMap<FormerOf, Self::Value>> {
        let assets: Vec<&Asset> = keys.iter().map(|key| &*key.0).collect();
        let mut found = asset::former_paths(&self.app, self.actor.scope(), &assets).await?;
        Ok(keys.iter().map(|key| (key.clone(), found.remove(&key.0.row.id).unwrap_or_default())).collect())
    }
}

impl BatchLoader<PartsOf> for Loader {
    type Value = Vec<upload::Part>;
    type Error = Error;

    async fn load(&self, keys: &[PartsOf]) -> Result<HashMap<PartsOf, Self::Value>> {
        let intents: Vec<Arc<upload_intent::Model>> = keys.iter().map(|key| Arc::clone(&key.0)).collect();
        let mut found = upload::parts(&self.app, &intents).await?;
        Ok(keys.iter().map(|key| (key.clone(), found.remove(&key.0.id).unwrap_or_default())).collect())
    }
}

impl BatchLoader<AssetId> for Loader {
    type Value = Arc<Asset>;
    type Error = Error;

    async fn load(&self, keys: &[AssetId]) -> Result<HashMap<AssetId, Self::Value>> {
        Ok(shared(asset::by_ids(&self.app, self.actor.scope(), keys).await?))
    }
}

impl BatchLoader<asset::Listing> for Loader {
    type Value = Slice<Asset>;
    type Error = Error;

    async fn load(&self, keys: &[asset::Listing]) -> Result<HashMap<asset::Listing, Self::Value>> {
        asset::list(&self.app, self.actor.scope(), keys).await
    }
}

impl BatchLoader<Selection> for Loader {
    type Value = i64;
    type Error = Error;

    async fn load(&self, keys: &[Selection]) -> Result<HashMap<Selection, i64>> {
        asset::counts(&self.app, self.actor.scope(), keys).await
    }
}

impl BatchLoader<VersionId> for Loader {
    type Value = Arc<version::Model>;
    type Error = Error;

    async fn load(&self, keys: &[VersionId]) -> Result<HashMap<VersionId, Self::Value>> {
        Ok(shared(versions::by_ids(&self.app, self.actor.scope(), keys).await?))
    }
}

impl BatchLoader<Numbered> for Loader {
    type Value = Arc<version::Model>;
    type Error = Error;

    async fn load(&self, keys: &[Numbered]) -> Result<HashMap<Numbered, Self::Value>> {
        let wanted: Vec<(AssetId, i32)> = keys.iter().map(|key| (key.0, key.1)).collect();
        let found = versions::by_numbers(&self.app, self.actor.scope(), &wanted).await?;
        Ok(found.into_iter().map(|((asset, number), row)| (Numbered(asset, number), Arc::new(row))).collect())
    }
}

impl BatchLoader<versions::Listing> for Loader {
    type Value = Slice<version::Model>;
    type Error = Error;

    async fn load(&self, keys: &[versions::Listing]) -> Result<HashMap<versions::Listing, Self::Value>> {
        versions::list(&self.app, self.actor.scope(), keys).await
    }
}

impl BatchLoader<VersionsOf> for Loader {
    type Value = i64;
    type Error = Error;

    /// One statement for each set of states that the query asks for.
    async fn load(&self, keys: &[VersionsOf]) -> Result<HashMap<VersionsOf, i64>> {
        let mut by_states: HashMap<Option<Vec<State>>, Vec<AssetId>> = HashMap::new();
        for VersionsOf(asset, states) in keys {
            by_states.entry(states.clone()).or_default().push(*asset);
        }
        let mut counts = HashMap::new();
        for (states, assets) in by_states {
            let found = versions::counts(&self.app, self.actor.scope(), &assets, states.as_deref()).await?;
            counts.extend(found.into_iter().map(|(asset, count)| (VersionsOf(asset, states.clone()), count)));
        }
        Ok(counts)
    }
}

impl BatchLoader<UploadIntentId> for Loader {
    type Value = Arc<upload_intent::Model>;
    type Error = Error;

    async fn load(&self, keys: &[UploadIntentId]) -> Result<HashMap<UploadIntentId, Self::Value>> {
        Ok(shared(upload::by_ids(&self.app, keys).await?))
    }
}

impl BatchLoader<TokenId> for Loader {
    type Value = Arc<token::Model>;
    type Error = Error;

    async fn load(&self, keys: &[TokenId]) -> Result<HashMap<TokenId, Self::Value>> {
        Ok(shared(tokens::by_ids(&self.app, &self.actor, keys).await?))
    }
}

impl BatchLoader<AllTokens> for Loader {
    type Value = i64;
    type Error = Error;

    async fn load(&self, _: &[AllTokens]) -> Result<HashMap<AllTokens, i64>> {
        Ok(HashMap::from([(AllTokens, tokens::count(&self.app).await?)]))
    }
}

impl BatchLoader<Bounds> for Loader {
    type Value = (i64, i64);
    type Error = Error;

    async fn load(&self, _: &[Bounds]) -> Result<HashMap<Bounds, Self::Value>> {
        Ok(HashMap::from([(Bounds, changes::bounds(&self.app).await?)]))
    }
}

impl BatchLoader<EntryNumber> for Loader {
    type Value = Arc<change::Model>;
    type Error = Error;

    async fn load(&self, keys: &[EntryNumber]) -> Result<HashMap<EntryNumber, Self::Value>> {
        let numbers: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let found = changes::by_numbers(&self.app, &numbers).await?;
        Ok(found.into_iter().map(|row| (EntryNumber(row.seq), Arc::new(row))).collect())
    }
}

impl BatchLoader<IndexPage> for Loader {
    type Value = Vec<change::Model>;
    type Error = Error;

    async fn load(&self, keys: &[IndexPage]) -> Result<HashMap<IndexPage, Self::Value>> {
        let found = changes::pages(&self.app, keys).await?;
        Ok(keys.iter().cloned().zip(found).collect())
    }
}

fn shared<K: Hash + Eq, V>(rows: HashMap<K, V>) -> HashMap<K, Arc<V>> {
    rows.into_iter().map(|(key, row)| (key, Arc::new(row))).collect()
}
