//! The model's trash: deleting, restoring, purging.

use std::collections::BTreeSet;

use super::super::operation::{At, If, Thing};
use super::{
    Checks, Deletion, Entry, Library, Life, NOT_FOUND, Outcome, Refusal, Refusals, Status, TAKEN, Verdict,
    allows, join, json, parent, rebase,
};

/// Bytes of a content.
pub const fn size(content: usize) -> usize {
    31 + content
}

impl Library {
    pub(super) fn delete_folder(&mut self, at: &At, recursive: bool, revision: If) -> Verdict {
        let Ok(number) = self.find_folder(at) else { return self.delete_again(at, Thing::Folder) };
        let (path, current) = (self.folders[number].path.clone(), self.folders[number].revision);
        let (folders, assets) = self.live_within(&path);
        let empty = folders.len() == 1 && assets.is_empty();
        Checks::default()
            .that(empty || recursive, Refusal::field("input.recursive"))
            .that(allows(revision, current), Refusal::conflict(current))
            .end()?;
        self.folders[number].revision += 1;
        let outcome = Outcome::wrote(vec![Entry::new("FOLDER_DELETE", Thing::Folder(number), &path)])
            .is("/deletedFolders", json!(folders.len()))
            .is("/deletedAssets", json!(assets.len()));
        self.discard(Deletion { step: self.steps, top: Thing::Folder(number), folders, assets });
        Ok(outcome)
    }

    pub(super) fn delete_asset(&mut self, at: &At, revision: If) -> Verdict {
        let Ok(number) = self.find_asset(at) else { return self.delete_again(at, Thing::Asset) };
        let current = self.assets[number].revision;
        Checks::default().that(allows(revision, current), Refusal::conflict(current)).end()?;
        let entry = self.discard_asset(number);
        Ok(Outcome::wrote(vec![entry]).is("/deletedVersions", json!(self.versions_of(number))))
    }

    pub(super) fn delete_assets(&mut self, at: &At, names: Option<&BTreeSet<&'static str>>) -> Verdict {
        let folder = self.find_folder(at)?;
        let path = self.folders[folder].path.clone();
        let assets: Vec<usize> = if let Some(names) = names {
            let given = names.iter().map(|name| join(&path, name));
            let left: Vec<_> = given.filter(|path| !self.is_deleted_already(path)).collect();
            left.iter().map(|path| self.asset_at(path)).collect::<Option<_>>().ok_or(NOT_FOUND)?
        } else {
            let (_, below) = self.live_within(&path);
            below.into_iter().filter(|asset| parent(&self.assets[*asset].path) == path).collect()
        };
        let versions: usize = assets.iter().map(|asset| self.versions_of(*asset)).sum();
        let entries: Vec<_> = assets.iter().map(|asset| self.discard_asset(*asset)).collect();
        Ok(Outcome::wrote(entries)
            .is("/deletedAssets", json!(assets.len()))
            .is("/deletedVersions", json!(versions)))
    }

    /// Whether an asset that was at a path is in the trash, and nothing else is there now.
    fn is_deleted_already(&self, path: &str) -> bool {
        let trashed = |life: Life| matches!(life, Life::Trashed(_));
        !self.is_taken(path) && self.assets.iter().any(|asset| trashed(asset.life) && asset.path == path)
    }

    fn discard_asset(&mut self, number: usize) -> Entry {
        let top = Thing::Asset(number);
        self.assets[number].revision += 1;
        self.discard(Deletion { step: self.steps, top, folders: Vec::new(), assets: vec![number] });
        Entry::new("ASSET_DELETE", top, &self.assets[number].path)
    }

    fn discard(&mut self, deletion: Deletion) {
        let life = Life::Trashed(self.deletions.len());
        for folder in &deletion.folders {
            self.folders[*folder].life = life;
        }
        for asset in &deletion.assets {
            let asset = &mut self.assets[*asset];
            asset.life = life;
            asset.former_paths.insert(0, asset.path.clone());
        }
        self.deletions.push(deletion);
    }

    /// Deleting what is in the trash already gives the same answer.
    fn delete_again(&self, at: &At, kind: fn(usize) -> Thing) -> Verdict {
        let known = match kind(0) {
            Thing::Folder(_) => self.folders.len(),
            Thing::Asset(_) => self.assets.len(),
        };
        let found: Vec<usize> = match at {
            At::Id(number) => (*number < known).then_some(*number).into_iter().collect(),
            At::Path(path) if self.is_taken(path) => return Err(NOT_FOUND.into()),
            At::Path(path) => (0..known).filter(|number| self.path_of(kind(*number)) == path).collect(),
        };
        let trashed = found.into_iter().filter_map(|number| match self.life(kind(number)) {
            Some(Life::Trashed(deletion)) => Some((number, deletion)),
            _ => None,
        });
        match trashed.collect::<Vec<_>>()[..] {
            [] => Err(NOT_FOUND.into()),
            [(number, deletion)] if self.deletions[deletion].top == kind(number) => {
                Ok(self.same_answer(kind(number), &self.deletions[deletion]))
            }
            // Something deeper in what was deleted, or one of several that had the path.
            _ => Err(Refusals::or_unchanged([NOT_FOUND])),
        }
    }

    fn same_answer(&self, thing: Thing, deletion: &Deletion) -> Outcome {
        match thing {
            Thing::Folder(_) => Outcome::unchanged()
                .is("/deletedFolders", json!(deletion.folders.len()))
                .is("/deletedAssets", json!(deletion.assets.len())),
            Thing::Asset(number) => {
                Outcome::unchanged().is("/deletedVersions", json!(self.versions_of(number)))
            }
        }
    }

    /// The deletion that took a thing as its top.
    fn deletion_of(&self, thing: Thing) -> Result<usize, Lost> {
        match self.life(thing) {
            Some(Life::Trashed(deletion)) if self.deletions[deletion].top == thing => Ok(deletion),
            Some(Life::Trashed(_)) => Err(Lost::Deeper),
            Some(Life::Purged) => Err(Lost::Purged),
            Some(Life::Live) | None => Err(Lost::Elsewhere),
        }
    }

    pub(super) fn restore_from_trash(&mut self, thing: Thing, to: Option<&str>) -> Verdict {
        let deletion = self.deletion_of(thing).map_err(|lost| match lost {
            Lost::Deeper => Refusal::field("input.id"),
            Lost::Purged | Lost::Elsewhere => NOT_FOUND,
        })?;
        let from = self.path_of(thing).to_owned();
        let to = to.unwrap_or(&from).to_owned();
        Checks::default().that(!self.is_taken(&to) && self.has_room_above(&to), TAKEN).end()?;
        let mut entries = self.make_above(&to);
        let Deletion { folders, assets, .. } = self.deletions[deletion].clone();
        for folder in &folders {
            let folder = &mut self.folders[*folder];
            folder.life = Life::Live;
            folder.path = rebase(&folder.path, &from, &to);
        }
        for asset in &assets {
            let asset = &mut self.assets[*asset];
            asset.life = Life::Live;
            asset.path = rebase(&asset.path, &from, &to);
        }
        for asset in &assets {
            let path = self.assets[*asset].path.clone();
            self.take(&path);
        }
        let kind = match thing {
            Thing::Folder(number) => {
                self.folders[number].revision += 1;
                "FOLDER_RESTORE"
            }
            Thing::Asset(number) => {
                self.assets[number].revision += 1;
                "ASSET_RESTORE"
            }
        };
        let entry = Entry::new(kind, thing, &to);
        entries.push(if from == to { entry } else { entry.from(&from) });
        Ok(Outcome::wrote(entries).id("/node/id", thing))
    }

    pub(super) fn purge_trash(&mut self, thing: Thing) -> Verdict {
        let deletion = self.deletion_of(thing).map_err(|lost| match lost {
            Lost::Deeper => {
                Refusals { any_of: vec![NOT_FOUND, Refusal::field("input.id")], ..Refusals::default() }
            }
            Lost::Purged => Refusals::or_unchanged([NOT_FOUND]),
            Lost::Elsewhere => NOT_FOUND.into(),
        })?;
        let Deletion { folders, assets, .. } = self.deletions[deletion].clone();
        for folder in &folders {
            self.folders[*folder].life = Life::Purged;
        }
        for asset in &assets {
            self.assets[*asset].life = Life::Purged;
        }
        let entries = assets
            .iter()
            .map(|asset| Entry::new("ASSET_PURGE", Thing::Asset(*asset), &self.assets[*asset].path));
        let outcome = Outcome::wrote(entries.collect())
            .is("/purgedFolders", json!(folders.len()))
            .is("/purgedAssets", json!(assets.len()));
        Ok(match self.freed_bytes(&assets) {
            Some(bytes) => outcome.is("/freedBytes", json!(bytes)),
            None => outcome,
        })
    }

    /// Bytes that nothing needs now that these assets are gone. An open upload may have the same in storage.
    fn freed_bytes(&self, purged: &[usize]) -> Option<usize> {
        let received =
            |content: usize| self.uploads.iter().any(|upload| upload.status == Status::Received(content));
        let contents: BTreeSet<usize> = purged
            .iter()
            .flat_map(|asset| self.assets[*asset].versions.iter().map(|version| version.content))
            .collect();
        if contents.iter().any(|content| received(*content)) {
            return None;
        }
        let needed = self.needed();
        Some(contents.difference(&needed).copied().map(size).sum())
    }

    /// Contents that versions and stored files have.
    pub fn needed(&self) -> BTreeSet<usize> {
        let kept = self.assets.iter().filter(|asset| asset.life != Life::Purged);
        let versions = kept.flat_map(|asset| &asset.versions).map(|version| version.content);
        let files = self.files.iter().filter(|file| !file.deleted).map(|file| file.content);
        versions.chain(files).collect()
    }
}

/// Why something cannot come back from the trash.
enum Lost {
    /// It lies deeper in what was deleted.
    Deeper,
    Purged,
    /// It is not in the trash.
    Elsewhere,
}
