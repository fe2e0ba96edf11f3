//! The store of the settings, and the disk below it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ctedge_doctor::facts::{ClockFact, Disk, StoreFacts, StoreKind, StoreProbe};
use ctedge_settings::{Settings, StoreSettings, StoreUrl};
use ctedge_store::OpenError;
use rustix::fs::{Access, access, statfs};

use super::nodes::ListedNode;
use super::tls::unix_now;

/// File systems that machines share, by the numbers of `linux/magic.h`.
const NETWORK_FILE_SYSTEMS: [(u64, &str); 8] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x00c3_6400, "Ceph"),
    (0x0102_1997, "9P"),
    (0x5346_414f, "AFS"),
    (0x0161_1970, "GFS2"),
];

/// What is found in and around a store.
pub(super) struct Looked {
    pub(super) facts: StoreFacts,
    /// The store's clock, where that is another machine's.
    pub(super) clock: Option<ClockFact>,
    /// Addresses by which more than one node that lives is entered.
    pub(super) shared_addresses: Vec<(String, Vec<String>)>,
}

/// Looks at the store.
pub(super) fn look(settings: &Settings, nodes: &[ListedNode]) -> anyhow::Result<Looked> {
    let hosts: BTreeSet<_> = nodes.iter().map(|node| node.address.ip()).collect();
    let mut probed = Probed::default();
    let kind = match settings.store() {
        None => StoreKind::None,
        Some(store) => match &store.url {
            StoreUrl::Sqlite(path) => sqlite(path, &store, &mut probed)?,
            StoreUrl::Postgres(_) => {
                StoreKind::Postgres { place: store.url.to_string(), probe: probe(&store, &mut probed)? }
            }
        },
    };
    let Probed { clock, shared_addresses } = probed;
    let facts = StoreFacts { kind, nodes: nodes.len(), hosts: hosts.len() };
    Ok(Looked { facts, clock, shared_addresses })
}

/// What an answer of a store tells beside how the store is.
#[derive(Default)]
struct Probed {
    clock: Option<ClockFact>,
    shared_addresses: Vec<(String, Vec<String>)>,
}

fn sqlite(path: &Path, store: &StoreSettings, probed: &mut Probed) -> anyhow::Result<StoreKind> {
    // The folder may be made with the file.
    let folder =
        path.ancestors().skip(1).find(|folder| folder.exists()).filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let probe = match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let writable = access(folder, Access::WRITE_OK | Access::EXEC_OK);
            StoreProbe::Absent(writable.map_err(|error| format!("{}: {error}", folder.display())))
        }
        Err(error) => StoreProbe::Failed(error.to_string()),
        Ok(_) => probe(store, probed)?,
    };
    Ok(StoreKind::Sqlite { path: path.display().to_string(), disk: disk(folder), probe })
}

fn disk(folder: &Path) -> Option<Disk> {
    let system = statfs(folder).ok()?;
    // The number has another width on every kind of machine; all of them have 32 bits.
    #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)]
    let magic = u64::from(system.f_type as u32);
    let network = NETWORK_FILE_SYSTEMS.iter().find(|(number, _)| *number == magic).map(|(_, name)| (*name).to_owned());
    #[allow(clippy::cast_sign_loss)]
    let free_bytes = system.f_bavail.saturating_mul(system.f_bsize as u64);
    Some(Disk { network, free_bytes })
}

fn probe(store: &StoreSettings, probed: &mut Probed) -> anyhow::Result<StoreProbe> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let began = unix_now();
    let inspection = match runtime.block_on(ctedge_store::inspect(store)) {
        Ok(inspection) => inspection,
        // The place stands in the finding already.
        Err(OpenError::Failed { problem, .. }) => return Ok(StoreProbe::Failed(problem)),
        Err(error) => return Ok(StoreProbe::Failed(error.to_string())),
    };
    let took = unix_now().saturating_sub(began);
    let milliseconds = |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    probed.clock = inspection.clock.map(|clock| ClockFact {
        whose: "the store".to_owned(),
        ahead_ms: i64::try_from(clock.0).unwrap_or(i64::MAX) - milliseconds(began + took / 2),
        uncertain_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX) / 2,
    });
    let ctedge_store::Inspection { schema, known, writes, latency, shared_addresses, .. } = inspection;
    probed.shared_addresses = shared_addresses;
    Ok(StoreProbe::Answered { schema, known, writes, latency })
}
