//! Paths: as they are parsed, in URLs, and in GraphQL.

#![no_main]

use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode;
use serde_json::json;
use vellum::domain::path::{MAX_DEPTH, MAX_PATH_BYTES, TreePath, percent_encode};
use vellum_fuzz::{CONTENT, Library, PUBLIC};

fuzz_target!(|input: &[u8]| {
    let library = Library::get();
    if let Ok(text) = std::str::from_utf8(input) {
        if let Ok(path) = TreePath::parse(text, "path") {
            assert_eq!(TreePath::parse(path.as_str(), "path").expect("what was parsed"), path);
            assert!(path.as_str().len() <= MAX_PATH_BYTES && path.depth() <= MAX_DEPTH);
            assert!(path.segments().all(|name| !["", ".", ".."].contains(&name)));
            let decoded = percent_decode(percent_encode(path.as_str()).as_bytes()).collect::<Vec<_>>();
            assert_eq!(decoded, path.as_str().as_bytes());
        }
        let query = "query($path: String!) { asset(path: $path) { path } folder(path: $path) { path } }";
        let found = library.graphql(query, &json!({ "path": text }));
        for thing in ["asset", "folder"] {
            if let Some(path) = found["data"][thing]["path"].as_str() {
                assert_eq!(TreePath::parse(text, "path").expect("it was found").as_str(), path);
            }
        }
    }
    let Some(answer) = library.read(&[b"/assets/", input].concat(), &[]) else { return };
    if answer.status == 200 {
        // What stands behind ? and # is no part of the path.
        let path = input.split(|byte| b"?#".contains(byte)).next().unwrap_or_default();
        let path = percent_decode(path).decode_utf8().expect("it was found");
        let is_version = library.version_url.ends_with(path.as_ref());
        let is_asset = TreePath::parse(&path, "path").is_ok_and(|path| path.as_str() == PUBLIC);
        assert!(is_version || is_asset || path.starts_with("v/"), "{path}");
        assert_eq!(answer.body, CONTENT);
    }
});
