//! A PostgreSQL of its own, to be killed.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sea_orm::ConnectionTrait as _;
use tempfile::TempDir;

/// Longest wait for it to begin or to end.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
}

impl Cluster {
    /// Makes one in a folder of its own, and starts it.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        if is_root() {
            // PostgreSQL refuses to be root.
            let id = |flag: &str| output("id", &[flag, "postgres"]).trim().parse().expect("an id");
            chown(folder.path(), Some(id("-u")), Some(id("-g"))).expect("given to postgres");
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let cluster = Self { folder, programs: programs(), port };
        let made = cluster.command("initdb").args(["--auth=trust", "--username=postgres"]).status();
        assert!(made.expect("initdb runs").success());
        cluster.begin().await;
        cluster
    }

    /// What a server is told to connect to it.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends it as a power cut would, as far as its processes go.
    pub fn kill(&self) {
        let pids = std::fs::read_to_string(self.data().join("postmaster.pid")).expect("it runs");
        let pid = pids.lines().next().expect("its number").to_owned();
        let children = output("ps", &["-o", "pid=", "--ppid", &pid]);
        let all = std::iter::once(pid.as_str()).chain(children.split_whitespace());
        // One of them may have ended by itself meanwhile.
        let _ = Command::new("kill").arg("-9").args(all).stderr(Stdio::null()).status();
        let since = Instant::now();
        while Path::new("/proc").join(&pid).exists() {
            assert!(since.elapsed() < PATIENCE, "it ends");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it, and waits until it answers.
    pub async fn begin(&self) {
        let options = format!("-p {} -k {} -h 127.0.0.1", self.port, self.folder.path().display());
        let log = self.folder.path().join("log");
        // What it left behind when it was killed may have to go first.
        let since = Instant::now();
        loop {
            let mut start = self.command("pg_ctl");
            start.args(["-w", "-o", &options, "-l"]).arg(&log).arg("start");
            if start.status().expect("pg_ctl runs").success() {
                break;
            }
            assert!(since.elapsed() < PATIENCE, "{}", std::fs::read_to_string(&log).unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let connection = sea_orm::Database::connect(self.url()).await.expect("it answers");
        connection.execute_unprepared("SELECT 1").await.expect("it answers");
        connection.close().await.expect("closes");
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// One of its programs, as who may run it.
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.arg("-D").arg(self.data()).current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.command("pg_ctl").args(["-m", "immediate", "stop"]).status();
    }
}

/// Where PostgreSQL's programs are.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).max();
    if let Some(folder) = newest.filter(|folder| folder.join("initdb").exists()) {
        return folder;
    }
    PathBuf::from(output("pg_config", &["--bindir"]).trim())
}

fn is_root() -> bool {
    output("id", &["-u"]).trim() == "0"
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    String::from_utf8(output.expect("it runs").stdout).expect("text")
}
