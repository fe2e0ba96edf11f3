//! The `CT_*` variables that operators know from the original.

use crate::settings::Override;
use crate::value::Value;

/// How a variable is read.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Switch,
    /// A switch that says the opposite of its setting.
    Opposite,
}

/// Variables that override a setting, and the setting.
const OVERRIDING: [(&str, Kind, &str); 27] = [
    ("CT_SERVER_URL", Kind::Text, "server_url"),
    ("CT_TRUST_ALL_CERTS", Kind::Switch, "portal.private_certificate"),
    ("CT_LICENSEE", Kind::Text, "license.licensee"),
    ("CT_MAXCONNECTIONS", Kind::Text, "license.max_connections"),
    ("CT_EXPIRATION", Kind::Text, "license.expiration"),
    ("CT_LOCATOR", Kind::Text, "license.locator"),
    ("CT_SIGNATURE", Kind::Text, "license.signature"),
    ("CTEDGE_LICENSE_PUBLIC_KEY", Kind::Text, "license.public_key"),
    ("CT_TIME_ZONE", Kind::Text, "log.time_zone"),
    ("CT_AUTO_RESTART_DISABLED", Kind::Switch, "restart.disabled"),
    ("CT_AUTO_RESTART_CRON_PATTERN", Kind::Text, "restart.schedule"),
    ("CT_NOCLIENTS", Kind::Opposite, "portal.clients"),
    ("CT_DASHBOARD_USER", Kind::Text, "portal.dashboard_user"),
    ("CT_DASHBOARD_PASSWORD", Kind::Text, "portal.dashboard_password"),
    ("CT_LOGS_USER", Kind::Text, "portal.logs_user"),
    ("CT_LOGS_PASSWORD", Kind::Text, "portal.logs_password"),
    ("CT_METRICS_STATSD_HOST", Kind::Text, "metrics.statsd_host"),
    ("CT_METRICS_STATSD_PORT", Kind::Number, "metrics.statsd_port"),
    ("CT_METRICS_STATSD_PROTOCOL", Kind::Text, "metrics.statsd_protocol"),
    ("CT_PROMETHEUS_ENABLED", Kind::Switch, "metrics.prometheus"),
    // Of two variables for one setting the later one counts.
    ("CT_SSO_AUTHORIZATION_ENDPT", Kind::Text, "sign_on.url"),
    ("CT_SSO_SYSTEM_BASE_URL", Kind::Text, "sign_on.url"),
    ("CT_SSO_TOKEN_ENDPT", Kind::Text, "sign_on.token_endpoint"),
    ("CT_SSO_CLIENT_ID", Kind::Text, "sign_on.client_id"),
    ("CT_SSO_CLIENT_SECRET", Kind::Text, "sign_on.client_secret"),
    ("CT_SSO_PROVIDER", Kind::Text, "sign_on.provider"),
    ("CT_REGION", Kind::Text, "region"),
];

/// The names of all variables that are looked at.
pub fn variables() -> impl Iterator<Item = &'static str> {
    OVERRIDING.into_iter().map(|(name, ..)| name)
}

/// The overrides that the environment holds. An empty variable counts as none.
pub fn overrides_of(variable: &dyn Fn(&str) -> Option<String>) -> Vec<Override> {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    OVERRIDING
        .into_iter()
        .filter_map(|(name, kind, setting)| Some(Override::new(setting, kind.read(set(name)?), name)))
        .collect()
}

impl Kind {
    /// The value of a variable. What is not of its kind stays text, and so becomes a fault that names the variable.
    fn read(self, written: String) -> Value {
        let read = match self {
            Self::Text => None,
            Self::Number => written.trim().parse().ok().map(Value::Integer),
            Self::Switch => switch(&written).map(Value::Switch),
            Self::Opposite => switch(&written).map(|on| Value::Switch(!on)),
        };
        read.unwrap_or(Value::Text(written))
    }
}

/// The ways in which operators write a switch in a variable.
fn switch(written: &str) -> Option<bool> {
    match written.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}
