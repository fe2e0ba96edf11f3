//! A PostgreSQL of a test's own: a cluster in a temporary folder, run by an unprivileged user on a free port of 127.0.0.1.
//!
//! The server runs below a shell that holds the read end of a pipe from this process. When the process ends, in whatever
//! way, the pipe does too, and the shell stops the server: no test leaves one behind.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Set to `1` where a missing PostgreSQL is to fail tests instead of skipping them.
const REQUIRE: &str = "CTEDGE_REQUIRE_POSTGRES";

/// How long starting and stopping may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server. It stops when this is dropped.
pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    user: Option<User>,
    port: u16,
    server: Option<Child>,
}

/// Who runs the server when the test is run by root, which PostgreSQL refuses.
#[derive(Debug, Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// Starts a server with an empty database. `None`, with one line that says what is missing, where PostgreSQL is not
    /// installed.
    #[must_use]
    pub fn start() -> Option<Self> {
        let required = std::env::var(REQUIRE).is_ok_and(|value| value == "1");
        let missing = match (programs(), unprivileged()) {
            (Some(programs), Ok(user)) => return Some(Self::start_with(programs, user)),
            (None, _) => "PostgreSQL is not installed (apt-get install postgresql)".to_owned(),
            (_, Err(problem)) => problem,
        };
        assert!(!required, "{missing}");
        eprintln!("skipped: {missing}");
        None
    }

    fn start_with(programs: PathBuf, user: Option<User>) -> Self {
        let folder = TempDir::with_prefix("ctedge-postgres-").expect("a temporary folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        if let Some(User { uid, gid }) = user {
            chown(folder.path(), Some(uid), Some(gid)).expect("the folder is given to the server's user");
        }
        let mut server = Self { folder, programs, user, port: 0, server: None };
        let data = server.data();
        let output = server
            .command("initdb")
            .args(["--auth=trust", "--username=ctedge", "--encoding=UTF8", "--no-locale", "--no-sync", "--pgdata"])
            .arg(data)
            .output()
            .expect("initdb runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        server.begin();
        server
    }

    /// Starts the server again after [`Postgres::stop`], on the same port with the same data.
    pub fn begin(&mut self) {
        assert!(self.server.is_none(), "the server runs");
        if self.port == 0 {
            self.port = free_port();
        }
        let log = fs::File::create(self.folder.path().join("log")).expect("a log");
        // Reading ends when this process does. The server gets no part of the pipe.
        let script = "exec 3<&0; \"$@\" <&- 3<&- & server=$!; cat <&3 >/dev/null; kill -QUIT $server; wait $server";
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script, "sh"]).arg(self.programs.join("postgres"));
        shell.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path());
        shell.args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
        shell.args(["-c", "max_connections=60", "-c", "log_min_messages=warning"]);
        self.lower(&mut shell);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).current_dir(self.folder.path());
        self.server = Some(shell.spawn().expect("the server starts"));
        self.wait_until_ready();
    }

    /// Stops the server at once, as a power failure of its machine would; its data stays.
    pub fn stop(&mut self) {
        let Some(mut shell) = self.server.take() else {
            return;
        };
        drop(shell.stdin.take());
        let _ = shell.wait();
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of the database, over `port`: the server's own, or that of a proxy before it.
    #[must_use]
    pub fn url_over(&self, port: u16) -> String {
        format!("postgres://ctedge@127.0.0.1:{port}/postgres")
    }

    /// The URL of the database.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_over(self.port)
    }

    /// Carries out a statement; what it printed.
    pub fn sql(&self, statement: &str) -> String {
        let output = self
            .command("psql")
            .args(["--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--dbname"])
            .arg(self.url())
            .args(["--command", statement])
            .output()
            .expect("psql runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        let probe = || {
            // pg_isready tells a server that still starts from one that answers.
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
                && self
                    .command("pg_isready")
                    .args(["--quiet", "--host=127.0.0.1", "--port", &self.port.to_string()])
                    .status()
                    .is_ok_and(|status| status.success())
        };
        while !probe() {
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "PostgreSQL does not start: {}", log());
            sleep(Duration::from_millis(20));
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path());
        self.lower(&mut command);
        command
    }

    fn lower(&self, command: &mut Command) {
        if let Some(User { uid, gid }) = self.user {
            command.gid(gid).uid(uid);
        }
    }
}

/// A port that is free, and that no system gives to whoever asks for any: it would be taken before the server has it.
fn free_port() -> u16 {
    let ports = 20_000..30_000u32;
    let first = std::process::id();
    let mut from_there = (0..ports.len() as u32).map(|number| ports.start + (first + number) % ports.len() as u32);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    from_there.find_map(|port| u16::try_from(port).ok().filter(is_free)).expect("a free port")
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where the server's programs are: Debian keeps them out of the path, by version.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = versions.into_iter().rev().chain(std::env::split_paths(&path));
    candidates.find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

/// The user that runs the server: nobody else than ours, unless we are root.
fn unprivileged() -> Result<Option<User>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string(Path::new("/etc/passwd")).unwrap_or_default();
    let user = ["postgres", "nobody"].iter().find_map(|name| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some(User { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    });
    user.map(Some).ok_or_else(|| "there is no unprivileged user who could run PostgreSQL".to_owned())
}
