//! The same random commands, journal entries and wishes for seats for the model of `ctedge-ownership` and for real databases.

use std::collections::HashSet;
use std::mem::discriminant;
use std::net::SocketAddr;

use bytes::Bytes;
use ctedge_ownership::command::Estate;
use ctedge_ownership::{Epoch, HandoffReason, LeaseEnd, LeaseId, SeatShare, StoreModel};
use ctedge_store::{Command, Entry, SeatWish, Seats, Store};
use ctedge_wire::{Key, NodeStatus};

use crate::support::{Dice, Place, key, lease, on_both, peer};

/// Commands of one seed.
const STEPS: usize = 400;

const SEEDS: u64 = 8;

/// Few enough that somebody gets less than wanted.
const LICENSED: u64 = 14;

on_both!(every_command_does_what_the_model_does, walk);

async fn walk(mut place: Place) {
    let (mut seen, mut seats) = (HashSet::new(), HashSet::new());
    for seed in 0..SEEDS {
        place.clear();
        let store = place.open().await;
        // The model begins to count at nothing.
        place.count_epochs_from_nothing().await;
        let mut dice = Dice(seed);
        let mut model = StoreModel::default();
        let mut fenced = 0;
        for step in 0..STEPS {
            if dice.one_in(8) {
                let lease = a_lease(&mut dice);
                // Late now and then.
                let number = step as u64 - dice.below(20).min(step) as u64;
                let [want, sat, exported] = [12, 6, 6].map(|bound| dice.below(bound) as u64);
                let wish = SeatWish { want, sat, exported, number };
                let expected = model.hold_seats(&lease, wish, LICENSED);
                seats.insert(
                    expected.map(|share| (share.held == wish.want, share.others > 0, share.wanted_elsewhere > 0)),
                );
                let share = store.hold_seats(&lease, wish, LICENSED).await.unwrap();
                let share = share.map(|Seats { held, others, wanted_elsewhere, .. }| SeatShare {
                    held,
                    others,
                    wanted_elsewhere,
                });
                assert_eq!(share, expected, "seed {seed}, step {step}: {lease} wants {wish:?}");
            } else if dice.one_in(4) {
                let entry = entry(&mut dice, &model);
                fenced += u64::from(!journal(&mut model, &entry));
                store.journal(entry);
                assert!(store.flush(place.settings.timeout).await, "seed {seed}, step {step}");
                assert_eq!(store.health().journal.fenced, fenced, "seed {seed}, step {step}");
            } else {
                let command = command(&mut dice, &model);
                let expected = model.execute(&command);
                seen.insert((discriminant(&command), discriminant(&expected)));
                let outcome = store.execute(command.clone()).await;
                assert_eq!(outcome, Ok(expected), "seed {seed}, step {step}: {command:?}");
            }
        }
        compare(&store, &model).await;
    }
    // Register 2, Beat 2, EndLease 2, Look 2, Create 3, TakeOver 3, Read 3, Adopt 3, HandOff 4, Keep 3, Delete 3, Reap 1.
    assert_eq!(seen.len(), 31, "not every answer to every command was tried");
    // An ended lease, and a living one: all or some of what it wants, beside others or alone, who want more or do not.
    assert!(seats.len() >= 7, "not every share was tried: {seats:?}");
}

/// What is left must be the same too, whether a command asked for it or not.
async fn compare(store: &Store, model: &StoreModel) {
    let keys: Vec<Key> = store.sessions(None, 1000).await.unwrap().into_iter().map(|session| session.key).collect();
    assert_eq!(keys, model.keys().cloned().collect::<Vec<_>>());
    assert_eq!(store.leases().await.unwrap(), model.leases().cloned().collect::<Vec<_>>());
    for session in store.sessions(None, 1000).await.unwrap() {
        assert_eq!(session.peers, model.legacy(&session.key).unwrap().peers.len() as u64);
    }
}

fn command(dice: &mut Dice, model: &StoreModel) -> Command {
    let key = a_key(dice);
    let by = owner_or_any(dice, model, &key);
    let epoch = an_epoch(dice, model, &key);
    match dice.below(18) {
        0 | 1 => Command::Register { lease: a_lease(dice), address: an_address(dice), pid: 7 },
        2 | 3 => Command::Beat {
            lease: a_lease(dice),
            status: a_status(dice),
            report: format!("{{\"é\":{}}}", dice.below(9)),
        },
        4 => Command::EndLease { lease: a_lease(dice), beat: a_beat(dice, model), why: an_end(dice) },
        5 => Command::Look { key },
        6..=8 => Command::Create { key, by: a_lease(dice) },
        9..=11 => Command::TakeOver { key, from: epoch, by: a_lease(dice) },
        12 => Command::Read { key, epoch, by },
        13 => Command::Adopt { key, epoch, by },
        14 | 15 => {
            let to = (!dice.one_in(3)).then(|| a_lease(dice));
            let reason = HandoffReason::ALL[dice.below(HandoffReason::ALL.len())];
            Command::HandOff { key, epoch, by, to, estate: an_estate(dice), reason }
        }
        16 => {
            let Estate { peers, in_flight, .. } = an_estate(dice);
            Command::Keep { key, epoch, by, peers, in_flight }
        }
        _ if dice.one_in(2) => Command::Delete { key, epoch, by },
        _ => Command::Reap { lease: a_lease(dice) },
    }
}

fn entry(dice: &mut Dice, model: &StoreModel) -> Entry {
    let key = a_key(dice);
    let by = owner_or_any(dice, model, &key);
    let epoch = an_epoch(dice, model, &key);
    let clock = dice.below(4) as u64;
    match dice.below(5) {
        0..=2 => Entry::PeerJoined { key, epoch, by, peer: peer(clock, &format!("p{}", dice.below(9))) },
        3 => Entry::PeerLeft { key, epoch, by, clock },
        _ => Entry::InFlight { key, epoch, by, bytes: some_bytes(dice) },
    }
}

fn journal(model: &mut StoreModel, entry: &Entry) -> bool {
    match entry {
        Entry::PeerJoined { key, epoch, by, peer } => model.journal(key, *epoch, by, |legacy| {
            legacy.peers.retain(|there| there.clock != peer.clock);
            legacy.peers.push(peer.clone());
            legacy.peers.sort_by_key(|peer| peer.clock);
        }),
        Entry::PeerLeft { key, epoch, by, clock } => {
            // Nothing is lost when somebody leaves a session that is over.
            let is_over = model.lives(by) && model.record(key).is_none();
            is_over || model.journal(key, *epoch, by, |legacy| legacy.peers.retain(|peer| peer.clock != *clock))
        }
        Entry::InFlight { key, epoch, by, bytes } => {
            model.journal(key, *epoch, by, |legacy| legacy.in_flight.clone_from(bytes))
        }
        other => panic!("{other:?} is nothing of the model's"),
    }
}

fn a_key(dice: &mut Dice) -> Key {
    // In the order of bytes, which is not the order of any language.
    key(["B", "a", "_c", "a.b"][dice.below(4)])
}

fn a_lease(dice: &mut Dice) -> LeaseId {
    // One incarnation has no counterpart among signed numbers.
    lease(["n-1", "N-2", "n_3"][dice.below(3)], [1, u64::MAX - 1][dice.below(2)])
}

/// The owner more often than not: most commands need it.
fn owner_or_any(dice: &mut Dice, model: &StoreModel, key: &Key) -> LeaseId {
    let any = a_lease(dice);
    if dice.one_in(5) { any } else { model.record(key).map_or(any, |record| record.owner) }
}

fn an_epoch(dice: &mut Dice, model: &StoreModel, key: &Key) -> Epoch {
    let any = Epoch(dice.below(20) as u64);
    if dice.one_in(6) { any } else { model.record(key).map_or(any, |record| record.epoch) }
}

fn an_address(dice: &mut Dice) -> SocketAddr {
    ["127.0.0.1:1", "10.0.0.1:3001", "[::1]:3001", "127.0.0.1:2"][dice.below(4)].parse().unwrap()
}

fn a_status(dice: &mut Dice) -> NodeStatus {
    [NodeStatus::Ready, NodeStatus::Draining, NodeStatus::Suspended][dice.below(3)]
}

fn an_end(dice: &mut Dice) -> LeaseEnd {
    LeaseEnd::ALL[dice.below(LeaseEnd::ALL.len())]
}

fn a_beat(dice: &mut Dice, model: &StoreModel) -> Option<u64> {
    let beats: Vec<u64> = model.leases().map(|lease| lease.beat).collect();
    (!dice.one_in(3)).then(|| beats.get(dice.below(6)).copied().unwrap_or(3))
}

fn some_bytes(dice: &mut Dice) -> Option<Bytes> {
    (!dice.one_in(3)).then(|| Bytes::from(vec![0, dice.below(256) as u8, 255]))
}

fn an_estate(dice: &mut Dice) -> Estate {
    let peers = (0..dice.below(4)).map(|clock| peer(clock as u64, "handed off")).collect();
    Estate { bytes: Bytes::from(vec![dice.below(256) as u8; dice.below(3)]), peers, in_flight: some_bytes(dice) }
}
