//! How often what is worth seeing was seen. A simulation in which nothing happens proves nothing.

macro_rules! seen {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counts over one run or many.
        #[derive(Debug, Clone, Default)]
        pub struct Seen {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Seen {
            /// Adds another run's.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

seen! {
    /// Events.
    steps,
    /// Requests and messages that a node served.
    served,
    /// Messages that clients sent.
    sent,
    /// Messages that came to clients.
    delivered,
    /// Messages that were in broken connections.
    messages_lost,
    /// Connections that broke.
    cuts,
    /// Redirects that balancers followed.
    redirects,
    /// Redirects older than what their balancers knew.
    stale_redirects,
    /// Requests that another node was asked to take because one took nothing new.
    elsewhere,
    /// Nodes that answered whether a request was their own.
    asked,
    /// Pauses before a node was asked again.
    pauses,
    /// Sessions taken over from the dead.
    takeovers,
    /// Sessions handed from node to node.
    handoffs,
    /// Estates taken up by those they were for.
    estates_adopted,
    /// Estates taken up by others.
    estates_taken_over,
    /// Sessions parked.
    parked,
    /// Sessions let go.
    fenced,
    /// Silent leases ended.
    ended_silent,
    /// Times that a node was cut off from the store.
    cut_off,
    /// Node processes cut off from the store and other nodes.
    parted,
    /// Requests and messages that a node served whose lease was over and that could not know.
    astray,
    /// Nodes that found that nobody reaches them.
    deaf,
    /// Times that a node lost its lease.
    leases_lost,
    /// Records reaped.
    reaped,
    /// Commands without an outcome.
    store_failures,
    /// Commands that a store had no room for.
    writes_refused,
    /// Sessions that their owners kept because they could not be given away.
    kept,
    /// Peers that found no seat.
    seatless,
    /// States of nodes that changed for a balancer.
    state_changes,
    /// Sessions that ended though somebody wanted them.
    lost_sessions,
    /// Sessions that nobody came back to.
    ended_by_grace,
    /// Node processes killed.
    kills,
    /// Node processes stopped for a time.
    freezes,
    /// Drains of all kinds.
    drains,
    /// Balancers restarted or killed.
    balancer_restarts,
    /// Nodes that ended for good.
    gone_for_good,
    /// Packets lost between balancers and nodes, or among nodes.
    packets_lost,
    /// Guests that left.
    guests_left,
    /// Connections that clients closed and made anew.
    reconnects,
    /// Peers that were away for too long.
    given_up,
    /// Nodes added or removed.
    list_changes,
}
