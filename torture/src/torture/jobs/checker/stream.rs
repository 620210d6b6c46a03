//! One job's stream by itself, and the leases that stand behind its events.
//!
//! Owns: one end, runs one after the other, one lease for each run, attempts. Does not know: what was acknowledged.
//! Flow: in ← a stream, the job's leases · out → violations.

use std::collections::HashMap;

use super::super::trace::{Document, Event, Kind as EventKind, Lease, Stream, Trace};
use super::{Kind, Report, making};

pub(super) fn check(trace: &Trace, stream: &Stream, leases: &[&Lease], report: &mut Report) {
    ends(stream, report);
    let tag = making::tag(stream);
    let made = trace.made.iter().find(|made| made.tag == tag);
    let mut walk = Walk {
        trace,
        job: &stream.job,
        max_attempts: made.map_or(u64::MAX, |made| made.max_attempts),
        runs: Vec::new(),
        owners: HashMap::new(),
        last: Document::default(),
        ending: None,
        report,
    };
    for event in &stream.events {
        walk.event(event);
    }
    walk.compare(leases);
}

fn ends(stream: &Stream, report: &mut Report) {
    let job = &stream.job;
    let is_end = |event: &Event| matches!(event.kind, EventKind::Complete { .. } | EventKind::Error { .. });
    let count = stream.events.iter().filter(|event| is_end(event)).count();
    match stream.events.iter().position(is_end) {
        None => report
            .add(Kind::NoEnd, || format!("{job}: {} events, none of which ends it", stream.events.len())),
        Some(first) if count > 1 => report.add(Kind::TwoEnds, || {
            let ends: Vec<&Event> = stream.events.iter().skip(first).collect();
            format!("{job}: {ends:?}")
        }),
        Some(first) if first + 1 < stream.events.len() => {
            report.add(Kind::AfterEnd, || format!("{job}: {:?}", stream.events.get(first + 1)));
        }
        Some(_) => {}
    }
}

/// From one `running` to the next document that is not.
struct Run<'a> {
    attempt: u64,
    /// The lease of the events that were written in it.
    token: Option<&'a str>,
}

struct Walk<'a> {
    trace: &'a Trace,
    job: &'a str,
    max_attempts: u64,
    runs: Vec<Run<'a>>,
    /// The run of each lease that wrote something.
    owners: HashMap<&'a str, usize>,
    last: Document,
    /// The document has ended, and the event that ends the stream is next: whether the job ran until then.
    ending: Option<bool>,
    report: &'a mut Report,
}

impl<'a> Walk<'a> {
    fn event(&mut self, event: &'a Event) {
        let job = self.job;
        let was_running = self.ending.unwrap_or(self.last.state == "running");
        match &event.kind {
            EventKind::Progress(_) | EventKind::Log { .. } if self.ending.is_some() => {
                self.report.add(Kind::AfterEnd, || format!("{job}: {event:?}"));
            }
            EventKind::Progress(document) => self.document(document),
            EventKind::Log { mark } => self.written(mark, was_running),
            EventKind::Complete { document, mark } => {
                self.report.count("completed");
                self.agrees("completed");
                match mark {
                    Some(mark) => self.written(mark, was_running),
                    None => self.report.add(Kind::Phantom, || format!("{job}: {event:?}")),
                }
                self.numbers(document);
            }
            EventKind::Error { state, code, mark, attempt } => {
                match code.as_str() {
                    "stalled" => self.report.count("ended as stalled"),
                    "timed_out" => self.report.count("ended as timed out"),
                    "replaced" => self.report.count("replaced"),
                    _ => {}
                }
                match state.as_str() {
                    "failed" => self.report.count("failed"),
                    "cancelled" => self.report.count("cancelled"),
                    "expired" => self.report.count("expired"),
                    _ => self.report.add(Kind::Order, || format!("{job}: {event:?}")),
                }
                self.agrees(state);
                if self.trace.writes.contains_key(mark) {
                    self.written(mark, was_running);
                }
                self.attempt(*attempt);
            }
            EventKind::Other(what) => self.report.add(Kind::Phantom, || format!("{job}: {what}")),
        }
    }

    fn document(&mut self, document: &'a Document) {
        let (job, is_running) = (self.job, document.state == "running");
        let was_running = self.last.state == "running";
        self.numbers(document);
        if is_running && !was_running {
            self.runs.push(Run { attempt: document.attempt, token: None });
            self.report.count("runs");
        }
        if is_running && was_running && document.attempt != self.last.attempt {
            self.runs.push(Run { attempt: document.attempt, token: None });
            self.report.add(Kind::Overlap, || {
                format!("{job}: attempt {} begins while another runs", document.attempt)
            });
        }
        if !is_running && document.state != self.last.state {
            match document.reason.as_str() {
                "stalled" => self.report.count("stalled"),
                "failed" => self.report.count("failed to be tried again"),
                "released" => self.report.count("released"),
                "timed_out" => self.report.count("timed out"),
                _ => {}
            }
        }
        if !document.data_mark.is_empty() && document.data_mark != self.last.data_mark {
            self.written(&document.data_mark, was_running);
        }
        let is_new_error = !document.error_mark.is_empty() && document.error_mark != self.last.error_mark;
        if is_new_error && self.trace.writes.contains_key(&document.error_mark) {
            self.written(&document.error_mark, was_running);
        }
        if matches!(document.state.as_str(), "completed" | "failed" | "cancelled" | "expired") {
            self.ending = Some(was_running);
        }
        self.last = document.clone();
    }

    /// The event that ends the stream says what the last document says.
    fn agrees(&mut self, state: &str) {
        let (job, last) = (self.job, self.last.state.as_str());
        if self.ending.is_some() && last != state {
            self.report.add(Kind::Order, || format!("{job}: {last}, and ended as {state}"));
        }
    }

    fn numbers(&mut self, document: &Document) {
        let (job, last) = (self.job, &self.last);
        // The end is one change, and stands in two events.
        if document.v <= last.v && last.v > 0 && self.ending.is_none() {
            let last = last.v;
            self.report.add(Kind::Order, || format!("{job}: version {} behind {last}", document.v));
        }
        self.attempt(document.attempt);
    }

    fn attempt(&mut self, attempt: u64) {
        let (job, last, max) = (self.job, self.last.attempt, self.max_attempts);
        if attempt > max {
            self.report.add(Kind::Attempts, || format!("{job}: attempt {attempt} of {max}"));
        }
        if attempt < last {
            self.report.add(Kind::Order, || format!("{job}: attempt {attempt} behind {last}"));
        }
    }

    /// An event that a worker wrote belongs to the run that goes on, and the run to the worker's lease.
    fn written(&mut self, mark: &str, in_run: bool) {
        let job = self.job;
        let first = self.trace.writes.get(mark).and_then(|tries| tries.first());
        let Some(write) = first.filter(|write| write.job == job) else {
            return self.report.add(Kind::Phantom, || format!("{job}: nobody wrote {mark}"));
        };
        let Some(index) = self.runs.len().checked_sub(1).filter(|_| in_run) else {
            return self.report.add(Kind::StaleWrite, || format!("{job}: {write:?} while it does not run"));
        };
        let token = write.token.as_str();
        let owned = *self.owners.entry(token).or_insert(index);
        if owned != index {
            return self.report.add(Kind::StaleWrite, || {
                format!("{job}: {write:?} in run {index}; its lease had run {owned}")
            });
        }
        let Some(run) = self.runs.get_mut(index) else { return };
        let owner = *run.token.get_or_insert(token);
        if owner != token {
            self.report.add(Kind::Overlap, || format!("{job}: {owner} and {token} write in one run"));
        }
    }

    /// Each lease that a worker got is a run, and each has its own.
    fn compare(&mut self, leases: &[&Lease]) {
        let job = self.job;
        let mut tokens: Vec<&str> = leases.iter().map(|lease| lease.token.as_str()).collect();
        tokens.sort_unstable();
        for pair in tokens.windows(2) {
            if let [one, other] = pair
                && one == other
            {
                self.report.add(Kind::Overlap, || format!("{job}: {one} was given out twice"));
            }
        }
        let mut attempts: Vec<u64> = leases.iter().map(|lease| lease.attempt).collect();
        attempts.dedup();
        for attempt in attempts {
            let given = leases.iter().filter(|lease| lease.attempt == attempt).count();
            let runs = self.runs.iter().filter(|run| run.attempt == attempt).count();
            if given > runs {
                self.report.add(Kind::Overlap, || {
                    format!("{job}: {given} leases of attempt {attempt}, {runs} runs")
                });
            }
        }
        for lease in leases {
            let run = self.owners.get(lease.token.as_str()).and_then(|&index| self.runs.get(index));
            if let Some(run) = run.filter(|run| run.attempt != lease.attempt) {
                let attempt = run.attempt;
                self.report.add(Kind::Overlap, || format!("{job}: {lease:?} writes in attempt {attempt}"));
            }
        }
    }
}
