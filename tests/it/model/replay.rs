//! A second model, which sees nothing but the entries of the changelog and rebuilds the tree from them.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::library::{is_within, parent, rebase};
use crate::support::text;

/// The live tree: what is at each path.
#[derive(Debug, Default, Clone)]
pub struct Replay {
    live: BTreeMap<String, Node>,
    /// What each deletion took, by the id of its top; paths as they were.
    trash: HashMap<String, (String, BTreeMap<String, Node>)>,
}

/// A folder, or an asset with the number of its published version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Folder,
    Asset(Option<u64>),
}

impl Replay {
    pub const fn live(&self) -> &BTreeMap<String, Node> {
        &self.live
    }

    /// Follows one entry, whose paths are below the folder of the case.
    pub fn follow(&mut self, entry: &Value, path: &str, old_path: Option<&str>) -> Result<(), String> {
        match text(&entry["type"]) {
            "FOLDER_CREATE" => self.add(path, Node::Folder),
            "ASSET_CREATE" => self.add(path, Node::Asset(None)),
            "FOLDER_MOVE" | "ASSET_MOVE" | "ASSET_RENAME" => {
                let old_path = old_path.ok_or("a move without an old path")?;
                let taken = self.remove(old_path)?;
                self.put(taken, old_path, path)
            }
            "FOLDER_DELETE" | "ASSET_DELETE" => {
                let taken = self.remove(path)?;
                // Purged since, it has no id to come back by.
                if let Some(id) = thing_id(entry) {
                    self.trash.insert(id, (path.to_owned(), taken));
                }
                Ok(())
            }
            "FOLDER_RESTORE" | "ASSET_RESTORE" => {
                let id = thing_id(entry).ok_or("what came back has no id")?;
                let (from, taken) = self.trash.remove(&id).ok_or("it was not in the trash")?;
                self.put(taken, &from, path)
            }
            "ASSET_PUBLISH" => self.publish(path, entry["versionNumber"].as_u64()),
            "ASSET_ARCHIVE" => match self.live.get(path) {
                Some(Node::Asset(published)) if *published == entry["versionNumber"].as_u64() => {
                    self.publish(path, None)
                }
                Some(Node::Asset(_)) => Ok(()),
                _ => Err("no asset is there".to_owned()),
            },
            "ASSET_PURGE" => Ok(()),
            _ if self.live.contains_key(path) => Ok(()),
            _ => Err("nothing is there".to_owned()),
        }
    }

    fn add(&mut self, path: &str, node: Node) -> Result<(), String> {
        if !parent(path).is_empty() && self.live.get(parent(path)) != Some(&Node::Folder) {
            return Err("no folder is above it".to_owned());
        }
        match self.live.insert(path.to_owned(), node) {
            None => Ok(()),
            Some(was) => Err(format!("{was:?} was there")),
        }
    }

    fn remove(&mut self, path: &str) -> Result<BTreeMap<String, Node>, String> {
        let (taken, kept): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.live).into_iter().partition(|(at, _)| is_within(at, path));
        self.live = kept;
        if taken.is_empty() { Err("nothing was there".to_owned()) } else { Ok(taken) }
    }

    fn put(&mut self, taken: BTreeMap<String, Node>, from: &str, to: &str) -> Result<(), String> {
        taken.into_iter().try_for_each(|(at, node)| self.add(&rebase(&at, from, to), node))
    }

    fn publish(&mut self, path: &str, number: Option<u64>) -> Result<(), String> {
        match self.live.get_mut(path) {
            Some(Node::Asset(published)) => {
                *published = number;
                Ok(())
            }
            _ => Err("no asset is there".to_owned()),
        }
    }
}

/// Id of the folder or asset that an entry is about; none once it is purged.
fn thing_id(entry: &Value) -> Option<String> {
    let kind = if text(&entry["type"]).starts_with("FOLDER") { "folder" } else { "asset" };
    entry[kind]["id"].as_str().map(ToOwned::to_owned)
}
