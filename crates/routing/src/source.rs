//! Finds the key that a request carries.
//!
//! The first source that holds a sound key wins, in this order: header, query parameter, what the Open Collaboration
//! Protocol carries (the room of a token, the id of a join, the key part of a poll token and of an Engine.IO `sid`),
//! cookie. A source that names a session beats the cookie, because one browser may hold two sessions. What is
//! malformed is treated as absent, and counted.

use ctedge_wire::Key;
use serde::Serialize;

use crate::carriers::{Carried, Escapes, cookies, last_segment, parameters, unescape};

/// The protocol's header, query parameter and cookies that hold a login or room token.
const TOKEN_HEADER: &str = "x-oct-jwt";
const TOKEN_COOKIES: [&str; 2] = ["oct-jwt", "x-oct-jwt"];

const CREATE_PATH: &str = "/api/session/create";
const JOIN_PREFIX: &str = "/api/session/join/";
const POLL_PREFIXES: [&str; 2] = ["/api/session/poll/", "/api/login/poll/"];

/// Any path that ends so is Engine.IO's: clients may serve the protocol below any namespace path.
const ENGINE_PATH_END: &str = "/socket.io";
const ENGINE_SID: &str = "sid";

/// A request, as far as its key goes.
pub struct RequestView<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The path, the public URL's prefix removed.
    pub path: &'a str,
    /// What follows the `?`.
    pub query: Option<&'a str>,
    /// Looks a header up by its lower-case name.
    pub header: &'a dyn Fn(&str) -> Option<&'a str>,
    /// The values of all `Cookie` headers.
    pub cookies: &'a [&'a str],
}

/// Where a key was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// The request header.
    Header,
    /// The query parameter.
    Query,
    /// The `room` claim of a token.
    RoomToken,
    /// The path of a join.
    JoinPath,
    /// A poll token.
    PollToken,
    /// An Engine.IO session id.
    EngineSid,
    /// The cookie.
    Cookie,
    /// Nowhere: the balancer minted it.
    Minted,
}

impl KeySource {
    /// All sources, in the order in which they are tried.
    pub const ALL: [Self; 8] = [
        Self::Header,
        Self::Query,
        Self::RoomToken,
        Self::JoinPath,
        Self::PollToken,
        Self::EngineSid,
        Self::Cookie,
        Self::Minted,
    ];

    /// The word of logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Query => "query",
            Self::RoomToken => "room_token",
            Self::JoinPath => "join_path",
            Self::PollToken => "poll_token",
            Self::EngineSid => "engine_sid",
            Self::Cookie => "cookie",
            Self::Minted => "minted",
        }
    }
}

/// What is known of a key's past, before the pins are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Nothing lives under it yet: it was minted for this request, or it was named for a session that this request
    /// creates. Only such a key obeys the load bound.
    Fresh,
    /// A client named it; there may be a session or not.
    Named,
    /// A node issued what carries it, so that there is or was a session. It may live on a node that takes no new keys.
    Issued,
}

/// A key and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The key.
    pub key: Key,
    /// Its source, never [`KeySource::Minted`].
    pub source: KeySource,
}

/// What a request says of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The key, unless the balancer must mint one.
    pub found: Option<Found>,
    /// What the cookie says, whoever won.
    pub cookie: Option<Key>,
    /// How many sources held something that is no key.
    pub malformed: u32,
    /// Whether the request creates a session, whose key must be an unused one.
    pub wants_fresh: bool,
}

impl Finding {
    /// Where the key comes from; minted if it was not found.
    #[must_use]
    pub fn source(&self) -> KeySource {
        self.found.as_ref().map_or(KeySource::Minted, |found| found.source)
    }

    /// What is known of the key's past.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.source() {
            _ if self.wants_fresh => Standing::Fresh,
            KeySource::Minted => Standing::Fresh,
            KeySource::Header | KeySource::Query | KeySource::Cookie => Standing::Named,
            KeySource::RoomToken | KeySource::JoinPath | KeySource::PollToken | KeySource::EngineSid => {
                Standing::Issued
            }
        }
    }

    /// Whether an answer that belongs to `key` should set the cookie.
    ///
    /// It should when the client has nothing else to come back by (the key was minted, or it stood in the query, which
    /// the next request of a page will not have), and when the client's cookie says another key. It should not for
    /// clients that carry the key themselves and have no cookie: those are no browsers.
    #[must_use]
    pub fn cookie_is_due(&self, key: &Key) -> bool {
        match &self.cookie {
            Some(cookie) => cookie != key,
            None => matches!(self.source(), KeySource::Minted | KeySource::Query),
        }
    }
}

/// What the sources are called. `None`, or an empty name, switches a source off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyNames {
    /// The request header.
    pub header: Option<String>,
    /// The query parameter.
    pub query: Option<String>,
    /// The cookie, read and set.
    pub cookie: Option<String>,
    /// Whether the Open Collaboration Protocol's own carriers are read.
    pub protocol: bool,
}

/// Finds keys in requests.
#[derive(Debug, Clone)]
pub struct KeyFinder {
    names: KeyNames,
}

impl KeyFinder {
    /// A finder of these sources.
    #[must_use]
    pub fn new(names: KeyNames) -> Self {
        let named = |name: Option<String>| name.filter(|name| !name.is_empty());
        Self {
            names: KeyNames {
                header: named(names.header).map(|name| name.to_ascii_lowercase()),
                query: named(names.query),
                cookie: named(names.cookie),
                protocol: names.protocol,
            },
        }
    }

    /// Finds the key of a request.
    #[must_use]
    pub fn find(&self, request: &RequestView<'_>) -> Finding {
        let mut search = Search { malformed: 0 };
        let wants_fresh = self.names.protocol && creates_session(request);
        let named = self.named(request, &mut search);
        // What the protocol carries on a creation (a login token, an old room's token) is not the room to come.
        let carried = || if wants_fresh { None } else { self.carried(request, &mut search) };
        let found = named.or_else(carried);
        let cookie = self.cookie(request, &mut search);
        let by_cookie = || cookie.clone().filter(|_| !wants_fresh).map(|key| Found { key, source: KeySource::Cookie });
        Finding { found: found.or_else(by_cookie), cookie, malformed: search.malformed, wants_fresh }
    }

    /// The value of the `Set-Cookie` header that an answer belonging to `key` needs, if it needs one. `path_prefix` is
    /// that of the public URL. There is no `Domain`: the cookie stays with the host that set it.
    #[must_use]
    pub fn cookie_to_set(&self, finding: &Finding, key: &Key, secure: bool, path_prefix: &str) -> Option<String> {
        let name = self.names.cookie.as_deref().filter(|_| finding.cookie_is_due(key))?;
        let path = if path_prefix.is_empty() { "/" } else { path_prefix };
        let secure = if secure { "; Secure" } else { "" };
        Some(format!("{name}={key}; Path={path}; HttpOnly; SameSite=Lax{secure}"))
    }

    /// The sources that a client names the key in on purpose.
    fn named(&self, request: &RequestView<'_>, search: &mut Search) -> Option<Found> {
        let header = || (request.header)(self.names.header.as_deref()?).map(|text| Carried::key(text.trim()));
        let in_query = |name| request.query.into_iter().flat_map(move |query| parameters(query, name));
        search.first(KeySource::Header, header().into_iter()).or_else(|| {
            let values = self.names.query.as_deref().into_iter().flat_map(in_query);
            search.first(KeySource::Query, values.map(|value| Carried::escaped_key(value, Escapes::Query)))
        })
    }

    fn carried(&self, request: &RequestView<'_>, search: &mut Search) -> Option<Found> {
        if !self.names.protocol {
            return None;
        }
        let path = request.path;
        let joined = last_segment(path, JOIN_PREFIX).map(|room| Carried::escaped_key(room, Escapes::Path));
        let polled = POLL_PREFIXES.iter().find_map(|prefix| last_segment(path, prefix));
        let polled = polled.map(|token| Carried::keyed_token(token, Escapes::Path));
        search
            .first(KeySource::RoomToken, room_tokens(request))
            .or_else(|| search.first(KeySource::JoinPath, joined.into_iter()))
            .or_else(|| search.first(KeySource::PollToken, polled.into_iter()))
            .or_else(|| search.first(KeySource::EngineSid, engine_sids(request)))
    }

    fn cookie(&self, request: &RequestView<'_>, search: &mut Search) -> Option<Key> {
        let name = self.names.cookie.as_deref()?;
        let values = cookies(request.cookies, name).map(Carried::key);
        search.first(KeySource::Cookie, values).map(|found| found.key)
    }
}

/// Counts what is malformed on the way to the first sound key.
struct Search {
    malformed: u32,
}

impl Search {
    fn first(&mut self, source: KeySource, values: impl Iterator<Item = Carried>) -> Option<Found> {
        for value in values {
            match value {
                Carried::Key(key) => return Some(Found { key, source }),
                Carried::Nothing => {}
                Carried::Malformed => self.malformed = self.malformed.saturating_add(1),
            }
        }
        None
    }
}

fn creates_session(request: &RequestView<'_>) -> bool {
    request.method == "POST" && request.path.strip_suffix('/').unwrap_or(request.path) == CREATE_PATH
}

fn room_tokens<'a>(request: &'a RequestView<'_>) -> impl Iterator<Item = Carried> + use<'a> {
    let header = (request.header)(TOKEN_HEADER).map(|token| Carried::room_claim(token.trim()));
    let query = request.query.into_iter().flat_map(|query| parameters(query, TOKEN_HEADER));
    let query = query.map(|token| Carried::room_claim(&unescape(token, Escapes::Query)));
    let cookie = TOKEN_COOKIES.into_iter().flat_map(|name| cookies(request.cookies, name)).map(Carried::room_claim);
    header.into_iter().chain(query).chain(cookie)
}

fn engine_sids<'a>(request: &'a RequestView<'_>) -> impl Iterator<Item = Carried> + use<'a> {
    let path = request.path.strip_suffix('/').unwrap_or(request.path);
    let query = request.query.filter(|_| path.ends_with(ENGINE_PATH_END));
    let sids = query.into_iter().flat_map(|query| parameters(query, ENGINE_SID));
    sids.map(|sid| Carried::keyed_token(sid, Escapes::Query))
}
