//! Sends a file: conditional requests and ranges as RFC 9110, digests as RFC 9530 (and RFC 3230 for older
//! clients), and headers that keep what is in it from running with our rights.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use entity::{BlobId, Timestamp};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use uuid::Uuid;

use super::Server;
use super::error::{self, HttpError};
use super::limits::{Client, Reservation, Resource};
use crate::blob::{BlobKey, BlobStore, MediaType, SMALL, label, unhex};
use crate::domain::delivery::{self, Delivery, Wanted};
use crate::domain::error::Error;
use crate::domain::version::{Access, Content, Disposition};

/// Ranges of one request that are answered; with more the whole file is sent.
const MAX_RANGES: usize = 16;
/// Whether the bytes behind a URL can ever be others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// They can: caches have to ask again.
    Stable,
    /// They cannot.
    Immutable,
}

/// Answers a GET or HEAD of a file.
///
/// # Errors
/// When the store does not have the bytes, or has others.
pub async fn send(
    server: &Server,
    client: Client,
    method: &Method,
    request: &HeaderMap,
    file: File,
) -> Result<Response, HttpError> {
    let mut headers = file.headers();
    allow_pages(server, request, file.access, &mut headers);
    if !file.meets_preconditions(request) {
        let detail = "the condition does not hold: it is another file now";
        return Ok(error::refuse(StatusCode::PRECONDITION_FAILED, detail));
    }
    if file.is_not_modified(request) {
        headers.remove(header::CONTENT_TYPE);
        headers.remove(header::CONTENT_DISPOSITION);
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    if let Some((url, cache)) = file.elsewhere(server, method).await? {
        return Ok(redirect(&url, cache, &headers));
    }
    let ranges = if *method == Method::GET { file.ranges(request) } else { Ranges::Whole };
    let (status, length, body) = match ranges {
        Ranges::Unsatisfiable => {
            let mut response =
                HttpError::from(Error::bad_input("Range", "is not within the file")).into_response();
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            let all = value(&format!("bytes */{}", file.size));
            response.headers_mut().insert(header::CONTENT_RANGE, all);
            return Ok(response);
        }
        Ranges::Whole if *method == Method::HEAD => (StatusCode::OK, file.size, Body::empty()),
        Ranges::Whole if file.size == 0 => (StatusCode::OK, 0, Body::empty()),
        Ranges::Whole => (StatusCode::OK, file.size, file.body(server, client, 0..=file.size - 1).await?),
        Ranges::One(range) => {
            headers.insert(header::CONTENT_RANGE, value(&file.content_range(&range)));
            let length = range.end() - range.start() + 1;
            (StatusCode::PARTIAL_CONTENT, length, file.body(server, client, range).await?)
        }
        Ranges::Many(ranges) => {
            let multipart = Multipart::new(&file, ranges);
            headers.insert(header::CONTENT_TYPE, value(&multipart.content_type()));
            let length = multipart.length();
            let body = if file.size <= SMALL {
                multipart.of(&file.whole(server).await?)?
            } else {
                let store = server.app().store(&file.backend).map_err(Error::storage)?;
                let open = server.limits().reserve(client, Resource::Files, 1).map_err(Error::from)?;
                multipart.body(&file, Arc::clone(store), open)
            };
            (StatusCode::PARTIAL_CONTENT, length, body)
        }
    };
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let mut response = Response::new(body);
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    Ok(response)
}

/// Sends a reader to where the store answers by itself.
fn redirect(url: &str, cache: &str, headers: &HeaderMap) -> Response {
    let response =
        (StatusCode::FOUND, [(header::LOCATION, value(url)), (header::CACHE_CONTROL, value(cache))]);
    let mut response = response.into_response();
    for name in [header::ACCESS_CONTROL_ALLOW_ORIGIN, header::VARY] {
        if let Some(value) = headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// What is sent.
#[derive(Debug, Clone)]
pub struct File {
    key: BlobKey,
    backend: String,
    size: u64,
    sha256: String,
    content_type: String,
    filename: String,
    modified: SystemTime,
    access: Access,
    lifetime: Lifetime,
    disposition: Disposition,
}

enum Ranges {
    Whole,
    One(RangeInclusive<u64>),
    Many(Vec<RangeInclusive<u64>>),
    Unsatisfiable,
}

impl File {
    /// The bytes of a version.
    pub fn of_version(content: Content, lifetime: Lifetime) -> Self {
        let Content { kept, access } = content;
        let published = kept.published_at.filter(|_| lifetime == Lifetime::Stable);
        Self {
            key: BlobKey::new(kept.blob_id),
            backend: kept.backend,
            size: kept.size_bytes.unsigned_abs(),
            content_type: kept.content_type,
            modified: whole_seconds(published.unwrap_or(kept.created_at)),
            sha256: kept.sha256,
            filename: kept.filename,
            access,
            lifetime,
            disposition: Disposition::Inline,
        }
    }

    /// The bytes of a stored file, which can be deleted at any time.
    pub fn stored(file: entity::stored_file::Model, blob: BlobId) -> Self {
        Self {
            key: BlobKey::new(blob),
            backend: file.backend,
            size: file.size_bytes.unsigned_abs(),
            content_type: file.content_type,
            modified: whole_seconds(file.created_at),
            sha256: file.sha256,
            filename: file.id.to_string(),
            access: Access::Private,
            lifetime: Lifetime::Stable,
            disposition: Disposition::Inline,
        }
    }

    /// The same, shown or offered to be saved.
    #[must_use]
    pub fn with_disposition(self, disposition: Disposition) -> Self {
        Self { disposition, ..self }
    }

    /// Where the reader is sent, if the store answers it by itself.
    async fn elsewhere(
        &self,
        server: &Server,
        method: &Method,
    ) -> Result<Option<(String, &'static str)>, Error> {
        let wanted = Wanted {
            backend: &self.backend,
            blob: self.key.id(),
            content_type: &self.content_type,
            filename: &self.filename,
            disposition: self.disposition,
            access: self.access,
        };
        Ok(match (delivery::of(server.app(), wanted).await?, self.lifetime) {
            (Delivery::Public(url), Lifetime::Stable) => Some((url, "no-cache")),
            (Delivery::Public(url), Lifetime::Immutable) => {
                Some((url, "public, max-age=31536000, immutable"))
            }
            // The signature is for a GET alone.
            (Delivery::Signed(url), _) if *method == Method::GET => Some((url, "private, no-store")),
            _ => None,
        })
    }

    fn etag(&self) -> String {
        format!("\"{}\"", self.sha256)
    }

    fn headers(&self) -> HeaderMap {
        let scope = match self.access {
            Access::Public => "public",
            Access::Private => "private",
        };
        let cache = match (self.lifetime, self.access) {
            (Lifetime::Stable, Access::Public) => "no-cache".to_owned(),
            (Lifetime::Stable, Access::Private) => "private, no-cache".to_owned(),
            (Lifetime::Immutable, _) => format!("{scope}, max-age=31536000, immutable"),
        };
        let resource_policy = match self.access {
            Access::Public => "cross-origin",
            Access::Private => "same-origin",
        };
        let digest = STANDARD.encode(unhex(&self.sha256));
        let media_type = MediaType::of_stored(&self.content_type);
        // Not all browsers keep the parts of such a file within its policy.
        let disposition = if media_type.has_parts() { Disposition::Attachment } else { self.disposition };
        let mut headers = HeaderMap::with_capacity(24);
        for (name, text) in [
            (header::CONTENT_TYPE, media_type.header().as_str()),
            (header::CONTENT_DISPOSITION, &label::content_disposition(disposition, &self.filename)),
            (header::ETAG, &self.etag()),
            (header::LAST_MODIFIED, &httpdate::fmt_http_date(self.modified)),
            (header::CACHE_CONTROL, &cache),
            (header::ACCEPT_RANGES, "bytes"),
            (HeaderName::from_static("repr-digest"), &format!("sha-256=:{digest}:")),
            (HeaderName::from_static("digest"), &format!("sha-256={digest}")),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (HeaderName::from_static("cross-origin-resource-policy"), resource_policy),
        ] {
            headers.insert(name, value(text));
        }
        if !media_type.is_inert() {
            let policy =
                "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:";
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        }
        headers
    }

    /// Whether these are the bytes that the client means (RFC 9110, section 13.2.2, steps 1 and 2).
    fn meets_preconditions(&self, request: &HeaderMap) -> bool {
        if request.contains_key(header::IF_MATCH) {
            return tags(request, &header::IF_MATCH).any(|tag| tag == "*" || tag == self.etag());
        }
        let since = text(request, &header::IF_UNMODIFIED_SINCE);
        since.and_then(|date| httpdate::parse_http_date(date).ok()).is_none_or(|since| self.modified <= since)
    }

    /// Whether the client has these bytes already (steps 3 and 4).
    fn is_not_modified(&self, request: &HeaderMap) -> bool {
        if request.contains_key(header::IF_NONE_MATCH) {
            let weakly = |tag: &str| tag == "*" || tag.trim_start_matches("W/") == self.etag();
            return tags(request, &header::IF_NONE_MATCH).any(weakly);
        }
        let since = text(request, &header::IF_MODIFIED_SINCE);
        since
            .and_then(|date| httpdate::parse_http_date(date).ok())
            .is_some_and(|since| self.modified <= since)
    }

    fn ranges(&self, request: &HeaderMap) -> Ranges {
        let Some(wanted) = text(request, &header::RANGE).filter(|_| self.may_send_part(request)) else {
            return Ranges::Whole;
        };
        match parse_ranges(wanted, self.size) {
            // Another unit is not for us to understand.
            None => Ranges::Whole,
            Some(ranges) if ranges.is_empty() => Ranges::Unsatisfiable,
            Some(ranges) if ranges.len() > MAX_RANGES || covers_more(&ranges, self.size) => Ranges::Whole,
            Some(ranges) => match <[_; 1]>::try_from(ranges) {
                Ok([range]) => Ranges::One(range),
                Err(ranges) => Ranges::Many(ranges),
            },
        }
    }

    /// A part is only of use to who has the rest of the same bytes (RFC 9110, section 13.1.5).
    fn may_send_part(&self, request: &HeaderMap) -> bool {
        let Some(condition) = text(request, &header::IF_RANGE) else {
            return true;
        };
        match httpdate::parse_http_date(condition) {
            Ok(date) => date == self.modified,
            Err(_) => condition.trim() == self.etag(),
        }
    }

    fn content_range(&self, range: &RangeInclusive<u64>) -> String {
        format!("bytes {}-{}/{}", range.start(), range.end(), self.size)
    }

    /// All bytes of a short file.
    async fn whole(&self, server: &Server) -> Result<Bytes, Error> {
        let stores = server.app().stores();
        let all = stores.read_whole(&self.backend, &self.key, self.size, &self.sha256).await;
        all.map_err(Error::storage)
    }

    async fn body(
        &self,
        server: &Server,
        client: Client,
        range: RangeInclusive<u64>,
    ) -> Result<Body, HttpError> {
        let (start, end) = (*range.start(), range.end() + 1);
        if self.size <= SMALL {
            return Ok(Body::from(self.whole(server).await?.slice(indexes(&range)?)));
        }
        let store = server.app().store(&self.backend).map_err(Error::storage)?;
        if end - start <= SMALL {
            let bytes = store.read(&self.key, self.size, start..end).await;
            return Ok(Body::from(bytes.map_err(Error::storage)?));
        }
        // Before it is opened: a client on HTTP/2 may ask for a hundred at a time.
        let open = server.limits().reserve(client, Resource::Files, 1).map_err(Error::from)?;
        let blocks = store.stream(&self.key, self.size, start..end).await.map_err(Error::storage)?;
        Ok(Body::from_stream(blocks.inspect(move |_| held(&open))))
    }
}

/// What is held goes with the stream that it was moved into.
const fn held(_: &Reservation) {}

/// A range of bytes that are in memory.
fn indexes(range: &RangeInclusive<u64>) -> Result<Range<usize>, Error> {
    let index = |at: u64| usize::try_from(at).map_err(Error::internal);
    Ok(index(*range.start())?..index(range.end() + 1)?)
}

/// The ranges of a file of `size` bytes that a `Range` header asks for (RFC 9110, section 14.1): none when its
/// unit is not bytes, an empty list when none of them is within the file or one cannot be read.
fn parse_ranges(header: &str, size: u64) -> Option<Vec<RangeInclusive<u64>>> {
    let (unit, set) = header.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let specs = set.split(',').map(str::trim).filter(|spec| !spec.is_empty());
    let ranges: Option<Vec<_>> = specs.map(|spec| parse_range(spec, size)).collect();
    Some(ranges.unwrap_or_default().into_iter().flatten().collect())
}

/// One range: none if it cannot be read, an inner none if it lies outside the file.
fn parse_range(spec: &str, size: u64) -> Option<Option<RangeInclusive<u64>>> {
    let (first, last) = spec.split_once('-')?;
    let end = size.checked_sub(1);
    if first.is_empty() {
        // The last so many bytes; all, if the file has fewer.
        let count: u64 = last.parse().ok()?;
        return Some(end.filter(|_| count > 0).map(|end| size.saturating_sub(count)..=end));
    }
    let first: u64 = first.parse().ok()?;
    let last = if last.is_empty() { u64::MAX } else { last.parse().ok()? };
    if last < first {
        return None;
    }
    Some(end.filter(|end| first <= *end).map(|end| first..=last.min(end)))
}

/// Whether ranges come to more than the whole file, which then is the better answer.
fn covers_more(ranges: &[RangeInclusive<u64>], size: u64) -> bool {
    ranges.len() > 1 && ranges.iter().map(|range| range.end() - range.start() + 1).sum::<u64>() > size
}

/// Several ranges in one answer (RFC 9110, section 14.6).
struct Multipart {
    boundary: String,
    parts: Vec<(Bytes, RangeInclusive<u64>)>,
    end: Bytes,
}

impl Multipart {
    fn new(file: &File, ranges: Vec<RangeInclusive<u64>>) -> Self {
        let boundary = Uuid::new_v4().simple().to_string();
        let head = |range: &RangeInclusive<u64>| {
            let content_type = MediaType::of_stored(&file.content_type).header();
            let content_range = file.content_range(range);
            format!(
                "\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {content_range}\r\n\r\n"
            )
        };
        let parts = ranges.into_iter().map(|range| (Bytes::from(head(&range)), range)).collect();
        Self { parts, end: Bytes::from(format!("\r\n--{boundary}--\r\n")), boundary }
    }

    fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    fn length(&self) -> u64 {
        let part = |(head, range): &(Bytes, RangeInclusive<u64>)| {
            head.len() as u64 + range.end() - range.start() + 1
        };
        self.parts.iter().map(part).sum::<u64>() + self.end.len() as u64
    }

    /// The same, of a file whose bytes are all here.
    fn of(self, all: &Bytes) -> Result<Body, Error> {
        let mut body = BytesMut::new();
        for (head, range) in &self.parts {
            body.extend_from_slice(head);
            body.extend_from_slice(&all[indexes(range)?]);
        }
        body.extend_from_slice(&self.end);
        Ok(Body::from(body.freeze()))
    }

    fn body(self, file: &File, store: Arc<dyn BlobStore>, open: Reservation) -> Body {
        let (key, size) = (file.key, file.size);
        let parts = stream::iter(self.parts).then(move |(head, range)| {
            let store = Arc::clone(&store);
            async move {
                let bytes = store.stream(&key, size, *range.start()..range.end() + 1).await?;
                Ok::<_, std::io::Error>(stream::iter([Ok(head)]).chain(bytes))
            }
        });
        let end = stream::iter([Ok(self.end)]);
        Body::from_stream(parts.try_flatten().chain(end).inspect(move |_| held(&open)))
    }
}

/// The entity tags of a header, in all its lines.
fn tags<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// Any page may read what anyone may; what is private, only pages that are trusted.
fn allow_pages(server: &Server, request: &HeaderMap, access: Access, headers: &mut HeaderMap) {
    let origin = request.get(header::ORIGIN);
    let allowed = match access {
        Access::Public => Some(HeaderValue::from_static("*")),
        Access::Private => origin.filter(|_| server.pages().trusts_page(request)).cloned(),
    };
    let Some(allowed) = allowed else { return };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    let exposed =
        "etag, content-length, content-range, content-disposition, accept-ranges, digest, repr-digest";
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
    if access == Access::Private {
        headers.insert(header::VARY, HeaderValue::from_static("Origin, Authorization"));
    }
}

fn whole_seconds(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(at.0.unsigned_abs() / 1000)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        for (header, expected) in [
            ("bytes=0-3", Some(vec![0..=3])),
            ("Bytes = 0-3", Some(vec![0..=3])),
            ("bytes=-100", Some(vec![0..=9])),
            ("bytes=8-100", Some(vec![8..=9])),
            ("bytes=0-0, 999-, 5-", Some(vec![0..=0, 5..=9])),
            ("bytes=0-3,", Some(vec![0..=3])),
            ("bytes=10-", Some(vec![])),
            ("bytes=-0", Some(vec![])),
            ("bytes=3-1", Some(vec![])),
            ("bytes=0-1, x", Some(vec![])),
            ("bytes=99999999999999999999-", Some(vec![])),
            ("lines=1-2", None),
            ("bytes", None),
        ] {
            assert_eq!(parse_ranges(header, 10), expected, "{header}");
        }
        assert_eq!(parse_ranges("bytes=0-3", 0), Some(vec![]));
        assert_eq!(parse_ranges("bytes=-3", 0), Some(vec![]));
    }
}
