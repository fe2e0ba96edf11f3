//! How an entry stands in the notes: its length, then itself.
//!
//! The lease is not in it, since the file is named by that. A reader skips records of a kind that it does not know: the
//! supervisor may be older than its nodes.

use bytes::Bytes;
use ctedge_ownership::{Epoch, LeaseId, StoredPeer};
use ctedge_wire::Key;

use crate::entry::Entry;

const PEER_JOINED: u8 = 1;
const PEER_LEFT: u8 = 2;
const IN_FLIGHT: u8 = 3;
const REQUESTED: u8 = 4;

/// Bytes before a record that say how long it is.
const LENGTH: usize = size_of::<u32>();

/// Appends the record of `entry`. `None` for one that is not noted.
pub(super) fn write(entry: &Entry, into: &mut Vec<u8>) -> Option<()> {
    let start = into.len();
    into.extend([0; LENGTH]);
    let kind = match entry {
        Entry::PeerJoined { .. } => PEER_JOINED,
        Entry::PeerLeft { .. } => PEER_LEFT,
        Entry::InFlight { .. } => IN_FLIGHT,
        Entry::Requested { .. } => REQUESTED,
        Entry::Audit(_) | Entry::Usage(_) | Entry::Download(_) => return None,
    };
    let (key, epoch, _) = entry.fence()?;
    into.push(kind);
    into.extend(epoch.0.to_le_bytes());
    write_part(into, key.as_str().as_bytes())?;
    match entry {
        Entry::PeerJoined { peer, .. } => {
            into.extend(peer.clock.to_le_bytes());
            into.push(u8::from(peer.host));
            write_part(into, peer.user.as_bytes())?;
            write_part(into, &peer.handshake)?;
        }
        Entry::PeerLeft { clock, .. } => into.extend(clock.to_le_bytes()),
        Entry::InFlight { bytes, .. } => write_part(into, bytes.as_deref().unwrap_or_default())?,
        Entry::Requested { bytes, .. } => write_part(into, bytes)?,
        Entry::Audit(_) | Entry::Usage(_) | Entry::Download(_) => {}
    }
    let length = u32::try_from(into.len() - start - LENGTH).ok()?;
    into[start..start + LENGTH].copy_from_slice(&length.to_le_bytes());
    Some(())
}

fn write_part(into: &mut Vec<u8>, part: &[u8]) -> Option<()> {
    into.extend(u32::try_from(part.len()).ok()?.to_le_bytes());
    into.extend(part);
    Some(())
}

/// The entries in `bytes`, by `by`. What was torn off at the end was not written to its end by a process that was killed.
pub(super) fn read_all(bytes: &[u8], by: &LeaseId) -> Vec<Entry> {
    let mut rest = Reader(bytes);
    let mut entries = Vec::new();
    while let Some(record) = rest.part() {
        entries.extend(read(Reader(record), by));
    }
    entries
}

fn read(mut record: Reader<'_>, by: &LeaseId) -> Option<Entry> {
    let [kind] = record.array()?;
    let epoch = Epoch(record.number()?);
    let key = Key::parse(str::from_utf8(record.part()?).ok()?).ok()?;
    let by = by.clone();
    match kind {
        PEER_JOINED => {
            let (clock, [host]) = (record.number()?, record.array()?);
            let user = str::from_utf8(record.part()?).ok()?.to_owned();
            let handshake = Bytes::copy_from_slice(record.part()?);
            let peer = StoredPeer { clock, host: host != 0, user, handshake };
            Some(Entry::PeerJoined { key, epoch, by, peer })
        }
        PEER_LEFT => Some(Entry::PeerLeft { key, epoch, by, clock: record.number()? }),
        IN_FLIGHT => {
            let bytes = Some(Bytes::copy_from_slice(record.part()?)).filter(|bytes| !bytes.is_empty());
            Some(Entry::InFlight { key, epoch, by, bytes })
        }
        REQUESTED => Some(Entry::Requested { key, epoch, by, bytes: Bytes::copy_from_slice(record.part()?) }),
        _ => None,
    }
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn array<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Bytes after their length.
    fn part(&mut self) -> Option<&'b [u8]> {
        let length = usize::try_from(u32::from_le_bytes(self.array()?)).ok()?;
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }
}

#[cfg(test)]
mod tests {
    use ctedge_ownership::NodeId;
    use proptest::prelude::*;

    use super::*;

    fn by() -> LeaseId {
        LeaseId::new(NodeId::new("node"), 7)
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let numbers = (any::<u64>(), any::<u64>(), any::<bool>(), 0..4);
        ("[a-z0-9]{1,20}", ".{0,20}", numbers, bytes()).prop_map(|(key, user, (epoch, clock, host, kind), bytes)| {
            let (key, epoch, by) = (Key::parse(&key).unwrap(), Epoch(epoch), by());
            match kind {
                0 => Entry::PeerJoined { key, epoch, by, peer: StoredPeer { clock, host, user, handshake: bytes } },
                1 => Entry::PeerLeft { key, epoch, by, clock },
                2 => Entry::InFlight { key, epoch, by, bytes: Some(bytes).filter(|bytes| !bytes.is_empty()) },
                _ => Entry::Requested { key, epoch, by, bytes },
            }
        })
    }

    proptest! {
        #[test]
        fn what_was_written_to_its_end_is_read_and_what_was_not_is_left_out(
            entries in proptest::collection::vec(entry(), 0..8),
            torn in 0..400_usize,
        ) {
            let (mut bytes, mut ends) = (Vec::new(), vec![0]);
            for entry in &entries {
                write(entry, &mut bytes).unwrap();
                ends.push(bytes.len());
            }
            bytes.truncate(bytes.len().saturating_sub(torn));
            let whole = ends.iter().filter(|end| **end <= bytes.len()).count() - 1;
            prop_assert_eq!(read_all(&bytes, &by()), &entries[..whole]);
        }

        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read_all(&bytes, &by());
        }
    }

    #[test]
    fn a_record_of_a_later_version_costs_no_other() {
        let left = Entry::PeerLeft { key: Key::parse("room").unwrap(), epoch: Epoch(1), by: by(), clock: 1 };
        let mut bytes = Vec::new();
        write(&left, &mut bytes).unwrap();
        bytes.extend([3, 0, 0, 0, 99, 1, 2]);
        write(&left, &mut bytes).unwrap();
        assert_eq!(read_all(&bytes, &by()), [left.clone(), left]);
    }
}
