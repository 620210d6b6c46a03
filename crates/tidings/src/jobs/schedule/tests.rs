use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::document::{LATE_MS, Missed, Overlap, Plan};
use super::*;
use crate::log::disk::{DiskLog, Options};
use crate::log::memory::MemoryLog;
use tidings_core::job::JobId;

use crate::{Hub, Settings};

const BERLIN: &str = "Europe/Berlin";
const NEW_YORK: &str = "America/New_York";

/// The next times of a pattern after a time on the wall, as the clock there shows them.
#[track_caller]
fn check(cron: &str, tz: &str, after: &str, expected: Expect) {
    let zone: Tz = tz.parse().unwrap();
    let times = Times::parse(Some(cron), None, Some(tz), 0).unwrap();
    let wall = NaiveDateTime::parse_from_str(after, "%Y-%m-%d %H:%M:%S").unwrap();
    let mut at = millis(zone.from_local_datetime(&wall).latest().unwrap());
    let mut shown = Vec::new();
    for _ in 0..4 {
        at = times.next_after(at).unwrap();
        shown.push(zone.timestamp_millis_opt(i64::try_from(at).unwrap()).unwrap().to_string());
    }
    expected.assert_eq(&shown.join(", "));
}

fn millis<Z: TimeZone>(at: DateTime<Z>) -> u64 {
    u64::try_from(at.timestamp_millis()).unwrap()
}

#[test]
fn a_time_that_is_left_out_runs_right_behind_the_gap() {
    check(
        "30 2 * * *",
        BERLIN,
        "2026-03-28 12:00:00",
        expect![
            "2026-03-29 03:00:00 CEST, 2026-03-30 02:30:00 CEST, 2026-03-31 02:30:00 CEST, 2026-04-01 02:30:00 CEST"
        ],
    );
    check(
        "30 2 * * *",
        NEW_YORK,
        "2026-03-07 12:00:00",
        expect![
            "2026-03-08 03:00:00 EDT, 2026-03-09 02:30:00 EDT, 2026-03-10 02:30:00 EDT, 2026-03-11 02:30:00 EDT"
        ],
    );
    // All that falls into the gap is one time, also with several hours, where the crate alone would drop it.
    check(
        "0,30 2,14 * * *",
        BERLIN,
        "2026-03-28 15:00:00",
        expect![
            "2026-03-29 03:00:00 CEST, 2026-03-29 14:00:00 CEST, 2026-03-29 14:30:00 CEST, 2026-03-30 02:00:00 CEST"
        ],
    );
    // And it is one with a time that is right behind the gap.
    check(
        "15 2,3 * * *",
        BERLIN,
        "2026-03-28 12:00:00",
        expect![
            "2026-03-29 03:00:00 CEST, 2026-03-29 03:15:00 CEST, 2026-03-30 02:15:00 CEST, 2026-03-30 03:15:00 CEST"
        ],
    );
    check(
        "0 2,3 * * *",
        BERLIN,
        "2026-03-28 12:00:00",
        expect![
            "2026-03-29 03:00:00 CEST, 2026-03-30 02:00:00 CEST, 2026-03-30 03:00:00 CEST, 2026-03-31 02:00:00 CEST"
        ],
    );
}

#[test]
fn a_time_that_is_repeated_runs_once() {
    check(
        "30 2 * * *",
        BERLIN,
        "2026-10-24 12:00:00",
        expect![
            "2026-10-25 02:30:00 CEST, 2026-10-26 02:30:00 CET, 2026-10-27 02:30:00 CET, 2026-10-28 02:30:00 CET"
        ],
    );
    check(
        "30 1 * * *",
        NEW_YORK,
        "2026-10-31 12:00:00",
        expect![
            "2026-11-01 01:30:00 EDT, 2026-11-02 01:30:00 EST, 2026-11-03 01:30:00 EST, 2026-11-04 01:30:00 EST"
        ],
    );
    check(
        "*/30 2,14 * * *",
        BERLIN,
        "2026-10-24 15:00:00",
        expect![
            "2026-10-25 02:00:00 CEST, 2026-10-25 02:30:00 CEST, 2026-10-25 14:00:00 CET, 2026-10-25 14:30:00 CET"
        ],
    );
    // From the second half on, too.
    check(
        "*/30 2,14 * * *",
        BERLIN,
        "2026-10-25 02:10:00",
        expect![
            "2026-10-25 14:00:00 CET, 2026-10-25 14:30:00 CET, 2026-10-26 02:00:00 CET, 2026-10-26 02:30:00 CET"
        ],
    );
}

#[test]
fn every_hour_is_every_hour_that_passes() {
    check(
        "0 * * * *",
        BERLIN,
        "2026-03-29 00:30:00",
        expect![
            "2026-03-29 01:00:00 CET, 2026-03-29 03:00:00 CEST, 2026-03-29 04:00:00 CEST, 2026-03-29 05:00:00 CEST"
        ],
    );
    check(
        "@hourly",
        BERLIN,
        "2026-10-25 00:30:00",
        expect![
            "2026-10-25 01:00:00 CEST, 2026-10-25 02:00:00 CEST, 2026-10-25 02:00:00 CET, 2026-10-25 03:00:00 CET"
        ],
    );
    check(
        "*/30 * * * *",
        NEW_YORK,
        "2026-11-01 00:45:00",
        expect![
            "2026-11-01 01:00:00 EDT, 2026-11-01 01:30:00 EDT, 2026-11-01 01:00:00 EST, 2026-11-01 01:30:00 EST"
        ],
    );
}

#[test]
fn patterns_mean_what_they_say() {
    let from = "2026-01-01 00:00:00";
    check(
        "*/20 0 9 * * MON-FRI",
        "UTC",
        from,
        expect![
            "2026-01-01 09:00:00 UTC, 2026-01-01 09:00:20 UTC, 2026-01-01 09:00:40 UTC, 2026-01-02 09:00:00 UTC"
        ],
    );
    check(
        "0 0 L * *",
        "UTC",
        from,
        expect![
            "2026-01-31 00:00:00 UTC, 2026-02-28 00:00:00 UTC, 2026-03-31 00:00:00 UTC, 2026-04-30 00:00:00 UTC"
        ],
    );
    check(
        "0 0 LW * *",
        "UTC",
        from,
        expect![
            "2026-01-30 00:00:00 UTC, 2026-02-27 00:00:00 UTC, 2026-03-31 00:00:00 UTC, 2026-04-30 00:00:00 UTC"
        ],
    );
    check(
        "0 0 15W * *",
        "UTC",
        from,
        expect![
            "2026-01-15 00:00:00 UTC, 2026-02-16 00:00:00 UTC, 2026-03-16 00:00:00 UTC, 2026-04-15 00:00:00 UTC"
        ],
    );
}

#[test]
fn patterns_with_days_of_the_week_mean_what_they_say() {
    let from = "2026-01-01 00:00:00";
    check(
        "0 0 * * fri#2",
        "UTC",
        from,
        expect![
            "2026-01-09 00:00:00 UTC, 2026-02-13 00:00:00 UTC, 2026-03-13 00:00:00 UTC, 2026-04-10 00:00:00 UTC"
        ],
    );
    check(
        "0 0 * * 5L",
        "UTC",
        from,
        expect![
            "2026-01-30 00:00:00 UTC, 2026-02-27 00:00:00 UTC, 2026-03-27 00:00:00 UTC, 2026-04-24 00:00:00 UTC"
        ],
    );
    check(
        "0 0 13 * +FRI",
        "UTC",
        from,
        expect![
            "2026-02-13 00:00:00 UTC, 2026-03-13 00:00:00 UTC, 2026-11-13 00:00:00 UTC, 2027-08-13 00:00:00 UTC"
        ],
    );
    check(
        "0 0 13 * FRI",
        "UTC",
        from,
        expect![
            "2026-01-02 00:00:00 UTC, 2026-01-09 00:00:00 UTC, 2026-01-13 00:00:00 UTC, 2026-01-16 00:00:00 UTC"
        ],
    );
    check(
        "0 0 29 FEB ?",
        "UTC",
        from,
        expect![
            "2028-02-29 00:00:00 UTC, 2032-02-29 00:00:00 UTC, 2036-02-29 00:00:00 UTC, 2040-02-29 00:00:00 UTC"
        ],
    );
    check(
        "@midnight",
        BERLIN,
        from,
        expect![
            "2026-01-02 00:00:00 CET, 2026-01-03 00:00:00 CET, 2026-01-04 00:00:00 CET, 2026-01-05 00:00:00 CET"
        ],
    );
    check(
        "@Weekly",
        "UTC",
        from,
        expect![
            "2026-01-04 00:00:00 UTC, 2026-01-11 00:00:00 UTC, 2026-01-18 00:00:00 UTC, 2026-01-25 00:00:00 UTC"
        ],
    );
}

#[test]
fn what_is_no_pattern_is_refused() {
    let long = "0,".repeat(200) + " * * * *";
    for cron in [
        "",
        " ",
        "*",
        "* * * *",
        "* * * * * * *",
        "0 0 1 1 * 2030 2031",
        "a b c d e",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "5/10 * * * *",
        "*/0 * * * *",
        "9-5 * * * *",
        "0 0 JAN1 * *",
        "0 0 * JAN1 *",
        "0 0 * JANFEB *",
        "0 , * * *",
        "0 1, * * *",
        "* * * * L",
        "0 0 * * FRI#6",
        "0 0 L-3 * *",
        "0 0 32W * *",
        "@reboot",
        "@hourly 1",
        "-1 * * * *",
        "１ * * * *",
        "* * * * \u{0}",
        &long,
    ] {
        let refused = Times::parse(Some(cron), None, None, 0);
        assert!(refused.is_err(), "{cron:?} is {refused:?}");
    }
    for (cron, every_ms, tz) in [
        (None, None, None),
        (Some("* * * * *"), Some(1_000), None),
        (None, Some(999), None),
        (None, Some(u64::MAX), None),
        (None, Some(1_000), Some("UTC")),
        (Some("* * * * *"), None, Some("Europe/Nowhere")),
        (Some("* * * * *"), None, Some("")),
    ] {
        assert!(Times::parse(cron, every_ms, tz, 0).is_err(), "{cron:?} {every_ms:?} {tz:?}");
    }
    for cron in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30 2 +MON#1"] {
        assert_eq!(Times::parse(Some(cron), None, None, 0).unwrap().next_after(0), None, "{cron}");
    }
}

#[test]
fn an_interval_does_not_drift() {
    let times = Times::parse(None, Some(1_500), None, 10_000).unwrap();
    let next: Vec<_> = [0, 10_000, 11_499, 11_500, 70_001].map(|at| times.next_after(at).unwrap()).into();
    assert_eq!(next, [11_500, 11_500, 11_500, 13_000, 71_500]);
    assert_eq!(times.last(11_500, 70_001), 70_000);
    assert_eq!(Times::parse(None, Some(1_000), None, u64::MAX).unwrap().next_after(u64::MAX), None);
}

fn pattern() -> impl Strategy<Value = String> {
    let time = |max: u32| {
        prop_oneof![
            Just("*".to_owned()),
            (0..max).prop_map(|n| n.to_string()),
            (2..max).prop_map(|n| format!("*/{n}")),
            (0..max, 0..max).prop_map(|(a, b)| format!("{a},{b}")),
        ]
    };
    let day = prop_oneof![
        4 => Just("*".to_owned()),
        1 => (1..29_u32).prop_map(|n| n.to_string()),
        1 => (1..29_u32).prop_map(|n| format!("{n}W")),
        1 => Just("L".to_owned()),
    ];
    let weekday = prop_oneof![4 => Just("*"), 1 => Just("SUN"), 1 => Just("FRI#2"), 1 => Just("SUN#L")];
    (prop_oneof![Just("0".to_owned()), time(60)], time(60), time(24), day, weekday)
        .prop_map(|(s, m, h, d, w)| format!("{s} {m} {h} {d} * {w}"))
}

fn zone() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("UTC"),
        Just(BERLIN),
        Just(NEW_YORK),
        Just("Australia/Lord_Howe"),
        Just("Antarctica/Troll"),
        Just("America/Havana"),
        Just("Africa/Casablanca"),
    ]
}

/// Within two days of a change of the clock in Berlin, or any time.
fn moment() -> impl Strategy<Value = u64> {
    let near = |at: &str| {
        let at = millis(DateTime::parse_from_rfc3339(at).unwrap().with_timezone(&Utc));
        (at - 86_400_000)..(at + 86_400_000)
    };
    prop_oneof![
        near("2026-03-29T01:00:00Z"),
        near("2026-10-25T01:00:00Z"),
        near("2026-11-01T06:00:00Z"),
        1_577_836_800_000_u64..2_208_988_800_000,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_next_time_is_behind_and_none_lies_between(cron in pattern(), tz in zone(), after in moment(), part in 0.0..1.0_f64) {
        let times = Times::parse(Some(&cron), None, Some(tz), 0).unwrap();
        let mut at = after;
        for _ in 0..5 {
            let Some(next) = times.next_after(at) else { return Ok(()) };
            prop_assert!(next > at, "{next} after {at}");
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "any time between")]
            let between = at + ((next - at - 1) as f64 * part) as u64;
            prop_assert_eq!(times.next_after(between), Some(next), "after {}", between);
            at = next;
        }
    }

    #[test]
    fn the_last_time_is_the_one_that_counting_finds(cron in pattern(), tz in zone(), after in moment(), gap in 0..20_000_000_u64) {
        let times = Times::parse(Some(&cron), None, Some(tz), 0).unwrap();
        let Some(due) = times.next_after(after) else { return Ok(()) };
        let now = due + gap / 100;
        let mut last = due;
        while let Some(at) = times.next_after(last).filter(|at| *at <= now) {
            last = at;
        }
        prop_assert_eq!(times.last(due, now), last);
    }

    #[test]
    fn no_text_makes_a_pattern_panic(text in "[-0-9*/,LW#?+@A-Z ]{0,40}|\\PC{0,40}", tz in "\\PC{0,20}|UTC") {
        if let Ok(times) = Times::parse(Some(&text), None, Some(&tz), 0) {
            times.next_after(1_800_000_000_000);
        }
    }
}

fn wanted(change: Value) -> Wanted {
    let mut whole = json!({ "job": { "type": "dance" } });
    whole.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    serde_json::from_str(&whole.to_string()).unwrap()
}

fn name() -> ScheduleName {
    ScheduleName::parse("s").unwrap()
}

#[test]
fn what_is_done_when_a_schedule_is_due() {
    let wanted = wanted(json!({ "every_ms": 10_000 }));
    let (mut document, times) = Document::of(&name(), wanted, None, 0).unwrap();
    let plan = |make_for, next_at| Some(Plan { make_for, next_at: Some(next_at) });
    let is = |d: &Document, is_busy, since_ms, now_ms| d.plan(&times, is_busy, since_ms, now_ms);
    assert_eq!(is(&document, false, 0, 9_999), None);
    assert_eq!(is(&document, false, 0, 10_001), plan(Some(10_000), 20_000));
    assert_eq!(is(&document, true, 0, 10_001), plan(None, 20_000), "the job before has not ended");
    assert_eq!(is(&document, false, 0, 35_000), plan(Some(30_000), 40_000), "one for all that came together");
    document.overlap = Overlap::Allow;
    assert_eq!(is(&document, true, 0, 10_001), plan(Some(10_000), 20_000));
    assert_eq!(is(&document, false, 10_001, 10_002), plan(Some(10_000), 20_000), "missed, and made up for");
    document.missed = Missed::Skip;
    assert_eq!(is(&document, false, 10_001, 10_002), plan(None, 20_000), "missed");
    assert_eq!(is(&document, false, 10_001, 20_002), plan(Some(20_000), 30_000), "only the first was missed");
    let mut rare = Document { every_ms: Some(100_000), next_at: Some(100_000), ..document.clone() };
    let times = Times::parse(None, rare.every_ms, None, 0).unwrap();
    assert_eq!(rare.plan(&times, false, 0, 100_000 + LATE_MS), plan(Some(100_000), 200_000));
    assert_eq!(rare.plan(&times, false, 0, 100_001 + LATE_MS), plan(None, 200_000), "too late");
    rare.next_at = None;
    assert_eq!(rare.plan(&times, false, 0, u64::MAX), None);
}

#[test]
fn a_schedule_that_is_put_again_goes_on() {
    let put = |change: Value, before: Option<&Document>, now| {
        Document::of(&name(), wanted(change), before, now).map(|(document, _)| document)
    };
    let mut first = put(json!({ "every_ms": 10_000 }), None, 5_000).unwrap();
    (first.next_at, first.last_at, first.last_job) = (Some(25_000), Some(15_000), Some("a".into()));
    let same = put(json!({ "every_ms": 10_000, "missed": "skip" }), Some(&first), 30_000).unwrap();
    assert_eq!((same.next_at, same.created_at, same.updated_at), (Some(25_000), 5_000, 30_000));
    assert_eq!((same.last_at, same.last_job), (Some(15_000), Some("a".into())));
    let other = put(json!({ "every_ms": 7_000 }), Some(&first), 30_000).unwrap();
    assert_eq!((other.next_at, other.created_at), (Some(33_000), 5_000), "counted from when it was made");
    assert!(put(json!({ "cron": "0 0 30 2 *" }), Some(&first), 30_000).unwrap_err().contains("never"));
}

/// Both engines, and what a hub on them holds of one schedule that was due before it started.
fn logs() -> Vec<(Arc<dyn Log>, Option<tempfile::TempDir>)> {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::default().segment_bytes(1 << 20).reserve_bytes(0);
    let disk = DiskLog::open(folder.path().join("data"), options).unwrap();
    vec![(Arc::new(MemoryLog::new(crate::log::Retention::default())), None), (Arc::new(disk), Some(folder))]
}

/// A state that a server left behind a long time ago.
async fn leave(log: &Arc<dyn Log>, change: Value) -> u64 {
    let hub = Hub::start(Settings::in_memory().shards(1), Arc::clone(log)).unwrap();
    let now_ms = clock::unix_ms();
    let made_ms = now_ms - 1_000_000;
    let (document, times) = Document::of(&name(), wanted(change), None, made_ms).unwrap();
    let job = NewJob::new("dance").unwrap();
    let kept = Kept { document, times, job, head: Seq::ZERO };
    let events = vec![kept.append(&name(), made_ms).unwrap()];
    hub.commit(vec![Group { events, idempotency: None }]).await.unwrap();
    made_ms
}

async fn after_a_tick(log: &Arc<dyn Log>) -> (Hub, Document) {
    let hub = Hub::start(Settings::in_memory().shards(1), Arc::clone(log)).unwrap();
    // Not by `hub.jobs()`, which would start the clockwork.
    Jobs { hub: hub.clone() }.tick_schedule(&name()).await;
    let document = hub.0.jobs.schedules.find(&name()).unwrap().document;
    (hub, document)
}

fn live(hub: &Hub) -> usize {
    hub.0.jobs.live.lock().unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_is_made_up_for_once() {
    for (log, _folder) in logs() {
        let made_ms = leave(&log, json!({ "every_ms": 300_000, "overlap": "allow" })).await;
        let (hub, document) = after_a_tick(&log).await;
        assert_eq!(document.last_at, Some(made_ms + 900_000), "the last of three");
        assert_eq!(document.next_at, Some(made_ms + 1_200_000));
        let job = JobId::parse(document.last_job.as_deref().unwrap()).unwrap();
        let made: Value = serde_json::from_str(&hub.jobs().document(&job).await.unwrap().unwrap()).unwrap();
        assert_eq!((&made["type"], &made["schedule"]), (&json!("dance"), &json!("s")));
        assert_eq!(live(&hub), 1);
        // Over another start, too.
        let (hub, again) = after_a_tick(&log).await;
        assert_eq!((again.last_at, again.last_job, live(&hub)), (document.last_at, document.last_job, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_can_be_skipped() {
    for (log, _folder) in logs() {
        let made_ms = leave(&log, json!({ "every_ms": 300_000, "missed": "skip" })).await;
        let (hub, document) = after_a_tick(&log).await;
        let next_at = Some(made_ms + 1_200_000);
        assert_eq!((document.last_at, document.next_at, live(&hub)), (None, next_at, 0));
        let (_, again) = after_a_tick(&log).await;
        assert_eq!(again.next_at, next_at, "it is stored");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_due_time_whose_job_is_there_makes_no_second_one() {
    for (log, _folder) in logs() {
        let made_ms = leave(&log, json!({ "every_ms": 300_000 })).await;
        let id = due::job_id(&name(), made_ms + 900_000).unwrap();
        {
            let hub = Hub::start(Settings::in_memory().shards(1), Arc::clone(&log)).unwrap();
            let jobs = Jobs { hub: hub.clone() };
            jobs.make_beside(id.clone(), NewJob::new("dance").unwrap(), Vec::new()).await.unwrap();
            jobs.cancel(&id, None, None).await.unwrap();
        }
        let (hub, document) = after_a_tick(&log).await;
        assert_eq!((document.last_job.as_deref(), live(&hub)), (Some(id.as_str()), 0));
        assert_eq!(document.next_at, Some(made_ms + 1_200_000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_leaves_a_schedule_and_deleting_does_not() {
    for (log, _folder) in logs() {
        leave(&log, json!({ "cron": "@yearly" })).await;
        log.maintain(clock::unix_ms() + 3 * 86_400_000).unwrap();
        let hub = Hub::start(Settings::in_memory().shards(1), Arc::clone(&log)).unwrap();
        assert!(hub.0.jobs.schedules.find(&name()).is_some(), "events are kept for a day, this one for ever");
        Jobs { hub }.delete_schedule(name()).await.unwrap();
        let hub = Hub::start(Settings::in_memory().shards(1), Arc::clone(&log)).unwrap();
        assert!(hub.0.jobs.schedules.find(&name()).is_none());
        let (daily, job) = (wanted(json!({ "cron": "@daily" })), NewJob::new("dance").unwrap());
        assert!(Jobs { hub }.put_schedule(name(), daily, job).await.unwrap().0);
        let hub = Hub::start(Settings::in_memory().shards(1), Arc::clone(&log)).unwrap();
        let document = hub.0.jobs.schedules.find(&name()).unwrap().document;
        assert_eq!(document.cron.as_deref(), Some("@daily"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedules_have_a_bound() {
    let hub = Hub::open(Settings::in_memory().shards(1)).unwrap();
    let put = |name: &str| {
        let (jobs, name) = (hub.jobs(), ScheduleName::parse(name).unwrap());
        async move { jobs.put_schedule(name, wanted(json!({ "cron": "@yearly" })), NewJob::new("dance")?).await }
    };
    put("first").await.unwrap();
    let schedules = &hub.0.jobs.schedules;
    let kept = schedules.find(&ScheduleName::parse("first").unwrap()).unwrap();
    for n in 1..limits::SCHEDULES_MAX {
        schedules.set(&ScheduleName::parse(&format!("s{n}")).unwrap(), kept.clone());
    }
    assert_eq!(put("more").await.unwrap_err().code(), "schedules_too_many");
    assert!(!put("first").await.unwrap().0, "one that is there can be changed");
    hub.jobs().delete_schedule(ScheduleName::parse("first").unwrap()).await.unwrap();
    assert!(put("more").await.unwrap().0);
}
