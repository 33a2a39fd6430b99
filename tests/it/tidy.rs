//! What the architecture forbids, kept by looking at the source.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("text");
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    assert!(!found.is_empty(), "{folder} has sources");
    found
}

fn forbids(folder: &str, words: &[&str]) {
    for (path, text) in sources(folder) {
        for word in words {
            assert!(!text.contains(word), "{} must not mention {word}", path.display());
        }
    }
}

#[test]
fn edges_never_query() {
    for edge in ["src/graphql", "src/http", "src/cli"] {
        forbids(edge, &["sea_orm::", "EntityTrait", "DatabaseConnection"]);
    }
}

#[test]
fn each_library_is_known_at_its_edge_alone() {
    for folder in ["src/domain", "src/feed", "src/blob", "src/app", "src/http", "src/cli"] {
        forbids(folder, &["async_graphql::"]);
    }
    for folder in ["src/domain", "src/feed", "src/blob", "src/app", "src/graphql"] {
        forbids(folder, &["axum"]);
    }
}

#[test]
fn the_environment_is_read_by_the_settings_alone() {
    for (path, text) in sources("src") {
        let settings = path.ends_with("config.rs");
        assert!(settings || !text.contains("env::var"), "{} reads the environment", path.display());
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for folder in ["src", "bench/src", "entity/src", "migration/src", "tests"] {
        for (path, text) in sources(folder) {
            assert!(text.starts_with("//! "), "{} begins with a module doc", path.display());
        }
    }
}

#[test]
fn nothing_is_left_undone_or_switched_off() {
    let words = [
        ["to", "do!("].concat(),
        ["unimpl", "emented!("].concat(),
        ["#[ign", "ore"].concat(),
        ["FIX", "ME"].concat(),
    ];
    for folder in ["src", "bench/src", "entity/src", "migration/src", "tests"] {
        for (path, text) in sources(folder) {
            for word in &words {
                assert!(!text.contains(word.as_str()), "{} has {word}", path.display());
            }
        }
    }
}
