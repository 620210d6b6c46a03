//! Power cuts at every write and every sync, failing syncs, and a full disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidings_core::Seq;

use super::super::io::sim::{Fault, Random, SimDisk};
use super::super::{DiskLog, Options};
use super::{append, channel, event, group, read};
use crate::log::{AppendError, Flags, Group, Idempotency, Log, LogError, Outcome, Retention, event_at};

fn options(disk: &SimDisk) -> Options {
    let retention = Retention::default().events_max(40).age_ms_max(10_000).horizon_ms(20_000);
    Options::default()
        .retention(retention)
        .segment_bytes(4 << 10)
        .reserve_bytes(0)
        .disk(Arc::new(disk.clone()))
}

/// What a workload was told.
#[derive(Debug, Default, Clone)]
struct Told {
    /// Acknowledged events: channel, sequence, body.
    events: Vec<(String, Seq, String)>,
    keys: Vec<(u128, Seq)>,
    /// The newest pinned event of each channel that was acknowledged.
    pinned: BTreeMap<String, (Seq, String)>,
    /// Channels whose deletion was acknowledged, up to where.
    deleted: Vec<(String, Seq)>,
    now_ms: u64,
}

/// Appends, deletes, maintains and reopens until it is through or the disk fails.
fn work(disk: &SimDisk, seed: u64) -> Told {
    let mut told = Told { now_ms: 1_000, ..Told::default() };
    let mut random = Random(seed);
    for run in 0..3 {
        let Ok(log) = DiskLog::open("", options(disk)) else { return told };
        for step in 0..40_u64 {
            told.now_ms += 97;
            let body = format!("{run}-{step} {}", "x".repeat(random.below(300)));
            let name = format!("c{}", random.below(5));
            let mut one = event(&name, &body, told.now_ms);
            one.flags = Flags { is_text: step % 2 == 0, is_pinned: step % 7 == 1, ..Flags::default() };
            one.private = (step % 3 == 0).then(|| Bytes::from_static(b"private"));
            let key = u128::from(run * 1_000 + step);
            let idempotency =
                (step % 4 == 0).then_some(Idempotency { key, fingerprint: 7, time_ms: told.now_ms });
            let groups = vec![Group { events: vec![one], idempotency }];
            let Ok(outcomes) = log.append(&groups) else { return told };
            let Some(Outcome::Appended(places)) = outcomes.first() else { panic!("{outcomes:?}") };
            if step % 7 == 1 {
                told.pinned.insert(name.clone(), (places[0].seq, body.clone()));
            }
            told.events.push((name.clone(), places[0].seq, body));
            if idempotency.is_some() {
                told.keys.push((key, places[0].seq));
            }
            if step % 5 == 4 && log.maintain(told.now_ms).is_err() {
                return told;
            }
            if step % 17 == 16 {
                let Ok(window) = log.delete(&channel(&name)) else { return told };
                told.deleted.push((name, window.unwrap().floor));
            }
        }
        if run == 1 && log.close().is_err() {
            return told;
        }
    }
    told
}

/// Opens what is left and compares it with what was acknowledged.
fn check(disk: &SimDisk, told: &Told, context: &str) {
    let log = DiskLog::open("", options(disk)).unwrap_or_else(|error| panic!("{context}: {error}"));
    let newest = told.events.last().map_or(Seq::ZERO, |(_, seq, _)| *seq);
    assert!(log.head() >= newest, "{context}: head {} of {newest}", log.head());
    for name in ["c0", "c1", "c2", "c3", "c4"] {
        let Some(window) = log.window(&channel(name)) else {
            assert!(
                !told.events.iter().any(|(of, seq, _)| of == name && *seq > log.horizon()),
                "{context}: {name}"
            );
            continue;
        };
        let held = read(&log, name, window.floor.0);
        let expected: Vec<(u64, String)> = told
            .events
            .iter()
            .filter(|(of, seq, _)| of == name && *seq > window.floor)
            .map(|(_, seq, body)| (seq.0, body.clone()))
            .collect();
        // The one whose outcome is unknown may be there, as the last of all.
        let known: Vec<_> = held.iter().filter(|(seq, _)| *seq <= newest.0).cloned().collect();
        assert_eq!(known, expected, "{context}: {name} above {}", window.floor);
        assert!(held.len() <= expected.len() + 1, "{context}: {name}");
        let kept = told.events.iter().filter(|(of, ..)| of == name).map(|(_, seq, _)| *seq).rev().nth(39);
        let deleted = told.deleted.iter().filter(|(of, _)| of == name).map(|(_, seq)| *seq).max();
        assert!(Some(window.floor) >= deleted, "{context}: {name} is deleted up to {deleted:?}");
        let aged = told.now_ms > 10_000;
        assert!(
            aged || deleted.is_some() || kept.is_none() || Some(window.floor) <= kept,
            "{context}: {name}"
        );
    }
    for (name, (at, body)) in &told.pinned {
        let name = channel(name);
        let window = log.window(&name);
        // A deletion, or a newer one, whose outcome is unknown.
        if window.is_none_or(|w| w.deleted.max(w.pinned) > Some(*at) || w.deleted == Some(*at)) {
            let deleted = told.deleted.iter().any(|(of, upto)| *of == name.as_str() && upto >= at);
            assert!(window.is_some() || deleted, "{context}: {name} is forgotten");
            continue;
        }
        assert_eq!(window.and_then(|w| w.pinned), Some(*at), "{context}: {name}");
        let record = event_at(&log, &name, *at).unwrap().map(|record| record.body);
        assert_eq!(record.as_deref(), Some(body.as_bytes()), "{context}: {name}");
    }
    for &(key, first) in &told.keys {
        let again = Idempotency { key, fingerprint: 7, time_ms: told.now_ms };
        let groups =
            vec![Group { events: vec![event("c0", "again", told.now_ms)], idempotency: Some(again) }];
        let outcome = log.append(&groups).unwrap().pop();
        assert_eq!(outcome, Some(Outcome::Duplicate { first, count: 1 }), "{context}: key {key}");
    }
    log.maintain(told.now_ms).unwrap_or_else(|error| panic!("{context}: {error}"));
    append(&log, "c9", "after");
    assert_eq!(log.stats().damaged, [""; 0], "{context}: an ending is no damage");
}

fn keeping(disk: &SimDisk, events_max: u64, reserve_bytes: u64) -> DiskLog {
    let retention = Retention::default().events_max(events_max);
    DiskLog::open("", options(disk).retention(retention).reserve_bytes(reserve_bytes)).unwrap()
}

/// A log of whose oldest segment hardly anything is wanted, which the last checkpoint does not say.
fn mostly_dead(disk: &SimDisk, reserve_bytes: u64) -> DiskLog {
    let body = "x".repeat(100);
    let fill = |log: &DiskLog, count| (0..count).for_each(|_| _ = append(log, "a", &body));
    let log = keeping(disk, 40, reserve_bytes);
    fill(&log, 44);
    log.close().unwrap();
    let log = keeping(disk, 40, reserve_bytes);
    fill(&log, 20);
    assert_eq!(log.window(&channel("a")).unwrap().floor, Seq(20));
    log
}

/// What the oldest segment takes.
fn oldest(disk: &SimDisk) -> usize {
    disk.contents()["00000000000000000001.seg"].len()
}

#[test]
fn what_one_run_had_let_go_is_no_damage_to_the_next_that_keeps_more() {
    let disk = SimDisk::new();
    let log = mostly_dead(&disk, 0);
    log.maintain(1).unwrap();
    for events_max in [40, 10_000] {
        let log = keeping(&disk.after_kill(), events_max, 0);
        let floor = log.window(&channel("a")).unwrap().floor;
        assert_eq!(floor, if events_max == 40 { Seq(20) } else { Seq::ZERO });
        assert_eq!(read(&log, "a", floor.0).len(), 64 - usize::try_from(floor.0).unwrap());
        assert_eq!(log.stats().damaged, [""; 0]);
    }
    // With the next checkpoint, the space is given back.
    let before = oldest(&disk);
    log.close().unwrap();
    let log = keeping(&disk, 40, 0);
    append(&log, "b", "1");
    log.delete(&channel("b")).unwrap();
    log.maintain(1).unwrap();
    assert!(oldest(&disk) < before / 2, "{} of {before}", oldest(&disk));
}

#[test]
fn what_one_run_had_let_go_is_there_for_the_next_also_where_others_were_let_go_beside_it() {
    let disk = SimDisk::new();
    let body = "x".repeat(100);
    let log = keeping(&disk, 40, 0);
    for _ in 0..44 {
        ["a", "gone", "gone"].iter().for_each(|name| _ = append(&log, name, &body));
    }
    log.delete(&channel("gone")).unwrap();
    log.close().unwrap();
    let log = keeping(&disk, 40, 0);
    (0..20).for_each(|_| _ = append(&log, "a", &body));
    let files = disk.contents().len();
    log.maintain(1).unwrap();
    assert!(disk.contents().len() < files, "some were rewritten into one");
    assert!(log.window(&channel("a")).unwrap().floor > Seq::ZERO);
    let log = keeping(&disk.after_kill(), 10_000, 0);
    assert_eq!(read(&log, "a", 0).len(), 64);
    assert_eq!(log.stats().damaged, [""; 0]);
}

#[test]
fn a_full_disk_waits_for_no_events_to_get_back_what_a_checkpoint_lets_go() {
    let disk = SimDisk::new();
    let log = mostly_dead(&disk, 64 << 10);
    let before = oldest(&disk);
    let used: usize = disk.contents().values().map(Vec::len).sum();
    disk.set_capacity(Some(u64::try_from(used).unwrap() + (32 << 10)));
    // One to see that it is full, one to rewrite by the checkpoint of the first.
    log.maintain(1).unwrap();
    assert!(log.stats().refusing.is_some());
    log.maintain(1).unwrap();
    assert!(oldest(&disk) < before / 2, "{} of {before}", oldest(&disk));
}

#[test]
fn a_power_cut_at_any_write_or_sync_loses_nothing_acknowledged() {
    let whole = SimDisk::new();
    let told = work(&whole, 1);
    assert_eq!(told.events.len(), 120, "the workload runs through");
    let counts = whole.counts();
    assert!(counts.writes > 200 && counts.syncs > 150, "{counts:?}");
    let cuts = (1..=counts.writes).map(Fault::CutAtWrite).chain((1..=counts.syncs).map(Fault::CutAtSync));
    for (index, cut) in cuts.enumerate() {
        let disk = SimDisk::new();
        disk.fail(Some(cut));
        let told = work(&disk, 1);
        assert!(disk.is_cut(), "{cut:?} was reached");
        let seed = u64::try_from(index).unwrap() * 31;
        for seed in [None, Some(seed), Some(seed + 1)] {
            check(&disk.after_power_cut(seed), &told, &format!("{cut:?}, {seed:?}"));
        }
    }
}

#[test]
fn a_power_cut_during_recovery_from_a_power_cut_loses_nothing_either() {
    let disk = SimDisk::new();
    disk.fail(Some(Fault::CutAtSync(120)));
    let told = work(&disk, 2);
    for seed in 0..20 {
        let after = disk.after_power_cut(Some(seed));
        for n in 1..12 {
            let again = after.after_kill();
            again.fail(Some(Fault::CutAtWrite(n)));
            if let Ok(log) = DiskLog::open("", options(&again)) {
                log.maintain(told.now_ms).unwrap_or_default();
            }
            check(&again.after_power_cut(Some(seed)), &told, &format!("seed {seed}, write {n}"));
        }
    }
}

#[test]
fn a_failed_write_or_sync_poisons_the_log_until_it_is_opened_again() {
    for fault in [Fault::Write(1), Fault::Sync(1)] {
        let disk = SimDisk::new();
        let log = DiskLog::open("", options(&disk)).unwrap();
        append(&log, "a", "1");
        disk.fail(Some(fault));
        let failed = log.append(&group(vec![event("a", "2", 1)])).unwrap_err();
        assert!(matches!(failed, AppendError::OutcomeUnknown(_)), "{failed}");
        let syncs = disk.counts().syncs;
        let refused = log.append(&group(vec![event("a", "3", 1)])).unwrap_err();
        assert!(matches!(refused, AppendError::Poisoned(_)), "{refused}");
        let refused = log.maintain(1).unwrap_err();
        assert!(matches!(refused, LogError::Poisoned(_)), "{refused}");
        assert_eq!(disk.counts().syncs, syncs, "a failed sync is not tried again");
        assert!(log.stats().refusing.unwrap().starts_with("poisoned: "));
        assert_eq!(read(&log, "a", 0), [(1, "1".to_owned())], "readers live on");
        drop(log);
        let log = DiskLog::open("", options(&disk.after_power_cut(None))).unwrap();
        assert_eq!(read(&log, "a", 0), [(1, "1".to_owned())]);
        append(&log, "a", "again");
    }
}

#[test]
fn a_full_disk_refuses_before_it_writes_and_works_again_when_there_is_room() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(64 << 10));
    let open = || DiskLog::open("", options(&disk).reserve_bytes(16 << 10)).unwrap();
    let log = open();
    let mut acknowledged = Vec::new();
    let body = "x".repeat(1_000);
    let full = loop {
        match log.append(&group(vec![event("a", &body, 1)])) {
            Ok(outcomes) => acknowledged.extend(outcomes),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 100);
    };
    assert!(matches!(full, AppendError::Full { reserve_bytes } if reserve_bytes == 16 << 10), "{full}");
    let writes = disk.counts().writes;
    log.append(&group(vec![event("a", "x", 1)])).unwrap_err();
    assert_eq!(disk.counts().writes, writes, "nothing is written");
    assert!(log.stats().refusing.unwrap().starts_with("disk full: "));
    assert_eq!(read(&log, "a", 0).len(), acknowledged.len(), "readers live on");
    // Deleting frees space, with the help of the reserve.
    log.delete(&channel("a")).unwrap();
    log.maintain(2).unwrap();
    log.maintain(3).unwrap();
    append(&log, "a", "again");
    assert_eq!(log.stats().refusing, None);
    drop(log);
    assert_eq!(read(&open(), "a", u64::try_from(acknowledged.len()).unwrap()).len(), 1);
}
