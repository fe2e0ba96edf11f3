//! Questions that nobody waits for any more.

use std::time::Instant;

use ctedge_ownership::{
    Action, Ask, Command, CommandId, Lease, LeaseId, NodeId, Outcome, Ownership, OwnershipSettings, Ranking, Ticket,
    Unavailable, Verdict, Wants,
};
use ctedge_wire::Key;

/// Nobody is ranked here.
#[derive(Debug)]
struct First;

impl Ranking for First {
    fn best(&mut self, _: &Key, _: &[&Lease]) -> usize {
        0
    }
}

/// What the node decided, without what its heartbeats ask for.
fn decided(node: &mut Ownership) -> (Vec<(CommandId, Command)>, Vec<Verdict>) {
    let (mut commands, mut verdicts) = (Vec::new(), Vec::new());
    while let Some(action) = node.next_action() {
        match action {
            Action::Store(id, command @ (Command::Look { .. } | Command::Create { .. })) => {
                commands.push((id, command));
            }
            Action::Answer(_, verdict) => verdicts.push(verdict),
            _ => {}
        }
    }
    (commands, verdicts)
}

#[test]
fn who_asks_and_goes_away_leaves_no_more_questions_than_may_wait() {
    let (now, lease) = (Instant::now(), LeaseId::new(NodeId::new("a"), 1));
    let settings = OwnershipSettings { asks_max: 2, ..OwnershipSettings::default() };
    let mut node = Ownership::new(settings, lease, ([127, 0, 0, 1], 1).into(), 1, Box::new(First), now);
    node.store_answered(CommandId(1), Ok(Outcome::Registered), now);
    decided(&mut node);
    let ask = |number: u64, wants| {
        let key = Key::parse(&format!("key-{number}")).expect("a key");
        Ask { ticket: Ticket(number), key, wants, unreachable: Vec::new() }
    };

    let mut commands = Vec::new();
    for (number, wants) in [(1, Wants::Existing), (2, Wants::New)] {
        node.asked(ask(number, wants), now);
        node.gave_up(Ticket(number));
        let (asked, verdicts) = decided(&mut node);
        assert!(verdicts.is_empty());
        commands.extend(asked);
    }
    assert_eq!((commands.len(), node.waiting()), (2, 0));
    node.asked(ask(3, Wants::Existing), now);
    let (asked, verdicts) = decided(&mut node);
    assert!(asked.is_empty());
    assert!(matches!(verdicts[..], [Verdict::Unavailable { why: Unavailable::TooMany, .. }]), "{verdicts:?}");

    // The store answers one of them, and there is room for another.
    node.store_answered(commands[0].0, Ok(Outcome::Missing), now);
    node.asked(ask(3, Wants::Existing), now);
    assert_eq!(decided(&mut node).0.len(), 1);
}
