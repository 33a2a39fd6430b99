//! The model's versions: adding, publishing, archiving, restoring, labels.

use super::super::operation::{If, Thing, VersionAt};
use super::{
    Checks, Entry, Library, Life, NOT_FOUND, Outcome, Refusal, Refusals, State, TAKEN, Verdict, Version,
    allows, json,
};

/// A version that is to be.
pub(super) struct NewVersion {
    pub content: usize,
    pub file: Option<usize>,
    pub publish: bool,
    pub label: Option<String>,
}

impl Library {
    pub(super) fn create_version(
        &mut self,
        path: &str,
        file: usize,
        publish: bool,
        label: Option<&'static str>,
        revision: If,
    ) -> Verdict {
        let stored = self.files.get(file).filter(|file| !file.deleted).map(|file| file.content);
        let checks = Checks::default().that(stored.is_some(), NOT_FOUND);
        self.check_place(checks, path, revision)?;
        let content = stored.expect("it was checked");
        let label = label.map(ToOwned::to_owned);
        Ok(self.put(path, NewVersion { content, file: Some(file), publish, label }))
    }

    /// Whether a version can be put at a path.
    pub(super) fn check_place(&self, checks: Checks, path: &str, revision: If) -> Result<(), Refusals> {
        let current = self.asset_at(path).map_or(0, |asset| self.assets[asset].revision);
        checks
            .that(self.folder_at(path).is_none() && self.has_room_above(path), TAKEN)
            .that(allows(revision, current), Refusal::conflict(current))
            .end()
    }

    /// Puts a version at a path, making the asset when there is none.
    pub(super) fn put(&mut self, path: &str, new: NewVersion) -> Outcome {
        let mut entries = self.make_above(path);
        let asset = self.asset_at(path).unwrap_or_else(|| {
            let asset = self.add_asset(path);
            entries.push(Entry::new("ASSET_CREATE", Thing::Asset(asset), path));
            asset
        });
        let (version, entry) = self.add_version(asset, new);
        entries.push(entry);
        Outcome::wrote(entries).version(version).id("/asset/id", Thing::Asset(asset))
    }

    fn add_version(&mut self, asset: usize, new: NewVersion) -> (VersionAt, Entry) {
        let it = &mut self.assets[asset];
        it.revision += 1;
        if new.publish {
            archive_published(&mut it.versions);
        }
        let state = if new.publish { State::Published } else { State::Draft };
        it.versions.push(Version { state, label: new.label, content: new.content, file: new.file });
        let number = it.versions.len();
        let kind = if new.publish { "ASSET_PUBLISH" } else { "VERSION_CREATE" };
        let entry = Entry::new(kind, Thing::Asset(asset), &it.path).about(number, new.content);
        (VersionAt { asset, number }, entry)
    }

    pub(super) fn publish_version(&mut self, version: VersionAt, revision: If) -> Verdict {
        self.find_version(version)?;
        let asset = &mut self.assets[version.asset];
        if asset.published() == Some(version.number) {
            return Ok(Outcome::unchanged().version(version));
        }
        Checks::default().that(allows(revision, asset.revision), Refusal::conflict(asset.revision)).end()?;
        archive_published(&mut asset.versions);
        asset.revision += 1;
        let it = &mut asset.versions[version.number - 1];
        it.state = State::Published;
        let entry = Entry::new("ASSET_PUBLISH", Thing::Asset(version.asset), &asset.path)
            .about(version.number, it.content);
        Ok(Outcome::wrote(vec![entry]).version(version).is("/version/state", "PUBLISHED"))
    }

    pub(super) fn archive_version(&mut self, version: VersionAt, revision: If) -> Verdict {
        self.find_version(version)?;
        let asset = &mut self.assets[version.asset];
        let it = &mut asset.versions[version.number - 1];
        if it.state == State::Archived {
            return Ok(Outcome::unchanged().version(version));
        }
        Checks::default().that(allows(revision, asset.revision), Refusal::conflict(asset.revision)).end()?;
        it.state = State::Archived;
        asset.revision += 1;
        let entry = Entry::new("ASSET_ARCHIVE", Thing::Asset(version.asset), &asset.path)
            .about(version.number, it.content);
        Ok(Outcome::wrote(vec![entry]).version(version).is("/version/state", "ARCHIVED"))
    }

    pub(super) fn restore_version(
        &mut self,
        version: VersionAt,
        label: Option<&'static str>,
        revision: If,
    ) -> Verdict {
        self.find_version(version)?;
        let asset = &mut self.assets[version.asset];
        Checks::default().that(allows(revision, asset.revision), Refusal::conflict(asset.revision)).end()?;
        let old = asset.versions[version.number - 1].clone();
        let label = label.map_or_else(|| format!("Restored from v{}", version.number), ToOwned::to_owned);
        let new =
            NewVersion { content: old.content, file: old.file, publish: true, label: Some(label.clone()) };
        let (added, entry) = self.add_version(version.asset, new);
        Ok(Outcome::wrote(vec![entry])
            .version(added)
            .is("/version/label", label)
            .is("/restoredFrom/number", json!(version.number)))
    }

    pub(super) fn update_version(&mut self, version: VersionAt, label: Option<&'static str>) -> Verdict {
        self.find_version(version)?;
        let asset = &mut self.assets[version.asset];
        let it = &mut asset.versions[version.number - 1];
        if it.label.as_deref() == label {
            return Ok(Outcome::unchanged().version(version));
        }
        it.label = label.map(ToOwned::to_owned);
        asset.revision += 1;
        let entry = Entry::new("ASSET_UPDATE", Thing::Asset(version.asset), &asset.path)
            .about(version.number, it.content);
        Ok(Outcome::wrote(vec![entry]).version(version).is("/version/label", label))
    }

    fn find_version(&self, version: VersionAt) -> Result<(), Refusal> {
        let asset = self.assets.get(version.asset).filter(|asset| asset.life == Life::Live);
        asset.filter(|asset| version.number <= asset.versions.len()).map(|_| ()).ok_or(NOT_FOUND)
    }
}

fn archive_published(versions: &mut [Version]) {
    for version in versions {
        if version.state == State::Published {
            version.state = State::Archived;
        }
    }
}
