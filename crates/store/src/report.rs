//! What dashboards and exports read, and how long it is kept.
//!
//! - `audit`: who did what. `usage`: figures by day. `sessions`: what there is at this moment. `retention`: what is deleted.

mod audit;
mod retention;
mod sessions;
mod usage;

pub use audit::{AuditCursor, AuditFilter};
pub use retention::Forgotten;
pub use sessions::SessionNow;
pub use usage::{ClientFigures, DayFigures, DownloadFigures, Lifetime, Totals};

/// Rows of one page, whatever is asked for.
pub const PAGE_ROWS_MAX: u32 = 1_000;
