//! A worker against a scripted server: what it sends, and what it makes of the answers.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tidings_client::Client;
use tidings_client::jobs::{Level, Progress, Upload};
use tidings_client::worker::{Fail, JobContext, Stop, Worker};
use tokio::sync::mpsc;

use crate::fake::{Act, Fake, answer};

const JSON: &str = "content-type: application/json\r\nconnection: close\r\n";
const PROBLEM: &str = "content-type: application/problem+json\r\nconnection: close\r\n";
const PATIENCE: Duration = Duration::from_secs(20);

fn ok(body: &Value) -> Act {
    Act::Send(answer("200 OK", JSON, &body.to_string()))
}

fn stored() -> Act {
    ok(&json!({ "stored": true, "cancel_requested": false, "v": 1 }))
}

fn problem(status: &str, code: &str) -> Act {
    Act::Send(answer(status, PROBLEM, &json!({ "code": code, "title": "t" }).to_string()))
}

fn leased(id: &str, input: &Value) -> Value {
    json!({
        "id": id, "type": "work", "queue": "q", "input": input, "attempt": 2, "max_attempts": 3, "tags": ["a"],
        "deadline": null, "lease": { "token": format!("2.{id}"), "expires_at": 1, "renew_every_ms": 200 },
    })
}

/// What a test says to each kind of request; where it says nothing, all is well and there are no jobs.
#[derive(Default)]
struct Script {
    leases: VecDeque<Act>,
    reports: VecDeque<Act>,
    renewals: Value,
}

/// A server that leases `jobs` once and then follows `script`.
async fn server(jobs: Vec<Value>, mut script: Script) -> Fake {
    let first = ok(&json!({ "jobs": jobs, "worker": { "state": "run" } }));
    script.leases.push_front(first);
    Fake::answering(move |request| {
        let line = request.lines().next().unwrap();
        if line.contains("/lease ") {
            return script.leases.pop_front().unwrap_or(Act::Hold(String::new()));
        }
        if line.contains("/v1/leases:renew") {
            return ok(&script.renewals);
        }
        script.reports.pop_front().unwrap_or_else(stored)
    })
    .await
}

fn worker(fake: &Fake) -> Worker {
    Client::new(&fake.url).unwrap().worker("q").id("w1")
}

/// Runs the worker until it has sent `count` requests about jobs, then shuts it down.
async fn run_until_reports(fake: &Fake, worker: Worker, count: usize) {
    run(worker, async {
        while reports(fake).len() < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn run(worker: Worker, shutdown: impl Future<Output = ()> + Send) {
    tokio::time::timeout(PATIENCE, worker.run_until(shutdown)).await.unwrap().unwrap();
}

/// The requests about jobs: the verb behind the id, and the body.
fn reports(fake: &Fake) -> Vec<(String, Value)> {
    let of = |request: &String| {
        let (head, body) = request.split_once("\r\n\r\n")?;
        let path = head.split(' ').nth(1)?;
        let verb = path.strip_prefix("/v1/jobs/")?.split_once('/')?.1;
        Some((verb.to_owned(), serde_json::from_str(body).unwrap_or_else(|_| body.into())))
    };
    fake.requests().iter().filter_map(of).collect()
}

#[tokio::test]
async fn a_run_reports_in_order_with_its_lease_and_ends_with_its_result() {
    let fake = server(vec![leased("j1", &json!(21))], Script::default()).await;
    let worker = worker(&fake).handle("work", |job: JobContext, n: u32| async move {
        assert_eq!((job.id(), job.attempt(), job.max_attempts(), job.tags().len()), ("j1", 2, 3, 1));
        job.progress(50).await?;
        job.progress(Progress::of(3.0, 4.0).message("m")).await?;
        job.log(Level::Warn, "careful").await?;
        job.output("tok").await?;
        job.artifact("a b.csv", Upload::bytes("x,y\n").content_type("text/csv")).await?;
        Ok(n * 2)
    });
    run_until_reports(&fake, worker, 6).await;
    let reports = reports(&fake);
    let verbs: Vec<_> = reports.iter().map(|(verb, _)| verb.as_str()).collect();
    assert_eq!(verbs, ["progress", "progress", "logs", "output", "artifacts/a%20b.csv", "complete"]);
    let ns: Vec<_> = reports.iter().filter_map(|(_, body)| body["n"].as_u64()).collect();
    assert!(ns.len() == 5 && ns.windows(2).all(|pair| pair[1] > pair[0]), "{ns:?}");
    for (verb, body) in reports.iter().filter(|(verb, _)| !verb.starts_with("artifacts")) {
        assert_eq!((body["attempt"].as_u64(), body["lease"].as_str()), (Some(2), Some("2.j1")), "{verb}");
    }
    assert_eq!((&reports[0].1["progress"], &reports[5].1["result"]), (&json!(50.0), &json!(42)));
    assert_eq!(reports[2].1["logs"], json!([{ "level": "warn", "message": "careful" }]));
    assert_eq!((&reports[3].1["chunks"], &reports[4].1), (&json!(["tok"]), &json!("x,y\n")));
    let upload = fake.requests().into_iter().find(|request| request.starts_with("PUT ")).unwrap();
    assert!(upload.contains("tidings-lease: 2.j1\r\n") && upload.contains("content-type: text/csv\r\n"));
    let lease = fake.requests()[0].clone();
    assert!(lease.starts_with("POST /v1/queues/q/lease HTTP/1.1\r\n"), "{lease}");
    let asked = r#"{"worker_id":"w1","types":["work"],"max":1,"wait_ms":25000}"#;
    assert!(lease.ends_with(asked), "{lease}");
}

#[tokio::test]
async fn errors_panics_and_bad_inputs_fail_the_run_as_they_should() {
    async fn failed(input: Value) -> Value {
        let fake = server(vec![leased("j1", &input)], Script::default()).await;
        let worker = worker(&fake).handle("work", |_: JobContext, how: String| async move {
            match how.as_str() {
                "error" => Err("x".parse::<u32>().unwrap_err().into()),
                "never" => Err(Fail::new("gone").code("customer_gone").never()),
                "after" => Err(Fail::new("busy").after(Duration::from_secs(3))),
                "release" => Err(Fail::release()),
                "result" => Ok(()),
                other => panic!("no {other}"),
            }
        });
        run_until_reports(&fake, worker, 1).await;
        let (verb, body) = reports(&fake).remove(0);
        json!([verb, body["error"]["code"], body["error"]["message"], body["retry"]])
    }
    let auto = json!(["fail", "failed", "invalid digit found in string", null]);
    assert_eq!(failed(json!("error")).await, auto);
    assert_eq!(failed(json!("never")).await, json!(["fail", "customer_gone", "gone", "never"]));
    assert_eq!(failed(json!("after")).await, json!(["fail", "failed", "busy", { "after_ms": 3_000 }]));
    let panicked = json!(["fail", "panicked", "the handler panicked: no idea", null]);
    assert_eq!(failed(json!("idea")).await, panicked);
    let input = failed(json!(7)).await;
    assert_eq!((&input[1], &input[3]), (&json!("input_invalid"), &json!("never")));
    assert_eq!(failed(json!("release")).await[0], "release");
}

#[tokio::test]
async fn a_report_that_was_not_answered_is_repeated_with_the_same_number() {
    let reports_script = VecDeque::from([Act::Drop, problem("503 Service Unavailable", "overloaded")]);
    let script = Script { reports: reports_script, ..Script::default() };
    let fake = server(vec![leased("j1", &Value::Null)], script).await;
    let worker = worker(&fake).handle("work", |job: JobContext, (): ()| async move {
        job.progress(10).await?;
        Ok(())
    });
    run_until_reports(&fake, worker, 4).await;
    let reports = reports(&fake);
    assert_eq!((&reports[0], &reports[0]), (&reports[1], &reports[2]));
    assert_eq!(reports[3].0, "complete");
}

#[tokio::test]
async fn a_result_that_is_refused_fails_the_run_for_good() {
    let script = Script { reports: [problem("413 Too Large", "data_too_large")].into(), ..Script::default() };
    let fake = server(vec![leased("j1", &Value::Null)], script).await;
    let worker = worker(&fake).handle("work", |_: JobContext, (): ()| async move { Ok("x".repeat(70_000)) });
    run_until_reports(&fake, worker, 2).await;
    let (verb, body) = reports(&fake).remove(1);
    let said = json!([verb, body["error"]["code"], body["retry"]]);
    assert_eq!(said, json!(["fail", "data_too_large", "never"]));
}

#[tokio::test]
async fn a_lost_lease_stops_the_run_and_nothing_more_is_said() {
    let refused = problem("409 Conflict", "lease_lost");
    let script = Script { reports: [refused].into(), ..Script::default() };
    let fake = server(vec![leased("j1", &Value::Null)], script).await;
    let (told, mut tell) = mpsc::channel(1);
    let worker = worker(&fake).handle("work", move |job: JobContext, (): ()| {
        let told = told.clone();
        async move {
            let error = job.progress(10).await.unwrap_err();
            told.send((error.code().to_owned(), job.cancelled().await)).await?;
            Ok(())
        }
    });
    let mut heard = None;
    run(worker, async { heard = tell.recv().await }).await;
    assert_eq!(heard, Some(("lease_lost".to_owned(), Stop::LeaseLost)));
    assert_eq!(reports(&fake).len(), 1, "no complete, no fail, no release");
}

#[tokio::test]
async fn a_renewal_tells_of_cancellation_and_loss() {
    for status in ["cancel", "lost"] {
        let lease = json!({ "id": "j1", "status": status, "cancel": { "reason": "why", "deadline": 5 } });
        let renewals = json!({ "leases": [lease], "worker": { "state": "run" } });
        let script = Script { renewals, ..Script::default() };
        let fake = server(vec![leased("j1", &Value::Null)], script).await;
        let (told, mut tell) = mpsc::channel(1);
        let worker = worker(&fake).handle("work", move |job: JobContext, (): ()| {
            let told = told.clone();
            async move {
                told.send(job.cancelled().await).await?;
                Err::<(), _>(Fail::cancelled())
            }
        });
        let mut heard = None;
        run(worker, async { heard = tell.recv().await }).await;
        match (status, heard) {
            ("cancel", Some(Stop::Cancelled(cancel))) => {
                assert_eq!((cancel.reason.as_deref(), cancel.deadline), (Some("why"), Some(5)));
                assert_eq!(reports(&fake)[0].1["state"], "cancelled");
            }
            ("lost", Some(Stop::LeaseLost)) => assert_eq!(reports(&fake), []),
            other => panic!("{other:?}"),
        }
        let renewal = fake.requests().into_iter().find(|request| request.contains(":renew")).unwrap();
        assert!(
            renewal.ends_with(r#"{"leases":[{"id":"j1","token":"2.j1"}],"worker_id":"w1"}"#),
            "{renewal}"
        );
    }
}

#[tokio::test]
async fn a_lease_that_ends_with_the_report_of_the_end_is_not_renewed_without_a_pause() {
    let renewals = json!({ "leases": [{ "id": "j1", "status": "lost" }], "worker": { "state": "run" } });
    // The first report took effect, and its answer got lost; the second one takes its time.
    let reports = VecDeque::from([Act::Drop, Act::Hold(String::new())]);
    let fake =
        server(vec![leased("j1", &Value::Null)], Script { renewals, reports, ..Script::default() }).await;
    let worker = worker(&fake).grace(Duration::ZERO);
    let worker = worker.handle("work", |_: JobContext, (): ()| async move { Ok(()) });
    let renewed = || fake.requests().iter().filter(|request| request.contains(":renew")).count();
    let over =
        tokio::time::timeout(Duration::from_millis(1_500), worker.run_until(std::future::pending())).await;
    assert!(over.is_err());
    // One each 200 ms.
    assert!((2..=10).contains(&renewed()), "{} renewals", renewed());
}

#[tokio::test]
async fn a_shutdown_waits_for_runs_that_end_and_gives_the_others_back() {
    let jobs = vec![leased("ends", &json!(true)), leased("stays", &json!(false))];
    let fake = server(jobs, Script::default()).await;
    let both = Arc::new(tokio::sync::Barrier::new(3));
    let began = Arc::clone(&both);
    let worker = worker(&fake).concurrency(2).grace(Duration::from_millis(300));
    let worker = worker.handle("work", move |job: JobContext, ends: bool| {
        let began = Arc::clone(&began);
        async move {
            began.wait().await;
            job.ending().await;
            if !ends {
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    });
    let began = async {
        both.wait().await;
    };
    run(worker, began).await;
    let mut said: Vec<_> =
        fake.requests().iter().filter_map(|r| Some(r.split(' ').nth(1)?.to_owned())).collect();
    said.retain(|path| path.starts_with("/v1/jobs/"));
    assert_eq!(said, ["/v1/jobs/ends/complete", "/v1/jobs/stays/release"]);
    assert_eq!(reports(&fake)[1].1, json!({ "lease": "2.stays" }));
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_gives_back_what_it_has_and_ends() {
    let renewals = json!({ "leases": [{ "id": "j1", "status": "ok" }], "worker": { "state": "stop" } });
    let script = Script { renewals, ..Script::default() };
    let fake = server(vec![leased("j1", &Value::Null)], script).await;
    let worker = worker(&fake).handle("work", |_: JobContext, (): ()| async move {
        std::future::pending::<()>().await;
        Ok(())
    });
    run(worker, std::future::pending()).await;
    assert_eq!(reports(&fake)[0].0, "release");
}

#[tokio::test]
async fn a_failed_lease_is_asked_for_again_and_a_refused_one_ends_the_worker() {
    let leases = VecDeque::from([
        Act::Drop,
        problem("503 Service Unavailable", "overloaded"),
        Act::Send("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_owned()),
        ok(&json!({ "jobs": [], "worker": { "state": "quiet" } })),
        problem("400 Bad Request", "queue_invalid"),
    ]);
    let fake = server(vec![], Script { leases, ..Script::default() }).await;
    let worker = worker(&fake).handle("work", |_: JobContext, (): ()| async move { Ok(()) });
    let ended = tokio::time::timeout(PATIENCE, worker.run()).await.unwrap();
    assert_eq!(ended.unwrap_err().code(), "queue_invalid");
    assert_eq!(fake.requests().len(), 6);
    let client = Client::new(&fake.url).unwrap();
    assert_eq!(client.worker("q").run().await.unwrap_err().code(), "job_types_invalid");
}

#[tokio::test]
async fn never_more_than_the_concurrency_runs_and_each_poll_asks_for_what_is_free() {
    let jobs = (0..3).map(|n| leased(&format!("j{n}"), &Value::Null)).collect();
    let mut more = Script::default();
    more.leases.push_back(ok(&json!({ "jobs": [leased("last", &Value::Null)] })));
    let fake = server(jobs, more).await;
    let running = Arc::new(Mutex::new((0_u32, 0_u32)));
    let count = Arc::clone(&running);
    let worker = worker(&fake).concurrency(3).handle("work", move |_: JobContext, (): ()| {
        let count = Arc::clone(&count);
        async move {
            {
                let mut count = count.lock().unwrap();
                count.0 += 1;
                count.1 = count.1.max(count.0);
            }
            tokio::task::yield_now().await;
            count.lock().unwrap().0 -= 1;
            Ok(())
        }
    });
    run_until_reports(&fake, worker, 4).await;
    assert!(running.lock().unwrap().1 <= 3);
    let asked: Vec<u64> = fake
        .requests()
        .iter()
        .filter(|request| request.contains("/lease "))
        .map(|request| request.split_once("\"max\":").unwrap().1.split_once(',').unwrap().0.parse().unwrap())
        .collect();
    assert!(asked[0] == 3 && asked.iter().all(|max| (1..=3).contains(max)), "{asked:?}");
}
