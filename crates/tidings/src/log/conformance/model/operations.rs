//! What may happen to a log, drawn at random.
//!
//! Owns: the operations and how likely each is. Does not know: what they should do.
//! Flow: in ← randomness · out → operations in relative terms (the head, so far into the log), so that they can shrink.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any as all, prop_oneof};
use tidings_core::{ChannelName, Seq};

use super::super::bench::{HOUR_MS, channel};

const NAMES: [&str; 6] = ["a", "b", "c", "job:1", "job:2", "d"];

pub(super) fn channel_of(index: u8) -> ChannelName {
    channel(NAMES[usize::from(index) % NAMES.len()])
}

/// A position anywhere in the log: so many 1,024ths of the head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(u16);

impl Place {
    pub(super) fn of(self, head: Seq) -> Seq {
        Seq((head.0 * u64::from(self.0)).div_ceil(1_024).min(head.0))
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Expect {
    Anything,
    Head,
    Nothing,
    At(Place),
}

#[derive(Debug, Clone)]
pub(super) struct EventSpec {
    pub(super) channel: u8,
    pub(super) body_bytes: usize,
    pub(super) expect: Expect,
    pub(super) is_final: bool,
    pub(super) is_pinned: bool,
    pub(super) has_extras: bool,
}

#[derive(Debug, Clone)]
pub(super) struct GroupSpec {
    pub(super) events: Vec<EventSpec>,
    /// Key and fingerprint.
    pub(super) key: Option<(u8, u8)>,
}

#[derive(Debug, Clone)]
pub(super) struct ReadSpec {
    pub(super) wanted: Vec<(u8, Place)>,
    pub(super) upto: Place,
    pub(super) events_max: usize,
    pub(super) bytes_max: usize,
}

impl ReadSpec {
    /// All channels, as far as they go back or, where something is gone, that this is said.
    pub(super) fn everything() -> Self {
        let wanted = (0..6).map(|index| (index, Place(0))).collect();
        Self { wanted, upto: Place(1_024), events_max: usize::MAX, bytes_max: usize::MAX }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Restart {
    Closed,
    Killed,
    PowerCut { seed: u64 },
}

#[derive(Debug, Clone)]
pub(super) enum Operation {
    Append(Vec<GroupSpec>),
    Read(ReadSpec),
    BeforeLast { channels: Vec<u8>, n: usize, upto: Place },
    Feed { after: Place, events_max: usize },
    Delete(u8),
    Maintain { elapsed_ms: u64 },
    Restart(Restart),
    Fail { seed: u64 },
}

pub(super) fn any() -> impl Strategy<Value = Operation> {
    let limit = || prop_oneof![1..6_usize, Just(usize::MAX)];
    let read =
        (vec((0..6_u8, place()), 0..5), place(), limit(), prop_oneof![0..4_000_usize, Just(usize::MAX)]);
    prop_oneof![
        12 => vec(group(), 1..4).prop_map(Operation::Append),
        6 => read.prop_map(|(wanted, upto, events_max, bytes_max)| {
            Operation::Read(ReadSpec { wanted, upto, events_max, bytes_max })
        }),
        2 => (vec(0..6_u8, 0..4), 0..20_usize, place())
            .prop_map(|(channels, n, upto)| Operation::BeforeLast { channels, n, upto }),
        2 => (place(), limit()).prop_map(|(after, events_max)| Operation::Feed { after, events_max }),
        1 => (0..6_u8).prop_map(Operation::Delete),
        3 => prop_oneof![6 => 0..HOUR_MS, 2 => HOUR_MS..10 * HOUR_MS, 1 => 20 * HOUR_MS..30 * HOUR_MS]
            .prop_map(|elapsed_ms| Operation::Maintain { elapsed_ms }),
        1 => prop_oneof![
            Just(Restart::Closed),
            Just(Restart::Killed),
            all::<u64>().prop_map(|seed| Restart::PowerCut { seed }),
        ]
        .prop_map(Operation::Restart),
        1 => all::<u64>().prop_map(|seed| Operation::Fail { seed }),
    ]
}

/// Often one of the ends, where off-by-one lives.
fn place() -> impl Strategy<Value = Place> {
    prop_oneof![1 => Just(0_u16), 2 => Just(1_024), 3 => 0..1_025_u16].prop_map(Place)
}

fn group() -> impl Strategy<Value = GroupSpec> {
    let events = prop_oneof![6 => vec(event(), 1..5), 1 => vec(event(), 10..30)];
    let key = option::weighted(0.4, (0..9_u8, prop_oneof![4 => Just(0_u8), 1 => Just(1_u8)]));
    (events, key).prop_map(|(events, key)| GroupSpec { events, key })
}

fn event() -> impl Strategy<Value = EventSpec> {
    let expect = prop_oneof![
        12 => Just(Expect::Anything),
        3 => Just(Expect::Head),
        1 => Just(Expect::Nothing),
        1 => place().prop_map(Expect::At),
    ];
    let body_bytes = prop_oneof![20 => 0..200_usize, 1 => 2_000..40_000_usize];
    (0..6_u8, body_bytes, expect, 0..25_u8, 0..6_u8, all::<bool>()).prop_map(
        |(channel, body_bytes, expect, is_final, is_pinned, has_extras)| EventSpec {
            channel,
            body_bytes,
            expect,
            is_final: is_final == 24,
            is_pinned: is_pinned == 5,
            has_extras,
        },
    )
}
