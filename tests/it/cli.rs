//! The program itself: settings, the schema, starting and stopping.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::TestServer;

fn vellum() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vellum"));
    command.env_clear();
    command
}

#[test]
fn the_schema_is_printed() {
    let output = vellum().arg("schema").output().expect("it runs");
    assert_eq!(String::from_utf8(output.stdout).expect("text"), vellum::graphql::sdl());
}

// The server goes on while the program runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_backup_was_restored_cursors_of_what_it_knows_nothing_of_are_refused() {
    let server = TestServer::start().await;
    server.upload(json!({ "path": "a" }), b"text").await;
    let page = "query($after: String) { changes(after: $after) { nodes { cursor } } }";
    let cursor = server.gql(page, json!({})).await["changes"]["nodes"][0]["cursor"].take();
    let config = server.app.config().clone();
    let run = || {
        let data = config.data_dir.display().to_string();
        let output = vellum()
            .args(["restored", "--data-dir", &data, "--database-url", &config.database_url])
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let server = server.restart_after(run).await;
    server.refuses(page, json!({ "after": cursor }), "CURSOR_EXPIRED", None).await;
    let cursor = server.gql(page, json!({})).await["changes"]["nodes"][0]["cursor"].take();
    server.gql(page, json!({ "after": cursor })).await;
}

#[test]
fn a_wrong_setting_is_refused_with_its_name_and_what_is_allowed() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str], environment: &[(&str, &str)]| {
        let output = vellum()
            .current_dir(&folder)
            .arg("serve")
            .args(arguments)
            .envs(environment.iter().copied())
            .output()
            .expect("it runs");
        assert!(!output.status.success(), "{arguments:?} {environment:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    for (arguments, environment, said) in [
        (
            &["--listen", "nowhere"][..],
            &[][..],
            "setting listen: \"nowhere\" is not an address and port; allowed: ADDRESS:PORT",
        ),
        (&["--dev", "--listen", "0.0.0.0:0"], &[], "allowed: a loopback address"),
        (&[], &[("VELLUM_LOG_FORMAT", "xml")], "setting log_format"),
        (&[], &[("VELLUM_UPLOAD_TTL_SECONDS", "soon")], "expected i64 for key \"UPLOAD_TTL_SECONDS\""),
        (&[], &[("VELLUM_UPLOAD_TTL_SECONDS", "1")], "allowed: 60 to 604800"),
        (&[], &[("VELLUM_LISTN", "127.0.0.1:0")], "unknown field"),
        (&["--config", "missing.toml"], &[], "missing.toml"),
        (&["--database-url", "mysql://x"], &[], "setting database_url"),
    ] {
        let stderr = run(arguments, environment);
        assert!(stderr.contains(said), "{arguments:?} {environment:?}: {stderr}");
    }
    assert!(std::fs::read_dir(&folder).expect("a folder").next().is_none(), "nothing was made");
}

#[test]
fn flags_go_before_the_environment_and_the_environment_before_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = folder.path().join("vellum.toml");
    std::fs::write(&settings, "log_format = \"file\"").expect("written");
    let run = |arguments: &[&str], environment: Option<&str>| {
        let mut command = vellum();
        command.arg("migrate").env("VELLUM_CONFIG", &settings).args(arguments);
        if let Some(value) = environment {
            command.env("VELLUM_LOG_FORMAT", value);
        }
        String::from_utf8(command.output().expect("it runs").stderr).expect("text")
    };
    assert!(run(&[], None).contains("\"file\" is unknown"));
    assert!(run(&[], Some("env")).contains("\"env\" is unknown"));
    assert!(run(&["--log-format", "flag"], Some("env")).contains("\"flag\" is unknown"));
}

/// A server that was started on `folder`, and where it answers.
fn serve(folder: &std::path::Path) -> (std::process::Child, String) {
    let mut server = vellum()
        .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--log-format", "json", "--data-dir"])
        .arg(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines =
        BufReader::new(server.stdout.take().expect("a pipe")).lines().map(|line| line.expect("text"));
    let explore = lines.find(|line| line.contains("/graphql")).expect("a URL");
    (server, explore.split_whitespace().last().expect("a URL").to_owned())
}

#[test]
fn killed_at_any_moment_of_its_first_start_it_starts_again() {
    for after_ms in [1, 5, 10, 15, 20, 25, 30, 40, 60] {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let mut first = vellum()
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        std::thread::sleep(std::time::Duration::from_millis(after_ms));
        first.kill().expect("killed");
        first.wait().expect("ended");
        let (mut second, _) = serve(&data);
        second.kill().expect("killed");
        second.wait().expect("ended");
    }
}

#[test]
fn the_deepest_document_that_is_let_in_is_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    // A path with all that a URL would take for something else.
    let (mut server, url) = serve(&folder.path().join("a b%20c?d#e"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client = reqwest::Client::new();
        let ask = async |query: String| -> serde_json::Value {
            let body = serde_json::json!({ "query": query });
            client.post(&url).json(&body).send().await.expect("an answer").json().await.expect("JSON")
        };
        let deep = "d/".repeat(32);
        ask(format!("mutation {{ createFolder(input: {{ path: \"{deep}\" }}) {{ created }} }}")).await;
        let path = deep.trim_end_matches('/');
        let up = "parent { ".repeat(22);
        let answer = ask(format!("{{ folder(path: \"{path}\") {{ {up} id {} }} }}", "} ".repeat(22))).await;
        assert!(answer.get("errors").is_none(), "{answer}");
        let down = "folders(first: 1) { nodes { parent { ".repeat(7);
        let answer = ask(format!("{{ root {{ {down} id {} }} }}", "} } } ".repeat(7))).await;
        assert!(answer.get("errors").is_none(), "{answer}");
        let too_deep = "parent { ".repeat(30);
        let answer = ask(format!("{{ root {{ {too_deep} id {} }} }}", "} ".repeat(30))).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "GRAPHQL_VALIDATION_FAILED");
    });
    server.kill().expect("killed");
    server.wait().expect("ended");
}

#[test]
fn it_starts_on_nothing_says_where_to_look_and_stops_when_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut server, url) = serve(&folder.path().join("new/data"));
    let url = url.replace("/graphql", "/readyz");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let status = runtime.block_on(async { reqwest::get(url).await.expect("an answer").status() });
    assert_eq!(status, 200);
    let stopped = Command::new("kill").args(["-TERM", &server.id().to_string()]).status().expect("kill runs");
    assert!(stopped.success());
    assert!(server.wait().expect("it ends").success());
    let logs = BufReader::new(server.stderr.take().expect("a pipe")).lines().map(|line| line.expect("text"));
    for line in logs {
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
    }
}
