//! `spec/fixtures/jobs.json`: every verb in every state of a job has exactly one row, and the machine does what it says.

use std::sync::LazyLock;
use std::vec;
use std::vec::Vec;

use super::*;

const VERBS: [&str; 26] = [
    "lease",
    "lease_late",
    "progress",
    "logs",
    "output",
    "heartbeat",
    "artifact",
    "complete",
    "fail_auto",
    "fail_never",
    "fail_after",
    "fail_cancelled",
    "fail_retrying",
    "release",
    "release_later",
    "cancel",
    "state_queued",
    "state_running",
    "due_run_at",
    "due_queued_ms",
    "due_timeout_ms",
    "due_lease_ms",
    "due_grace_ms",
    "due_stale_after_ms",
    "interrupted",
    "restarted",
];
const HOUR: u64 = 3_600_000;

/// What a row may ask about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Facts {
    pub(super) mode: Mode,
    pub(super) state: State,
    pub(super) verb: &'static str,
    /// `right`, `wrong`, `none` or `-`.
    pub(super) lease: &'static str,
    pub(super) is_last: bool,
    pub(super) is_last_stall: bool,
    pub(super) is_asked: bool,
}

/// What a row says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Then {
    Nothing,
    Refused(String),
    Changed { state: State, reason: Option<String>, next: bool, code: Option<String>, sends: String },
}

#[derive(Debug)]
pub(super) struct Table(Vec<Value>);

impl Table {
    /// Read once: random lives ask it often.
    pub(super) fn get() -> &'static Self {
        static TABLE: LazyLock<Table> = LazyLock::new(|| {
            let text = include_str!("../../../../../spec/fixtures/jobs.json");
            let fixture: Value = serde_json::from_str(text).unwrap();
            Table(fixture["rows"].as_array().unwrap().clone())
        });
        &TABLE
    }

    fn rows(&self, facts: &Facts) -> Vec<(usize, &Value)> {
        let words = facts.words();
        let matches = |row: &Value| {
            row["when"].as_object().unwrap().iter().all(|(key, allowed)| {
                let (_, fact) = words.iter().find(|(name, _)| name == key).expect("a known fact");
                allowed.as_array().unwrap().iter().any(|word| word == fact)
            })
        };
        self.0.iter().enumerate().filter(|(_, row)| matches(row)).collect()
    }

    /// What becomes of a job that waits for this reason.
    pub(super) fn then(&self, facts: &Facts, reason: Option<Reason>) -> Then {
        let rows = self.rows(facts);
        assert_eq!(rows.len(), 1, "{facts:?}: {rows:?}");
        let then = &rows[0].1["then"];
        let text = |key: &str| then[key].as_str().map(String::from);
        if then == "nothing" {
            return Then::Nothing;
        }
        if let Some(code) = text("refused") {
            return Then::Refused(code);
        }
        let (state, reason) = match then.get("state") {
            Some(state) => (serde_json::from_value(state.clone()).unwrap(), text("reason")),
            None => (facts.state, reason.map(word)),
        };
        let next = text("attempt").is_some_and(|attempt| attempt == "next");
        Then::Changed { state, reason, next, code: text("code"), sends: text("sends").unwrap() }
    }
}

impl Facts {
    fn words(&self) -> [(&'static str, &'static str); 7] {
        let or = |fact: bool, yes: &'static str, no: &'static str| if fact { yes } else { no };
        [
            ("mode", or(self.mode == Mode::Managed, "managed", "external")),
            ("state", self.state.as_str()),
            ("verb", self.verb),
            ("lease", self.lease),
            ("attempts", or(self.is_last, "last", "left")),
            ("stalls", or(self.is_last_stall, "last", "left")),
            ("cancel", or(self.is_asked, "asked", "no")),
        ]
    }

    /// The leases that its verb may name.
    fn leases(&self) -> &'static [&'static str] {
        let names_one = !self.verb.starts_with("lease")
            && !self.verb.starts_with("due_")
            && !self.verb.starts_with("state_")
            && !matches!(self.verb, "cancel" | "interrupted" | "restarted");
        let has_one =
            matches!(self.state, State::Running | State::Completed | State::Failed | State::Cancelled);
        match (names_one, self.mode, has_one) {
            (false, ..) => &["-"],
            (true, Mode::Managed, true) => &["right", "wrong", "none"],
            (true, ..) => &["wrong", "none"],
        }
    }

    fn all() -> Vec<Self> {
        let mut all = vec![];
        for (mode, state) in
            [Mode::Managed, Mode::External].into_iter().flat_map(|m| State::ALL.map(|s| (m, s)))
        {
            let is_live = !state.is_finished();
            for bits in 0..8_u8 {
                let (is_last, is_last_stall, is_asked) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
                // A managed job that waits does not outlive the wish, and what has ended is only asked before.
                let can_ask = is_live && (state == State::Running || mode == Mode::External);
                if (is_asked && !can_ask) || (!is_live && bits != 0) {
                    continue;
                }
                for verb in VERBS {
                    let base = Self { mode, state, verb, lease: "-", is_last, is_last_stall, is_asked };
                    all.extend(base.leases().iter().map(|lease| Self { lease, ..base }));
                }
            }
        }
        all
    }

    /// A job of which this is true.
    fn job(&self) -> Job {
        let mut new = new(self.mode);
        let runs_before = if self.state == State::Retrying { 2 } else { 1 };
        new.max_attempts = if self.is_last { runs_before } else { 5 };
        new.terms.max_stalls = if self.is_last_stall { 0 } else { 2 };
        new.terms.lease_ms = if self.verb == "due_lease_ms" { 30_000 } else { HOUR };
        new.terms.timeout_ms = (self.verb == "due_timeout_ms").then_some(5_000);
        new.terms.stale_after_ms = (self.verb == "due_stale_after_ms").then_some(5_000);
        let expires =
            self.verb == "due_queued_ms" || (self.state == State::Expired && self.mode == Mode::Managed);
        new.terms.queued_ms = expires.then_some(60_000);
        let soon = self.verb == "due_run_at" || self.verb == "due_queued_ms";
        new.run_at = (self.state == State::Scheduled).then_some(NOW + if soon { 10_000 } else { HOUR });
        let mut job = Job::create(NOW, new).unwrap();
        match self.mode {
            Mode::Managed => self.bring_managed(&mut job),
            Mode::External => self.bring_external(&mut job),
        }
        if self.is_asked {
            let grace_ms = if self.verb == "due_grace_ms" { 2_000 } else { HOUR };
            job.handle_cancel(NOW, None, Some(grace_ms), "cancelled").unwrap();
        }
        assert_eq!(job.document().state, self.state);
        job
    }

    fn bring_managed(&self, job: &mut Job) {
        match self.state {
            State::Scheduled | State::Queued => {}
            State::Expired => {
                job.handle_due(NOW + 60_000, 0);
            }
            State::Retrying => {
                lease(job, NOW, WRONG).unwrap();
                job.handle_fail(NOW, of(WRONG), fail(r#"{"message":"m","retry":{"after_ms":3600000}}"#), 0)
                    .unwrap();
            }
            _ if self.verb == "interrupted" => {
                lease_locally(job, NOW, RIGHT).unwrap();
            }
            _ => {
                lease(job, NOW, RIGHT).unwrap();
            }
        }
        let never = || fail(r#"{"message":"m","retry":"never"}"#);
        match self.state {
            State::Completed => {
                job.handle_complete(NOW, of(RIGHT), Completion::default()).unwrap();
            }
            State::Failed => {
                job.handle_fail(NOW, of(RIGHT), never(), 0).unwrap();
            }
            State::Cancelled => {
                job.handle_cancel(NOW, None, None, "cancelled").unwrap();
                job.handle_fail(NOW, of(RIGHT), never(), 0).unwrap();
            }
            _ => {}
        }
    }

    fn bring_external(&self, job: &mut Job) {
        match self.state {
            State::Queued => {}
            State::Scheduled | State::Running => {
                job.handle_state(NOW, self.state).unwrap();
            }
            State::Retrying => {
                job.handle_fail(NOW, nobody(), fail(r#"{"message":"m","retrying":true}"#), 0).unwrap();
            }
            State::Completed => {
                job.handle_complete(NOW, nobody(), Completion::default()).unwrap();
            }
            state => {
                let json = std::format!(r#"{{"message":"m","state":"{}"}}"#, state.as_str());
                job.handle_fail(NOW, nobody(), fail(&json), 0).unwrap();
            }
        }
    }

    fn claim(&self) -> Claim {
        match self.lease {
            "right" => of(RIGHT),
            "wrong" => of(WRONG),
            _ => nobody(),
        }
    }

    fn do_to(&self, job: &mut Job) -> Result<Change, JobError> {
        let (now, claim) = (NOW + 1, self.claim());
        let failed = |job: &mut Job, rest: &str| {
            let report = std::format!(r#"{{"message":"m","code":"reported"{rest}}}"#);
            job.handle_fail(now, claim, fail(&report), 0)
        };
        let chunk = || Entries::Output([RawValue::from_string("1".into()).unwrap()].into());
        let file = || Artifact { name: "f".into(), content_type: None, size: None, url: None };
        match self.verb {
            "lease" => lease(job, now, 3),
            "lease_late" => lease(job, NOW + HOUR, 3),
            "progress" => job.handle_progress(now, claim, Progress::percent(1.0)),
            "logs" => job.handle_entries(now, claim, &logs(r#"{"message":"m"}"#)),
            "output" => job.handle_entries(now, claim, &chunk()),
            "heartbeat" => job.handle_heartbeat(now, claim),
            "artifact" => job.handle_artifact(now, claim, file()),
            "complete" => job.handle_complete(now, claim, Completion::default()),
            "fail_auto" => failed(job, ""),
            "fail_never" => failed(job, r#","retry":"never""#),
            "fail_after" => failed(job, r#","retry":{"after_ms":5}"#),
            "fail_cancelled" => failed(job, r#","state":"cancelled""#),
            "fail_retrying" => failed(job, r#","retrying":true"#),
            "release" => job.handle_release(now, claim, 0),
            "release_later" => job.handle_release(now, claim, 5),
            "cancel" => job.handle_cancel(now, None, Some(HOUR), "cancelled"),
            "state_queued" => job.handle_state(now, State::Queued),
            "state_running" => job.handle_state(now, State::Running),
            "interrupted" | "restarted" => job.handle_interrupted(now),
            "due_run_at" => Ok(wait(job, 10_000)),
            "due_queued_ms" => Ok(wait(job, 10_000 + 60_000)),
            "due_timeout_ms" | "due_stale_after_ms" => Ok(wait(job, 5_000)),
            "due_lease_ms" => Ok(wait(job, 30_000)),
            "due_grace_ms" => Ok(wait(job, 2_000)),
            other => panic!("the table names a verb {other}"),
        }
    }
}

/// Does all that is due then, and says what the last of it was.
fn wait(job: &mut Job, ms: u64) -> Change {
    let mut last = Change::Duplicate;
    loop {
        match job.handle_due(NOW + ms, 0) {
            Change::Duplicate => return last,
            change => last = change,
        }
    }
}

fn word(reason: Reason) -> String {
    serde_json::to_value(reason).unwrap().as_str().unwrap().into()
}

/// What became of a job, as a row says it.
pub(super) fn outcome(before: &Job, result: Result<Change, JobError>, after: &Job) -> Then {
    let sends = match result {
        Err(error) => return Then::Refused(error.code().into()),
        Ok(Change::Duplicate) => {
            assert_eq!(value(before), value(after), "nothing means nothing");
            return Then::Nothing;
        }
        Ok(Change::Progress | Change::State) => "progress",
        Ok(Change::Entries) => "entries",
        Ok(Change::Complete) => "complete",
        Ok(Change::Error) => "error",
    };
    let (was, document) = (before.document(), after.document());
    assert_eq!(document.v > was.v, sends != "entries", "the version counts changes of the document");
    let reason = document.reason.map(word);
    let next = document.attempt > was.attempt;
    // The error of an earlier attempt is no news.
    let code = document.error.as_ref().filter(|_| sends == "error" || next).map(|error| error.code.clone());
    Then::Changed { state: document.state, reason, next, code, sends: sends.into() }
}

#[test]
fn every_verb_in_every_state_has_one_row_and_does_what_it_says() {
    let table = Table::get();
    let mut used = vec![false; table.0.len()];
    let all = Facts::all();
    assert!(all.len() > 2_400, "{}", all.len());
    for facts in all {
        let before = facts.job();
        let mut job = before.clone();
        let result = facts.do_to(&mut job);
        let expected = table.then(&facts, before.document().reason);
        assert_eq!(outcome(&before, result, &job), expected, "{facts:?}");
        used[table.rows(&facts)[0].0] = true;
    }
    let unused: Vec<_> = table.0.iter().zip(used).filter(|(_, used)| !used).map(|(row, _)| row).collect();
    assert!(unused.is_empty(), "rows that no combination matches: {unused:?}");
}
