//! Trying all that is asked of a bucket: what Vellum does, what its clients and their browsers do, and what it has to
//! refuse.

use std::io;
use std::time::Duration;

use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use bytes::Bytes;
use entity::{BlobId, UploadIntentId};
use uuid::Uuid;

use super::S3Store;
use super::failure::failure;
use super::transfer::Object;
use crate::blob::{
    BlobKey, BlobStore as _, Collected, Direct as _, Expected, Label, Probed, SentPart, StagingKey, Target,
    Verdict, sha256,
};

/// How long the requests are good for that are tried.
const LIFE: Duration = Duration::from_secs(300);
const BYTES: &[u8] = b"vellum storage check";

type Outcome = io::Result<Verdict>;

/// Everything, one after the other; what a failure makes senseless is left out.
pub async fn all(store: &S3Store, origin: &str, id: Uuid) -> Vec<Probed> {
    let probe = Probe { store, origin, key: StagingKey { intent: UploadIntentId(id), attempt: Uuid::nil() } };
    let mut found = Vec::new();
    let reached = probe.reach().await;
    let is_reached = reached.as_ref().is_ok_and(|verdict| *verdict == Verdict::Good);
    let credentials = "see that endpoint, region, bucket and path_style are right, and that the credentials may list \
                       the bucket, and read, write and remove its objects";
    found.push(judge("the bucket answers, and can be listed", reached, credentials));
    if !is_reached {
        return found;
    }
    let write = "let the credentials read, write and remove objects";
    found.push(judge(
        "objects are written, copied, read in ranges and removed",
        probe.objects().await,
        write,
    ));
    let parts = "let the credentials upload in parts, list the parts and end such uploads";
    found.push(judge("uploads come in parts", probe.parts().await, parts));
    let presigned =
        "see that the clock is right, and that nothing between clients and the store changes requests";
    found.push(judge(
        "a presigned request brings exactly what was declared",
        probe.presigned().await,
        presigned,
    ));
    let verify = "do not use this store: what it vouches for, it did not verify";
    found.push(judge("bytes with another SHA-256 are refused", probe.checksums().await, verify));
    found.push(judge("browsers may send bytes to it", probe.cors().await, &probe.cors_remedy()));
    let public = "see that public_url leads to the bucket, and that anyone may read the objects below blobs/";
    found.push(judge("readers get public files", probe.public().await, public));
    if let Err(error) = probe.clean().await {
        tracing::warn!(%error, "cannot remove what was written to try; the sweeper will");
    }
    found
}

fn judge(what: &'static str, outcome: Outcome, remedy: &str) -> Probed {
    let verdict = match outcome {
        Ok(Verdict::Bad { problem, .. }) => Verdict::Bad { problem, remedy: remedy.to_owned() },
        Ok(verdict) => verdict,
        Err(error) => Verdict::Bad { problem: error.to_string(), remedy: remedy.to_owned() },
    };
    Probed { what, verdict }
}

fn bad(problem: impl Into<String>) -> Verdict {
    Verdict::Bad { problem: problem.into(), remedy: String::new() }
}

struct Probe<'a> {
    store: &'a S3Store,
    origin: &'a str,
    key: StagingKey,
}

impl Probe<'_> {
    /// Where an object is put for good. Nothing names it, and it is removed at the end.
    fn blob(&self) -> BlobKey {
        BlobKey::new(BlobId(self.key.intent.0))
    }

    fn another(&self) -> StagingKey {
        StagingKey { attempt: Uuid::from_u128(1), ..self.key }
    }

    async fn reach(&self) -> Outcome {
        self.store.check().await?;
        self.store.staged().await?;
        Ok(Verdict::Good)
    }

    async fn objects(&self) -> Outcome {
        let mut body = futures_util::stream::iter([Ok(Bytes::from_static(BYTES))]);
        let staged = self.store.stage(&self.another(), std::pin::Pin::new(&mut body) as _, 1024).await;
        staged.map_err(|error| io::Error::other(format!("cannot write: {error:?}")))?;
        let label = Label { content_type: "text/plain".to_owned(), filename: "check.txt".to_owned() };
        self.store.secure(&self.another(), &self.blob(), &label).await?;
        let part = self.store.read(&self.blob(), BYTES.len() as u64, 7..14).await?;
        if part != BYTES[7..14] {
            return Ok(bad(format!("a range has other bytes: {part:?}")));
        }
        if self.store.staged().await?.contains(&self.another()) {
            return Ok(bad("an object that was removed is still listed"));
        }
        Ok(Verdict::Good)
    }

    async fn parts(&self) -> Outcome {
        let key = StagingKey { attempt: Uuid::max(), ..self.key };
        let upload = self.store.begin(&key).await?;
        let target = self.store.part_target(&key, &upload, 1, BYTES.len() as u64, LIFE).await?;
        let sent = self.send(&target, BYTES).await?;
        if !sent.status().is_success() {
            return Ok(bad(format!("a part is answered {}", sent.status().as_u16())));
        }
        if !self.store.unfinished().await?.iter().any(|known| known.upload == upload) {
            return Ok(bad("an upload in parts that is under way is not listed"));
        }
        let parts = self.store.parts(&key, &upload).await?;
        let expected = SentPart { number: 1, size: BYTES.len() as u64, etag: String::new() };
        if parts.len() != 1 || parts[0].size != expected.size || parts[0].etag.is_empty() {
            return Ok(bad(format!("the parts that came are listed as {parts:?}")));
        }
        let whole = self.store.complete(&key, &upload, &parts).await?;
        self.store.remove_staged(&key).await?;
        let other = self.store.begin(&key).await?;
        self.store.abort(&key, &other).await?;
        if whole.sha256 != sha256(BYTES) {
            return Ok(bad("parts that were put together have other bytes"));
        }
        Ok(Verdict::Good)
    }

    fn expected() -> Expected {
        Expected {
            content_type: Some("text/plain".to_owned()),
            size: Some(BYTES.len() as u64),
            sha256: Some(sha256(BYTES)),
        }
    }

    async fn presigned(&self) -> Outcome {
        let target = self.store.target(&self.key, &Self::expected(), LIFE).await?;
        let bare = Target { headers: Vec::new(), ..target.clone() };
        for (request, bytes, what) in
            [(&bare, BYTES, "without its headers"), (&target, &BYTES[1..], "with another count of bytes")]
        {
            // Some end the connection instead.
            if self.send(request, bytes).await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(bad(format!("a request {what} is taken")));
            }
        }
        let sent = self.send(&target, BYTES).await?;
        if !sent.status().is_success() {
            return Ok(bad(format!("the request is answered {}", sent.status().as_u16())));
        }
        let frozen = StagingKey { attempt: Uuid::from_u128(2), ..self.key };
        match self.store.collect(&self.key, &frozen, &Self::expected(), 1024).await? {
            Some(Collected::Staged(key, staged)) if staged.sha256 == sha256(BYTES) => {
                Ok(if key == self.key {
                    Verdict::Good
                } else {
                    Verdict::Note(
                        "the store does not tell the SHA-256 that it verified: Vellum reads each file"
                            .to_owned(),
                    )
                })
            }
            other => Ok(bad(format!("what was sent is found as {other:?}"))),
        }
    }

    async fn checksums(&self) -> Outcome {
        let target = self.store.target(&self.key, &Self::expected(), LIFE).await?;
        let mut other = BYTES.to_vec();
        other[0] ^= 1;
        match self.send(&target, &other).await {
            Ok(answer) if answer.status().is_success() => Ok(bad("they are taken")),
            _ => Ok(Verdict::Good),
        }
    }

    async fn cors(&self) -> Outcome {
        let target = self.store.target(&self.key, &Self::expected(), LIFE).await?;
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_method("OPTIONS").map_err(io::Error::other)?;
        request.set_uri(target.url.as_str()).map_err(io::Error::other)?;
        for (name, value) in [
            ("origin", self.origin),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "content-type,x-amz-checksum-sha256"),
        ] {
            request.headers_mut().insert(name, value.to_owned());
        }
        let answer = self.call(request).await?;
        let header = |name: &str| answer.headers().get(name).unwrap_or_default().to_ascii_lowercase();
        let origin = header("access-control-allow-origin");
        let methods = header("access-control-allow-methods");
        let headers = header("access-control-allow-headers");
        let allows = |headers: &str, name: &str| headers == "*" || headers.contains(name);
        if !answer.status().is_success() || !(origin == "*" || origin == self.origin) {
            return Ok(bad(format!(
                "a page of {} may not ask it ({})",
                self.origin,
                answer.status().as_u16()
            )));
        }
        if !methods.contains("put") && methods != "*" {
            return Ok(bad(format!("pages may not PUT, only {methods:?}")));
        }
        if !["content-type", "x-amz-checksum-sha256"].iter().all(|name| allows(&headers, name)) {
            return Ok(bad(format!("pages may not send the headers that are needed, only {headers:?}")));
        }
        Ok(Verdict::Good)
    }

    fn cors_remedy(&self) -> String {
        format!(
            "give the bucket these CORS rules (a file for `aws s3api put-bucket-cors`), if pages are to upload: \
             {{\"CORSRules\":[{{\"AllowedOrigins\":[\"{}\"],\"AllowedMethods\":[\"PUT\"],\"AllowedHeaders\":[\"*\"],\
             \"ExposeHeaders\":[\"ETag\"],\"MaxAgeSeconds\":3600}},\
             {{\"AllowedOrigins\":[\"*\"],\"AllowedMethods\":[\"GET\",\"HEAD\"]}}]}}",
            self.origin
        )
    }

    /// Where there is a public URL it has to work, and where there is none nobody else may read.
    async fn public(&self) -> Outcome {
        let object = self.store.blob(&self.blob());
        let Some(url) = self.store.public_url(&self.blob()) else {
            let answer = self.get(&self.unsigned(&object).await?).await?;
            return if answer.status().is_success() {
                Ok(bad(
                    "anyone can read the bucket, and no public_url says that it is so: private files are not private",
                ))
            } else {
                Ok(Verdict::Note("no public_url is set: none but Vellum's readers get files".to_owned()))
            };
        };
        let answer = self.get(&url).await?;
        if !answer.status().is_success() {
            return Ok(bad(format!("{url} is answered {}", answer.status().as_u16())));
        }
        let base = self.store.public_url.as_deref().unwrap_or_default();
        let staged = self.get(&format!("{base}/{}", self.store.staging(&self.key).key)).await?;
        let cache = answer.headers().get("cache-control").unwrap_or_default().to_owned();
        if !cache.contains("immutable") {
            return Ok(bad(format!("Cache-Control is {cache:?} and not the one that the object has")));
        }
        if staged.status().is_success() {
            let note = "anyone who knows its key can read what is being uploaded, too: let the public read blobs/ alone";
            return Ok(Verdict::Note(note.to_owned()));
        }
        Ok(Verdict::Good)
    }

    /// The URL of an object without its signature.
    async fn unsigned(&self, object: &Object) -> io::Result<String> {
        let request = self.store.client.get_object().bucket(&object.bucket).key(&object.key);
        let signed = request.presigned(super::direct::presigning(LIFE)?).await;
        let signed = signed.map_err(|error| failure("cannot sign a URL", &error))?;
        Ok(signed.uri().split('?').next().unwrap_or_default().to_owned())
    }

    async fn get(&self, url: &str) -> io::Result<HttpResponse> {
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_uri(url).map_err(io::Error::other)?;
        self.call(request).await
    }

    async fn send(&self, target: &Target, bytes: &[u8]) -> io::Result<HttpResponse> {
        let mut request = HttpRequest::new(SdkBody::from(bytes));
        request.set_method(target.method).map_err(io::Error::other)?;
        request.set_uri(target.url.as_str()).map_err(io::Error::other)?;
        for (name, value) in &target.headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        self.call(request).await
    }

    async fn call(&self, request: HttpRequest) -> io::Result<HttpResponse> {
        self.store.plain.call(request).await.map_err(|error| io::Error::other(format!("{error:?}")))
    }

    async fn clean(&self) -> io::Result<()> {
        self.store.remove(&self.blob()).await?;
        for key in [self.key, self.another(), StagingKey { attempt: Uuid::from_u128(2), ..self.key }] {
            self.store.remove_staged(&key).await?;
        }
        Ok(())
    }
}
