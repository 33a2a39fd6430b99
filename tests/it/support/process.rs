//! The real program in a process of its own, to be killed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a process that has to end.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Process {
    child: Child,
    /// `http://address`.
    pub base: String,
}

impl Process {
    /// Starts the server on a data folder, and waits until it answers.
    pub fn serve(data: &Path) -> Self {
        Self::start(&mut Command::new(env!("CARGO_BIN_EXE_vellum")), data, &[])
    }

    /// The same, with more in its environment.
    pub fn serve_with(data: &Path, environment: &[(&str, &str)]) -> Self {
        Self::start(&mut Command::new(env!("CARGO_BIN_EXE_vellum")), data, environment)
    }

    /// Memory that it has, in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, of: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(of)).expect("its memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// The same, with writes beyond the limit on the size of files answered by an error instead of a signal.
    pub fn serve_limited(data: &Path) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_vellum")]);
        Self::start(&mut shell, data, &[])
    }

    /// A server that is not in dev mode, with at most so many descriptors.
    pub fn serve_openly(data: &Path, environment: &[(&str, &str)], descriptors: Option<u32>) -> Self {
        let limit = descriptors.map_or_else(String::new, |most| format!("ulimit -n {most}; "));
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{limit}exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_vellum"), "serve"]);
        Self::run(&mut shell, data, environment)
    }

    /// A server that is not in dev mode, whose log goes into a file.
    pub fn serve_logging(data: &Path, log: &Path) -> Self {
        let mut shell = Command::new("sh");
        let log = log.display();
        shell.args(["-c", &format!("exec \"$0\" \"$@\" 2>'{log}'"), env!("CARGO_BIN_EXE_vellum"), "serve"]);
        Self::run(&mut shell, data, &[])
    }

    /// Begins to look at how much memory it has at most; the memory that it has now, in KiB.
    pub fn begin_peak(&self) -> u64 {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").expect("the peak begins anew");
        self.memory_kib()
    }

    /// The most memory that it had since then, in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn start(command: &mut Command, data: &Path, environment: &[(&str, &str)]) -> Self {
        Self::run(command.args(["serve", "--dev"]), data, environment)
    }

    fn run(command: &mut Command, data: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .env_clear()
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let explore = lines.map(|line| line.expect("text")).find(|line| line.contains("/graphql"));
        let explore = explore.expect("it says where it is");
        let url = explore.split_whitespace().last().expect("a URL");
        Self { child, base: url.trim_end_matches("/graphql").to_owned() }
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Asks it to end, as an administrator would.
    pub fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return status;
            }
            assert!(since.elapsed() < PATIENCE, "it ends in time");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// No file that it writes may become larger; `None` lifts the limit. It is what a full disk is like.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let pid = self.child.id().to_string();
        // The soft limit alone, which may be raised again.
        let status = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}:")]).status();
        assert!(status.expect("prlimit runs").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
