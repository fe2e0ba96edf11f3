//! The `CT_*` variables that operators know from the original.

use crate::settings::Override;
use crate::value::Value;

/// Variables that override a setting of text, and the setting.
const HONOURED: [(&str, &str); 15] = [
    ("CT_SERVER_URL", "server_url"),
    ("CT_LICENSEE", "license.licensee"),
    ("CT_MAXCONNECTIONS", "license.max_connections"),
    ("CT_EXPIRATION", "license.expiration"),
    ("CT_LOCATOR", "license.locator"),
    ("CT_SIGNATURE", "license.signature"),
    ("CTEDGE_LICENSE_PUBLIC_KEY", "license.public_key"),
    ("CT_TIME_ZONE", "log.time_zone"),
    ("CT_AUTO_RESTART_CRON_PATTERN", "restart.schedule"),
    ("CT_DASHBOARD_USER", "portal.dashboard_user"),
    ("CT_DASHBOARD_PASSWORD", "portal.dashboard_password"),
    ("CT_LOGS_USER", "portal.logs_user"),
    ("CT_LOGS_PASSWORD", "portal.logs_password"),
    ("CT_METRICS_STATSD_HOST", "metrics.statsd_host"),
    ("CT_METRICS_STATSD_PROTOCOL", "metrics.statsd_protocol"),
];

/// Variables that override a switch, and the setting.
const SWITCHES: [(&str, &str); 2] =
    [("CT_AUTO_RESTART_DISABLED", "restart.disabled"), ("CT_PROMETHEUS_ENABLED", "metrics.prometheus")];

/// Variables that override a number, and the setting.
const NUMBERS: [(&str, &str); 1] = [("CT_METRICS_STATSD_PORT", "metrics.statsd_port")];

/// Variables of the original that stand for something this edge does not do yet. They are named at the start, so that
/// nobody relies on one of them in vain.
const NOT_HONOURED: [&str; 7] = [
    "CT_TRUST_ALL_CERTS",
    "CT_SSO_SYSTEM_BASE_URL",
    "CT_SSO_AUTHORIZATION_ENDPT",
    "CT_SSO_TOKEN_ENDPT",
    "CT_SSO_CLIENT_ID",
    "CT_SSO_PROVIDER",
    "CT_REGION",
];

/// The overrides that the environment holds. An empty variable counts as none.
pub fn overrides_of(variable: &dyn Fn(&str) -> Option<String>) -> Vec<Override> {
    HONOURED
        .iter()
        .filter_map(|(name, setting)| {
            let value = variable(name).filter(|value| !value.is_empty())?;
            Some(Override::new(*setting, Value::Text(value), *name))
        })
        .chain(SWITCHES.iter().filter_map(|(name, setting)| {
            let written = variable(name).filter(|value| !value.is_empty())?;
            // What is no switch becomes a fault that names the variable.
            let value = switch(&written).map_or(Value::Text(written), Value::Switch);
            Some(Override::new(*setting, value, *name))
        }))
        .chain(NUMBERS.iter().filter_map(|(name, setting)| {
            let written = variable(name).filter(|value| !value.is_empty())?;
            let value = written.trim().parse().map_or_else(|_| Value::Text(written.clone()), Value::Integer);
            Some(Override::new(*setting, value, *name))
        }))
        .chain(no_clients(variable))
        .collect()
}

/// `CT_NOCLIENTS` says the opposite of its setting.
fn no_clients(variable: &dyn Fn(&str) -> Option<String>) -> Option<Override> {
    const NAME: &str = "CT_NOCLIENTS";
    let written = variable(NAME).filter(|value| !value.is_empty())?;
    let value = switch(&written).map_or(Value::Text(written), |no_clients| Value::Switch(!no_clients));
    Some(Override::new("portal.clients", value, NAME))
}

/// The ways in which operators write a switch in a variable.
fn switch(written: &str) -> Option<bool> {
    match written.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// The variables that are set and change nothing.
pub fn not_honoured(variable: &dyn Fn(&str) -> Option<String>) -> Vec<&'static str> {
    NOT_HONOURED.into_iter().filter(|name| variable(name).is_some()).collect()
}
