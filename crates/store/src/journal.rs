//! Writing behind the messages: in order, in groups, and late when the store is away.
//!
//! - `queue`: what waits, bounded. `batch`: one group as one transaction; `records`: what it writes for the operator.
//! - `fenced`: what the store says of sessions that are not the writer's any more.

mod batch;
mod fenced;
mod queue;
mod records;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ctedge_ownership::Epoch;
use ctedge_wire::Key;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use self::batch::Batch;
pub(crate) use self::batch::write_sessions;
use self::fenced::LostSessions;
pub use self::queue::JournalMark;
pub(crate) use self::queue::Queue;
use crate::entry::Entry;
use crate::fault::FaultKind;
use crate::health::JournalHealth;
use crate::store::Database;

/// How long the first entry of a group waits for others. With the transaction itself it stays below 20 ms.
const GATHER: Duration = Duration::from_millis(10);

/// Entries of one group. A command of this process waits for one group at most, which takes some ten milliseconds.
const BATCH_ENTRIES_MAX: usize = 512;

/// Pauses between tries while the store is away: from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What is to be written, and the task that writes it.
pub(crate) struct Journal {
    shared: Arc<Shared>,
    writer: JoinHandle<()>,
}

struct Shared {
    queue: Mutex<Queue>,
    arrived: Notify,
    /// Somebody waits for what is in the queue.
    hurry: Notify,
    /// How far the writing is.
    done: watch::Sender<JournalMark>,
    lost: LostSessions,
    written: AtomicU64,
    fenced: AtomicU64,
    refused: AtomicU64,
}

impl Journal {
    /// Starts the task on the runtime of the caller.
    pub(crate) fn start(database: Arc<Database>, entries_max: usize) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::new(entries_max)),
            arrived: Notify::new(),
            hurry: Notify::new(),
            done: watch::Sender::new(JournalMark::default()),
            // Each of them needs an entry to be found out.
            lost: LostSessions::new(entries_max),
            written: AtomicU64::new(0),
            fenced: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        let writer = Writer { shared: Arc::clone(&shared), database, id: writer_id(), batches: 0 };
        Self { shared, writer: tokio::spawn(writer.run()) }
    }

    pub(crate) fn push(&self, entry: Entry) {
        self.shared.queue.lock().push(entry);
        self.shared.arrived.notify_one();
    }

    /// Where the next entry will come to stand.
    pub(crate) fn end(&self) -> JournalMark {
        self.shared.queue.lock().end()
    }

    /// How far the writing is.
    pub(crate) fn written(&self) -> JournalMark {
        *self.shared.done.borrow()
    }

    /// Writes what waits at this moment. `false` if `within` was too short for it.
    pub(crate) async fn flush(&self, within: Duration) -> bool {
        let end = self.end();
        self.shared.hurry.notify_one();
        tokio::time::timeout(within, self.reached(end)).await.is_ok()
    }

    /// Waits until the writing is as far as that.
    pub(crate) async fn reached(&self, mark: JournalMark) {
        // The writer lives as long as this.
        let _ = self.shared.done.subscribe().wait_for(|done| done.reaches(mark)).await;
    }

    /// See [`crate::Store::lost_sessions`].
    pub(crate) async fn lost_sessions(&self) -> BTreeSet<(Key, Epoch)> {
        self.shared.lost.next().await
    }

    pub(crate) fn health(&self) -> JournalHealth {
        let (entries, dropped) = {
            let queue = self.shared.queue.lock();
            (queue.entries() as u64, queue.dropped())
        };
        JournalHealth {
            entries,
            written: self.shared.written.load(Ordering::Relaxed),
            fenced: self.shared.fenced.load(Ordering::Relaxed),
            refused: self.shared.refused.load(Ordering::Relaxed),
            ..dropped
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

struct Writer {
    shared: Arc<Shared>,
    database: Arc<Database>,
    id: i64,
    batches: u64,
}

impl Writer {
    async fn run(mut self) {
        loop {
            self.gather().await;
            loop {
                let entries = self.shared.queue.lock().take(BATCH_ENTRIES_MAX);
                if entries.is_empty() {
                    break;
                }
                self.write(entries).await;
                let mark = self.shared.queue.lock().taken_are_done();
                self.shared.done.send_replace(mark);
            }
            // What was dropped for lack of room is done with as well.
            let mark = self.shared.queue.lock().begin();
            self.shared.done.send_replace(mark);
        }
    }

    /// Waits until something is there, and a little longer for more of it.
    async fn gather(&self) {
        tokio::select! {
            () = self.shared.arrived.notified() => {}
            () = self.shared.hurry.notified() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(GATHER) => {}
            () = self.shared.hurry.notified() => {}
        }
    }

    /// Writes all of `entries`, however long it takes. Those that the database refuses for what they are, and only
    /// those, are left out: halves are tried until each of them is alone.
    async fn write(&mut self, entries: Vec<Entry>) {
        let mut left = vec![entries];
        while let Some(entries) = left.pop() {
            self.batches += 1;
            let batch = Batch { writer: self.id, number: self.batches, entries };
            let Err(mut entries) = self.write_batch(batch).await else {
                continue;
            };
            if entries.len() > 1 {
                let second = entries.split_off(entries.len() / 2);
                left.extend([second, entries]);
            } else {
                self.shared.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Writes one batch, trying until the store takes or refuses it. Gives the entries back when it refuses.
    async fn write_batch(&self, batch: Batch) -> Result<(), Vec<Entry>> {
        let mut pause = PAUSES.0;
        loop {
            match self.database.write_behind(&batch).await {
                Ok(fenced) => {
                    let entries = batch.entries.len() as u64;
                    self.shared.written.fetch_add(entries - fenced.entries.min(entries), Ordering::Relaxed);
                    self.shared.fenced.fetch_add(fenced.entries, Ordering::Relaxed);
                    self.shared.lost.add(fenced.sessions);
                    return Ok(());
                }
                Err(fault) if fault.kind == FaultKind::Refused => return Err(batch.entries),
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shared.hurry.notified() => {}
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// Tells this journal's batches from those of every other one.
fn writer_id() -> i64 {
    let mut bytes = [0; 8];
    // Without a random source no node could have minted a key either.
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    i64::from_ne_bytes(bytes)
}
