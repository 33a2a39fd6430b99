//! Reads along what the servers of this process log, and ends the process at a line with a secret in it.

use std::io::{self, Write};
use std::sync::Once;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// What secrets begin with, how many characters of one follow at least, and what the secret is.
const SECRETS: [(&str, usize, &str); 6] = [
    ("vellum_", 60, "an API token or the admin token"),
    ("signature=", 20, "a signature of ours"),
    ("X-Amz-Signature=", 20, "a signature of a bucket's"),
    ("X-Amz-Credential=", 60, "a credential of a bucket's"),
    ("Bearer ", 10, "a token"),
    ("eyJ", 40, "a JWT"),
];

#[derive(Clone, Copy)]
struct Reader;

impl Write for Reader {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        if let Some(what) = secret_in(&text) {
            // A panic would be taken for one of the server's, and be answered.
            let _ = writeln!(io::stderr(), "a log line has {what} in it: {text}");
            std::process::abort();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Reader {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

fn secret_in(line: &str) -> Option<&'static str> {
    let of_secret = |c: char| c.is_ascii_alphanumeric() || "-_%.".contains(c);
    SECRETS.into_iter().find_map(|(beginning, least, what)| {
        let mut rests = line.match_indices(beginning).map(|(at, _)| &line[at + beginning.len()..]);
        rests.any(|rest| rest.chars().take_while(|c| of_secret(*c)).count() >= least).then_some(what)
    })
}

/// From now on; the first call does it.
pub fn read_along() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        // The store and the clients of the tests are not ours.
        let filter = EnvFilter::new("debug,vellum=trace,s3s=off,s3s_fs=off,reqwest=off");
        let logs = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(Reader);
        logs.try_init().expect("nobody else reads what is logged");
    });
}

#[test]
fn secrets_are_known_when_they_are_seen() {
    assert_eq!(secret_in("path=/v/ver_01 signature=abcdefghijklmnopqrstuvwxyz"), Some("a signature of ours"));
    assert!(secret_in(&format!("token vellum_{}", "a1".repeat(40))).is_some());
    assert_eq!(secret_in("vellum_http_requests_total signature=short Bearer: none"), None);
}
