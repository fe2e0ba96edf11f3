//! Times and sizes as defaults and ranges are declared with.

use std::time::Duration;

use crate::value::Size;

pub(super) fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

pub(super) fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(super) fn kib(kib: u64) -> Size {
    Size(kib << 10)
}

pub(super) fn mib(mib: u64) -> Size {
    Size(mib << 20)
}

/// A size that memory holds. The ranges above keep it within any address space of 64 bits.
pub(super) fn size(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}
