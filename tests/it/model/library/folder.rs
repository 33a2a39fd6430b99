//! The model's folders: making, titling, moving.

use super::super::operation::{At, If, Thing};
use super::{
    Checks, Entry, Folder, Library, Life, NOT_FOUND, Outcome, Refusal, Refusals, TAKEN, Verdict, allows,
    is_within, json, rebase,
};

impl Library {
    pub(super) fn create_folder(&mut self, path: &str) -> Verdict {
        if let Some(folder) = self.folder_at(path) {
            return Ok(Outcome::unchanged().is("/created", false).id("/folder/id", Thing::Folder(folder)));
        }
        Checks::default().that(self.asset_at(path).is_none() && self.has_room_above(path), TAKEN).end()?;
        let mut entries = self.make_above(path);
        self.folders.push(Folder { path: path.to_owned(), title: None, revision: 1, life: Life::Live });
        let folder = Thing::Folder(self.folders.len() - 1);
        entries.push(Entry::new("FOLDER_CREATE", folder, path));
        Ok(Outcome::wrote(entries).is("/created", true).id("/folder/id", folder))
    }

    pub(super) fn update_folder(&mut self, at: &At, title: &'static str, revision: If) -> Verdict {
        let number = self.find_folder(at)?;
        let folder = &mut self.folders[number];
        if folder.title == Some(title) {
            return Ok(Outcome::unchanged().is("/folder/title", title));
        }
        Checks::default()
            .that(allows(revision, folder.revision), Refusal::conflict(folder.revision))
            .end()?;
        folder.title = Some(title);
        folder.revision += 1;
        let entry = Entry::new("FOLDER_UPDATE", Thing::Folder(number), &folder.path);
        Ok(Outcome::wrote(vec![entry]).is("/folder/title", title))
    }

    pub(super) fn move_folder(&mut self, at: &At, to: &str, revision: If) -> Verdict {
        let found = self.find_folder(at);
        if matches!((&found, at), (Err(_), At::Path(_))) && self.folder_at(to).is_some() {
            // It may be the one that left this path: then the move holds already.
            return Err(Refusals::or_unchanged([NOT_FOUND]));
        }
        let number = found?;
        let from = self.folders[number].path.clone();
        if from == to {
            return Ok(Outcome::unchanged().is("/movedFolders", 0).is("/movedAssets", 0));
        }
        let current = self.folders[number].revision;
        Checks::default()
            .that(!is_within(to, &from), Refusal::field("input.toPath"))
            .that(!self.is_taken(to) && self.has_room_above(to), TAKEN)
            .that(allows(revision, current), Refusal::conflict(current))
            .end()?;
        let mut entries = self.make_above(to);
        let (folders, assets) = self.live_within(&from);
        self.carry(&folders, &assets, &from, to);
        self.folders[number].revision += 1;
        entries.push(Entry::new("FOLDER_MOVE", Thing::Folder(number), to).from(&from));
        Ok(Outcome::wrote(entries)
            .is("/movedFolders", json!(folders.len()))
            .is("/movedAssets", json!(assets.len()))
            .id("/folder/id", Thing::Folder(number)))
    }

    /// Everything live at a path and below it.
    pub(super) fn live_within(&self, path: &str) -> (Vec<usize>, Vec<usize>) {
        let live = |life: Life, at: &str| life == Life::Live && is_within(at, path);
        let folders = self.folders.iter().enumerate();
        let assets = self.assets.iter().enumerate();
        (
            folders.filter(|(_, it)| live(it.life, &it.path)).map(|(number, _)| number).collect(),
            assets.filter(|(_, it)| live(it.life, &it.path)).map(|(number, _)| number).collect(),
        )
    }

    /// Carries things from below one path to below another.
    pub(super) fn carry(&mut self, folders: &[usize], assets: &[usize], from: &str, to: &str) {
        for number in folders {
            self.folders[*number].path = rebase(&self.folders[*number].path, from, to);
        }
        for number in assets {
            let asset = &mut self.assets[*number];
            let path = rebase(&asset.path, from, to);
            asset.former_paths.retain(|former| *former != asset.path);
            asset.former_paths.insert(0, std::mem::replace(&mut asset.path, path));
        }
        for number in assets {
            let path = self.assets[*number].path.clone();
            self.take(&path);
        }
    }
}
