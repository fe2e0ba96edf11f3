//! The door to the store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ctedge_ownership::{Command, Epoch, LeaseId, Outcome, SeatWish, StoreFailure};
use ctedge_settings::{StoreSettings, StoreUrl};
use ctedge_wire::Key;
use ctedge_wire::health::StoreState;
use sqlx::ConnectOptions as _;
use sqlx::any::AnyConnectOptions;

use crate::call::{Work, transact};
use crate::dialect::{Access, Dialect, driver_url};
use crate::entry::Entry;
use crate::fault::{Fault, FaultKind, OpenError};
use crate::file::{Seen, StoreFile};
use crate::health::{StoreHealth, Watch};
use crate::journal::{Journal, JournalMark};
use crate::lane::Lane;
use crate::notes::{Notes, ending};
use crate::schema::{self, Found};
use crate::seats::{HoldSeats, Seats};

/// Connections that read for dashboards and exports, and with SQLite who owns a session.
const READERS: usize = 2;

/// What nodes share. Cheap to clone; the journal's task ends with the last clone, and what it had not written is lost
/// unless [`Store::flush`] was waited for.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    database: Arc<Database>,
    journal: Journal,
    /// `None` where nothing is noted.
    notes: Option<Arc<Notes>>,
}

/// Connections and how they do.
pub(crate) struct Database {
    pub(crate) dialect: Dialect,
    timeout: Duration,
    pub(crate) commands: Lane,
    /// The journal's own connection where the database takes several writers.
    behind: Option<Lane>,
    reports: Lane,
    watch: Watch,
    /// The file, where the store is one.
    file: Option<StoreFile>,
    /// Whether the leases of this process were registered in a file that was replaced since.
    leases_are_over: AtomicBool,
    /// Held while the tables of a file that replaced another are made.
    renewing: tokio::sync::Mutex<()>,
}

impl Store {
    /// Opens the store, and makes its tables or brings them up to date. The runtime that this is called on must live as
    /// long as the store: the journal's task runs there.
    ///
    /// It takes no longer than three times [`StoreSettings::timeout`] while other processes make the tables. After a
    /// failure that may pass by itself (see [`OpenError::Failed`]) it may be called again.
    pub async fn open(settings: &StoreSettings) -> Result<Self, OpenError> {
        let database = Arc::new(Database::new(settings)?);
        database.prepare(&settings.url).await?;
        let journal = Journal::start(Arc::clone(&database), settings.journal_entries_max);
        let notes = settings.notes.clone().map(|folder| Arc::new(Notes::new(folder)));
        Ok(Self(Arc::new(Inner { database, journal, notes })))
    }

    /// Carries out `command` as one transaction, within the settings' timeout, and a second more for each
    /// MiB of an estate. After a failure nobody knows whether it
    /// was carried out; it may be sent again.
    ///
    /// Before a lease ends whose process ran on this machine, what that process had noted is written.
    pub async fn execute(&self, command: Command) -> Result<Outcome, StoreFailure> {
        let database = &self.0.database;
        let registers = matches!(command, Command::Register { .. });
        let answer = match (&command, &self.0.notes) {
            (Command::EndLease { lease, .. }, Some(notes)) => ending::end(database, notes, lease, &command).await,
            _ => database.command(&command).await,
        };
        if database.leases_are_over.load(Ordering::Acquire) && command.given_by().is_some() {
            if !registers {
                return Ok(Outcome::LeaseEnded);
            }
            // It is one of the file that the store is in.
            database.leases_are_over.store(answer.is_err(), Ordering::Release);
        }
        answer.map_err(|fault| fault.failure())
    }

    /// Writes `entry` soon: within 20 ms while the store is well, in one transaction with others, and in order. While the
    /// store is away entries wait; when too many do, audit and usage are dropped first, and counted.
    ///
    /// What a next owner would start from is noted as well, before this returns; see [`Self::note`].
    pub fn journal(&self, entry: Entry) {
        let is_noted = self.0.notes.is_some() && entry.fence().is_some();
        let note = is_noted.then(|| entry.clone());
        // In this order: a round takes for granted that what is noted is also queued.
        self.0.journal.push(entry);
        note.iter().for_each(|note| self.note(note));
    }

    /// Notes `entry` on this machine, where notes are kept, so that `kill -9` of this process does not take it: whoever ends the
    /// lease brings it into the store. What nobody gives to [`Self::journal`] as well is kept until what the next
    /// [`Self::journal_late`] journals is written.
    pub fn note(&self, entry: &Entry) {
        self.0.notes.iter().for_each(|notes| notes.note(entry));
    }

    /// Lets `journal` write what was put off: for each session with an [`Entry::Requested`] of before an [`Entry::InFlight`] with all that are in
    /// flight by then.
    pub fn journal_late(&self, journal: impl FnOnce()) {
        let Some(notes) = &self.0.notes else { return journal() };
        let round = notes.begin_round(self.0.journal.written());
        journal();
        notes.end_round(round, self.0.journal.end());
    }

    /// Removes notes on this machine of leases that are over.
    pub async fn forget_notes(&self) -> Result<(), StoreFailure> {
        let Some(notes) = &self.0.notes else { return Ok(()) };
        ending::forget(&self.0.database, notes).await.map_err(|fault| fault.failure())
    }

    /// Writes what the journal holds at this moment without waiting for more. `false` if something of it is still not
    /// written after `within`.
    pub async fn flush(&self, within: Duration) -> bool {
        self.0.journal.flush(within).await
    }

    /// How far the journal will be when everything is written that it was told of sessions by now.
    #[must_use]
    pub fn journaled(&self) -> JournalMark {
        self.0.journal.end().of_sessions()
    }

    /// Waits until the journal is as far as that. What it had no room for, or what the database refused, counts as
    /// written. Cancel safe.
    pub async fn written(&self, mark: JournalMark) {
        self.0.journal.reached(mark).await;
    }

    /// Sessions of which the journal was told that another lease owns them, or the same one since another time, or nobody:
    /// each with the epoch that its entry named. Waits for the first of them. An entry of a lease that has ended says
    /// nothing of its session alone. Cancel safe.
    pub async fn lost_sessions(&self) -> BTreeSet<(Key, Epoch)> {
        self.0.journal.lost_sessions().await
    }

    /// Holds the seats that `lease` wishes for in all, or as many as are free: those licensed less those that other living leases
    /// hold. What the lease holds is never cut down to less than it asks to keep. `None` if the lease has ended.
    ///
    /// The same call takes and gives back. Each has a number of its own.
    pub async fn hold_seats(
        &self,
        lease: &LeaseId,
        wish: SeatWish,
        licensed: u64,
    ) -> Result<Option<Seats>, StoreFailure> {
        let work = HoldSeats { lease: lease.clone(), wish, licensed };
        self.0.database.command(&work).await.map_err(|fault| fault.failure())
    }

    /// How the store does, as the last answer showed it.
    #[must_use]
    pub fn state(&self) -> StoreState {
        self.0.database.watch.state()
    }

    /// What an operator has to set right about it.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.0.database.file.as_ref()?.trouble()
    }

    /// How the store and the journal do.
    #[must_use]
    pub fn health(&self) -> StoreHealth {
        let notes = self.0.notes.as_ref().map(|notes| notes.health()).unwrap_or_default();
        self.0.database.watch.health(self.0.journal.health(), notes)
    }

    /// Reads for dashboards and exports, or tidies up for them.
    pub(crate) async fn report<W: Work>(&self, work: &W) -> Result<W::Output, StoreFailure> {
        let database = &self.0.database;
        let result = async {
            database.follow_file().await?;
            transact(&database.reports, database.dialect, database.timeout, work).await
        };
        result.await.map_err(|fault: Fault| {
            tracing::warn!(problem = fault.problem, "a report could not be read from the store");
            fault.failure()
        })
    }
}

impl Database {
    pub(crate) fn new(settings: &StoreSettings) -> Result<Self, OpenError> {
        sqlx::any::install_default_drivers();
        let dialect = Dialect::of(&settings.url);
        let url = driver_url(&settings.url)?;
        // The driver's own message would show the whole URL, and its password with it.
        let refused = |_| OpenError::Url(format!("{} is not one that the driver reads", settings.url));
        let options: AnyConnectOptions = url.parse().map_err(refused)?;
        let options = options.disable_statement_logging();
        let lane = |connections| Lane::new(options.clone(), dialect, settings.timeout, connections);
        let (commands, behind) = match dialect {
            // One writer at a time whatever we do: waiting for one's turn in this process is fair, in the file it is not.
            Dialect::Sqlite => (1, None),
            Dialect::Postgres => (settings.connections, Some(lane(1))),
        };
        Ok(Self {
            dialect,
            timeout: settings.timeout,
            commands: lane(commands),
            behind,
            reports: lane(READERS),
            watch: Watch::new(settings.timeout),
            file: match &settings.url {
                StoreUrl::Sqlite(path) => Some(StoreFile::new(path.clone())),
                StoreUrl::Postgres(_) => None,
            },
            leases_are_over: AtomicBool::new(false),
            renewing: tokio::sync::Mutex::default(),
        })
    }

    async fn prepare(&self, url: &StoreUrl) -> Result<(), OpenError> {
        let deadline = Instant::now() + self.timeout * 3;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let late = || Fault::new(FaultKind::Slow, "it does not answer in time");
            let migrated = tokio::time::timeout(left, schema::migrate(&self.commands, self.dialect)).await;
            match migrated.unwrap_or_else(|_| Err(late())) {
                Ok(Found::Ready) => {
                    self.file.iter().for_each(StoreFile::use_it);
                    return Ok(());
                }
                Ok(Found::Newer(found)) => {
                    return Err(OpenError::Newer { store: url.to_string(), found, known: schema::KNOWN });
                }
                Err(fault) if schema::may_pass(&fault) && !left.is_zero() => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(fault) => {
                    let failure = fault.failure();
                    return Err(OpenError::Failed { store: url.to_string(), problem: fault.problem, failure });
                }
            }
        }
    }

    /// Looks whether the file at the path is still the store. Goes on with another one when it is time for that.
    async fn follow_file(&self) -> Result<(), Fault> {
        let Some(file) = &self.file else { return Ok(()) };
        let away = || Fault::new(FaultKind::Unreachable, file.trouble().unwrap_or_default());
        match file.look(Instant::now()) {
            Seen::Same => Ok(()),
            Seen::Gone | Seen::Settling => Err(away()),
            Seen::Replaced => {
                self.leases_are_over.store(true, Ordering::Release);
                [&self.commands, &self.reports].into_iter().for_each(Lane::give_up);
                Err(away())
            }
            Seen::Settled => {
                let _one_is_enough = self.renewing.lock().await;
                if file.look(Instant::now()) == Seen::Settled {
                    let migrated = tokio::time::timeout(self.timeout, schema::migrate(&self.commands, self.dialect));
                    let late = |_| Fault::new(FaultKind::Slow, "it does not answer in time");
                    if let Found::Newer(found) = migrated.await.map_err(late)?? {
                        let problem = format!("its file was replaced by one with the schema {found}, which is newer");
                        return Err(Fault::new(FaultKind::Broken, problem));
                    }
                    file.use_it();
                    tracing::warn!("the store goes on with the file that has replaced the former one");
                }
                Ok(())
            }
        }
    }

    /// Does something that a promise depends on.
    pub(crate) async fn command<W: Work>(&self, work: &W) -> Result<W::Output, Fault> {
        // SQLite's readers need not wait for its one writer.
        let reads_apart = self.dialect == Dialect::Sqlite && work.access() == Access::Read;
        self.watched(if reads_apart { &self.reports } else { &self.commands }, work).await
    }

    /// Writes a part of the journal.
    pub(crate) async fn write_behind<W: Work>(&self, work: &W) -> Result<W::Output, Fault> {
        self.watched(self.behind.as_ref().unwrap_or(&self.commands), work).await
    }

    async fn watched<W: Work>(&self, lane: &Lane, work: &W) -> Result<W::Output, Fault> {
        let started = Instant::now();
        let result = match self.follow_file().await {
            Ok(()) => transact(lane, self.dialect, self.timeout + work.allowance(), work).await,
            Err(fault) => Err(fault),
        };
        self.watch.ended(work.access(), started, &result);
        result
    }
}
