//! Many seeds at the same time, each with its profile.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ctedge_simulation::Profile;

#[allow(dead_code, reason = "not every test of the crate counts")]
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// The profiles take turns; the longest is the rarest.
pub(crate) fn profile(seed: u64) -> Profile {
    match seed % 10 {
        0 | 3 | 6 => Profile::Operated,
        1 | 4 | 7 => Profile::OneFault,
        2 | 5 | 8 => Profile::Storm,
        _ => Profile::Long,
    }
}

/// What a run of a seed comes to. One that fails or panics says which seed it was, and how to see it again.
pub(crate) fn outcome<T, E: ToString>(seed: u64, run: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    let what = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(violation)) => violation.to_string(),
        Err(panic) => format!("a panic: {}", said(&*panic)),
    };
    let replay = format!("CTEDGE_SEED={seed} cargo nextest run -p ctedge-simulation --no-capture");
    Err(format!("seed {seed} ({:?}): {what}\n  replay: {replay}", profile(seed)))
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of an unknown kind")
}

/// Runs `seeds` one by one on all processors, until `run` says that it is enough (`true`).
pub(crate) fn each(seeds: u64, run: impl Fn(u64) -> bool + Sync) {
    let (next, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    if run(seed) {
                        enough.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

/// Puts what a thread found where all can see it.
pub(crate) fn push<T>(list: &Mutex<Vec<T>>, found: T) -> usize {
    let mut list = list.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    list.push(found);
    list.len()
}
