//! Ranges and conditions: what is answered is what was asked for, and never much more than the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vellum_fuzz::{CONTENT, Library};

const NAMES: [&str; 6] =
    ["range", "if-range", "if-none-match", "if-match", "if-modified-since", "if-unmodified-since"];
/// Longest answer: each part of several has headers of its own.
const LONGEST: usize = CONTENT.len() + 64 * 200;

fuzz_target!(|input: &[u8]| {
    let library = Library::get();
    // A header a line, in this order.
    let lines = input.split(|byte| *byte == b'\n').zip(NAMES);
    let headers: Vec<(&str, &[u8])> =
        lines.filter(|(value, _)| !value.is_empty()).map(|(value, name)| (name, value)).collect();
    let Some(answer) = library.read(library.version_url.as_bytes(), &headers) else { return };
    match answer.status.as_u16() {
        200 => assert_eq!(answer.body, CONTENT),
        206 => {
            assert!(headers.first().is_some_and(|(name, _)| *name == "range"), "it was asked for");
            let Some(range) = answer.headers.get("content-range") else {
                assert!(answer.headers["content-type"].as_bytes().starts_with(b"multipart/byteranges"));
                assert!(answer.body.len() <= LONGEST, "{}", answer.body.len());
                return;
            };
            let range = range.to_str().expect("a text").strip_prefix("bytes ").expect("bytes");
            let (range, size) = range.split_once('/').expect("a size");
            let (first, last) = range.split_once('-').expect("two ends");
            let [first, last, size]: [usize; 3] = [first, last, size].map(|text| text.parse().expect("a number"));
            assert_eq!(size, CONTENT.len());
            assert_eq!(answer.body, &CONTENT[first..=last]);
        }
        304 | 412 | 416 => {}
        other => panic!("{other}"),
    }
});
