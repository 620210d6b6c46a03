//! The writes of one lease: journalled, repeated until they are answered, and what the answer says.
//!
//! Owns: requests with a lease, their marks, repeats. Does not know: why something is written.
//! Flow: in ← what to write · out → `Told`; the journal has every try.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::connection::{Answer, Connection};
use super::journal::{Journal, micros};
use super::trace::{Line, Op, Try};

/// How often something is repeated that is not answered: the server is away for a second at most, and then starts.
const TRIES_MAX: u32 = 40;

/// A lease that this worker got.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) job: String,
    pub(super) token: String,
    pub(super) attempt: u64,
    pub(super) lease_ms: u64,
}

/// What the server said to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Taken; go on.
    GoOn,
    /// Taken; the job is to be cancelled.
    Cancel,
    /// Refused: the lease is lost.
    Lost,
    /// Nobody knows.
    Unknown,
}

pub(super) struct Writer {
    pub(super) held: Held,
    pub(super) journal: Rc<Journal>,
    pub(super) connection: Connection,
    pub(super) worker: String,
}

impl Writer {
    pub(super) async fn progress(&mut self, percent: f64) -> Result<Told> {
        let mark = self.journal.mark();
        let fields = json!({ "progress": percent, "data": { "w": mark } });
        self.write(Op::Progress, mark, fields).await
    }

    pub(super) async fn log(&mut self) -> Result<Told> {
        let mark = self.journal.mark();
        let fields = json!({ "message": mark });
        self.write(Op::Log, mark, fields).await
    }

    pub(super) async fn complete(&mut self) -> Result<Told> {
        let mark = self.journal.mark();
        let fields = json!({ "result": { "w": mark } });
        self.write(Op::Complete, mark, fields).await
    }

    /// `more` are fields beside the error.
    pub(super) async fn fail(&mut self, mut more: Value) -> Result<Told> {
        let mark = self.journal.mark();
        if let Some(fields) = more.as_object_mut() {
            fields.insert("error".into(), json!({ "message": mark, "code": "torture" }));
        }
        self.write(Op::Fail, mark, more).await
    }

    pub(super) async fn release(&mut self, delay_ms: u64) -> Result<Told> {
        let mark = self.journal.mark();
        let fields = if delay_ms == 0 { json!({}) } else { json!({ "delay_ms": delay_ms }) };
        self.write(Op::Release, mark, fields).await
    }

    pub(super) async fn heartbeat(&mut self) -> Result<Told> {
        let mark = self.journal.mark();
        self.write(Op::Heartbeat, mark, json!({})).await
    }

    /// Sends a write, and again until it is answered.
    async fn write(&mut self, op: Op, mark: String, mut fields: Value) -> Result<Told> {
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("lease".into(), self.held.token.clone().into());
            if matches!(op, Op::Progress | Op::Log | Op::Complete) {
                // A counter that also grows from one lease of an attempt to the next.
                fields.insert("attempt".into(), self.held.attempt.into());
                fields.insert("n".into(), micros().into());
            }
        }
        let path = format!("/v1/jobs/{}/{}", self.held.job, verb(op));
        let body = fields.to_string();
        for _ in 0..TRIES_MAX {
            let sent = self.sent(op, &mark)?;
            let answer = self.connection.post(&path, &body).await;
            let told = self.answered(sent, answer)?;
            if matches!(told, Told::GoOn | Told::Cancel) && is_said_twice(op) {
                // As a client does whose answer got lost on the way: it has to be recognised.
                let again = self.sent(op, &mark)?;
                let answer = self.connection.post(&path, &body).await;
                self.answered(again, answer)?;
            }
            if told != Told::Unknown {
                return Ok(told);
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        Ok(Told::Unknown)
    }

    /// Many writes in one request: reports of progress, a log, and progress again.
    pub(super) async fn batch(&mut self, from: f64) -> Result<Told> {
        let (mut lines, mut tries) = (Vec::new(), Vec::new());
        for index in 0..8_u32 {
            let (op, mark) = (if index == 4 { Op::Log } else { Op::Progress }, self.journal.mark());
            let mut line = match op {
                Op::Log => json!({ "report": "logs", "message": mark }),
                _ => {
                    json!({ "report": "progress", "progress": from + f64::from(index), "data": { "w": mark } })
                }
            };
            if let Some(line) = line.as_object_mut() {
                line.insert("id".into(), self.held.job.clone().into());
                line.insert("lease".into(), self.held.token.clone().into());
            }
            lines.push(line.to_string());
            tries.push(self.sent(op, &mark)?);
        }
        let kind = "content-type: application/x-ndjson\r\n";
        let answer = self.connection.call("POST", "/v1/jobs:report", kind, &lines.join("\n")).await;
        let answers: Vec<String> = match answer {
            Ok(answer) if answer.status == 200 => answer.body.lines().map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let mut told = Told::Unknown;
        for (index, sent) in tries.into_iter().enumerate() {
            // A line of an error has no status; its code tells.
            let answer =
                answers.get(index).map(|body| Answer { status: line_status(body), body: body.clone() });
            told = self.answered(sent, answer.ok_or_else(|| anyhow::anyhow!("no line")))?;
        }
        Ok(told)
    }

    /// Renews by the list of a worker's leases.
    pub(super) async fn renew(&mut self) -> Result<Told> {
        let sent = self.sent(Op::Renew, &self.journal.mark())?;
        let lease = json!({ "id": self.held.job, "token": self.held.token });
        let body = json!({ "worker_id": self.worker, "leases": [lease] }).to_string();
        let answer = self.connection.post("/v1/leases:renew", &body).await;
        let status = answer.as_ref().ok().filter(|answer| answer.status == 200).and_then(|answer| {
            let answer: Value = serde_json::from_str(&answer.body).ok()?;
            answer.pointer("/leases/0/status")?.as_str().map(str::to_owned)
        });
        let (status, code, told) = match status.as_deref() {
            Some("ok") => (200, "", Told::GoOn),
            Some("cancel") => (200, "", Told::Cancel),
            Some("lost") => (409, "lease_lost", Told::Lost),
            Some(_) => (499, "an unknown status", Told::Lost),
            None => (0, "", Told::Unknown),
        };
        let answered = Try { answered: micros(), status, code: code.into(), ..sent };
        self.journal.enter(&Line::Answered(answered))?;
        Ok(told)
    }

    fn sent(&self, op: Op, mark: &str) -> Result<Try> {
        let now = micros();
        let (job, token) = (self.held.job.clone(), self.held.token.clone());
        let sent = Try { mark: mark.into(), job, token, op, sent: now, answered: now, ..Try::default() };
        self.journal.enter(&Line::Sent(sent.clone()))?;
        Ok(sent)
    }

    fn answered(&self, sent: Try, answer: Result<Answer>) -> Result<Told> {
        let Ok(answer) = answer else {
            self.journal.enter(&Line::Answered(Try { answered: micros(), ..sent }))?;
            return Ok(Told::Unknown);
        };
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let is = |at: &str| body.get(at) == Some(&Value::Bool(true));
        // 5xx leave it open; a repeat tells.
        let status = if answer.status >= 500 { 0 } else { answer.status };
        let told = match status {
            200..300 if is("cancel_requested") => Told::Cancel,
            200..300 => Told::GoOn,
            0 => Told::Unknown,
            _ => Told::Lost,
        };
        let code = body.get("code").and_then(Value::as_str).unwrap_or_default().to_owned();
        let v = body.get("v").and_then(Value::as_u64).filter(|_| is("stored"));
        let is_duplicate = is("duplicate");
        let answered = Try { answered: micros(), status, code, v, is_duplicate, ..sent };
        self.journal.enter(&Line::Answered(answered))?;
        Ok(told)
    }
}

/// Some of the writes that have a counter are repeated on purpose.
fn is_said_twice(op: Op) -> bool {
    matches!(op, Op::Log | Op::Complete) && micros().is_multiple_of(50)
}

fn verb(op: Op) -> &'static str {
    match op {
        Op::Progress => "progress",
        Op::Log => "logs",
        Op::Complete => "complete",
        Op::Fail => "fail",
        Op::Release => "release",
        Op::Heartbeat | Op::Renew => "heartbeat",
    }
}

/// What the request of a line would have been answered.
fn line_status(line: &str) -> u16 {
    let line: Value = serde_json::from_str(line).unwrap_or_default();
    match line.get("code").and_then(Value::as_str) {
        None if line.get("stored") == Some(&Value::Bool(false)) => 202,
        None => 200,
        Some("lease_lost") => 409,
        Some("outcome_unknown" | "overloaded" | "draining" | "log_poisoned") => 503,
        Some(_) => 400,
    }
}
