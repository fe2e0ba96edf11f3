//! One line a request, in nginx's combined format, written off the hot path.
//!
//! ```text
//! 203.0.113.7 - - [23/Nov/2026:21:05:00 +0000] "GET /clients/ HTTP/1.1" 200 512 "-" "curl/8.5"
//! ```
//!
//! A line is formatted by the thread that served the request and appended to a bounded buffer; one thread of the log's
//! own writes what has gathered, at most [`GATHER`] later. When the disk is slower than the requests, lines are
//! dropped and counted: a log must not slow what it logs.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use parking_lot::{Condvar, Mutex};

use crate::file::{LogFile, Rotation};
use crate::redact::redact;
use crate::zone::{Style, Zone};

/// The most bytes that wait to be written: about 5,000 lines, a second of a busy balancer.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// The longest name of a user that is logged. Longer ones are no names.
const USER_BYTES_MAX: usize = 256;

/// Clients may leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How long the writer lets lines gather, so that a busy balancer costs ten writes a second and not one a request.
const GATHER: Duration = Duration::from_millis(100);

/// One request, as it is logged. Everything is given as the client sent it: secrets are removed and bytes that could
/// forge a line are escaped on the way to the file.
#[derive(Debug, Clone, Copy)]
pub struct AccessLine<'a> {
    /// The client's address, the believed forwarded one where there is one.
    pub client: IpAddr,
    /// The `Authorization` header: the user of a Basic login is logged, whether it was let in or not, as nginx does.
    pub authorization: Option<&'a str>,
    /// When the request was answered.
    pub time: SystemTime,
    /// The method; empty where a request could not be read, of which path and version are not known either.
    pub method: &'a str,
    /// Path and query, with the public path prefix.
    pub path: &'a str,
    /// `HTTP/1.1`, `HTTP/2.0`.
    pub version: &'a str,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// The `Referer` header.
    pub referer: Option<&'a str>,
    /// The `User-Agent` header.
    pub user_agent: Option<&'a str>,
}

/// The access log. Clones write to the same file; what still waits is written when the last one is dropped.
#[derive(Debug, Clone)]
pub struct AccessLog {
    owner: Arc<Owner>,
}

/// Ends the writer with the last handle.
#[derive(Debug)]
struct Owner {
    zone: Zone,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    lines_dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    lines_waiting: u64,
    /// Whether the file is to be opened again by its name.
    reopen: bool,
    stopping: bool,
}

impl AccessLog {
    /// Opens the log at `path` for appending, creating it and its folder where they are missing. Times are those of
    /// `zone`.
    pub fn open(path: impl AsRef<Path>, rotation: Rotation, zone: Zone) -> io::Result<Self> {
        let file = LogFile::open("log.access", path.as_ref(), rotation)?;
        let shared = Arc::new(Shared::default());
        let of_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_until_stopped(&of_writer, file))?;
        Ok(Self { owner: Arc::new(Owner { zone, shared, writer: Some(writer) }) })
    }

    /// Logs one request. Never blocks on the disk.
    pub fn record(&self, line: &AccessLine<'_>) {
        thread_local! {
            static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
        }
        TEXT.with_borrow_mut(|text| {
            text.clear();
            write_line(text, line, &self.owner.zone).expect("writing to a String cannot fail");
            self.owner.shared.append(text.as_bytes());
        });
    }

    /// Opens the file again by its name, for log rotation: every line recorded after this is in the file of that name.
    /// If that fails, the log says so and goes on with the file it has.
    pub fn reopen(&self) {
        self.owner.shared.state.lock().reopen = true;
        self.owner.shared.changed.notify_one();
    }

    /// How many lines were dropped, because they came faster than the disk takes them or because writing failed.
    #[must_use]
    pub fn lines_dropped(&self) -> u64 {
        self.owner.shared.lines_dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.state.lock().stopping = true;
        self.shared.changed.notify_one();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so on stderr; there is nothing left to do for it.
            let _ = writer.join();
        }
    }
}

impl Shared {
    fn append(&self, text: &[u8]) {
        let mut state = self.state.lock();
        if state.waiting.len() + text.len() > WAITING_BYTES_MAX {
            drop(state);
            self.lines_dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let writer_sleeps = state.waiting.is_empty();
        state.waiting.extend_from_slice(text);
        state.lines_waiting += 1;
        drop(state);
        if writer_sleeps {
            self.changed.notify_one();
        }
    }
}

/// The writer's life: sleep until there is a line, let more gather, write them all at once.
fn write_until_stopped(shared: &Shared, mut file: LogFile) {
    let mut batch = Vec::new();
    loop {
        let mut state = shared.state.lock();
        while state.waiting.is_empty() && !state.stopping && !state.reopen {
            shared.changed.wait(&mut state);
        }
        if !state.stopping && !state.reopen {
            // Woken early only by the order to stop: lines that come while others wait do not notify.
            let _ = shared.changed.wait_for(&mut state, GATHER);
        }
        let reopen = std::mem::take(&mut state.reopen);
        std::mem::swap(&mut batch, &mut state.waiting);
        let lines = std::mem::take(&mut state.lines_waiting);
        let stopping = state.stopping;
        drop(state);

        if reopen && let Err(error) = file.reopen() {
            tracing::error!(%error, "the access log cannot be opened again, it goes on where it was");
        }
        if file.append(&batch).is_err() {
            shared.lines_dropped.fetch_add(lines, Ordering::Relaxed);
        }
        if let Some(trouble) = file.trouble() {
            tracing::error!("{trouble}");
        }
        batch.clear();
        if stopping {
            return;
        }
    }
}

fn write_line(text: &mut String, line: &AccessLine<'_>, zone: &Zone) -> fmt::Result {
    write!(text, "{} - ", line.client)?;
    let user = line.authorization.and_then(basic_user);
    write_escaped(text, user.as_deref().unwrap_or("-"))?;
    text.push_str(" [");
    zone.write(text, line.time, Style::Access);
    text.push_str("] \"");
    if line.method.is_empty() {
        text.push('-');
    } else {
        write_escaped(text, line.method)?;
        text.push(' ');
        write_escaped(text, &redact(line.path))?;
        text.push(' ');
        write_escaped(text, line.version)?;
    }
    write!(text, "\" {} {} \"", line.status, line.bytes)?;
    write_escaped(text, &redact(line.referer.unwrap_or("-")))?;
    text.push_str("\" \"");
    write_escaped(text, line.user_agent.unwrap_or("-"))?;
    text.push_str("\"\n");
    Ok(())
}

/// The user of a Basic login (RFC 7617), what stands before the first colon. Without a colon there is no user: it may be
/// a password.
fn basic_user(authorization: &str) -> Option<String> {
    let (scheme, credentials) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let decoded = BASE64.decode(credentials.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':').filter(|colon| (1..=USER_BYTES_MAX).contains(colon))?;
    Some(String::from_utf8_lossy(&decoded[..colon]).into_owned())
}

/// Escapes what nginx escapes, quotes, backslashes and control characters as `\xXX`, so that no client can forge a
/// line. Characters beyond ASCII stay as they are, in UTF-8.
fn write_escaped(text: &mut String, value: &str) -> fmt::Result {
    for character in value.chars() {
        match character {
            '"' | '\\' | '\0'..='\x1f' | '\x7f' => write!(text, "\\x{:02X}", u32::from(character))?,
            // The C1 controls: some terminals obey them.
            '\u{80}'..='\u{9f}' => write!(text, "\\u{:04X}", u32::from(character))?,
            other => text.push(other),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::UNIX_EPOCH;

    fn open(path: &Path) -> AccessLog {
        let rotation = Rotation { bytes_max: 1 << 20, age_max: Duration::from_secs(3600), kept: 1 };
        AccessLog::open(path, rotation, Zone::default()).unwrap()
    }

    fn line(path: &str) -> AccessLine<'_> {
        AccessLine {
            client: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)),
            authorization: None,
            time: UNIX_EPOCH + Duration::from_secs(1_795_467_661),
            method: "GET",
            path,
            version: "HTTP/1.1",
            status: 200,
            bytes: 512,
            referer: None,
            user_agent: Some("curl/8.5"),
        }
    }

    #[test]
    fn a_line_is_what_nginx_would_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs").join("access.log");
        let log = open(&path);
        log.record(&line("/clients/eclipse/plugins/x.jar"));
        drop(log);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "203.0.113.7 - - [23/Nov/2026:21:01:01 +0000] \"GET /clients/eclipse/plugins/x.jar HTTP/1.1\" 200 512 \"-\" \"curl/8.5\"\n"
        );
    }

    #[test]
    fn no_token_reaches_the_file_and_no_client_can_forge_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = open(&path);
        let referer = Some("https://edge/login.html?token=the-secret");
        log.record(&AccessLine { referer, ..line("/websocket?x-oct-jwt=the-secret") });
        log.record(&AccessLine { user_agent: Some("x\"\n203.0.113.8 - - forged"), ..line("/") });
        drop(log);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("the-secret"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains(r#""x\x22\x0A203.0.113.8 - - forged""#), "{text}");
    }

    #[test]
    fn the_user_of_a_basic_login_is_logged_and_never_the_password() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = open(&path);
        let expected = [
            ("Basic Y3R1c2VyOnNlc2FtZQ==", "ctuser"),
            ("basic Y3R1c2VyOnNlc2FtZQ", "ctuser"),
            // `ada:` and `ada:a:b`.
            ("Basic YWRhOg==", "ada"),
            ("Basic YWRhOmE6Yg==", "ada"),
            // `:sesame`, `sesame` and what is no Base64.
            ("Basic OnNlc2FtZQ==", "-"),
            ("Basic c2VzYW1l", "-"),
            ("Basic ctuser:sesame", "-"),
            ("Bearer Y3R1c2VyOnNlc2FtZQ==", "-"),
            // A name with a line break and quotes.
            ("Basic ZQoidiI6c2VzYW1l", r"e\x0A\x22v\x22"),
        ];
        for (authorization, _) in expected {
            log.record(&AccessLine { authorization: Some(authorization), ..line("/") });
        }
        drop(log);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("sesame") && !text.contains("Y3R1"), "{text}");
        let users: Vec<_> = text.lines().map(|line| line.split(' ').nth(2).unwrap()).collect();
        assert_eq!(users, expected.map(|(_, user)| user));
    }

    #[test]
    fn after_a_reopen_lines_are_in_the_file_of_that_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let rotated = folder.path().join("access.log.1");
        let log = open(&path);
        std::fs::rename(&path, &rotated).unwrap();
        log.reopen();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !path.exists() {
            assert!(std::time::Instant::now() < deadline, "the file is not opened until something is logged");
            std::thread::sleep(Duration::from_millis(5));
        }
        log.record(&line("/after"));
        drop(log);
        assert!(std::fs::read_to_string(&path).unwrap().contains("/after"));
        assert_eq!(std::fs::read_to_string(&rotated).unwrap(), "");
    }

    #[test]
    fn lines_beyond_the_bound_are_dropped_and_counted() {
        let shared = Shared::default();
        shared.append(&vec![b'x'; WAITING_BYTES_MAX]);
        shared.append(b"one too many\n");
        assert_eq!(shared.lines_dropped.load(Ordering::Relaxed), 1);
        assert_eq!(shared.state.lock().waiting.len(), WAITING_BYTES_MAX);
    }
}
