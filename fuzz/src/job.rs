//! Reports and deadlines in any order: a job ends once, with one last event, and can be stored and read back at any time.

use tidings_core::job::{
    Audience, Change, Claim, Completion, Entries, EntriesReport, Fail, Job, JobError, JobId, JobType, Mode,
    New, NewLease, Progress, State,
};

use crate::input::Input;

const START: u64 = 1_795_305_600_000;

/// `flags, attempts, then verbs`: each a byte, a number, and where it has one a report as a line of JSON.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let mut new = New::new(JobId::parse("7").unwrap(), JobType::parse("t").unwrap());
    new.mode = if flags & 1 == 0 { Mode::Managed } else { Mode::External };
    new.max_attempts = u32::from(input.byte() % 8);
    new.run_at = (flags & 2 != 0).then_some(START + 500);
    new.terms.timeout_ms = (flags & 4 != 0).then_some(5_000);
    new.terms.queued_ms = (flags & 8 != 0).then_some(3_000);
    new.terms.stale_after_ms = (flags & 16 != 0).then_some(4_000);
    new.terms.max_stalls = u32::from(flags >> 5);
    let Ok(mut job) = Job::create(START, new) else { return };
    let mut now = START;
    let mut finals = 0;
    while !input.is_empty() {
        let (verb, number) = (input.byte(), input.byte());
        let mut copy = job.clone();
        let result = step(&mut copy, verb, number, &mut now, &mut input);
        if let Ok(change) = result {
            holds(&job, &copy, change, &mut finals);
            job = copy;
        }
    }
}

fn step(
    job: &mut Job,
    verb: u8,
    number: u8,
    now: &mut u64,
    input: &mut Input<'_>,
) -> Result<Change, JobError> {
    *now += u64::from(number) * 4;
    // The right lease half of the time, an old one or none else.
    let lease = match number % 4 {
        0 => None,
        1 => Some(1),
        _ => Some(u128::from(job.document().attempt)),
    };
    let claim = |attempt, n| Claim { lease, attempt, n };
    let mut line = || input.text_line();
    match verb % 12 {
        0 => {
            let hash = u128::from(job.document().attempt);
            job.handle_lease(
                *now,
                NewLease { hash, worker: "w".into(), lease_ms: None, is_local: number % 2 == 0 },
            )
        }
        1 => {
            let report = Progress::from_json(&line())?;
            job.handle_progress(*now, claim(report.attempt, report.n), report)
        }
        2 => {
            let report = Completion::from_json(&line())?;
            job.handle_complete(*now, claim(report.attempt, report.n), report)
        }
        3 => {
            let report = Fail::from_json(&line())?;
            job.handle_fail(*now, claim(report.attempt, report.n), report, u64::from(number))
        }
        4 => entries(job, *now, lease, EntriesReport::logs_from_json(&line())?),
        5 => entries(job, *now, lease, EntriesReport::output_from_json(&line())?),
        6 => job.handle_heartbeat(*now, claim(None, None)),
        7 => job.handle_release(*now, claim(None, None), u64::from(number) * 100),
        8 => job.handle_cancel(
            *now,
            Some(line().into_owned()),
            (number % 2 == 0).then_some(u64::from(number)),
            "c",
        ),
        9 => job.handle_state(*now, if number % 2 == 0 { State::Queued } else { State::Running }),
        10 => job.handle_interrupted(*now),
        _ => Ok(due(job, now, number)),
    }
}

fn entries(job: &mut Job, now: u64, lease: Option<u128>, report: EntriesReport) -> Result<Change, JobError> {
    if let Entries::Logs(lines) = &report.entries {
        assert!(lines.iter().all(|line| line.message.len() <= tidings_core::limits::JOB_LOG_BYTES_MAX));
    }
    let claim = Claim { lease, attempt: report.attempt, n: report.n };
    job.handle_entries(now, claim, &report.entries)
}

/// Time passes; whatever is due comes to an end.
fn due(job: &mut Job, now: &mut u64, number: u8) -> Change {
    *now += u64::from(number) * 40;
    let mut last = Change::Duplicate;
    for _ in 0..64 {
        if job.due_ms().is_none_or(|at| at > *now) || job.document().state.is_finished() {
            return last;
        }
        last = job.handle_due(*now, u64::from(number));
        assert_ne!(last, Change::Duplicate, "what was due is done");
        if matches!(last, Change::Complete | Change::Error) {
            return last;
        }
    }
    panic!("something is due for ever: {job:?}");
}

fn holds(before: &Job, after: &Job, change: Change, finals: &mut u32) {
    let (old, new) = (before.document(), after.document());
    if old.state.is_finished() {
        assert_eq!(change, Change::Duplicate, "a job that has ended stays as it ended");
    }
    assert!((0.0..=100.0).contains(&new.progress) && new.v >= old.v && new.updated_at >= old.updated_at);
    assert!(new.attempt >= old.attempt && new.attempt <= new.max_attempts.max(old.attempt + 1));
    if let Some(event) = after.event(change, Audience::Job) {
        assert!(
            !event.data.contains(['\r', '\n']) && event.data.len() <= tidings_core::limits::DATA_BYTES_MAX
        );
        let value: serde_json::Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(value["jobId"], "7");
        *finals += u32::from(event.is_final);
        assert_eq!(event.is_final, new.state.is_finished());
    }
    assert!(*finals <= 1);
    let document = serde_json::to_string(new).unwrap();
    let hidden = serde_json::to_string(after.hidden()).unwrap();
    let again =
        Job::restore(serde_json::from_str(&document).unwrap(), serde_json::from_str(&hidden).unwrap());
    assert_eq!(serde_json::to_string(again.document()).unwrap(), document);
    assert_eq!(serde_json::to_string(again.hidden()).unwrap(), hidden);
}
