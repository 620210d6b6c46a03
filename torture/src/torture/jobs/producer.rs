//! Who makes the jobs, and cancels some.
//!
//! Owns: what is asked for, repeated until it is answered. Does not know: workers.
//! Flow: a plan from the seed → requests under an idempotency key → `Made` and `Cancel` in the run.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use super::connection::{Answer, Connection};
use super::journal::micros;
use super::trace::{Cancel, Made};
use super::{QUEUES, Run, TYPES};
use crate::torture::Random;

/// How long something is repeated before the server counts as gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes jobs `first`, `first + every` and so on, spread over `time`.
pub(super) async fn run(run: Rc<Run>, first: u64, every: u64, time: Duration) -> Result<()> {
    let mut random = Random::of(run.seed, 100 + first);
    let mut connection = Connection::new(run.address);
    let begun = Instant::now();
    let total = u32::try_from(run.jobs)?;
    for number in (first..run.jobs).step_by(usize::try_from(every)?) {
        sleep_until(begun + time * u32::try_from(number)? / total).await;
        let made = make(&run, &mut connection, &mut random, number).await?;
        if let Some(id) = made.id.clone().filter(|_| random.percent(12)) {
            let pause = random.millis(0, 1_500);
            let grace_ms = random.between(200, 2_500);
            tokio::task::spawn_local(cancel(Rc::clone(&run), id, pause, grace_ms));
        }
        run.made.borrow_mut().push(made);
    }
    Ok(())
}

async fn make(run: &Run, connection: &mut Connection, random: &mut Random, number: u64) -> Result<Made> {
    let (mut made, body) = plan(random, number);
    let lines =
        format!("content-type: application/json\r\nidempotency-key: \"torture-{}-{number}\"\r\n", run.seed);
    let body = body.to_string();
    let delay_us = made.not_before;
    let first_sent = micros();
    let answer = settle(connection, "POST", "/v1/jobs", &lines, &body).await?;
    let parsed: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let code = parsed.get("code").and_then(Value::as_str).unwrap_or_default();
    match (answer.status, code) {
        (201 | 200, _) => {
            let id = parsed.get("id").and_then(Value::as_str).context("an id")?;
            // A unique key that is held answers with its holder; only the tag tells whose job it is.
            let is_other =
                answer.status == 200 && made.solo.is_some() && !is_own(connection, id, &made.tag).await?;
            if is_other {
                made.is_refused = true;
                run.count("unique keys that were held");
            } else {
                made.id = Some(id.to_owned());
                run.count(if answer.status == 200 { "makings repeated" } else { "makings" });
            }
        }
        (409, "unique_conflict") => {
            made.is_refused = true;
            run.count("unique keys that were held");
        }
        _ => bail!("{body} was answered {} {}", answer.status, answer.body),
    }
    made.not_before = if delay_us > 0 { first_sent + delay_us } else { 0 };
    Ok(made)
}

/// A job to be; `not_before` is how long it waits.
fn plan(random: &mut Random, number: u64) -> (Made, Value) {
    let tag = format!("k:{number}");
    let lease_ms = random.between(1_000, 2_500);
    let max_attempts = random.between(1, 6);
    let kind = if random.percent(50) { "fixed" } else { "exponential" };
    let backoff = json!({ "kind": kind, "base_ms": random.between(20, 300), "max_ms": 1_000, "jitter": 0.5 });
    let mut body = json!({
        "type": random.pick(TYPES),
        "queue": random.pick(QUEUES),
        "input": { "lease_ms": lease_ms },
        "lease_ms": lease_ms,
        "retry": { "max_attempts": max_attempts, "backoff": backoff },
        "max_stalls": random.between(0, 5),
        "tags": [tag],
    });
    let mut made = Made { tag, max_attempts, ..Made::default() };
    let mut add = |name: &str, value: Value| {
        if let Some(body) = body.as_object_mut() {
            body.insert(name.to_owned(), value);
        }
    };
    if random.percent(30) {
        add("priority", json!(i64::try_from(random.between(0, 10)).unwrap_or(0) - 5));
    }
    if random.percent(20) {
        let delay_ms = random.between(100, 4_000);
        made.not_before = delay_ms * 1_000;
        add("delay_ms", json!(delay_ms));
    } else if random.percent(4) {
        add("ttl", json!({ "queued_ms": random.between(1_000, 2_000) }));
        if random.percent(50) {
            // No worker ever asks for these.
            add("queue", json!("nobody"));
        }
    }
    if random.percent(4) {
        add("timeout_ms", json!(random.between(1_000, 3_000)));
    }
    if random.percent(20) {
        add("id", json!(format!("torture:{number}")));
    }
    match random.below(20) {
        0 | 1 => {
            let key = format!("solo:{}", random.below(12));
            let on_conflict = if random.percent(50) { "return" } else { "reject" };
            add("unique", json!({ "key": key, "on_conflict": on_conflict }));
            made.solo = Some(key);
        }
        2 => {
            let key = format!("swap:{}", random.below(6));
            add("unique", json!({ "key": key, "on_conflict": "replace" }));
        }
        _ => {}
    }
    (made, body)
}

async fn is_own(connection: &mut Connection, id: &str, tag: &str) -> Result<bool> {
    let answer = settle(connection, "GET", &format!("/v1/jobs/{id}"), "", "").await?;
    let document: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let tags = document.get("tags").and_then(Value::as_array).into_iter().flatten();
    Ok(tags.filter_map(Value::as_str).any(|own| own == tag))
}

async fn cancel(run: Rc<Run>, job: String, pause: Duration, grace_ms: u64) {
    sleep(pause).await;
    let mut connection = Connection::new(run.address);
    let body = json!({ "reason": "torture", "grace_ms": grace_ms }).to_string();
    let path = format!("/v1/jobs/{job}/cancel");
    let lines = "content-type: application/json\r\n";
    match settle(&mut connection, "POST", &path, lines, &body).await {
        Ok(answer) if answer.status == 202 => {
            let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            let state = body.get("state").and_then(Value::as_str).unwrap_or_default().to_owned();
            run.count("cancels");
            run.cancels.borrow_mut().push(Cancel { job, state });
        }
        Ok(answer) if answer.status == 409 => run.count("cancels behind the end"),
        Ok(answer) => run.complain(format!("cancel of {job}: {} {}", answer.status, answer.body)),
        Err(error) => run.complain(format!("cancel of {job}: {error:#}")),
    }
}

/// Sends something that may be repeated until it is answered with certainty.
pub(super) async fn settle(
    connection: &mut Connection,
    method: &str,
    path: &str,
    lines: &str,
    body: &str,
) -> Result<Answer> {
    let until = Instant::now() + PATIENCE;
    loop {
        match connection.call(method, path, lines, body).await {
            Ok(answer) if answer.status < 500 => return Ok(answer),
            Ok(answer) if Instant::now() > until => bail!("{path}: {} {}", answer.status, answer.body),
            Err(error) if Instant::now() > until => return Err(error.context(path.to_owned())),
            Ok(_) | Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}
