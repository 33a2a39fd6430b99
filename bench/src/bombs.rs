//! Documents that would cost a naive server minutes, or its memory. The tests of the server have them too.

use std::fmt::Write as _;

/// What each is made of, and its text, of up to 64 KB.
#[must_use]
pub fn bombs() -> Vec<(&'static str, String)> {
    let mut spreads = String::from("query { ...f0 }");
    for level in 0..30 {
        let _ =
            write!(spreads, " fragment f{level} on Query {{ {} }}", format!("...f{} ", level + 1).repeat(30));
    }
    spreads.push_str(" fragment f30 on Query { __typename }");
    let mut cycle = String::from("query { ...f0 }");
    for level in 0..90 {
        let _ = write!(cycle, " fragment f{level} on Query {{ ...f{} }}", (level + 1) % 90);
    }
    let names = (0..6000).map(|n| format!("a{n}:__typename "));
    let aliases: String = names
        .scan(0, |size, name| {
            *size += name.len();
            (*size < 64_000).then_some(name)
        })
        .collect();
    let overlapping = (0..400).fold(String::new(), |mut text, _| {
        text.push_str("root{folders{nodes{id path name title}}assets{nodes{id path}}}");
        text
    });
    vec![
        ("fragments", spreads),
        ("a cycle", cycle),
        ("aliases", format!("{{{aliases}}}")),
        ("the same fields", format!("{{{overlapping}}}")),
        ("directives", format!("{{__typename {}}}", "@skip(if:false)".repeat(4000))),
        ("directives that are none", format!("{{__typename {}}}", "@x".repeat(30_000))),
        ("depth", format!("{}x{}", "{a".repeat(16_000), "}".repeat(16_000))),
        ("inline fragments", format!("{}x{}", "{...".repeat(12_000), "}".repeat(12_000))),
        ("lists in values", format!("{{asset(path:{}{}){{id}}}}", "[".repeat(30_000), "]".repeat(30_000))),
        (
            "objects in values",
            format!("{{asset(path:{}1{}){{id}}}}", "{a:".repeat(15_000), "}".repeat(15_000)),
        ),
        (
            "types of variables",
            format!("query($a:{}Int{}){{__typename}}", "[".repeat(30_000), "]".repeat(30_000)),
        ),
        (
            "variables",
            format!("query({}){{__typename}}", (0..4000).map(|n| format!("$v{n}:Int ")).collect::<String>()),
        ),
        ("comments", "#".repeat(64_000)),
        ("a string", format!("{{asset(path:\"{}\"){{id}}}}", "x".repeat(63_000))),
        (
            "introspection",
            format!("{{__schema{{types{{{}}}}}}}", "fields{type{".repeat(6) + "name" + &"}}".repeat(6)),
        ),
        (
            "operations that share a fragment",
            format!(
                "fragment f on Query {{{}}} {}",
                "__typename ".repeat(4900),
                (0..90).map(|n| format!("query q{n}{{...f}}")).collect::<String>()
            ),
        ),
        ("operations", (0..2700).map(|n| format!("query q{n}{{__typename}}")).collect()),
    ]
}
