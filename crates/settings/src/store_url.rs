//! Where the store is: a file of this machine, or a PostgreSQL server.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::value::{Value, Written};

/// Where the store is. Neither debug output nor display shows a password.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `sqlite:PATH`: a file that all processes of one machine share.
    Sqlite(PathBuf),
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`: what several machines share, as it is written.
    Postgres(String),
}

/// What a fault says is meant. The value itself stays out of faults: it may hold a password.
const FORMS: &str = "write \"sqlite:PATH\" or \"postgres://USER:PASSWORD@HOST:PORT/DATABASE\"";

impl StoreUrl {
    /// Reads a URL; the fault says what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            return sqlite(path);
        }
        match ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme)) {
            Some(rest) => postgres(rest).map(|()| Self::Postgres(text.to_owned())),
            None => Err(format!("is no URL of a store: {FORMS}")),
        }
    }

    /// The same store with a relative path taken below `folder`.
    #[must_use]
    pub fn below(&self, folder: &Path) -> Self {
        match self {
            Self::Sqlite(path) => Self::Sqlite(folder.join(path)),
            Self::Postgres(_) => self.clone(),
        }
    }
}

fn sqlite(path: &str) -> Result<StoreUrl, String> {
    // `sqlite://path` is how other programs write it.
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.ends_with('/') {
        return Err("names no file: write \"sqlite:PATH\"".to_owned());
    }
    if path == ":memory:" {
        return Err("a store in memory cannot be shared by several processes: write \"sqlite:PATH\"".to_owned());
    }
    if path.contains(['?', '#']) {
        return Err("a path of SQLite takes no options and no ? or #".to_owned());
    }
    Ok(StoreUrl::Sqlite(PathBuf::from(path)))
}

/// Checks what can be checked without a connection, so that `check-config` finds it.
fn postgres(rest: &str) -> Result<(), String> {
    if rest.contains(|character: char| character.is_whitespace() || character.is_control()) {
        return Err(format!("a URL has no spaces: {FORMS}"));
    }
    let (location, options) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = location.split_once('/').unwrap_or((location, ""));
    let (_, host_and_port) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (host, port) = match host_and_port.rfind(':').filter(|at| !host_and_port[*at..].contains(']')) {
        Some(at) => (&host_and_port[..at], Some(&host_and_port[at + 1..])),
        None => (host_and_port, None),
    };
    // A folder of Unix sockets stands in the options, since a slash cannot stand in a host.
    if host.is_empty() && !options.split('&').any(|option| option.starts_with("host=")) {
        return Err(format!("names no host: {FORMS}"));
    }
    if port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port != 0)) || port.is_none() {
        if database.is_empty() { Err(format!("names no database: {FORMS}")) } else { Ok(()) }
    } else {
        Err("has a port that is not between 1 and 65535; a : / ? # or @ in a password is written as %3A %2F %3F %23 %40"
            .to_owned())
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(formatter, "sqlite:{}", path.display()),
            // A password may stand before the @ or among the options.
            Self::Postgres(url) => {
                let url = url.split('?').next().unwrap_or_default();
                let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", ""));
                let location = rest.rsplit_once('@').map_or(rest, |(_, location)| location);
                write!(formatter, "{scheme}://{location}")
            }
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "StoreUrl({self})")
    }
}

impl Written for StoreUrl {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) => Self::parse(text),
            _ => Err(format!("a URL stands in quotes: {FORMS}")),
        }
    }

    fn write(&self) -> String {
        crate::value::quoted(&match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres(url) => url.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let parsed = StoreUrl::parse(text);
        match expected {
            Ok(shown) => {
                let url = parsed.unwrap_or_else(|fault| panic!("{text}: {fault}"));
                assert_eq!(url.to_string(), shown);
                let written = url.write();
                assert_eq!(StoreUrl::parse(written.trim_matches('"')), Ok(url), "{written}");
            }
            Err(part) => {
                let fault = parsed.expect_err(text);
                assert!(fault.contains(part), "{text}: {fault}");
                assert!(!fault.contains("geheim"), "a fault shows the password: {fault}");
            }
        }
    }

    #[test]
    fn a_store_is_a_file_or_a_server() {
        check("sqlite:/var/lib/ctedge/ctedge.db", Ok("sqlite:/var/lib/ctedge/ctedge.db"));
        check("sqlite:ctedge.db", Ok("sqlite:ctedge.db"));
        check("sqlite:///var/x.db", Ok("sqlite:/var/x.db"));
        check("postgres://ct:geheim@db.example:5433/ct?sslmode=require", Ok("postgres://db.example:5433/ct"));
        check("postgresql://db/ct", Ok("postgresql://db/ct"));
        check("postgres://ct:geheim@[::1]:5432/ct", Ok("postgres://[::1]:5432/ct"));
        check("postgres:///ct?host=/run/postgresql&password=geheim", Ok("postgres:///ct"));
    }

    #[test]
    fn a_wrong_url_is_refused_with_what_to_write() {
        check("", Err("sqlite:PATH"));
        check("mysql://u:geheim@h/d", Err("is no URL of a store"));
        check("/var/lib/ctedge.db", Err("is no URL of a store"));
        check("sqlite:", Err("names no file"));
        check("sqlite:data/", Err("names no file"));
        check("sqlite::memory:", Err("cannot be shared"));
        check("sqlite:x.db?mode=ro", Err("takes no options"));
        check("postgres://", Err("names no host"));
        check("postgres://ct:geheim@/ct", Err("names no host"));
        check("postgres://ct:geheim@db", Err("names no database"));
        check("postgres://ct:geheim@db:0/ct", Err("a port that is not"));
        check("postgres://ct:geheim@db:port/ct", Err("a port that is not"));
        check("postgres://ct:ge heim@db/ct", Err("no spaces"));
    }

    #[test]
    fn a_relative_file_is_below_the_folder() {
        let below = |text| StoreUrl::parse(text).unwrap().below(Path::new("/data")).to_string();
        assert_eq!(below("sqlite:ctedge.db"), "sqlite:/data/ctedge.db");
        assert_eq!(below("sqlite:/x/ctedge.db"), "sqlite:/x/ctedge.db");
        assert_eq!(below("postgres://db/ct"), "postgres://db/ct");
    }

    #[test]
    fn no_debug_output_shows_a_password() {
        let url = StoreUrl::parse("postgres://ct:geheim@db/ct?password=geheim").unwrap();
        assert!(!format!("{url:?} {url}").contains("geheim"));
    }
}
