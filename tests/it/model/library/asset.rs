//! The model's assets: making, titling, moving, renaming.

use super::super::operation::{At, If, Thing};
use super::{
    Asset, Checks, Entry, Library, Life, NOT_FOUND, Outcome, Refusal, Refusals, TAKEN, Verdict, allows, join,
    name, parent,
};

impl Library {
    pub(super) fn create_asset(&mut self, path: &str) -> Verdict {
        Checks::default().that(!self.is_taken(path) && self.has_room_above(path), TAKEN).end()?;
        let mut entries = self.make_above(path);
        let asset = Thing::Asset(self.add_asset(path));
        entries.push(Entry::new("ASSET_CREATE", asset, path));
        Ok(Outcome::wrote(entries).id("/asset/id", asset))
    }

    /// Adds an asset without versions; answers its number.
    pub(super) fn add_asset(&mut self, path: &str) -> usize {
        self.assets.push(Asset {
            path: path.to_owned(),
            former_paths: Vec::new(),
            title: None,
            revision: 1,
            life: Life::Live,
            versions: Vec::new(),
        });
        self.take(path);
        self.assets.len() - 1
    }

    pub(super) fn update_asset(&mut self, at: &At, title: Option<&'static str>, revision: If) -> Verdict {
        let number = self.find_asset(at)?;
        let asset = &mut self.assets[number];
        if asset.title == title {
            return Ok(Outcome::unchanged().is("/asset/title", title));
        }
        Checks::default().that(allows(revision, asset.revision), Refusal::conflict(asset.revision)).end()?;
        asset.title = title;
        asset.revision += 1;
        let entry = Entry::new("ASSET_UPDATE", Thing::Asset(number), &asset.path);
        Ok(Outcome::wrote(vec![entry]).is("/asset/title", title))
    }

    pub(super) fn move_asset(&mut self, at: &At, to: &At, revision: If) -> Verdict {
        let mut checks = Checks::default();
        let number = checks.find(self.find_asset(at));
        let folder = match to {
            At::Path(path) => Some(path.clone()),
            At::Id(_) => checks.find(self.find_folder(to)).map(|folder| self.folders[folder].path.clone()),
        };
        if let (None, At::Path(path), Some(folder)) = (number, at, &folder) {
            self.check_moved_already(&join(folder, name(path)))?;
        }
        let (Some(number), Some(folder)) = (number, &folder) else {
            let room = folder.is_none_or(|folder| self.has_room_above(&join(&folder, "x")));
            return checks.that(room, TAKEN).end().map(|()| Outcome::unchanged());
        };
        let from = self.assets[number].path.clone();
        self.transfer("ASSET_MOVE", number, &join(folder, name(&from)), revision)
    }

    pub(super) fn rename_asset(&mut self, at: &At, name: &str, revision: If) -> Verdict {
        let found = self.find_asset(at);
        if let (Err(_), At::Path(path)) = (&found, at) {
            self.check_moved_already(&join(parent(path), name))?;
        }
        let number = found?;
        let to = join(parent(&self.assets[number].path), name);
        self.transfer("ASSET_RENAME", number, &to, revision)
    }

    /// What is at `to` may be the one that left the path given: then the move holds already.
    fn check_moved_already(&self, to: &str) -> Result<(), Refusals> {
        if self.asset_at(to).is_some() { Err(Refusals::or_unchanged([NOT_FOUND])) } else { Ok(()) }
    }

    fn transfer(&mut self, kind: &'static str, number: usize, to: &str, revision: If) -> Verdict {
        let (from, current) = (self.assets[number].path.clone(), self.assets[number].revision);
        if from == to {
            return Ok(Outcome::unchanged().id("/asset/id", Thing::Asset(number)));
        }
        Checks::default()
            .that(!self.is_taken(to) && self.has_room_above(to), TAKEN)
            .that(allows(revision, current), Refusal::conflict(current))
            .end()?;
        let mut entries = self.make_above(to);
        self.carry(&[], &[number], &from, to);
        self.assets[number].revision += 1;
        entries.push(Entry::new(kind, Thing::Asset(number), to).from(&from));
        Ok(Outcome::wrote(entries).id("/asset/id", Thing::Asset(number)))
    }
}
