//! Bytes in a bucket of an S3-compatible store: `staging/` for what is being sent, `blobs/` for what is kept.
//!
//! Only what all S3-compatible stores have in common is asked for. Clients can write below `staging/` by
//! presigned requests, and nowhere else.

mod client;
mod direct;
mod failure;
mod probe;
mod spool;
mod transfer;

use std::io;
use std::ops::Range;
use std::path::Path;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_smithy_http_client::Connector;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use uuid::Uuid;

use self::failure::failure;
pub use self::spool::SPOOL;
use self::spool::Spool;
use self::transfer::{Bounds, Headers, Object, copy, read, write};
use super::label::{Disposition, content_disposition};
use super::{
    BlobKey, BlobStore, Direct, Incoming, Label, MARK, MediaType, Outgoing, Probed, StageError, Staged,
    StagingKey,
};
use crate::config::Bucket;

/// Objects that one request lists.
const PAGE: i32 = 1000;
/// What caches may do with an object: its key never gets other bytes.
const CACHE: &str = "public, max-age=31536000, immutable";

/// A bucket of bytes.
pub struct S3Store {
    client: Client,
    bucket: String,
    prefix: String,
    public_url: Option<String>,
    spool: Spool,
    /// For requests that are not signed here.
    plain: Connector,
}

impl S3Store {
    /// Gets ready to speak to a bucket; parts of long bodies wait in the folder `spool`. Nothing is asked of the bucket yet, since
    /// it may be away now and back later.
    pub async fn open(bucket: &Bucket, spool: &Path) -> Self {
        Self {
            spool: Spool::new(spool),
            client: client::connect(bucket).await,
            bucket: bucket.bucket.clone(),
            prefix: bucket.prefix.clone(),
            public_url: bucket.public_url.clone(),
            plain: client::plain(),
        }
    }

    fn object(&self, key: String) -> Object {
        Object { bucket: self.bucket.clone(), key }
    }

    fn staging(&self, key: &StagingKey) -> Object {
        self.object(format!("{}staging/{key}", self.prefix))
    }

    fn blob(&self, key: &BlobKey) -> Object {
        self.object(self.blob_name(key))
    }

    fn blob_name(&self, key: &BlobKey) -> String {
        format!("{}blobs/{}/{key}", self.prefix, key.shard())
    }

    /// Count of bytes and entity tag of an object; none when it is not there.
    async fn head(&self, object: &Object) -> io::Result<Option<(u64, String)>> {
        let head = self.client.head_object().bucket(&object.bucket).key(&object.key).send().await;
        match head.map_err(|error| failure("cannot look at an object", &error)) {
            Ok(head) => {
                let size = u64::try_from(head.content_length.unwrap_or(0)).map_err(io::Error::other)?;
                Ok(Some((size, head.e_tag.unwrap_or_default())))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What lies below a prefix: each name without it, and its count of bytes.
    async fn list(&self, prefix: &str) -> io::Result<Vec<(String, u64)>> {
        let (mut all, mut from) = (Vec::new(), None);
        loop {
            let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).max_keys(PAGE);
            let page = request.set_continuation_token(from).send().await;
            let page = page.map_err(|error| failure("cannot list the bucket", &error))?;
            all.extend(page.contents().iter().filter_map(|object| {
                let name = object.key()?.strip_prefix(prefix)?;
                Some((name.to_owned(), u64::try_from(object.size.unwrap_or(0)).ok()?))
            }));
            from = page.next_continuation_token;
            if from.is_none() {
                return Ok(all);
            }
        }
    }

    /// The text of a short object; none when it is not there.
    async fn text(&self, object: &Object) -> io::Result<Option<String>> {
        let got = self.client.get_object().bucket(&object.bucket).key(&object.key).send().await;
        let got = match got.map_err(|error| failure("cannot read an object", &error)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            got => got?,
        };
        let bytes = got.body.collect().await.map_err(io::Error::other)?.to_vec();
        Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
    }

    async fn delete(&self, object: &Object) -> io::Result<()> {
        let request = self.client.delete_object().bucket(&object.bucket).key(&object.key);
        match request.send().await.map_err(|error| failure("cannot remove an object", &error)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Copies what is staged to where it stays; an error of kind `NotFound` when nothing is staged.
    async fn keep(&self, staging: &StagingKey, key: &BlobKey, label: &Label) -> io::Result<()> {
        let from = self.staging(staging);
        let (size, tag) = self.head(&from).await?.ok_or(io::ErrorKind::NotFound)?;
        copy(&self.client, &from, &self.blob(key), size, Some(&tag), Some(&headers(label))).await
    }
}

fn headers(label: &Label) -> Headers {
    let media_type = MediaType::of_stored(&label.content_type);
    // A browser that finds another object at a public URL saves it, and does not run it with the rights of that origin.
    let disposition = if media_type.is_inert() { Disposition::Inline } else { Disposition::Attachment };
    Headers {
        content_type: media_type.header(),
        content_disposition: content_disposition(disposition, &label.filename),
        cache_control: CACHE.to_owned(),
    }
}

#[async_trait]
impl BlobStore for S3Store {
    async fn check(&self) -> io::Result<()> {
        let head = self.client.head_bucket().bucket(&self.bucket).send().await;
        head.map(drop).map_err(|error| failure("cannot reach the bucket", &error))
    }

    async fn mark(&self) -> io::Result<Option<String>> {
        self.text(&self.object(format!("{}{MARK}", self.prefix))).await
    }

    async fn leave_mark(&self, mark: &str) -> io::Result<()> {
        let object = self.object(format!("{}{MARK}", self.prefix));
        let request = self.client.put_object().bucket(&object.bucket).key(&object.key);
        let request = request.content_type("text/plain").body(mark.as_bytes().to_vec().into());
        request.send().await.map(drop).map_err(|error| failure("cannot mark the bucket", &error))
    }

    async fn is_empty(&self) -> io::Result<bool> {
        for part in ["staging/", "blobs/"] {
            let prefix = format!("{}{part}", self.prefix);
            let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).max_keys(1);
            let page = request.send().await.map_err(|error| failure("cannot list the bucket", &error))?;
            if !page.contents().is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn stage(&self, key: &StagingKey, body: Incoming<'_>, limit: u64) -> Result<Staged, StageError> {
        let bounds = Bounds { limit, expected: 0 };
        write(&self.client, &self.staging(key), body, bounds, None, &self.spool).await
    }

    async fn secure(&self, staging: &StagingKey, key: &BlobKey, label: &Label) -> io::Result<()> {
        match self.keep(staging, key, label).await {
            // An earlier attempt got this far.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.head(&self.blob(key)).await?.map(drop).ok_or(error)
            }
            Err(error) => Err(error),
            Ok(()) => {
                if let Err(error) = self.remove_staged(staging).await {
                    tracing::warn!(%error, key = %staging, "cannot remove what was staged; the sweeper will");
                }
                Ok(())
            }
        }
    }

    async fn renew(
        &self,
        staging: &StagingKey,
        _second: &StagingKey,
        key: &BlobKey,
        label: &Label,
    ) -> io::Result<()> {
        let (from, to) = (self.staging(staging), self.blob(key));
        let (size, tag) = self.head(&from).await?.ok_or(io::ErrorKind::NotFound)?;
        // It has them still. To copy gigabytes over themselves would take minutes, each time anew.
        if self.head(&to).await?.is_some_and(|(there, _)| there == size) {
            return Ok(());
        }
        copy(&self.client, &from, &to, size, Some(&tag), Some(&headers(label))).await
    }

    async fn join(&self, _parts: &[StagingKey], _whole: &StagingKey) -> io::Result<Staged> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a bucket puts parts together by itself"))
    }

    async fn read(&self, key: &BlobKey, size: u64, range: Range<u64>) -> io::Result<Bytes> {
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut pieces = read(&self.client, self.blob(key), size, range).await?;
        let mut all = BytesMut::with_capacity(length);
        while let Some(piece) = pieces.try_next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    async fn stream(&self, key: &BlobKey, size: u64, range: Range<u64>) -> io::Result<Outgoing> {
        read(&self.client, self.blob(key), size, range).await
    }

    async fn import(
        &self,
        key: &BlobKey,
        body: Incoming<'_>,
        size: u64,
        label: &Label,
    ) -> Result<Staged, StageError> {
        let bounds = Bounds { limit: u64::MAX, expected: size };
        write(&self.client, &self.blob(key), body, bounds, Some(&headers(label)), &self.spool).await
    }

    async fn kept(&self, shard: u8) -> io::Result<Vec<(BlobKey, u64)>> {
        let listed = self.list(&format!("{}blobs/{}/", self.prefix, BlobKey::shard_name(shard))).await?;
        let key = |(name, size): (String, u64)| Some((name.parse().ok()?, size));
        Ok(listed.into_iter().filter_map(key).collect())
    }

    async fn remove(&self, key: &BlobKey) -> io::Result<()> {
        self.delete(&self.blob(key)).await
    }

    async fn remove_staged(&self, key: &StagingKey) -> io::Result<()> {
        self.delete(&self.staging(key)).await
    }

    async fn staged(&self) -> io::Result<Vec<StagingKey>> {
        let listed = self.list(&format!("{}staging/", self.prefix)).await?;
        Ok(listed.iter().filter_map(|(name, _)| name.parse().ok()).collect())
    }

    async fn probe(&self, origin: &str, id: Uuid) -> Vec<Probed> {
        probe::all(self, origin, id).await
    }

    fn direct(&self) -> Option<&dyn Direct> {
        Some(self)
    }
}
