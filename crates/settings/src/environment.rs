//! The `CT_*` variables that operators know from the original.

use crate::settings::Override;
use crate::value::Value;

/// Variables that override a setting of text, and the setting.
const HONOURED: [(&str, &str); 1] = [("CT_SERVER_URL", "server_url")];

/// Variables of the original that stand for something this edge does not do yet. They are named at the start, so that
/// nobody relies on one of them in vain.
const NOT_HONOURED: [&str; 24] = [
    "CT_TRUST_ALL_CERTS",
    "CT_LICENSEE",
    "CT_MAXCONNECTIONS",
    "CT_EXPIRATION",
    "CT_LOCATOR",
    "CT_SIGNATURE",
    "CT_DASHBOARD_USER",
    "CT_DASHBOARD_PASSWORD",
    "CT_LOGS_USER",
    "CT_LOGS_PASSWORD",
    "CT_METRICS_STATSD_HOST",
    "CT_METRICS_STATSD_PORT",
    "CT_METRICS_STATSD_PROTOCOL",
    "CT_PROMETHEUS_ENABLED",
    "CT_NOCLIENTS",
    "CT_TIME_ZONE",
    "CT_AUTO_RESTART_DISABLED",
    "CT_AUTO_RESTART_CRON_PATTERN",
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
        .collect()
}

/// The variables that are set and change nothing.
pub fn not_honoured(variable: &dyn Fn(&str) -> Option<String>) -> Vec<&'static str> {
    NOT_HONOURED.into_iter().filter(|name| variable(name).is_some()).collect()
}
