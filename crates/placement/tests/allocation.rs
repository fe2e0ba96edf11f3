//! The top picks of a key are found without memory from the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ctedge_placement::Rendezvous;

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// The allocator's contract is the system allocator's own: every call is handed through.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn the_first_ranks_of_a_key_cost_no_allocation_whatever_the_number_of_nodes() {
    for count in [1, 3, 64, 500] {
        let nodes: Vec<_> = (0..count).map(|index| (format!("node-{index}"), 1 + index % 3)).collect();
        let placement = Rendezvous::new(1, &nodes);
        let before = ALLOCATIONS.get();
        let picked = (0..100_u32).flat_map(|key| placement.rank(&key.to_le_bytes()).take(3)).count();
        assert_eq!((ALLOCATIONS.get() - before, picked), (0, 100 * usize::from(count.min(3))));
    }
}
