//! The model's uploads and stored files.

use super::super::operation::If;
use super::version::NewVersion;
use super::{
    Checks, Library, Life, NOT_FOUND, Outcome, Refusal, Refusals, Status, StoredFile, TAKEN, Upload, Verdict,
};

impl Library {
    pub(super) fn start_upload(
        &mut self,
        path: &str,
        publish: bool,
        declared: Option<usize>,
        revision: If,
    ) -> Verdict {
        Checks::default().that(self.folder_at(path).is_none() && self.has_room_above(path), TAKEN).end()?;
        let revision = match revision {
            If::Exactly(revision) => Some(revision),
            _ => None,
        };
        let status = Status::Created;
        self.uploads.push(Upload { path: path.to_owned(), publish, declared, revision, status });
        Ok(Outcome::unchanged().is("/intent/status", "CREATED"))
    }

    pub(super) fn send_bytes(&mut self, number: usize, content: usize) -> Verdict {
        let Some(upload) = self.uploads.get_mut(number) else { return Err(NOT_FOUND.into()) };
        match upload.status {
            Status::Created if upload.declared.is_some_and(|declared| declared != content) => {
                // The answer is a refusal, and yet the upload changes; so it counts as done.
                upload.status = Status::Rejected;
                Ok(Outcome::unchanged().is("/code", "CHECKSUM_MISMATCH"))
            }
            Status::Created => {
                upload.status = Status::Received(content);
                Ok(Outcome::unchanged())
            }
            Status::Received(_) => Err(Refusal::code("UPLOAD_ALREADY_RECEIVED").into()),
            Status::Finished(_) => Err(self.finished(number, Refusal::code("UPLOAD_ALREADY_RECEIVED"))),
            over => Err(over_refusal(over).into()),
        }
    }

    pub(super) fn finish_upload(&mut self, number: usize) -> Verdict {
        let Some(upload) = self.uploads.get(number).cloned() else { return Err(NOT_FOUND.into()) };
        let content = match upload.status {
            Status::Received(content) => content,
            Status::Created => return Err(Refusal::code("UPLOAD_INCOMPLETE").into()),
            Status::Finished(version) if self.assets[version.asset].life == Life::Live => {
                return Ok(Outcome::unchanged().version(version));
            }
            // Its version is in the trash or gone.
            Status::Finished(_) => return Err(Refusals::or_unchanged([NOT_FOUND])),
            over => return Err(over_refusal(over).into()),
        };
        let revision = upload.revision.map_or(If::Any, If::Exactly);
        self.check_place(Checks::default(), &upload.path, revision)?;
        let new = NewVersion { content, file: None, publish: upload.publish, label: None };
        let outcome = self.put(&upload.path, new);
        let asset = self.asset_at(&upload.path).expect("it is there now");
        let version = super::VersionAt { asset, number: self.versions_of(asset) };
        self.uploads[number].status = Status::Finished(version);
        Ok(outcome)
    }

    pub(super) fn cancel_upload(&mut self, number: usize) -> Verdict {
        let Some(upload) = self.uploads.get_mut(number) else { return Err(NOT_FOUND.into()) };
        match upload.status {
            Status::Finished(_) => Err(self.finished(number, Refusal::field("input.intentId"))),
            over @ (Status::Rejected | Status::Expired) => {
                Err(Refusals::or_unchanged([over_refusal(over), Refusal::field("input.intentId")]))
            }
            Status::Created | Status::Received(_) | Status::Cancelled => {
                upload.status = Status::Cancelled;
                Ok(Outcome::unchanged().is("/intent/status", "CANCELLED"))
            }
        }
    }

    /// Why a finished upload is refused; it may be forgotten.
    fn finished(&self, number: usize, refusal: Refusal) -> Refusals {
        let mut any_of = vec![refusal];
        if self.may_be_forgotten(&self.uploads[number]) {
            any_of.push(NOT_FOUND);
        }
        Refusals { any_of, ..Refusals::default() }
    }

    /// Whether an upload may be gone with the version that it became.
    pub fn may_be_forgotten(&self, upload: &Upload) -> bool {
        matches!(upload.status, Status::Finished(version) if self.assets[version.asset].life == Life::Purged)
    }

    pub(super) fn uploads_expire(&mut self) -> Outcome {
        for upload in &mut self.uploads {
            if matches!(upload.status, Status::Created | Status::Received(_)) {
                upload.status = Status::Expired;
            }
        }
        Outcome::unchanged()
    }

    pub(super) fn store_file(&mut self, content: usize) -> Outcome {
        self.files.push(StoredFile { content, deleted: false });
        Outcome::unchanged()
    }

    pub(super) fn delete_stored_file(&mut self, number: usize) -> Verdict {
        let Some(file) = self.files.get(number) else { return Err(NOT_FOUND.into()) };
        if file.deleted {
            return Ok(Outcome::unchanged());
        }
        let kept = self.assets.iter().filter(|asset| asset.life != Life::Purged);
        let used = kept.flat_map(|asset| &asset.versions).any(|version| version.file == Some(number));
        Checks::default().that(!used, Refusal::code("FILE_IN_USE")).end()?;
        self.files[number].deleted = true;
        Ok(Outcome::unchanged())
    }
}

/// Why an upload that is over goes no further.
fn over_refusal(status: Status) -> Refusal {
    Refusal::code(match status {
        Status::Rejected => "CHECKSUM_MISMATCH",
        Status::Cancelled => "UPLOAD_CANCELLED",
        Status::Expired => "UPLOAD_EXPIRED",
        Status::Created | Status::Received(_) | Status::Finished(_) => unreachable!("it is not over"),
    })
}
