//! `[portal]` and the section below it.

mod registry;

use std::path::PathBuf;
use std::time::Duration;

use super::not_empty;
use super::units::{hours, mib, seconds};
use crate::reader::{Reader, Section};
use crate::settled::{Login, Password, PortalLimits, RegistrySettings};
use crate::value::{Value, Written, quoted};

/// `[portal]` and the section below it.
#[derive(Debug, Clone)]
pub(crate) struct Portal {
    pub(crate) clients: bool,
    pub(crate) clients_folder: PathBuf,
    pub(crate) private_certificate: bool,
    pub(crate) dashboard: Option<Login>,
    pub(crate) logs: Option<Login>,
    pub(crate) password_file: PathBuf,
    pub(crate) registry: Option<RegistrySettings>,
    pub(crate) limits: PortalLimits,
}

pub(super) fn portal(reader: &mut Reader) -> Portal {
    let mut section =
        reader.section("portal", "The pages for people beside the sessions: /clients, /dashboard and /logs.");
    let clients = section.any("clients", "Whether /clients is served. CT_NOCLIENTS=true overrides it.", true);
    let clients_folder = section.read(
        "clients_folder",
        "The folder of what /clients offers; `ctedge clients add` puts files in their places in it.",
        PathBuf::from("clients"),
        |path: &PathBuf| not_empty(path),
    );
    let private_certificate = section.any(
        "private_certificate",
        "Whether the certificate of server_url is of an authority that editors do not know by themselves: then /clients tells \
         each editor's users how to make it known. CT_TRUST_ALL_CERTS overrides it.",
        false,
    );
    let dashboard = login(
        &mut section,
        ["dashboard_user", "dashboard_password"],
        "Who may see /dashboard; without these, who may see /logs. Without either, the user is ctuser and the password \
         is made from the cluster secret at the first start, written to the server log once and kept in password_file. CT_DASHBOARD_USER and \
         CT_DASHBOARD_PASSWORD override them.",
    );
    let logs = login(
        &mut section,
        ["logs_user", "logs_password"],
        "Who may see /logs; without these, who may see /dashboard. CT_LOGS_USER and CT_LOGS_PASSWORD override them.",
    );
    let password_file = section.read(
        "password_file",
        "Where the generated password is kept. Write another one into it, on each machine, to change it at once.",
        PathBuf::from("dashboard.password"),
        |path: &PathBuf| not_empty(path),
    );
    let registry = registry::read(&mut section);
    let [dashboard, logs] = [("dashboard", dashboard), ("logs", logs)].map(|(name, pair)| whole(reader, name, pair));
    let registry = registry.whole(reader);
    Portal {
        clients,
        clients_folder,
        private_certificate,
        dashboard,
        logs,
        password_file,
        registry,
        limits: limits(reader),
    }
}

type Pair = (Option<String>, Option<Password>);

fn login(section: &mut Section<'_>, [user, password]: [&str; 2], doc: &str) -> Pair {
    let user = section.read(user, doc, None, |user: &Option<String>| match user {
        // RFC 7617, section 2: the first colon ends the user.
        Some(user) if user.contains([':', '\n', '\r', '\0']) => {
            Err(format!("{user:?} is no user; write one without colon and line break"))
        }
        _ => Ok(()),
    });
    (user, section.any(password, "", None))
}

/// A user needs a password, and a password a user.
fn whole(reader: &mut Reader, name: &str, (user, password): Pair) -> Option<Login> {
    match (user, password) {
        (Some(user), Some(password)) => Some(Login { user, password }),
        (None, None) => None,
        (Some(_), None) => {
            let variable = name.to_uppercase();
            let setting = format!("portal.{name}_user");
            reader.fault(&setting, format!("needs portal.{name}_password (CT_{variable}_PASSWORD) beside it"));
            None
        }
        (None, Some(_)) => {
            let variable = name.to_uppercase();
            let setting = format!("portal.{name}_password");
            reader.fault(&setting, format!("needs portal.{name}_user (CT_{variable}_USER) beside it"));
            None
        }
    }
}

fn limits(reader: &mut Reader) -> PortalLimits {
    let mut section = reader.section("portal.limits", "What strangers may try and operators may add.");
    PortalLimits {
        wrong_tries_max: section.within(
            "wrong_tries_max",
            "Wrong passwords of one client address, over all nodes together, until it has to pause.",
            10,
            1..=1_000,
        ),
        wrong_tries_pause: section.within(
            "wrong_tries_pause",
            "How long it has to pause.",
            seconds(60),
            Duration::from_secs(1)..=hours(24),
        ),
        addresses_max: section.within(
            "addresses_max",
            "Client addresses whose wrong passwords are remembered.",
            10_000,
            16..=1_000_000,
        ),
        client_bytes_max: section
            .within(
                "client_bytes_max",
                "What `ctedge clients add` takes, packed and unpacked.",
                mib(1024),
                mib(1)..=mib(64 * 1024),
            )
            .0,
        client_files_max: section.within(
            "client_files_max",
            "Files in an archive that `ctedge clients add` takes.",
            20_000,
            1..=1_000_000,
        ),
    }
}

impl Written for Password {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) => Ok(text.as_str().into()),
            // The value itself stays out of the fault.
            _ => Err("a password stands in quotes".to_owned()),
        }
    }

    fn write(&self) -> String {
        quoted(self.reveal())
    }
}
