//! What the store does not have yet, noted in files of this machine, so that `kill -9` does not take it.
//!
//! The journal writes behind the messages. What a node was told in its last moments is therefore not in the store when its
//! process is killed; but the kernel has it, if the process has handed it over: the page cache outlives the process. So
//! whatever a next owner has to know is noted here before anybody else hears of it, and whoever ends the lease of a process
//! of this machine brings its notes into the store in the same transaction. Nothing is synced to the disk: a machine that
//! loses its power takes its notes along, and nobody has promised anything about that.
//!
//! Notes lack nothing of what happened since their beginning. So they may be brought in over whatever the store has of
//! that already: of each peer and each request the last word counts, and it is here.
//!
//! - `pages`: the two files of a lease. `record`: an entry in a file. `ending`: they come into the store.

pub(crate) mod ending;
mod pages;
mod record;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ctedge_ownership::LeaseId;
use parking_lot::Mutex;

use self::pages::Pages;
use crate::entry::Entry;
use crate::health::NotesHealth;
use crate::journal::JournalMark;

/// The most that one file of the two holds: what a busy node is told in some ten seconds. A store that is away for longer
/// takes away what is older.
const PAGE_BYTES_MAX: u64 = 4 << 20;

/// How long nothing is noted after a note could not be written. A disk in trouble is not to be asked for each request.
const PAUSE: Duration = Duration::from_secs(1);

/// The notes of this process, and those that others of this machine have left.
#[derive(Debug)]
pub(crate) struct Notes {
    folder: PathBuf,
    page_bytes_max: u64,
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Open>,
    /// When notes may begin anew after a failure.
    again_at: Option<Instant>,
    health: NotesHealth,
    /// Kept between notes to spare an allocation for each.
    record: Vec<u8>,
}

/// The notes of one lease.
#[derive(Debug)]
struct Open {
    lease: LeaseId,
    pages: Pages,
    /// How far the journal must be for the former page to be done with. `None` while nobody knows.
    former_until: Option<JournalMark>,
}

/// Which page a round began with; see [`Notes::begin_round`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Round(Option<u64>);

impl Notes {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, page_bytes_max: PAGE_BYTES_MAX, pause: PAUSE, state: Mutex::default() }
    }

    /// Notes an entry, with one system call. What is to write it into the store must have it already, or [`Self::begin_round`]
    /// may take it for written.
    pub(crate) fn note(&self, entry: &Entry) {
        let Some((_, _, by)) = entry.fence() else { return };
        let mut state = self.state.lock();
        if state.again_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let mut record = std::mem::take(&mut state.record);
        record.clear();
        if record::write(entry, &mut record).is_some()
            && let Err(error) = state.append(&self.folder, by, &record, self.page_bytes_max)
        {
            state.fail(&self.folder, &error, self.pause);
        }
        state.record = record;
    }

    /// Everything that was noted until this moment will be in the journal's queue by [`Self::end_round`]; the journal has written
    /// everything up to `written`.
    pub(crate) fn begin_round(&self, written: JournalMark) -> Round {
        let mut state = self.state.lock();
        let turned = state.open.as_mut().map(|open| open.begin_round(written));
        let round = turned.transpose().unwrap_or_else(|error| {
            state.fail(&self.folder, &error, self.pause);
            None
        });
        Round(round)
    }

    /// The journal's queue ends at `end`.
    pub(crate) fn end_round(&self, Round(turn): Round, end: JournalMark) {
        let mut state = self.state.lock();
        if let Some(open) = &mut state.open
            && turn == Some(open.pages.turn())
        {
            open.former_until.get_or_insert(end);
        }
    }

    /// What is noted of `lease` on this machine. A file that cannot be read is named in the log.
    pub(crate) fn read(&self, lease: &LeaseId) -> Vec<Entry> {
        let problem = |file: &Path, error| {
            tracing::warn!(file = %file.display(), %error, "notes of {lease} cannot be read and are lost");
        };
        let pages = pages::read(&self.folder, lease, problem);
        pages.iter().flat_map(|page| record::read_all(page, lease)).collect()
    }

    /// Removes what is noted of a lease that is over.
    pub(crate) fn remove(&self, lease: &LeaseId) {
        let mut state = self.state.lock();
        let is_own = state.open.take_if(|open| open.lease == *lease).is_some();
        // Own ones could begin anew meanwhile. Whoever notes is not to wait for the files of others.
        let held = is_own.then_some(state);
        pages::remove(&self.folder, lease);
        drop(held);
    }

    /// The leases of which something is noted on this machine.
    pub(crate) fn leases(&self) -> Vec<LeaseId> {
        pages::leases(&self.folder)
    }

    pub(crate) fn health(&self) -> NotesHealth {
        let state = self.state.lock();
        let bytes = state.open.as_ref().map_or(0, |open| open.pages.written() + open.pages.former());
        NotesHealth { bytes, ..state.health }
    }
}

impl State {
    fn append(&mut self, folder: &Path, by: &LeaseId, record: &[u8], page_bytes_max: u64) -> io::Result<()> {
        let open = match &mut self.open {
            Some(open) if open.lease == *by => open,
            former => {
                // The lease before is over, or this process would not have another.
                if let Some(former) = former.take() {
                    pages::remove(folder, &former.lease);
                }
                let pages = Pages::create(folder, by)?;
                former.insert(Open { lease: by.clone(), pages, former_until: None })
            }
        };
        if open.pages.written() + record.len() as u64 > page_bytes_max {
            self.health.dropped += u64::from(open.pages.former() > 0);
            open.turn()?;
        }
        open.pages.append(record)
    }

    /// Notes with a gap would bring back what is over. So these are given up, and others begun.
    fn fail(&mut self, folder: &Path, error: &io::Error, pause: Duration) {
        self.again_at = Some(Instant::now() + pause);
        self.health.dropped += 1;
        if self.health.dropped.is_power_of_two() {
            let folder = folder.display();
            tracing::warn!(%folder, %error, "notes cannot be written: a node that is killed may lose its last moments");
        }
        if let Some(open) = self.open.take() {
            pages::remove(folder, &open.lease);
        }
    }
}

impl Open {
    fn begin_round(&mut self, written: JournalMark) -> io::Result<u64> {
        if self.former_until.is_some_and(|until| written.reaches(until)) {
            self.pages.empty_former()?;
            self.former_until = None;
        }
        if self.pages.former() == 0 && self.pages.written() > 0 {
            self.turn()?;
        }
        Ok(self.pages.turn())
    }

    fn turn(&mut self) -> io::Result<()> {
        self.former_until = None;
        self.pages.take_turns()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use ctedge_ownership::{Epoch, NodeId, StoredPeer};
    use ctedge_wire::Key;
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::journal::Queue;

    fn lease(incarnation: u64) -> LeaseId {
        LeaseId::new(NodeId::new("node-1"), incarnation)
    }

    fn requested(by: u64, bytes: &[u8]) -> Entry {
        let (key, bytes) = (Key::parse("room").unwrap(), Bytes::copy_from_slice(bytes));
        Entry::Requested { key, epoch: Epoch(1), by: lease(by), bytes }
    }

    fn notes(page_bytes_max: u64) -> (Notes, TempDir) {
        let folder = TempDir::new().unwrap();
        (Notes { page_bytes_max, ..Notes::new(folder.path().join("notes")) }, folder)
    }

    /// What happens to one session.
    #[derive(Debug, Clone)]
    enum Step {
        Joins(u64),
        Leaves(u64),
        Asks(u8),
        Answers(u8),
        Round,
        /// The journal writes about so many entries.
        Writes(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..4_u64).prop_map(Step::Joins),
            (0..4_u64).prop_map(Step::Leaves),
            (0..4_u8).prop_map(Step::Asks),
            (0..4_u8).prop_map(Step::Answers),
            Just(Step::Round),
            (2..8_usize).prop_map(Step::Writes),
        ]
    }

    /// A session as somebody knows it.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    struct Session {
        peers: BTreeSet<u64>,
        in_flight: BTreeSet<u8>,
    }

    impl Session {
        /// What a transaction makes of an entry.
        fn take(&mut self, entry: &Entry) {
            match entry {
                Entry::PeerJoined { peer, .. } => drop(self.peers.insert(peer.clock)),
                Entry::PeerLeft { clock, .. } => drop(self.peers.remove(clock)),
                Entry::InFlight { bytes, .. } => self.in_flight = bytes.iter().flatten().copied().collect(),
                Entry::Requested { bytes, .. } => self.in_flight.extend(bytes.iter()),
                _ => {}
            }
        }
    }

    /// A node with one session, as `ctedge-node` writes of it, and a store.
    struct World {
        notes: Notes,
        queue: Queue,
        written: JournalMark,
        truth: Session,
        store: Session,
        changed: bool,
        wrote_in_flight: bool,
        /// Answered since the last round.
        answered: BTreeSet<u8>,
    }

    impl World {
        fn step(&mut self, step: Step) {
            let (key, epoch, by) = (Key::parse("room").unwrap(), Epoch(1), lease(1));
            match step {
                Step::Joins(clock) => {
                    let peer = StoredPeer { clock, host: false, user: String::new(), handshake: Bytes::new() };
                    self.truth.peers.insert(clock);
                    self.journal(Entry::PeerJoined { key, epoch, by, peer });
                }
                Step::Leaves(clock) => {
                    self.truth.peers.remove(&clock);
                    self.journal(Entry::PeerLeft { key, epoch, by, clock });
                }
                Step::Asks(id) => {
                    self.changed = true;
                    self.truth.in_flight.insert(id);
                    self.notes.note(&requested(1, &[id]));
                }
                Step::Answers(id) => {
                    self.changed = true;
                    self.answered.extend(self.truth.in_flight.take(&id));
                }
                Step::Round => {
                    let round = self.notes.begin_round(self.written);
                    if std::mem::take(&mut self.changed) {
                        let in_flight: Vec<u8> = self.truth.in_flight.iter().copied().collect();
                        let bytes = Some(Bytes::from(in_flight)).filter(|bytes| !bytes.is_empty());
                        let is_needed = bytes.is_some() || self.wrote_in_flight;
                        self.wrote_in_flight = bytes.is_some();
                        let entry = Entry::InFlight { key, epoch, by, bytes };
                        if is_needed { self.journal(entry) } else { self.notes.note(&entry) }
                    }
                    self.answered.clear();
                    self.notes.end_round(round, self.queue.end());
                }
                Step::Writes(entries) => {
                    for entry in self.queue.take(entries) {
                        self.store.take(&entry);
                    }
                    self.written = self.queue.taken_are_done();
                }
            }
        }

        fn journal(&mut self, entry: Entry) {
            self.queue.push(entry.clone());
            self.notes.note(&entry);
        }
    }

    proptest! {
        #[test]
        fn whenever_a_process_dies_its_notes_have_what_the_store_lacks(
            steps in proptest::collection::vec(step(), 0..120),
        ) {
            let (notes, _folder) = notes(PAGE_BYTES_MAX);
            let mut world = World {
                notes,
                queue: Queue::new(1_000),
                written: JournalMark::default(),
                truth: Session::default(),
                store: Session::default(),
                changed: false,
                wrote_in_flight: false,
                answered: BTreeSet::new(),
            };
            for step in steps {
                world.step(step);
                let mut next = world.store.clone();
                world.notes.read(&lease(1)).iter().for_each(|entry| next.take(entry));
                prop_assert_eq!(&next.peers, &world.truth.peers);
                prop_assert!(next.in_flight.is_superset(&world.truth.in_flight));
                // An answer of the last moments may not have come to the requester: that it is told of an error does no harm.
                let told = next.in_flight.difference(&world.truth.in_flight);
                prop_assert!(told.clone().all(|id| world.answered.contains(id)), "{:?}", told.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn what_the_store_has_is_not_kept() {
        let (notes, _folder) = notes(PAGE_BYTES_MAX);
        let mut queue = Queue::new(100);
        let mut round = |written| {
            let round = notes.begin_round(written);
            queue.push(requested(1, &[0]));
            let end = queue.end();
            notes.end_round(round, end);
            end
        };
        notes.note(&requested(1, &[1]));
        let first = round(JournalMark::default());
        notes.note(&requested(1, &[2]));
        round(JournalMark::default());
        assert_eq!(notes.read(&lease(1)), [requested(1, &[1]), requested(1, &[2])]);
        round(first);
        assert_eq!(notes.read(&lease(1)), [requested(1, &[2])]);
        let last = round(first);
        round(last);
        assert_eq!((notes.read(&lease(1)), notes.health()), (Vec::new(), NotesHealth::default()));
    }

    #[test]
    fn a_store_that_is_away_leaves_the_newest_notes_within_the_bound() {
        let (notes, folder) = notes(1_000);
        for id in 0..=255 {
            notes.note(&requested(1, &[id]));
        }
        let NotesHealth { bytes, dropped } = notes.health();
        let kept = notes.read(&lease(1));
        assert!(bytes <= 2_000 + 16 && dropped > 0, "{bytes} bytes, {dropped} times");
        assert!(kept.len() > 20, "{}", kept.len());
        let newest: Vec<Entry> = (0..=255).map(|id| requested(1, &[id])).skip(256 - kept.len()).collect();
        assert_eq!(kept, newest);
        assert_eq!(std::fs::read_dir(folder.path().join("notes")).unwrap().count(), 2);
    }

    #[test]
    fn notes_are_of_one_lease_and_those_of_another_begin_anew() {
        let (notes, _folder) = notes(PAGE_BYTES_MAX);
        notes.note(&requested(1, &[1]));
        assert_eq!(notes.leases(), [lease(1)]);
        notes.note(&requested(2, &[2]));
        assert_eq!((notes.leases(), notes.read(&lease(1))), (vec![lease(2)], vec![]));
        notes.remove(&lease(2));
        assert_eq!(notes.leases(), []);
        notes.note(&requested(2, &[3]));
        assert_eq!(notes.read(&lease(2)), [requested(2, &[3])]);
    }

    #[test]
    fn notes_that_cannot_be_written_are_counted_and_begin_anew_when_they_can() {
        let (notes, folder) = notes(PAGE_BYTES_MAX);
        let notes = Notes { pause: Duration::from_secs(3600), ..notes };
        let path = folder.path().join("notes");
        std::fs::write(&path, "in the way").unwrap();
        for id in 0..3 {
            notes.note(&requested(1, &[id]));
        }
        assert_eq!(notes.health(), NotesHealth { bytes: 0, dropped: 1 }, "it is not tried for each");
        std::fs::remove_file(&path).unwrap();
        notes.note(&requested(1, &[3]));
        assert_eq!(notes.read(&lease(1)), []);
        let notes = Notes { pause: Duration::ZERO, ..notes };
        notes.state.lock().again_at = None;
        notes.note(&requested(1, &[4]));
        assert_eq!(notes.read(&lease(1)), [requested(1, &[4])]);
    }
}
