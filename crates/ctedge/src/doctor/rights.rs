//! What the user of this command may look at.
//!
//! An edge keeps its data for its own user. Where another one runs this command, what that user may not see is no fault of the edge.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ctedge_doctor::facts::{Denied, PortFact, PortState};
use ctedge_doctor::finding::Check;
use ctedge_settings::{Settings, StoreUrl};
use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::geteuid;

/// Whether this user is the one who runs the edge, whose data folder is `data`, or may do whatever that one may.
fn runs_the_edge(data: &Path) -> bool {
    let user = geteuid();
    user.is_root()
        || fs::metadata(data).map_or_else(
            // Before the first start nobody runs it yet; where the folder cannot even be asked, it is another's.
            |error| error.kind() == std::io::ErrorKind::NotFound,
            |metadata| metadata.uid() == user.as_raw(),
        )
}

/// What of `settings` this user may not look at, and the user who runs the edge may.
pub(super) fn denied(settings: &Settings) -> Vec<Denied> {
    if runs_the_edge(settings.data()) {
        return Vec::new();
    }
    let look = |check, path: &Path, rights, what: &str| {
        let is_denied = access(path, rights) == Err(Errno::ACCESS);
        is_denied.then(|| Denied { check, what: format!("{what} {}", path.display()) })
    };
    let secret = look(Check::Nodes, &settings.secret_file(), Access::READ_OK, "the cluster secret");
    let store = match settings.store().map(|store| store.url) {
        Some(StoreUrl::Sqlite(path)) => look(Check::Store, &path, Access::READ_OK | Access::WRITE_OK, "the store"),
        _ => None,
    };
    let license = settings.license();
    let files = if license.fields.is_empty() { vec![&license.file, &license.config] } else { vec![] };
    let license = files.into_iter().find_map(|path| look(Check::License, path, Access::READ_OK, "the license"));
    [secret, store, license].into_iter().flatten().collect()
}

/// Takes the ports away on which this user may not listen, where another one runs the edge.
pub(super) fn without_forbidden(settings: &Settings, ports: Vec<PortFact>) -> (Vec<PortFact>, Vec<Denied>) {
    if runs_the_edge(settings.data()) {
        return (ports, Vec::new());
    }
    let (forbidden, rest): (Vec<_>, Vec<_>) = ports.into_iter().partition(|port| port.state == PortState::Forbidden);
    let denied = |port: PortFact| {
        let what = format!("whether {} ({}) is free", port.address, port.setting);
        Denied { check: Check::Ports, what }
    };
    (rest, forbidden.into_iter().map(denied).collect())
}
