//! What operators of the original rely on, and what everybody may get wrong: each variable of the notes does what the notes
//! say, and a wrong value in any variable or setting gives one line that names it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by the lint")]

use std::collections::{BTreeMap, BTreeSet};

use ctedge_license::License;
use ctedge_settings::{Fault, Settings, default_config, parse, variables};

/// What the notes list, written down here once more so that none can be forgotten: the variable, a value of it, the
/// setting that it stands for, how that is written then, a wrong value, and what the fault says. Where no value is wrong
/// by itself, what makes it so is beside it.
const HONOURED: [Variable; 26] = [
    variable("CT_SERVER_URL", "https://edge.example/ct", "server_url", "\"https://edge.example/ct\"")
        .wrong("edge.example", "\"edge.example\" is not the URL that clients use, like \"https://edge.example.com\""),
    variable("CT_LICENSEE", "Example Corp", "license.licensee", "\"Example Corp\""),
    variable("CT_MAXCONNECTIONS", "250", "license.max_connections", "\"250\""),
    variable("CT_EXPIRATION", "2027/12/31", "license.expiration", "\"2027/12/31\""),
    variable("CT_LOCATOR", "none", "license.locator", "\"none\""),
    variable("CT_SIGNATURE", "v1.abc", "license.signature", "\"v1.abc\""),
    variable("CT_DASHBOARD_USER", "admin", "portal.dashboard_user", "\"admin\"")
        .with(&["CT_DASHBOARD_PASSWORD"])
        .wrong("ad:min", "\"ad:min\" is no user; write one without colon and line break"),
    variable("CT_DASHBOARD_PASSWORD", "x y", "portal.dashboard_password", "\"x y\"")
        .with(&["CT_DASHBOARD_USER"])
        .wrong("alone", "needs portal.dashboard_user (CT_DASHBOARD_USER) beside it"),
    variable("CT_LOGS_USER", "logs", "portal.logs_user", "\"logs\"")
        .with(&["CT_LOGS_PASSWORD"])
        .wrong("lo:gs", "\"lo:gs\" is no user; write one without colon and line break"),
    variable("CT_LOGS_PASSWORD", "x y", "portal.logs_password", "\"x y\"")
        .with(&["CT_LOGS_USER"])
        .wrong("alone", "needs portal.logs_user (CT_LOGS_USER) beside it"),
    variable("CT_METRICS_STATSD_HOST", "statsd.example", "metrics.statsd_host", "\"statsd.example\"")
        .wrong("http://", "\"http://\" names no host; write it like \"statsd.example.com\""),
    variable("CT_METRICS_STATSD_PORT", "9125", "metrics.statsd_port", "9125")
        .wrong("statsd", "\"statsd\" is not a whole number"),
    variable("CT_METRICS_STATSD_PROTOCOL", "TCP", "metrics.statsd_protocol", "\"TCP\"")
        .wrong("SCTP", "\"SCTP\" is none of \"UDP\", \"TCP\""),
    variable("CT_PROMETHEUS_ENABLED", "true", "metrics.prometheus", "true")
        .wrong("maybe", "\"maybe\" is not true or false"),
    variable("CT_NOCLIENTS", "true", "portal.clients", "false").wrong("maybe", "\"maybe\" is not true or false"),
    variable("CT_TRUST_ALL_CERTS", "true", "portal.private_certificate", "true")
        .wrong("maybe", "\"maybe\" is not true or false"),
    variable("CT_TIME_ZONE", "Europe/Berlin", "log.time_zone", "\"Europe/Berlin\"")
        .wrong("Mars/Olympus", "\"Mars/Olympus\" is no time zone; write one like \"Europe/Berlin\" or \"UTC\""),
    variable("CT_AUTO_RESTART_DISABLED", "true", "restart.disabled", "true")
        .wrong("maybe", "\"maybe\" is not true or false"),
    variable("CT_AUTO_RESTART_CRON_PATTERN", "* 11 * * 0", "restart.schedule", "\"* 11 * * 0\"")
        .wrong("weekly", "\"weekly\" has 1 field, a pattern has five: minute, hour, day of month, month, weekday"),
    variable("CT_SSO_SYSTEM_BASE_URL", "https://id.example/authorize", "sign_on.url", "\"https://id.example/authorize\"")
        .with(&["CT_SSO_CLIENT_ID", "CT_SSO_CLIENT_SECRET", "CT_SERVER_URL"])
        .wrong("http://id.example", "\"http://id.example\" has no encryption; write it with https://"),
    variable("CT_SSO_AUTHORIZATION_ENDPT", "https://id.example/a", "sign_on.url", "\"https://id.example/a\"")
        .with(&["CT_SSO_CLIENT_ID", "CT_SSO_CLIENT_SECRET", "CT_SERVER_URL"])
        .wrong("id.example", "\"id.example\" is not the URL of a provider, like \"https://id.example.com/authorize\""),
    variable("CT_SSO_TOKEN_ENDPT", "https://id.example/token", "sign_on.token_endpoint", "\"https://id.example/token\"")
        .with(&["CT_SSO_SYSTEM_BASE_URL", "CT_SSO_CLIENT_ID", "CT_SSO_CLIENT_SECRET", "CT_SERVER_URL"])
        .wrong("token", "\"token\" is not the URL of a provider, like \"https://id.example.com/authorize\""),
    variable("CT_SSO_CLIENT_ID", "edge", "sign_on.client_id", "\"edge\"")
        .with(&["CT_SSO_SYSTEM_BASE_URL", "CT_SSO_CLIENT_SECRET", "CT_SERVER_URL"])
        .wrong("alone", "needs sign_on.url (CT_SSO_SYSTEM_BASE_URL), sign_on.client_secret (CT_SSO_CLIENT_SECRET), "),
    variable("CT_SSO_CLIENT_SECRET", "s 3", "sign_on.client_secret", "\"s 3\"")
        .with(&["CT_SSO_SYSTEM_BASE_URL", "CT_SSO_CLIENT_ID", "CT_SERVER_URL"])
        .wrong("alone", "needs sign_on.url (CT_SSO_SYSTEM_BASE_URL), sign_on.client_id (CT_SSO_CLIENT_ID), server_url (CT_SERVER_URL) beside it"),
    variable("CT_SSO_PROVIDER", "Okta", "sign_on.provider", "\"Okta\"")
        .with(&["CT_SSO_SYSTEM_BASE_URL", "CT_SSO_CLIENT_ID", "CT_SSO_CLIENT_SECRET", "CT_SERVER_URL"])
        .wrong("two\nlines", "\"two\\nlines\" is no name for a button; write one like \"Okta\""),
    variable("CT_REGION", "eu-west", "region", "\"eu-west\"")
        .wrong("eu west", "\"eu west\" is no region; write one like \"eu-west\""),
];

/// Variables that the notes do not know.
const OWN: [&str; 1] = ["CTEDGE_LICENSE_PUBLIC_KEY"];

/// Settings for which no text is wrong: names of people, and files that may be called anything. What is wrong in a license
/// is told where licenses are judged.
const ANY_TEXT: [&str; 18] = [
    "data",
    "secret_file",
    "license.licensee",
    "license.max_connections",
    "license.expiration",
    "license.locator",
    "license.signature",
    "license.file",
    "license.config",
    "log.server",
    "log.sessions",
    "log.usage",
    "log.access",
    "log.error",
    "node.owner",
    "portal.clients_folder",
    "portal.password_file",
    "portal.registry_password_file",
];

/// Text that is nothing that a setting could mean, with what would break a line or leave its quotes.
const NONSENSE: &str = "\"a b:\\n/%\\\"\"";

/// What a fault says must tell what to write instead. It does so in one of these ways.
const REMEDIES: [&str; 14] = [
    "like \"",
    "is none of \"",
    "is not from ",
    "without quotes",
    " quotes",
    " belongs",
    "needs portal.",
    "needs sign_on.",
    "; it begins with",
    "a list in brackets",
    "a pattern has five",
    "write ",
    " prints one",
    " has at least 16 characters",
];

struct Variable {
    name: &'static str,
    value: &'static str,
    setting: &'static str,
    written: &'static str,
    /// Other variables that it needs.
    with: &'static [&'static str],
    wrong: Option<(&'static str, &'static str)>,
}

const fn variable(name: &'static str, value: &'static str, setting: &'static str, written: &'static str) -> Variable {
    Variable { name, value, setting, written, with: &[], wrong: None }
}

impl Variable {
    const fn with(self, with: &'static [&'static str]) -> Self {
        Self { with, ..self }
    }

    const fn wrong(self, value: &'static str, problem: &'static str) -> Self {
        Self { wrong: Some((value, problem)), ..self }
    }
}

/// Settles with these variables.
fn with(set: &[(&str, &str)]) -> Result<Settings, Vec<Fault>> {
    parse("", &|asked| set.iter().find(|(name, _)| *name == asked).map(|(_, value)| (*value).to_owned()))
}

/// Every setting of a written file by its full name.
fn settings_of(written: &str) -> BTreeMap<String, String> {
    let mut section = "";
    let mut settings = BTreeMap::new();
    for line in written.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((name, value)) = line.split_once(" = ") {
            let full_name = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            settings.insert(full_name, value.to_owned());
        }
    }
    settings
}

/// A file with this one setting, and the line that it stands on.
fn file_with(setting: &str, value: &str) -> (String, usize) {
    match setting.rsplit_once('.') {
        Some((section, name)) => (format!("[{section}]\n{name} = {value}\n"), 2),
        None => (format!("{setting} = {value}\n"), 1),
    }
}

/// `text` has one fault, of one line, that begins with `place`, names `setting` and says what to write instead.
#[track_caller]
fn check_one_line(text: &str, place: &str, setting: &str) {
    let faults = parse(text, &|_| None).expect_err(text);
    let lines: Vec<_> = faults.iter().map(Fault::to_string).collect();
    assert_eq!(lines.len(), 1, "{text}: {lines:?}");
    let problem = lines[0].strip_prefix(&format!("{place}: {setting}: "));
    let problem = problem.unwrap_or_else(|| panic!("{place}: {setting} is not named in {lines:?}"));
    assert!(!problem.contains('\n'), "{problem:?} is more than one line");
    assert!(REMEDIES.iter().any(|remedy| problem.contains(remedy)), "what to write instead of {text:?}? {problem:?}");
}

#[test]
fn every_variable_of_the_notes_is_known_and_no_other_but_our_own() {
    let known: Vec<_> = variables().collect();
    let distinct: BTreeSet<_> = known.iter().copied().collect();
    assert_eq!(known.len(), distinct.len(), "one is listed twice");
    let honoured = HONOURED.iter().map(|variable| variable.name);
    assert_eq!(distinct, honoured.chain(OWN).collect());
}

#[test]
fn every_variable_sets_what_the_notes_say_and_nothing_else() {
    let defaults = settings_of(&default_config());
    for variable in &HONOURED {
        let companions = variable.with.iter().map(|name| HONOURED.iter().find(|other| other.name == *name).unwrap());
        let all: Vec<_> = std::iter::once(variable).chain(companions).collect();
        let set: Vec<_> = all.iter().map(|one| (one.name, one.value)).collect();
        let settings = settings_of(with(&set).unwrap_or_else(|faults| panic!("{faults:?}")).written());
        let changed: BTreeMap<_, _> =
            settings.iter().filter(|(name, value)| defaults.get(*name) != Some(value)).collect();
        let changed: BTreeMap<_, _> =
            changed.into_iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(changed, all.iter().map(|one| (one.setting, one.written)).collect(), "{}", variable.name);
    }
}

#[test]
fn an_empty_variable_counts_as_none() {
    let set: Vec<_> = variables().map(|name| (name, "")).collect();
    assert_eq!(with(&set).unwrap().written(), default_config());
}

#[test]
fn a_wrong_value_in_a_variable_is_one_line_that_names_it() {
    for Variable { name, setting, wrong, .. } in &HONOURED {
        let Some((value, problem)) = wrong else { continue };
        let faults = with(&[(name, value)]).expect_err(name);
        let lines: Vec<_> = faults.iter().map(Fault::to_string).collect();
        assert_eq!(lines.len(), 1, "{name}: {lines:?}");
        assert!(lines[0].starts_with(&format!("{name}: {setting}: {problem}")), "{lines:?}");
    }
    let faults = with(&[("CTEDGE_LICENSE_PUBLIC_KEY", "AAAA")]).unwrap_err();
    let expected =
        "CTEDGE_LICENSE_PUBLIC_KEY: license.public_key: this is no public key of licenses; `ctedge license keygen`";
    assert!(faults.len() == 1 && faults[0].to_string().starts_with(expected), "{faults:?}");
}

#[test]
fn a_wrong_value_in_a_variable_of_the_license_is_one_line_that_names_it_where_it_is_judged() {
    // A signature of the right form; whether it is right is not asked as long as something else is wrong.
    let signature = format!("v1.{}", "A".repeat(86));
    let right = [
        ("CT_LICENSEE", "Example Corp"),
        ("CT_MAXCONNECTIONS", "250"),
        ("CT_EXPIRATION", "2027/12/31"),
        ("CT_LOCATOR", "none"),
        ("CT_SIGNATURE", signature.as_str()),
    ];
    assert!(License::read(&with(&right).unwrap().license().fields).is_ok());
    for (name, value) in [
        ("CT_LICENSEE", "two\nlines"),
        ("CT_MAXCONNECTIONS", "many"),
        ("CT_EXPIRATION", "31.12.2027"),
        ("CT_LOCATOR", "not a host"),
        ("CT_SIGNATURE", "v1.abc"),
    ] {
        let set = right.map(|(other, good)| (other, if other == name { value } else { good }));
        let written = set.map(|(name, value)| {
            let setting = HONOURED.iter().find(|variable| variable.name == name).unwrap().setting;
            (setting.trim_start_matches("license."), value)
        });
        let file = written.map(|(setting, value)| format!("{setting} = {value:?}\n")).concat();
        let setting = HONOURED.iter().find(|variable| variable.name == name).unwrap().setting;
        for settings in [with(&set), parse(&format!("[license]\n{file}"), &|_| None)] {
            let malformed = License::read(&settings.unwrap().license().fields).expect_err(name).to_string();
            assert!(malformed.starts_with(&format!("{name} ({setting}): ")), "{malformed}");
            assert!(!malformed.contains('\n'), "{malformed:?} is more than one line");
        }
    }
}

#[test]
fn a_value_of_another_kind_in_any_setting_is_one_line_that_names_it() {
    let settings = settings_of(&default_config());
    assert!(settings.len() > 100, "{} settings", settings.len());
    for setting in settings.keys() {
        // No setting is a date.
        let (text, line) = file_with(setting, "2026-11-24");
        check_one_line(&text, &format!("line {line}"), setting);
    }
}

#[test]
fn nonsense_in_any_setting_is_one_line_that_names_it() {
    for setting in settings_of(&default_config()).keys() {
        let (text, line) = file_with(setting, NONSENSE);
        if ANY_TEXT.contains(&setting.as_str()) {
            // A password's file needs its user beside it.
            let alone = parse(&text, &|_| None);
            assert!(alone.is_ok() || setting == "portal.registry_password_file", "{setting}: {alone:?}");
        } else {
            check_one_line(&text, &format!("line {line}"), setting);
        }
    }
}

#[test]
fn a_number_a_time_and_a_size_outside_of_the_documented_range_is_refused_with_the_range() {
    let mut ranges = 0;
    let (mut section, mut comment) = ("", String::new());
    let text = default_config();
    for line in text.lines() {
        if let Some(more) = line.strip_prefix("# ") {
            comment = format!("{comment} {more}");
            continue;
        }
        let written = std::mem::take(&mut comment);
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        }
        let Some((name, _)) = line.split_once(" = ") else { continue };
        let Some((_, range)) = written.rsplit_once(" From ") else { continue };
        let Some((least, most)) = range.trim_end_matches('.').split_once(" to ") else { continue };
        let (setting, above) = (format!("{section}.{name}"), beyond(most));
        let (text, _) = file_with(&setting, &above);
        let faults = parse(&text, &|_| None).expect_err(&text);
        let lines: Vec<_> = faults.iter().map(Fault::to_string).collect();
        let expected = format!("line 2: {setting}: ");
        assert!(lines[0].starts_with(&expected), "{text}: {lines:?}");
        assert!(lines[0].ends_with(&format!(" is not from {least} to {most}")), "{text}: {lines:?}");
        ranges += 1;
    }
    assert!(ranges > 50, "{ranges} ranges");
}

/// Ten times as much as what is written: `64`, `1.5`, `"10m"` or `"4GiB"`.
fn beyond(most: &str) -> String {
    let quoted = most.starts_with('"');
    let bare = most.trim_matches('"');
    let unit = bare.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(bare.len());
    let (number, unit) = bare.split_at(unit);
    let (number, rest) = number.split_once('.').unwrap_or((number, ""));
    let point = if rest.is_empty() { "" } else { "." };
    // A number that no port has is refused before its range is looked at.
    let more = if number == "65535" { "0".to_owned() } else { format!("{number}0") };
    let more = format!("{more}{point}{rest}{unit}");
    if quoted { format!("\"{more}\"") } else { more }
}

#[test]
fn a_wrong_value_in_a_row_is_one_line_that_names_it() {
    let rows = [
        (
            "nodes",
            &[("id", "\"a\""), ("address", "\"127.0.0.1:3001\""), ("listen", "\"0.0.0.0:3001\""), ("weight", "1")][..],
        ),
        ("dns", &[("name", "\"nodes.example\""), ("port", "3001"), ("weight", "1")][..]),
        ("certificates", &[("chain", "\"a.pem\""), ("key", "\"b.pem\"")][..]),
    ];
    for (list, fields) in rows {
        check_one_line(&format!("{list} = 2026-11-24\n"), "line 1", list);
        for (position, (field, _)) in fields.iter().enumerate() {
            let lines = fields.iter().map(|(name, right)| {
                let value = if name == field { "2026-11-24" } else { right };
                format!("{name} = {value}\n")
            });
            let text = format!("[[{list}]]\n{}", lines.collect::<String>());
            assert!(parse(&text.replace("2026-11-24", fields[position].1), &|_| None).is_ok(), "{text}");
            check_one_line(&text, &format!("line {}", position + 2), &format!("{list}.{field}"));
        }
    }
}
