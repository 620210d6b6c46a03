//! Random lives of a job, against a model that keeps a few facts and asks the table of `jobs.json` what has to happen.
//!
//! The model knows who may speak, which report is a repeat, and which deadline passes first; the table knows the rest.

use std::string::ToString;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::table::{Facts, Table, Then, outcome};
use super::*;

/// Who says something.
#[derive(Debug, Clone, Copy)]
enum By {
    Owner,
    /// The holder of one of the leases that there were, if there were any.
    Holder(usize),
    Nobody,
}

#[derive(Debug, Clone)]
enum Op {
    Lease {
        is_local: bool,
    },
    Say {
        verb: &'static str,
        by: By,
        attempt: Option<i8>,
        n: Option<u64>,
        percent: u8,
        reset: bool,
    },
    /// The last report once more, as a client says it whose answer was lost.
    Repeat,
    Cancel {
        grace_ms: Option<u64>,
    },
    State {
        verb: &'static str,
    },
    Wait {
        ms: u64,
        random: u64,
    },
    Crash,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let by = prop_oneof![6 => Just(By::Owner), 1 => (0_usize..9).prop_map(By::Holder), 1 => Just(By::Nobody)];
    let verb = prop::sample::select(vec![
        "progress",
        "progress",
        "progress",
        "logs",
        "output",
        "heartbeat",
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
    ]);
    let attempt = prop::option::weighted(0.3, prop_oneof![4 => Just(0_i8), 1 => Just(1), 1 => Just(-1)]);
    let n = prop::option::weighted(0.6, 1_u64..6);
    let say = (verb, by, attempt, n, 0_u8..=100, prop::bool::weighted(0.1));
    let op = prop_oneof![
        6 => any::<bool>().prop_map(|is_local| Op::Lease { is_local }),
        10 => say.prop_map(|(verb, by, attempt, n, percent, reset)| Op::Say { verb, by, attempt, n, percent, reset }),
        2 => Just(Op::Repeat),
        2 => prop::option::of(0_u64..9_000).prop_map(|grace_ms| Op::Cancel { grace_ms }),
        1 => prop::sample::select(vec!["state_queued", "state_running"]).prop_map(|verb| Op::State { verb }),
        6 => (prop_oneof![0_u64..400, 0_u64..9_000], any::<u64>()).prop_map(|(ms, random)| Op::Wait { ms, random }),
        1 => Just(Op::Crash),
    ];
    proptest::collection::vec(op, 1..80)
}

fn jobs() -> impl Strategy<Value = New> {
    let times = (
        prop::option::weighted(0.3, 0_u64..3_000),
        prop::option::weighted(0.3, 1_000_u64..12_000),
        prop::option::weighted(0.3, 1_000_u64..5_000),
        prop::option::weighted(0.5, 1_000_u64..9_000),
        1_000_u64..6_000,
    );
    (any::<bool>(), 1_u32..5, 0_u32..3, times).prop_map(|(is_external, max_attempts, max_stalls, times)| {
        let mut new = new(if is_external { Mode::External } else { Mode::Managed });
        let (delay, timeout_ms, queued_ms, stale_after_ms, lease_ms) = times;
        (new.run_at, new.max_attempts) = (delay.map(|ms| NOW + ms), max_attempts);
        new.terms = Terms { lease_ms, timeout_ms, max_stalls, queued_ms, stale_after_ms, ..Terms::default() };
        new
    })
}

/// A few words on a job, and when what is due for it.
#[derive(Debug)]
struct Model {
    new: New,
    now: u64,
    state: State,
    reason: Option<Reason>,
    attempt: u32,
    stalls: u32,
    is_asked: bool,
    /// The lease of the run that goes on, and whether it is a handler's.
    own: Option<(u128, bool)>,
    ended_by: Option<u128>,
    leases: u128,
    n: Option<u64>,
    /// The attempt and the counter of the report that an external queue began the present attempt with.
    retried: Option<(u32, u64)>,
    percent: f64,
    run_at: Option<u64>,
    expires: Option<u64>,
    timeout: Option<u64>,
    silence: Option<u64>,
    grace: Option<u64>,
}

impl Model {
    fn of(new: &New) -> Self {
        let is_managed = new.mode == Mode::Managed;
        let run_at = new.run_at.filter(|at| is_managed && *at > NOW);
        let expires = new.terms.queued_ms.filter(|_| is_managed).map(|ms| run_at.unwrap_or(NOW) + ms);
        let silence = new.terms.stale_after_ms.filter(|_| !is_managed).map(|ms| NOW + ms);
        Self {
            new: new.clone(),
            now: NOW,
            state: if run_at.is_some() { State::Scheduled } else { State::Queued },
            reason: None,
            attempt: 1,
            stalls: 0,
            is_asked: false,
            own: None,
            ended_by: None,
            leases: 0,
            n: None,
            retried: None,
            percent: 0.0,
            run_at,
            expires,
            timeout: None,
            silence,
            grace: None,
        }
    }

    fn is_managed(&self) -> bool {
        self.new.mode == Mode::Managed
    }

    fn facts(&self, verb: &'static str, lease: &'static str) -> Facts {
        Facts {
            mode: self.new.mode,
            state: self.state,
            verb,
            lease,
            is_last: self.attempt >= self.new.max_attempts,
            is_last_stall: self.stalls >= self.new.terms.max_stalls,
            is_asked: self.is_asked,
        }
    }

    /// What is due first.
    fn due(&self) -> Option<(u64, &'static str)> {
        if self.state.is_finished() {
            return None;
        }
        let all = [
            (self.grace, "due_grace_ms"),
            (self.expires, "due_queued_ms"),
            (self.run_at.filter(|_| self.state == State::Scheduled), "due_run_at"),
            (self.timeout, "due_timeout_ms"),
            (self.silence.filter(|_| self.is_managed()), "due_lease_ms"),
            (self.silence.filter(|_| !self.is_managed()), "due_stale_after_ms"),
        ];
        all.into_iter().filter_map(|(at, verb)| Some((at?, verb))).min_by_key(|(at, _)| *at)
    }

    /// Whoever runs the job is there.
    fn heard(&mut self) {
        self.silence = match self.own {
            Some((_, is_local)) => (!is_local).then_some(self.now + self.new.terms.lease_ms),
            None if self.is_managed() => None,
            None => self.new.terms.stale_after_ms.map(|ms| self.now + ms),
        };
    }

    fn claim(&self, by: By, attempt: Option<i8>, n: Option<u64>) -> Claim {
        let lease = match by {
            By::Owner => self.own.map(|own| own.0).or(self.ended_by),
            By::Holder(index) => (self.leases > 0).then(|| 1 + index as u128 % self.leases),
            By::Nobody => None,
        };
        Claim { lease, attempt: attempt.map(|by| self.attempt.saturating_add_signed(by.into())), n }
    }

    /// What has to come of a report.
    fn expect_report(&self, table: &Table, verb: &'static str, claim: Claim) -> Then {
        let own = self.own.map(|own| own.0).or(self.ended_by);
        let lease = match claim.lease {
            None => "none",
            given if self.is_managed() && given == own => "right",
            Some(_) => "wrong",
        };
        let is_of_the_run = lease == if self.is_managed() { "right" } else { "none" };
        let is_known = is_of_the_run
            && claim.attempt.is_none_or(|given| given == self.attempt)
            && claim.n.is_some_and(|n| self.n.is_some_and(|newest| n <= newest));
        let retries = verb == "fail_retrying" && !self.is_managed();
        let is_end = !retries && (verb == "complete" || verb.starts_with("fail_"));
        let counts = is_end || retries || ["progress", "logs", "output"].contains(&verb);
        let repeats_the_retry = retries
            && is_of_the_run
            && self.retried.is_some_and(|(attempt, n)| {
                let is_untouched = self.state == State::Retrying && self.n.is_none();
                claim.n == Some(n) && claim.attempt.map_or(is_untouched, |given| given == attempt)
            });
        // A job must not miss its end.
        let is_late_end = is_end && (!self.state.is_finished() || self.is_managed());
        if (counts && is_known && !is_late_end) || repeats_the_retry {
            return Then::Nothing;
        }
        let then = table.then(&self.facts(verb, lease), self.reason);
        // A heartbeat that is taken changes nothing, unless it is of another attempt.
        let is_taken = matches!(then, Then::Changed { .. }) || (verb == "heartbeat" && then == Then::Nothing);
        let Some(given) = claim.attempt.filter(|_| is_taken) else { return then };
        match given.cmp(&self.attempt) {
            std::cmp::Ordering::Equal => then,
            std::cmp::Ordering::Greater if !self.is_managed() => self.newer(then, verb),
            _ => Then::Refused("attempt_stale".into()),
        }
    }

    /// What the first report of a newer attempt of another queue does beside what it does anyway.
    fn newer(&self, then: Then, verb: &str) -> Then {
        if ["progress", "logs", "output", "heartbeat", "artifact"].contains(&verb) {
            let (state, reason, sends) = (State::Running, None, "progress".into());
            return Then::Changed { state, reason, next: true, code: None, sends };
        }
        let Then::Changed { state, reason, code, sends, .. } = then else { return then };
        Then::Changed { state, reason, next: true, code, sends }
    }

    /// Takes what has happened for true.
    fn follow(&mut self, then: &Then, verb: &str, claim: Claim, job: &Job) {
        let Then::Changed { state, reason, next, .. } = then else { return };
        let is_retry = *state == State::Retrying && !self.is_managed() && verb == "fail_retrying";
        let told = claim.attempt.filter(|_| !self.is_managed()).unwrap_or(self.attempt);
        if is_retry {
            self.retried = claim.n.map(|n| (told, n));
        }
        if *next {
            let begins = if is_retry || self.is_managed() { told.max(self.attempt) + 1 } else { told };
            (self.attempt, self.n, self.percent) = (begins, None, 0.0);
        }
        let waits_again = self.is_managed() && matches!(state, State::Queued | State::Retrying);
        if waits_again || (self.is_managed() && verb.starts_with("lease")) {
            (self.own, self.n, self.percent, self.timeout, self.silence) = (None, None, 0.0, None, None);
        }
        self.run_at = job.document().run_at.filter(|_| self.is_managed());
        if state.is_finished() {
            self.own = None;
            self.ended_by = claim.lease.filter(|_| verb == "complete" || verb.starts_with("fail_"));
            self.n = claim.n.filter(|_| !verb.starts_with("release")).max(self.n);
        } else if !is_retry && !waits_again {
            self.n = claim.n.filter(|_| verb != "artifact").or(self.n);
        }
        self.stalls += u32::from(verb == "due_lease_ms");
        self.state = *state;
        self.reason = serde_json::from_value(reason.clone().into()).unwrap();
    }

    /// What has to be true of the job at any time.
    fn check(&self, job: &Job) -> Result<(), TestCaseError> {
        let document = job.document();
        prop_assert_eq!(standing(job), (self.state, self.reason, self.attempt));
        prop_assert_eq!(job.hidden().n, self.n);
        prop_assert!(
            (document.progress - self.percent).abs() < 1e-9,
            "{} {}",
            document.progress,
            self.percent
        );
        prop_assert_eq!(job.due_ms(), self.due().map(|(at, _)| at));
        prop_assert!(document.attempt <= document.max_attempts);
        prop_assert!(!self.is_managed() || document.max_attempts == self.new.max_attempts);
        prop_assert_eq!(document.finished_at.is_some(), self.state.is_finished());
        prop_assert_eq!(document.run_at.is_some() && self.is_managed(), self.run_at.is_some());
        let accepted: Vec<u128> =
            (1..=self.leases).filter(|lease| job.clone().renew(self.now, *lease).is_ok()).collect();
        prop_assert_eq!(accepted, self.own.map(|own| own.0).into_iter().collect::<Vec<_>>());
        Ok(())
    }
}

fn say(
    job: &mut Job,
    now: u64,
    verb: &str,
    claim: Claim,
    percent: f64,
    reset: bool,
) -> Result<Change, JobError> {
    let failed = |job: &mut Job, rest: &str| {
        let report = std::format!(r#"{{"message":"m","code":"reported"{rest}}}"#);
        job.handle_fail(now, claim, fail(&report), 500)
    };
    match verb {
        "progress" => job.handle_progress(now, claim, Progress { reset, ..Progress::percent(percent) }),
        "logs" => job.handle_entries(now, claim, &logs(r#"{"message":"m"}"#)),
        "output" => {
            let chunk = RawValue::from_string("1".into()).unwrap();
            job.handle_entries(now, claim, &Entries::Output([chunk].into()))
        }
        "heartbeat" => job.handle_heartbeat(now, claim),
        "artifact" => {
            let file = Artifact { name: "f".into(), content_type: None, size: None, url: None };
            job.handle_artifact(now, claim, file)
        }
        "complete" => job.handle_complete(now, claim, Completion::default()),
        "fail_auto" => failed(job, ""),
        "fail_never" => failed(job, r#","retry":"never""#),
        "fail_after" => failed(job, r#","retry":{"after_ms":700}"#),
        "fail_cancelled" => failed(job, r#","state":"cancelled""#),
        "fail_retrying" => failed(job, r#","retrying":true"#),
        "release" => job.handle_release(now, claim, 0),
        "release_later" => job.handle_release(now, claim, 300),
        other => panic!("there is no report {other}"),
    }
}

fn may_follow(from: State, to: State) -> bool {
    use State::{Queued, Retrying, Running, Scheduled};
    match (from, to) {
        (from, to) if from == to => true,
        (from, _) if from.is_finished() => false,
        (_, to) if to.is_finished() => true,
        (Scheduled, Queued) | (Queued | Retrying, Running) | (Running, Queued | Retrying) => true,
        _ => false,
    }
}

/// A job and its model, and all that was seen of it.
struct Life {
    table: &'static Table,
    job: Job,
    model: Model,
    last: Option<(&'static str, Claim)>,
    ends: Vec<String>,
    /// The document as it ended.
    frozen: Option<Value>,
}

impl Life {
    /// Does something to a copy, as the caller of the machine does, and compares.
    fn step(
        &mut self,
        (verb, claim): (&'static str, Claim),
        expected: Then,
        act: impl FnOnce(&mut Job) -> Result<Change, JobError>,
    ) -> Result<bool, TestCaseError> {
        let before = self.job.clone();
        let mut job = before.clone();
        let result = act(&mut job);
        prop_assert_eq!(&outcome(&before, result.clone(), &job), &expected, "{}", verb);
        let Ok(change) = result else {
            prop_assert_eq!(value(&before), value(&job), "a refusal changes nothing");
            return Ok(false);
        };
        let (was, document) = (before.document(), job.document());
        if self.model.is_managed() || verb == "due_run_at" {
            prop_assert!(may_follow(was.state, document.state), "{:?} to {:?}", was.state, document.state);
        }
        prop_assert!(document.updated_at >= was.updated_at && document.v >= was.v);
        if let Some(frozen) = &self.frozen {
            prop_assert_eq!(frozen, &value(&job), "it ended once");
        }
        self.model.follow(&expected, verb, claim, &job);
        if let Some(event) = job.event(change, Audience::Job).filter(|event| event.is_final) {
            self.ends.push(event.event.into());
            self.frozen = Some(value(&job));
        }
        self.job = job;
        Ok(true)
    }

    fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match *op {
            Op::Lease { is_local } => self.lease(is_local),
            Op::Say { verb, by, attempt, n, percent, reset } => {
                let claim = self.model.claim(by, attempt, n);
                self.last = Some((verb, claim));
                self.say(verb, claim, percent.into(), reset)
            }
            Op::Repeat => match self.last {
                Some((verb, claim)) => self.say(verb, claim, 50.0, false),
                None => Ok(()),
            },
            Op::Cancel { grace_ms } => self.cancel(grace_ms),
            Op::State { verb } => {
                let expected = self.model.expect_state(self.table, verb);
                let now = self.model.now;
                let state = if verb == "state_running" { State::Running } else { State::Queued };
                if self.step((verb, nobody()), expected, |job| job.handle_state(now, state))? {
                    self.model.heard();
                }
                Ok(())
            }
            Op::Wait { ms, random } => self.wait(ms, random),
            Op::Crash => self.crash(),
        }
    }

    fn lease(&mut self, is_local: bool) -> Result<(), TestCaseError> {
        let (now, hash) = (self.model.now, self.model.leases + 1);
        let is_late = self.model.run_at.is_none_or(|at| at <= now);
        let verb = if is_late { "lease_late" } else { "lease" };
        let expected = self.model.expect_state(self.table, verb);
        let new = NewLease { hash, worker: "w".into(), lease_ms: None, is_local };
        if self.step((verb, nobody()), expected, |job| job.handle_lease(now, new))? {
            let model = &mut self.model;
            (model.leases, model.own, model.expires) = (hash, Some((hash, is_local)), None);
            model.timeout = model.new.terms.timeout_ms.map(|ms| now + ms);
            model.heard();
        }
        Ok(())
    }

    fn say(
        &mut self,
        verb: &'static str,
        claim: Claim,
        percent: f64,
        reset: bool,
    ) -> Result<(), TestCaseError> {
        let expected = self.model.expect_report(self.table, verb, claim);
        let (now, before) = (self.model.now, self.model.attempt);
        let is_taken = matches!(expected, Then::Changed { .. });
        if !self.step((verb, claim), expected, |job| say(job, now, verb, claim, percent, reset))? {
            return Ok(());
        }
        let (model, document) = (&mut self.model, self.job.document());
        if is_taken && verb == "progress" {
            model.percent = if reset { percent } else { model.percent.max(percent) };
        }
        if model.state == State::Completed {
            model.percent = 100.0;
        }
        if is_taken && model.is_managed() && model.state == State::Retrying {
            let wait = document.run_at.unwrap() - now;
            let longest = (1_000_u64 << (before - 1)).min(60_000);
            let expected = match verb {
                "fail_after" => 700..=700,
                "release_later" => 300..=300,
                _ => longest / 2..=longest,
            };
            prop_assert!(expected.contains(&wait), "{} {} {:?}", verb, wait, expected);
        }
        // The caller renews the lease with every report; of another queue the machine itself knows.
        if let Some(lease) = claim.lease {
            self.job.renew(now, lease).unwrap_or_default();
        }
        if is_taken || claim.lease == model.own.map(|own| own.0) {
            model.heard();
        }
        Ok(())
    }

    fn cancel(&mut self, grace_ms: Option<u64>) -> Result<(), TestCaseError> {
        let model = &self.model;
        let now = model.now;
        let grace = grace_ms.or(model.is_managed().then_some(30_000)).map(|ms| now + ms);
        let is_live = !model.state.is_finished();
        let is_sooner = grace.is_some_and(|at| model.grace.is_none_or(|known| at < known));
        let expected = if is_live && model.is_asked && is_sooner {
            let row = Facts { is_asked: false, ..model.facts("cancel", "-") };
            self.table.then(&row, model.reason)
        } else {
            model.expect_state(self.table, "cancel")
        };
        if self
            .step(("cancel", nobody()), expected, |job| job.handle_cancel(now, None, grace_ms, "cancelled"))?
        {
            let model = &mut self.model;
            model.grace = if is_sooner { grace } else { model.grace };
            model.is_asked = true;
            // A change is news of an external job too.
            model.changed_at(self.job.document().updated_at);
        }
        Ok(())
    }

    fn wait(&mut self, ms: u64, random: u64) -> Result<(), TestCaseError> {
        self.model.now += ms;
        let now = self.model.now;
        while let Some((_, verb)) = self.model.due().filter(|(at, _)| *at <= now) {
            let expected = self.model.expect_state(self.table, verb);
            prop_assert!(expected != Then::Nothing, "what is due is done: {}", verb);
            self.step((verb, nobody()), expected, |job| Ok(job.handle_due(now, random)))?;
            if self.model.state == State::Retrying {
                let wait = self.job.document().run_at.unwrap() - now;
                prop_assert_eq!(wait > 0, verb == "due_timeout_ms");
            }
            self.model.check(&self.job)?;
        }
        self.step(("due_run_at", nobody()), Then::Nothing, |job| Ok(job.handle_due(now, random)))?;
        prop_assert!(self.job.due_ms().is_none_or(|at| at > now), "no timer goes off for nothing");
        Ok(())
    }

    /// The process ends, and the next one reads what was stored.
    fn crash(&mut self) -> Result<(), TestCaseError> {
        let restored = stored_and_read(&self.job);
        prop_assert_eq!(value(&restored).to_string(), value(&self.job).to_string());
        self.job = restored;
        let now = self.model.now;
        let verb = if self.model.own.is_some_and(|own| own.1) { "interrupted" } else { "restarted" };
        let expected = self.model.expect_state(self.table, verb);
        if self.step((verb, nobody()), expected, |job| job.handle_interrupted(now))? {
            self.model.heard();
        }
        Ok(())
    }
}

impl Model {
    fn expect_state(&self, table: &Table, verb: &'static str) -> Then {
        table.then(&self.facts(verb, "-"), self.reason)
    }

    /// The document of an external job changed: its silence is counted from then on.
    fn changed_at(&mut self, updated_at: u64) {
        if let Some(ms) = self.new.terms.stale_after_ms.filter(|_| !self.is_managed()) {
            self.silence = self.silence.max(Some(updated_at + ms));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_job_does_what_the_table_says_and_ends_with_exactly_one_event(new in jobs(), ops in ops()) {
        let (job, model) = (Job::create(NOW, new.clone()).unwrap(), Model::of(&new));
        let mut life = Life { table: Table::get(), job, model, last: None, ends: vec![], frozen: None };
        life.model.check(&life.job)?;
        let end = [Op::Cancel { grace_ms: Some(0) }, Op::Wait { ms: 0, random: 0 }];
        for op in ops.iter().chain(&end) {
            life.apply(op)?;
            life.model.check(&life.job)?;
        }
        prop_assert_eq!(life.ends.len(), 1);
        let completed = life.job.document().state == State::Completed;
        prop_assert_eq!(life.ends[0].as_str(), if completed { "complete" } else { "error" });
    }
}
