//! `ctedge doctor`: looks at a deployment, and says what is wrong and what to do.
//!
//! This is the probing; what it means is decided in `ctedge_doctor`. It blocks: a few dozen short requests, one after the
//! other where their order matters.
//!
//! - `endpoint`, `tls`, `http`: connections that take any certificate, and one request over each.
//! - `engine`, `message`: the protocols of the clients, as far as they are needed here.
//! - `stickiness`, `session`: keys and a whole session through the public URL.
//! - `machine`, `nodes`, `store`: ports, nodes and store of the settings. `rights`: what of them this user may look at.

mod endpoint;
mod engine;
mod http;
mod machine;
mod message;
mod nodes;
mod rights;
mod session;
mod stickiness;
mod store;
mod tls;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ctedge_doctor::Facts;
use ctedge_doctor::facts::{Carrier, ClockFact, Denied, NodeFact, PortState, Reach, SessionFacts, UrlFacts, WebSocket};
use ctedge_doctor::finding::Check;
use ctedge_license::{Day, judge};
use ctedge_node::license::counts::license_report;
use ctedge_node::license::source::find;
use ctedge_settings::Settings;
use ctedge_supervisor::AdminClient;
use ctedge_wire::headers::KEY;
use ctedge_wire::{HealthReport, Key, LicenseReport};
use parking_lot::Mutex;
use serde_json::json;

use crate::license::public_key;
use crate::place::EdgeOptions;
use crate::settings_file::read_secret;
use endpoint::Endpoint;
use http::Client;
use machine::reachable;

/// Longer than any pause between two pings that a node may be told to make is rare: theirs is 25 s.
const PING_WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    /// The public URL; without --config, --data and --admin nothing else is looked at [default: CT_SERVER_URL,
    /// server_url]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    edge: EdgeOptions,
    /// Let no two clients meet in a session; it would take two seats for a moment, and stand in the audit
    #[arg(long)]
    no_session: bool,
    /// Hold a WebSocket open for so many seconds on which nobody says anything, and tell whether it is cut
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..))]
    idle: Option<u16>,
    /// How long connecting, and each answer, may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u16).range(1..))]
    timeout: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Looks, and says what it found. Ends with 1 when something is wrong.
pub(crate) fn run(options: DoctorOptions) -> anyhow::Result<ExitCode> {
    let diagnosis = ctedge_doctor::examine(&gather(&options)?);
    let text = if options.json { format!("{:#}\n", json!(diagnosis)) } else { diagnosis.to_string() };
    // Whoever reads may stop reading, like `head`.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(if diagnosis.has_error() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn gather(options: &DoctorOptions) -> anyhow::Result<Facts> {
    let timeout = Duration::from_secs(options.timeout.into());
    let edge = &options.edge;
    let names_edge = edge.config.is_some() || edge.data.is_some() || edge.admin.is_some();
    let has_settings = options.url.is_none() || names_edge;
    // What runs counts more than what its file says alone.
    let settings = has_settings.then(|| edge.find()).transpose()?.map(|place| place.settings);
    let of_settings = |settings| of_settings(settings, &edge.admin_api(settings, timeout), timeout);
    let mut facts = settings.as_ref().map(of_settings).transpose()?.unwrap_or_default();
    let (url, is_stand_in) = match (&options.url, settings.as_ref().and_then(Settings::server_url)) {
        (Some(url), _) => (Some(url.clone()), false),
        (None, Some(url)) => (Some(url.as_str().to_owned()), false),
        (None, None) => (settings.as_ref().and_then(stand_in), true),
    };
    if let Some(url) = url {
        let reports = Mutex::default();
        let looking = Looking {
            serves_others: facts.serves_others,
            with_session: !options.no_session,
            idle: options.idle.map(|seconds| Duration::from_secs(seconds.into())),
            timeout,
            reports: &reports,
        };
        let (mut url, clock) = looking.at(&url, is_stand_in)?;
        if let Some(settings) = settings.filter(|_| url.is_https && url.certificate.is_none()) {
            url.certificate = tls::listed_certificate(&settings.certificates(), &url.host);
        }
        facts.url = Some(url);
        facts.clocks.extend(clock);
        facts.reports = reports.into_inner().into_values().collect();
    }
    Ok(facts)
}

/// The URL at which programs of this machine reach the balancer.
fn stand_in(settings: &Settings) -> Option<String> {
    let listeners = settings.listeners();
    let public = [("http", listeners.http), ("https", listeners.https)];
    let (scheme, address) = public.into_iter().find_map(|(scheme, address)| Some((scheme, address?)))?;
    (address.port() != 0).then(|| format!("{scheme}://{}", reachable(address)))
}

/// What the settings, this machine, the nodes and the balancer say.
fn of_settings(settings: &Settings, admin: &AdminClient, timeout: Duration) -> anyhow::Result<Facts> {
    let listed = nodes::listed(settings);
    let status = nodes::balancer_status(admin);
    // Before the first start there is no secret yet.
    let secret = read_secret(settings).ok();
    let path = &settings.health().path;
    let questions = nodes::Questions { path, secret: secret.as_ref(), status: status.as_ref(), timeout };
    let (nodes, mut clocks) = questions.ask(&listed);
    let mut denied = rights::denied(settings);
    let may_look = |check| !denied.iter().any(|denied: &Denied| denied.check == check);
    let store = if may_look(Check::Store) { Some(store::look(settings, &listed)?) } else { None };
    let license = if may_look(Check::License) { Some(license(settings)?) } else { None };
    let (store, clock, shared_addresses) =
        store.map_or((None, None, Vec::new()), |looked| (Some(looked.facts), looked.clock, looked.shared_addresses));
    clocks.extend(clock);
    let serves_others = !nodes.is_empty() && nodes.iter().all(NodeFact::is_another_server);
    // What other servers listen on is theirs.
    let own: Vec<_> = listed.into_iter().zip(&nodes).filter(|(_, fact)| !fact.is_another_server()).collect();
    let own: Vec<_> = own.into_iter().map(|(node, _)| node).collect();
    let (ports, forbidden) = rights::without_forbidden(settings, machine::ports(settings, &own, timeout));
    denied.extend(forbidden);
    Ok(Facts {
        has_settings: true,
        serves_others,
        is_private_certificate: settings.portal().private_certificate,
        is_running: status.is_some() || ports.iter().any(|port| port.state == PortState::Ours),
        ports,
        nodes,
        store,
        license,
        clocks,
        is_clock_kept: machine::is_clock_kept(),
        denied,
        shared_addresses,
        ..Facts::default()
    })
}

fn license(settings: &Settings) -> anyhow::Result<LicenseReport> {
    let settings = settings.license();
    let key = public_key(settings.public_key.clone())?;
    let verdict = judge(&find(&settings).found, key.as_ref(), settings.host.as_deref(), Day::at(tls::unix_now()));
    Ok(license_report(&verdict))
}

/// How the public URL is looked at.
struct Looking<'l> {
    /// Whether other servers than nodes of ours are behind it.
    serves_others: bool,
    with_session: bool,
    /// How long a WebSocket is held open on which nobody says anything.
    idle: Option<Duration>,
    timeout: Duration,
    reports: &'l Mutex<BTreeMap<String, HealthReport>>,
}

impl Looking<'_> {
    /// What comes through the public URL; and the clock of whoever answers there.
    fn at(&self, url: &str, is_stand_in: bool) -> anyhow::Result<(UrlFacts, Option<ClockFact>)> {
        let mut endpoint = Endpoint::of_url(url, self.timeout)?;
        let mut facts = UrlFacts {
            url: url.trim_end_matches('/').to_owned(),
            is_stand_in,
            host: endpoint.host.clone(),
            is_https: endpoint.tls.is_some(),
            prefix: endpoint.prefix.clone(),
            reach: endpoint.reach(),
            certificate: None,
            meta: None,
            cookie_secure: None,
            shows_private_figures: false,
            polling: None,
            websocket: None,
            idle: None,
            stickiness: Vec::new(),
            session: None,
        };
        if !matches!(facts.reach, Reach::Reached(_)) {
            return Ok((facts, None));
        }
        if let Some(tls) = &endpoint.tls {
            let certificate = endpoint.connect().and_then(|_| tls.certificate()).map_err(|error| format!("{error:#}"));
            let is_usable = certificate.is_ok();
            facts.certificate = Some(certificate);
            if !is_usable {
                return Ok((facts, None));
            }
        }
        let clock = ask(&endpoint, &mut facts);
        if facts.meta.as_ref().is_some_and(|meta| meta.as_ref().is_ok_and(|answer| answer.is_ours)) {
            self.follow(&endpoint, &mut facts)?;
            if let Some(time) = self.idle.filter(|_| facts.websocket == Some(WebSocket::Opened)) {
                facts.idle = session::stay(&endpoint.patient(PING_WAIT_MAX), time)?;
            }
        } else if self.serves_others && matches!(facts.meta, Some(Ok(_))) {
            facts.stickiness = vec![
                stickiness::compare(&endpoint, Carrier::Header)?,
                stickiness::compare(&endpoint, Carrier::Cookie)?,
            ];
        }
        Ok((facts, clock))
    }

    /// Transports, keys and a session, where an edge answers.
    fn follow(&self, endpoint: &Endpoint, facts: &mut UrlFacts) -> anyhow::Result<()> {
        let key = random_key()?;
        let client = Client::carrying(endpoint, Carrier::Header, key.as_str());
        facts.polling = Some(engine::look_at_polling(&client));
        let websocket = engine::look_at_websocket(&client);
        facts.stickiness = vec![
            stickiness::follow(endpoint, Carrier::Header, self.reports)?,
            stickiness::follow(endpoint, Carrier::Cookie, self.reports)?,
        ];
        facts.session = Some(match (self.with_session, &websocket) {
            (false, _) => SessionFacts::Untried("--no-session says so".to_owned()),
            (true, WebSocket::Opened) => session::meet(endpoint)?,
            (true, _) => SessionFacts::Untried("no WebSocket opens".to_owned()),
        });
        facts.websocket = Some(websocket);
        Ok(())
    }
}

/// One plain request.
fn ask(endpoint: &Endpoint, facts: &mut UrlFacts) -> Option<ClockFact> {
    let response = match Client::new(endpoint).get("/api/meta") {
        Ok(response) => response,
        Err(error) => {
            facts.meta = Some(Err(format!("{error:#}")));
            return None;
        }
    };
    let meta = response.json();
    let is_ours = response.status == 200 && meta["version"].is_string() && meta["transports"].is_array();
    facts.meta = Some(Ok(response.answer(is_ours)));
    let cookie = response.headers("set-cookie").find(|cookie| cookie.starts_with(&format!("{KEY}=")));
    facts.cookie_secure = cookie.map(|cookie| cookie.split(';').any(|part| part.trim().eq_ignore_ascii_case("secure")));
    facts.shows_private_figures = shows_private_figures(endpoint);
    response.clock("the public URL")
}

/// Whether `/metrics` has the figures that only the private addresses show.
fn shows_private_figures(endpoint: &Endpoint) -> bool {
    let response = Client::new(endpoint).get("/metrics");
    response.is_ok_and(|response| response.text().lines().any(|line| line.starts_with("ctedge_")))
}

/// A key that nobody uses.
fn random_key() -> anyhow::Result<Key> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    Ok(Key::mint(&random))
}
