//! Bytes through the server: a body into an object, an object out piece by piece, one object into another.

use std::io;
use std::ops::Range;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, MetadataDirective};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::client::{copying, joining, sending};
use super::failure::failure;
use super::spool::{Part, Spool};
use crate::blob::seen::{Seen, unhex};
use crate::blob::{Incoming, Outgoing, StageError, Staged};

/// Bytes of a part when the server sends, unless that makes too many; also the longest body that goes in one request.
const PART: usize = 8 * 1024 * 1024;
/// Parts of an object, at most; stores take a few more.
const MAX_PARTS: u64 = 9_000;
/// Longest object that one request copies, in bytes.
const MAX_COPY: u64 = 5 * 1024 * 1024 * 1024;
/// Bytes that one request copies of a longer one.
const COPY_PART: u64 = 1024 * 1024 * 1024;
/// Requests that copy at the same time.
const COPIES: usize = 4;
/// How often reading is taken up again where it broke off.
const RESUMPTIONS: u32 = 3;

/// An object of a bucket.
#[derive(Debug, Clone)]
pub struct Object {
    pub bucket: String,
    pub key: String,
}

/// What an object tells who reads it.
#[derive(Debug, Clone)]
pub struct Headers {
    pub content_type: String,
    pub content_disposition: String,
    pub cache_control: String,
}

/// How long a body may be, and is thought to be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub limit: u64,
    pub expected: u64,
}

/// Writes a body into an object, hashing it on the way.
pub async fn write(
    client: &Client,
    to: &Object,
    mut body: Incoming<'_>,
    bounds: Bounds,
    headers: Option<&Headers>,
    spool: &Spool,
) -> Result<Staged, StageError> {
    let part = usize::try_from(bounds.expected.div_ceil(MAX_PARTS)).unwrap_or(usize::MAX).max(PART);
    let mut pieces =
        Pieces { seen: Seen::default(), size: 0, limit: bounds.limit, part, rest: Bytes::new(), spool };
    let (first, more) = pieces.next(&mut body).await?;
    if !more {
        let staged = pieces.seen.staged();
        let (bytes, _permit) = first.ready().await.map_err(StageError::Store)?;
        put(client, to, bytes, &staged, headers).await.map_err(StageError::Store)?;
        return Ok(staged);
    }
    let upload = begin(client, to, headers).await.map_err(StageError::Store)?;
    match write_parts(client, to, &upload, first, &mut pieces, &mut body).await {
        Ok(()) => Ok(pieces.seen.staged()),
        Err(error) => {
            if let Err(error) = abort(client, to, &upload).await {
                tracing::warn!(%error, key = to.key, "cannot end an upload; the sweeper will");
            }
            Err(error)
        }
    }
}

async fn write_parts(
    client: &Client,
    to: &Object,
    upload: &str,
    first: Part,
    pieces: &mut Pieces<'_>,
    body: &mut Incoming<'_>,
) -> Result<(), StageError> {
    let (mut parts, mut piece, mut more) = (Vec::new(), first, true);
    loop {
        let number =
            i32::try_from(parts.len() + 1).map_err(|error| StageError::Store(io::Error::other(error)))?;
        // The next piece comes in while this one goes out.
        let sending = async {
            let (bytes, _permit) = piece.ready().await?;
            send_part(client, to, upload, number, bytes).await
        };
        if !more {
            parts.push(sending.await.map_err(StageError::Store)?);
            return complete(client, to, upload, parts).await.map_err(StageError::Store);
        }
        let (sent, came) = tokio::join!(sending, pieces.next(body));
        parts.push(sent.map_err(StageError::Store)?);
        (piece, more) = came?;
    }
}

/// A body in pieces of the size of a part.
struct Pieces<'a> {
    seen: Seen,
    size: u64,
    limit: u64,
    part: usize,
    /// What came for the next one.
    rest: Bytes,
    spool: &'a Spool,
}

impl Pieces<'_> {
    /// The next one, and whether there may be more.
    async fn next(&mut self, body: &mut Incoming<'_>) -> Result<(Part, bool), StageError> {
        let mut part = self.spool.part();
        loop {
            let fits = self.rest.len().min(self.part - part.len());
            part.push(&self.rest.split_to(fits)).await.map_err(StageError::Store)?;
            if part.len() == self.part {
                return Ok((part, true));
            }
            let Some(bytes) = body.next().await else { return Ok((part, false)) };
            self.rest = bytes.map_err(StageError::Body)?;
            self.size += self.rest.len() as u64;
            if self.size > self.limit {
                return Err(StageError::TooLong);
            }
            self.seen.add(&self.rest);
        }
    }
}

async fn put(
    client: &Client,
    to: &Object,
    bytes: Bytes,
    staged: &Staged,
    headers: Option<&Headers>,
) -> io::Result<()> {
    // The store refuses what was damaged on the way.
    let digest = STANDARD.encode(unhex(&staged.sha256));
    let mut request = client.put_object().bucket(&to.bucket).key(&to.key).checksum_sha256(digest);
    if let Some(headers) = headers {
        request = request
            .content_type(&headers.content_type)
            .content_disposition(&headers.content_disposition)
            .cache_control(&headers.cache_control);
    }
    let config = sending(bytes.len());
    let request = request.body(ByteStream::from(bytes)).customize().config_override(config);
    let sent = request.send().await;
    sent.map(drop).map_err(|error| failure("cannot write an object", &error))
}

pub async fn begin(client: &Client, to: &Object, headers: Option<&Headers>) -> io::Result<String> {
    let mut request = client.create_multipart_upload().bucket(&to.bucket).key(&to.key);
    if let Some(headers) = headers {
        request = request
            .content_type(&headers.content_type)
            .content_disposition(&headers.content_disposition)
            .cache_control(&headers.cache_control);
    }
    let begun = request.send().await.map_err(|error| failure("cannot begin an upload in parts", &error))?;
    begun.upload_id.ok_or_else(|| io::Error::other("the store began an upload in parts without an id"))
}

async fn send_part(
    client: &Client,
    to: &Object,
    upload: &str,
    number: i32,
    bytes: Bytes,
) -> io::Result<CompletedPart> {
    let request = client.upload_part().bucket(&to.bucket).key(&to.key).upload_id(upload);
    let config = sending(bytes.len());
    let request = request.part_number(number).body(ByteStream::from(bytes)).customize();
    let sent = request.config_override(config).send().await;
    let sent = sent.map_err(|error| failure("cannot write a part", &error))?;
    Ok(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build())
}

pub async fn complete(
    client: &Client,
    to: &Object,
    upload: &str,
    parts: Vec<CompletedPart>,
) -> io::Result<()> {
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let request = client.complete_multipart_upload().bucket(&to.bucket).key(&to.key).upload_id(upload);
    let done = request.multipart_upload(parts).customize().config_override(joining()).send().await;
    done.map(drop).map_err(|error| failure("cannot put parts together", &error))
}

/// Ends an upload in parts; one that is over is no error.
pub async fn abort(client: &Client, to: &Object, upload: &str) -> io::Result<()> {
    let request = client.abort_multipart_upload().bucket(&to.bucket).key(&to.key).upload_id(upload);
    match request.send().await.map_err(|error| failure("cannot end an upload in parts", &error)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Copies an object of `size` bytes. With a tag only if that is the source's.
pub async fn copy(
    client: &Client,
    from: &Object,
    to: &Object,
    size: u64,
    tag: Option<&str>,
    headers: Option<&Headers>,
) -> io::Result<()> {
    if size > MAX_COPY {
        return copy_parts(client, from, to, size, tag, headers).await;
    }
    let request = client.copy_object().bucket(&to.bucket).key(&to.key).copy_source(source(from));
    let mut request = request.set_copy_source_if_match(tag.map(ToOwned::to_owned));
    if let Some(headers) = headers {
        request = request
            .metadata_directive(MetadataDirective::Replace)
            .content_type(&headers.content_type)
            .content_disposition(&headers.content_disposition)
            .cache_control(&headers.cache_control);
    }
    let copied = request.customize().config_override(copying(size)).send().await;
    copied.map(drop).map_err(|error| failure("cannot copy an object", &error))
}

/// As `x-amz-copy-source`; keys are plain ASCII.
fn source(from: &Object) -> String {
    format!("{}/{}", from.bucket, from.key)
}

async fn copy_parts(
    client: &Client,
    from: &Object,
    to: &Object,
    size: u64,
    tag: Option<&str>,
    headers: Option<&Headers>,
) -> io::Result<()> {
    let upload = begin(client, to, headers).await?;
    let copies = (0..size.div_ceil(COPY_PART)).map(|index| {
        let range = index * COPY_PART..size.min((index + 1) * COPY_PART);
        copy_part(client, from, to, &upload, index, range, tag)
    });
    let parts = stream::iter(copies).buffered(COPIES).try_collect().await;
    let done = match parts {
        Ok(parts) => complete(client, to, &upload, parts).await,
        Err(error) => Err(error),
    };
    if done.is_err()
        && let Err(error) = abort(client, to, &upload).await
    {
        tracing::warn!(%error, key = to.key, "cannot end a copy; the sweeper will");
    }
    done
}

async fn copy_part(
    client: &Client,
    from: &Object,
    to: &Object,
    upload: &str,
    index: u64,
    range: Range<u64>,
    tag: Option<&str>,
) -> io::Result<CompletedPart> {
    let number = i32::try_from(index + 1).map_err(io::Error::other)?;
    let request = client.upload_part_copy().bucket(&to.bucket).key(&to.key).upload_id(upload);
    let request = request.part_number(number).copy_source(source(from));
    let request = request.copy_source_range(format!("bytes={}-{}", range.start, range.end - 1));
    let request = request.set_copy_source_if_match(tag.map(ToOwned::to_owned));
    let copied = request.customize().config_override(copying(range.end - range.start)).send().await;
    let copied = copied.map_err(|error| failure("cannot copy a part", &error))?;
    let tag = copied.copy_part_result.and_then(|result| result.e_tag);
    Ok(CompletedPart::builder().part_number(number).set_e_tag(tag).build())
}

/// A range of an object that has `size` bytes, piece by piece. Where reading breaks off it is taken up again.
pub async fn read(client: &Client, from: Object, size: u64, range: Range<u64>) -> io::Result<Outgoing> {
    if range.is_empty() {
        return Ok(stream::empty().boxed());
    }
    let body = get(client, &from, size, range.clone()).await?;
    let reading = Reading { client: client.clone(), from, size, range, body, left: RESUMPTIONS };
    Ok(stream::try_unfold(reading, Reading::next).boxed())
}

struct Reading {
    client: Client,
    from: Object,
    size: u64,
    range: Range<u64>,
    body: ByteStream,
    left: u32,
}

impl Reading {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        while !self.range.is_empty() {
            let broke = match self.body.try_next().await {
                Ok(Some(bytes)) => {
                    self.range.start += bytes.len() as u64;
                    return Ok(Some((bytes, self)));
                }
                Ok(None) => "it ended too soon".to_owned(),
                Err(error) => error.to_string(),
            };
            if self.left == 0 {
                let message = format!("reading {} broke off: {broke}", self.from.key);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
            }
            tracing::debug!(key = self.from.key, broke, "reading goes on where it broke off");
            self.left -= 1;
            self.body = get(&self.client, &self.from, self.size, self.range.clone()).await?;
        }
        Ok(None)
    }
}

async fn get(client: &Client, from: &Object, size: u64, range: Range<u64>) -> io::Result<ByteStream> {
    let request = client.get_object().bucket(&from.bucket).key(&from.key);
    let request = request.range(format!("bytes={}-{}", range.start, range.end - 1));
    let got = request.send().await.map_err(|error| failure("cannot read an object", &error))?;
    let total = got.content_range.as_deref().and_then(|range| range.rsplit('/').next());
    let is =
        total.map_or_else(|| got.content_length.map(|length| length.to_string()), |is| Some(is.to_owned()));
    if is.as_deref() == Some(&size.to_string()) {
        return Ok(got.body);
    }
    Err(io::Error::other(format!("{} has {} bytes and not {size}", from.key, is.unwrap_or_default())))
}

/// Reads a whole object and hashes it.
pub async fn inspect(client: &Client, from: Object, size: u64) -> io::Result<Staged> {
    let mut seen = Seen::default();
    let mut bytes = read(client, from, size, 0..size).await?;
    while let Some(piece) = bytes.try_next().await? {
        seen.add(&piece);
    }
    Ok(seen.staged())
}
