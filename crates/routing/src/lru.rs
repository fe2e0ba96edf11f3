//! Pins in the order of their last use: a slab threaded by one list per rank, and the index of its keys.
//!
//! Everything here is O(1) and allocates only when the slab grows.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use ctedge_wire::Key;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::pins::{Pin, Rank};

/// The end of a list.
const NONE: u32 = u32::MAX;

/// Pins by key and by last use. Not bounded by itself.
#[derive(Debug)]
pub(crate) struct Lru {
    index: HashMap<Key, u32, KeyHashing>,
    slots: Vec<Slot>,
    /// The first of the free slots, linked by `older`.
    free: u32,
    lists: [List; Rank::COUNT],
}

#[derive(Debug)]
struct Slot {
    entry: Option<(Key, Pin)>,
    rank: Rank,
    newer: u32,
    older: u32,
}

#[derive(Debug, Clone, Copy)]
struct List {
    newest: u32,
    oldest: u32,
    len: usize,
}

impl Lru {
    pub(crate) fn new(hashing: KeyHashing) -> Self {
        let empty = List { newest: NONE, oldest: NONE, len: 0 };
        Self { index: HashMap::with_hasher(hashing), slots: Vec::new(), free: NONE, lists: [empty; Rank::COUNT] }
    }

    pub(crate) fn find(&self, key: &Key) -> Option<u32> {
        self.index.get(key).copied()
    }

    pub(crate) fn pin(&self, slot: u32) -> &Pin {
        &self.entry(slot).1
    }

    pub(crate) fn pin_mut(&mut self, slot: u32) -> &mut Pin {
        &mut self.slots[slot as usize].entry.as_mut().expect("an indexed slot is taken").1
    }

    /// Makes the pin the newest of the rank that it has.
    pub(crate) fn touch(&mut self, slot: u32) {
        let rank = self.pin(slot).rank();
        let at = &self.slots[slot as usize];
        if at.rank == rank && at.newer == NONE {
            return;
        }
        self.unlink(slot);
        self.link(slot, rank);
    }

    /// Adds a pin for a key that has none.
    pub(crate) fn insert(&mut self, key: Key, pin: Pin) -> u32 {
        let rank = pin.rank();
        let slot = self.free;
        let slot = if slot == NONE {
            self.slots.push(Slot { entry: None, rank, newer: NONE, older: NONE });
            u32::try_from(self.slots.len() - 1).expect("the bound on pins is below 2³²")
        } else {
            self.free = self.slots[slot as usize].older;
            slot
        };
        self.index.insert(key.clone(), slot);
        self.slots[slot as usize].entry = Some((key, pin));
        self.link(slot, rank);
        slot
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Pin {
        self.unlink(slot);
        let (key, pin) = self.slots[slot as usize].entry.take().expect("an indexed slot is taken");
        self.index.remove(&key);
        self.slots[slot as usize].older = self.free;
        self.free = slot;
        pin
    }

    /// The pin of the rank that was not used for the longest time.
    pub(crate) fn oldest(&self, rank: Rank) -> Option<u32> {
        Some(self.lists[rank as usize].oldest).filter(|slot| *slot != NONE)
    }

    pub(crate) fn len(&self, rank: Rank) -> usize {
        self.lists[rank as usize].len
    }

    fn entry(&self, slot: u32) -> &(Key, Pin) {
        self.slots[slot as usize].entry.as_ref().expect("an indexed slot is taken")
    }

    fn link(&mut self, slot: u32, rank: Rank) {
        let list = &mut self.lists[rank as usize];
        let older = std::mem::replace(&mut list.newest, slot);
        if older == NONE {
            list.oldest = slot;
        }
        list.len += 1;
        if older != NONE {
            self.slots[older as usize].newer = slot;
        }
        let at = &mut self.slots[slot as usize];
        (at.rank, at.newer, at.older) = (rank, NONE, older);
    }

    fn unlink(&mut self, slot: u32) {
        let Slot { rank, newer, older, .. } = self.slots[slot as usize];
        if newer == NONE {
            self.lists[rank as usize].newest = older;
        } else {
            self.slots[newer as usize].older = older;
        }
        if older == NONE {
            self.lists[rank as usize].oldest = newer;
        } else {
            self.slots[older as usize].newer = newer;
        }
        self.lists[rank as usize].len -= 1;
    }
}

/// Hashes keys under a seed: strangers choose the keys, and must not choose their places in the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyHashing {
    pub(crate) seed: u64,
}

impl KeyHashing {
    pub(crate) fn hash(self, key: &Key) -> u64 {
        xxh3_64_with_seed(key.as_str().as_bytes(), self.seed)
    }
}

impl BuildHasher for KeyHashing {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(self.seed)
    }
}

#[derive(Debug)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// The end mark of a string: a key is the only thing that is hashed, so that it tells nothing.
    fn write_u8(&mut self, _end: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
