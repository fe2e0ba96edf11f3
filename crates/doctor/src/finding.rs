//! What a check found.

use serde::Serialize;

/// What is looked at, in the order in which a request meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// The ports of this machine that the settings name.
    Ports,
    /// Whether the public URL leads to a port that answers.
    Address,
    /// The certificate that the public URL shows.
    Certificate,
    /// Plain requests to the public URL.
    Http,
    /// Long polls through the public URL.
    Polling,
    /// WebSockets through the public URL.
    WebSocket,
    /// Whether requests of one key meet.
    Stickiness,
    /// Whether two clients meet in one session.
    Session,
    /// The nodes, and what they say of themselves.
    Nodes,
    /// What the nodes share.
    Store,
    /// The license and its seats.
    License,
    /// The clocks of everybody who takes part.
    Clock,
}

impl Check {
    /// The word of the output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ports => "ports",
            Self::Address => "address",
            Self::Certificate => "certificate",
            Self::Http => "http",
            Self::Polling => "polling",
            Self::WebSocket => "websocket",
            Self::Stickiness => "stickiness",
            Self::Session => "session",
            Self::Nodes => "nodes",
            Self::Store => "store",
            Self::License => "license",
            Self::Clock => "clock",
        }
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is wrong.
    Ok,
    /// It could not be looked at, because of something that another finding names or that is switched off.
    Skipped,
    /// It works, and will or may hurt.
    Warning,
    /// People cannot work, or some of them.
    Error,
}

impl Severity {
    /// The word of the output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Why people are told "session unavailable": whatever clients show, it is one of these five.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Requests of one session come to different nodes.
    NotSticky,
    /// The node of the session, or every node, is gone or takes nothing.
    NodeDown,
    /// The license or its seats are used up.
    LicenseOut,
    /// A proxy lets no WebSocket through.
    #[serde(rename = "no-websocket")]
    NoWebSocket,
    /// The store is away or full, or clocks are too far apart.
    StoreOrClock,
}

impl Cause {
    /// The end of the sentence "people are told that their session is unavailable, because …".
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NotSticky => "the balancer is not sticky",
            Self::NodeDown => "a node is down or takes no sessions",
            Self::LicenseOut => "the license or its seats are used up",
            Self::NoWebSocket => "a proxy lets no WebSocket through, or cuts it",
            Self::StoreOrClock => "the store or a clock is in trouble",
        }
    }
}

/// One thing that a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// How bad it is.
    pub severity: Severity,
    /// The word for programs, one of [`CODES`]; it stays the same when the sentence is improved.
    pub code: &'static str,
    /// What was found, in one sentence.
    pub sentence: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Which cause of "session unavailable" it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

impl Finding {
    pub(crate) fn ok(check: Check, code: &'static str, sentence: impl Into<String>) -> Self {
        Self { check, severity: Severity::Ok, code, sentence: sentence.into(), remedy: None, cause: None }
    }

    pub(crate) fn skipped(check: Check, code: &'static str, sentence: impl Into<String>) -> Self {
        Self { severity: Severity::Skipped, ..Self::ok(check, code, sentence) }
    }

    pub(crate) fn warning(
        check: Check,
        code: &'static str,
        sentence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, remedy: Some(remedy.into()), ..Self::ok(check, code, sentence) }
    }

    pub(crate) fn error(
        check: Check,
        code: &'static str,
        sentence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Error, ..Self::warning(check, code, sentence, remedy) }
    }

    pub(crate) fn because(self, cause: Cause) -> Self {
        Self { cause: Some(cause), ..self }
    }
}

/// Every code of a finding.
pub const CODES: [&str; 106] = [
    "ports.held",
    "ports.free",
    "ports.silent",
    "ports.taken",
    "ports.no-such-address",
    "ports.forbidden",
    "ports.not-allowed",
    "address.unknown",
    "address.stand-in",
    "address.reached",
    "address.unresolved",
    "address.refused",
    "address.timeout",
    "address.failed",
    "certificate.ok",
    "certificate.no-tls",
    "certificate.plain-http",
    "certificate.wrong-name",
    "certificate.expired",
    "certificate.not-yet-valid",
    "certificate.self-signed",
    "certificate.chain",
    "certificate.unknown-issuer",
    "certificate.broken",
    "certificate.ends-soon",
    "http.no-answer",
    "http.ok",
    "http.others",
    "http.cookie-not-secure",
    "http.private-figures",
    "http.redirect",
    "http.no-node",
    "http.gateway",
    "http.not-found",
    "http.forbidden",
    "http.foreign",
    "http.status",
    "polling.ok",
    "polling.rewritten",
    "polling.refused",
    "websocket.ok",
    "websocket.no-node",
    "websocket.upgrade-lost",
    "websocket.refused",
    "websocket.silent",
    "websocket.stays",
    "websocket.cut",
    "stickiness.untried",
    "stickiness.unstable",
    "stickiness.header-lost",
    "stickiness.one-node",
    "stickiness.ok",
    "stickiness.lost",
    "session.met",
    "session.untried",
    "session.failed",
    "session.license",
    "session.seats",
    "session.token-refused",
    "session.misdirected",
    "session.no-node",
    "session.unavailable",
    "session.websocket",
    "nodes.unknown",
    "nodes.hidden",
    "nodes.down",
    "nodes.ready",
    "nodes.not-from-here",
    "nodes.other",
    "nodes.same-address",
    "nodes.not-allowed",
    "nodes.secret",
    "nodes.trouble",
    "nodes.unseen",
    "nodes.lag",
    "nodes.none-accepting",
    "nodes.not-accepting",
    "nodes.versions",
    "store.node-trouble",
    "store.ok",
    "store.none",
    "store.hosts",
    "store.network-fs",
    "store.disk-full",
    "store.disk-nearly-full",
    "store.absent",
    "store.folder",
    "store.unreachable",
    "store.schema-newer",
    "store.schema-older",
    "store.read-only",
    "store.slow",
    "store.not-allowed",
    "license.nodes-differ",
    "license.ends-soon",
    "license.valid",
    "license.evaluation",
    "license.refused",
    "license.not-allowed",
    "license.seats-out",
    "license.seats-nearly-out",
    "license.seats",
    "clock.far-apart",
    "clock.apart",
    "clock.not-kept",
    "clock.together",
];
