//! What clients do with the bucket by themselves, by presigned requests.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::types::{ChecksumMode, ChecksumType, CompletedPart, MultipartUpload};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::failure::failure;
use super::transfer::{Object, abort, begin, complete, copy, inspect, read};
use super::{PAGE, S3Store};
use crate::blob::seen::{HEAD, hex, unhex};
use crate::blob::{
    BlobKey, Collected, Direct, Expected, ReadHeaders, SentPart, Staged, StagingKey, Target, Unfinished,
};

/// Longest life of a presigned request (Signature Version 4).
const MAX_LIFE: Duration = Duration::from_secs(604_800);

/// An object that a client sent.
struct Sent {
    size: u64,
    tag: String,
    /// Told by the store, in hex, when it verified it.
    sha256: Option<String>,
}

impl S3Store {
    async fn sent(&self, object: &Object) -> io::Result<Option<Sent>> {
        let request = self.client.head_object().bucket(&object.bucket).key(&object.key);
        let head = request.checksum_mode(ChecksumMode::Enabled).send().await;
        let head = match head.map_err(|error| failure("cannot look at what was sent", &error)) {
            Ok(head) => head,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Of parts it is the digest of their digests.
        let whole = head.checksum_type != Some(ChecksumType::Composite);
        let digest = head.checksum_sha256.filter(|_| whole);
        let digest =
            digest.and_then(|digest| STANDARD.decode(digest).ok()).filter(|digest| digest.len() == 32);
        Ok(Some(Sent {
            size: u64::try_from(head.content_length.unwrap_or(0)).map_err(io::Error::other)?,
            tag: head.e_tag.unwrap_or_default(),
            sha256: digest.map(|digest| hex(&digest)),
        }))
    }

    /// Uploads in parts below `prefix` that are neither complete nor ended.
    async fn uploads(&self, prefix: &str) -> io::Result<Vec<MultipartUpload>> {
        let (mut all, mut from) = (Vec::new(), (None, None));
        loop {
            let request = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(prefix);
            let request = request.set_key_marker(from.0).set_upload_id_marker(from.1).max_uploads(PAGE);
            let page = request.send().await;
            let page = page.map_err(|error| failure("cannot list uploads in parts", &error))?;
            all.extend(page.uploads.unwrap_or_default());
            if page.is_truncated != Some(true) {
                return Ok(all);
            }
            from = (page.next_key_marker, page.next_upload_id_marker);
        }
    }

    /// The first bytes of an object, to tell its type by.
    async fn first_bytes(&self, object: &Object, size: u64) -> io::Result<Vec<u8>> {
        use futures_util::TryStreamExt as _;
        let pieces = read(&self.client, object.clone(), size, 0..size.min(HEAD as u64)).await?;
        let pieces: Vec<_> = pieces.try_collect().await?;
        Ok(pieces.concat())
    }
}

#[async_trait]
impl Direct for S3Store {
    async fn target(&self, key: &StagingKey, expected: &Expected, life: Duration) -> io::Result<Target> {
        let object = self.staging(key);
        let size = expected.size.map(i64::try_from).transpose().map_err(io::Error::other)?;
        let digest = expected.sha256.as_deref().map(|text| STANDARD.encode(unhex(text)));
        let request = self
            .client
            .put_object()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_content_type(expected.content_type.clone())
            .set_content_length(size)
            .set_checksum_sha256(digest);
        let request = request.presigned(presigning(life)?).await;
        Ok(target(&request.map_err(|error| failure("cannot sign a request", &error))?))
    }

    async fn collect(
        &self,
        sent: &StagingKey,
        frozen: &StagingKey,
        expected: &Expected,
        limit: u64,
    ) -> io::Result<Option<Collected>> {
        let (from, to) = (self.staging(sent), self.staging(frozen));
        let Some(came) = self.sent(&from).await? else { return Ok(None) };
        if came.size > limit {
            return Ok(Some(Collected::TooLong(came.size)));
        }
        // Every request that may write to this key was signed with the digest: no other bytes can come.
        if let (Some(sha256), Some(wanted)) = (&came.sha256, &expected.sha256)
            && sha256 == wanted
        {
            let head = self.first_bytes(&from, came.size).await?;
            let staged = Staged { size: came.size, sha256: sha256.clone(), head };
            return Ok(Some(Collected::Staged(*sent, staged)));
        }
        copy(&self.client, &from, &to, came.size, Some(&came.tag), None).await?;
        let staged = inspect(&self.client, to, came.size).await?;
        Ok(Some(Collected::Staged(*frozen, staged)))
    }

    async fn begin(&self, key: &StagingKey) -> io::Result<String> {
        begin(&self.client, &self.staging(key), None).await
    }

    async fn part_target(
        &self,
        key: &StagingKey,
        upload: &str,
        number: i32,
        size: u64,
        life: Duration,
    ) -> io::Result<Target> {
        let object = self.staging(key);
        let request = self
            .client
            .upload_part()
            .bucket(&object.bucket)
            .key(&object.key)
            .upload_id(upload)
            .part_number(number)
            .content_length(i64::try_from(size).map_err(io::Error::other)?);
        let request = request.presigned(presigning(life)?).await;
        Ok(target(&request.map_err(|error| failure("cannot sign a request", &error))?))
    }

    async fn parts(&self, key: &StagingKey, upload: &str) -> io::Result<Vec<SentPart>> {
        let object = self.staging(key);
        let (mut parts, mut from) = (Vec::new(), None);
        loop {
            let request = self.client.list_parts().bucket(&object.bucket).key(&object.key).upload_id(upload);
            let page = request.set_part_number_marker(from).max_parts(PAGE).send().await;
            let page = page.map_err(|error| failure("cannot list the parts of an upload", &error))?;
            parts.extend(page.parts().iter().map(|part| SentPart {
                number: part.part_number.unwrap_or(0),
                size: u64::try_from(part.size.unwrap_or(0)).unwrap_or(0),
                etag: part.e_tag.clone().unwrap_or_default(),
            }));
            from = page.next_part_number_marker.filter(|_| page.is_truncated == Some(true));
            if from.is_none() {
                return Ok(parts);
            }
        }
    }

    async fn complete(&self, key: &StagingKey, upload: &str, parts: &[SentPart]) -> io::Result<Staged> {
        let object = self.staging(key);
        let size = parts.iter().map(|part| part.size).sum();
        let completed = parts
            .iter()
            .map(|part| CompletedPart::builder().part_number(part.number).e_tag(part.etag.clone()).build());
        match complete(&self.client, &object, upload, completed.collect()).await {
            // It may be done already, and the answer was lost.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.whole(key, size).await?.ok_or(error)
            }
            done => {
                done?;
                inspect(&self.client, object, size).await
            }
        }
    }

    async fn whole(&self, key: &StagingKey, size: u64) -> io::Result<Option<Staged>> {
        let object = self.staging(key);
        match self.head(&object).await? {
            Some((is, _)) if is == size => inspect(&self.client, object, size).await.map(Some),
            _ => Ok(None),
        }
    }

    async fn abort(&self, key: &StagingKey, upload: &str) -> io::Result<()> {
        abort(&self.client, &self.staging(key), upload).await
    }

    async fn unfinished(&self) -> io::Result<Vec<Unfinished>> {
        let prefix = format!("{}staging/", self.prefix);
        let uploads = self.uploads(&prefix).await?;
        let unfinished = uploads.into_iter().filter_map(|upload| {
            let key = upload.key()?.strip_prefix(&prefix)?.parse().ok()?;
            Some(Unfinished { key, since_ms: since(&upload), upload: upload.upload_id? })
        });
        Ok(unfinished.collect())
    }

    async fn end_copies(&self, before_ms: i64) -> io::Result<()> {
        for upload in self.uploads(&format!("{}blobs/", self.prefix)).await? {
            if since(&upload) < before_ms
                && let (Some(key), Some(id)) = (upload.key, upload.upload_id)
            {
                abort(&self.client, &self.object(key), &id).await?;
            }
        }
        Ok(())
    }

    async fn signed_url(&self, key: &BlobKey, headers: &ReadHeaders, life: Duration) -> io::Result<String> {
        let object = self.blob(key);
        let request = self
            .client
            .get_object()
            .bucket(&object.bucket)
            .key(&object.key)
            .response_content_type(&headers.content_type)
            .response_content_disposition(&headers.content_disposition)
            .response_cache_control(&headers.cache_control);
        let request = request.presigned(presigning(life)?).await;
        let request = request.map_err(|error| failure("cannot sign a URL", &error))?;
        Ok(request.uri().to_owned())
    }

    fn public_url(&self, key: &BlobKey) -> Option<String> {
        Some(format!("{}/{}", self.public_url.as_ref()?, self.blob_name(key)))
    }
}

/// When an upload began, in milliseconds of Unix time.
fn since(upload: &MultipartUpload) -> i64 {
    upload.initiated().and_then(|since| since.to_millis().ok()).unwrap_or(0)
}

pub(super) fn presigning(life: Duration) -> io::Result<PresigningConfig> {
    // A life of less than a second would be none.
    let life = life.clamp(Duration::from_secs(1), MAX_LIFE);
    PresigningConfig::expires_in(life).map_err(io::Error::other)
}

/// The headers that a client has to send; those that it sends by itself are left out.
fn target(request: &PresignedRequest) -> Target {
    let by_itself =
        |name: &str| name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case("content-length");
    let headers = request.headers().filter(|(name, _)| !by_itself(name));
    Target {
        method: "PUT",
        url: request.uri().to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    }
}
