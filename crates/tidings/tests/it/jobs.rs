//! Jobs over HTTP: made once, reported once, and read to their end with nothing but their events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tidings::core::job::{Level, Progress};
use tidings::jobs::JobContext;

use crate::http::{Answer, request};
use crate::server::{Engine, Server};
use tidings::core::wire::sse::parse::Event;

on_each_engine! {
    a_job_that_is_made_twice_with_a_key_is_one_job,
    a_report_that_is_repeated_takes_effect_once,
    a_route_of_the_applications_own_starts_streams_and_downloads,
    a_job_that_nobody_runs_waits,
    a_handler_logs_puts_out_and_stores_several_files,
    a_handler_that_fails_or_panics_ends_its_job,
    a_handler_is_tried_again_where_the_job_was_made_so,
    a_cancelled_handler_is_told_and_stopped,
}

/// The route of the article that this server answers.
const EXPORTS: &str = "/api/exports";

/// A server whose jobs write a file of so many lines; the counter says how often one ran.
async fn exporting(engine: Engine) -> (Server, Arc<AtomicU32>) {
    let server = Server::start_with(engine, |settings| {
        settings.job_routes(vec![format!("{EXPORTS}=generate-report").parse().unwrap()])
    })
    .await;
    let runs = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&runs);
    server.hub.jobs().register("generate-report", move |job: JobContext, rows: usize| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move {
            job.progress(Progress::percent(50.0)).await?;
            job.artifact("report.txt", "row\n".repeat(rows).as_bytes()).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(rows)
        }
    });
    (server, runs)
}

async fn post(server: &Server, target: &str, headers: &[(&str, &str)], body: Value) -> Answer {
    let headers = [&[("content-type", "application/json")], headers].concat();
    request(server.addr, "POST", target, &headers, body.to_string().as_bytes()).await
}

/// What a client without a position gets, to the end of the response.
async fn events(server: &Server, target: &str) -> Vec<Event> {
    let mut stream = server.stream_at(target).await;
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        events.push(event);
    }
    events
}

fn data(event: &Event) -> Value {
    serde_json::from_str(&event.data).unwrap()
}

async fn a_job_that_is_made_twice_with_a_key_is_one_job(engine: Engine) {
    let (server, runs) = exporting(engine).await;
    let key = [("idempotency-key", "export-7")];
    let first = post(&server, EXPORTS, &key, json!(3)).await;
    assert_eq!(first.status, 201, "{}", first.text());
    let id = first.json()["jobId"].clone();
    let seen = events(&server, &format!("{EXPORTS}/{}/events", id.as_str().unwrap())).await;
    assert_eq!(seen.last().unwrap().event, "complete");
    for _ in 0..2 {
        let again = post(&server, EXPORTS, &key, json!(3)).await;
        let answer = again.json();
        assert_eq!((again.status, &answer["jobId"], &answer["duplicate"]), (200, &id, &json!(true)));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    post(&server, EXPORTS, &key, json!(4)).await.is_problem(422, "idempotency_key_reused");
}

async fn a_report_that_is_repeated_takes_effect_once(engine: Engine) {
    let server = Server::start(engine).await;
    let kind = [("content-type", "application/json")];
    let made = request(server.addr, "PUT", "/v1/jobs/7", &kind, br#"{"type":"elsewhere"}"#).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let report = json!({"progress": 40, "attempt": 1, "n": 1});
    let first = post(&server, "/v1/jobs/7/progress", &[], report.clone()).await;
    assert_eq!((first.status, &first.json()["stored"]), (200, &json!(true)));
    let again = post(&server, "/v1/jobs/7/progress", &[], report).await;
    assert_eq!((again.status, &again.json()["duplicate"]), (200, &json!(true)), "{}", again.text());
    assert_eq!(again.json()["v"], first.json()["v"]);
    let end = json!({"attempt": 1, "n": 2});
    let first = post(&server, "/v1/jobs/7/complete", &[], end.clone()).await;
    let again = post(&server, "/v1/jobs/7/complete", &[], end).await;
    assert_eq!((first.status, again.status), (200, 200), "{}", again.text());
    let seen = events(&server, "/v1/jobs/7/events").await;
    assert_eq!(seen.iter().filter(|event| event.event == "complete").count(), 1);
    post(&server, "/v1/jobs/7/fail", &[], json!({"message": "late"})).await.is_problem(409, "job_finished");
}

async fn a_route_of_the_applications_own_starts_streams_and_downloads(engine: Engine) {
    let (server, _) = exporting(engine).await;
    let made = post(&server, EXPORTS, &[], json!(3)).await;
    let at = format!("{EXPORTS}/{}", made.json()["jobId"].as_str().unwrap());
    let seen = events(&server, &format!("{at}/events")).await;
    let names: Vec<&str> = seen.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(names.first(), Some(&"tidings.hello"));
    assert_eq!(names.get(1), Some(&"progress"), "the state comes first");
    let end = seen.last().unwrap();
    assert_eq!((end.event.as_str(), &data(end)["result"]), ("complete", &json!(3)));
    assert_eq!(data(end)["downloadUrl"], json!(format!("{at}/download")));
    let file = server.get(&format!("{at}/download")).await;
    assert_eq!((file.status, file.text().as_str()), (200, "row\nrow\nrow\n"));
    let back = [("accept", "text/event-stream"), ("last-event-id", end.last_event_id.as_str())];
    let stopped = request(server.addr, "GET", &format!("{at}/events"), &back, b"").await;
    assert_eq!(stopped.status, 204);
}

async fn a_job_that_nobody_runs_waits(engine: Engine) {
    let (server, runs) = exporting(engine).await;
    let made = post(&server, "/v1/jobs", &[], json!({"type": "dance", "input": 1})).await;
    assert_eq!((made.status, &made.json()["state"]), (201, &json!("queued")), "{}", made.text());
    server.get("/v1/jobs/nobody").await.is_problem(404, "job_not_found");
    assert_eq!(runs.load(Ordering::SeqCst), 0);
}

/// Waits for the end of a job and returns its document.
async fn ended(server: &Server, id: &str) -> Value {
    server.get(&format!("/v1/jobs/{id}?wait=20s&until=terminal")).await.json()
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn a_handler_logs_puts_out_and_stores_several_files(engine: Engine) {
    let server = Server::start(engine).await;
    server.hub.jobs().register("t", |job: JobContext, (): ()| async move {
        job.log(Level::Warn, "two files come").await?;
        job.output(&["a", "b"]).await?;
        job.artifact("a.txt", &b"first"[..]).await?;
        job.artifact("b.txt", &b"second"[..]).await?;
        Ok::<_, Failed>("done")
    });
    let made = post(&server, "/v1/jobs", &[], json!({"type": "t"})).await.json();
    let id = made["id"].as_str().unwrap();
    let end = ended(&server, id).await;
    assert_eq!((&end["state"], &end["result"]), (&json!("completed"), &json!("done")), "{end}");
    for (name, bytes) in [("a.txt", "first"), ("b.txt", "second")] {
        assert_eq!(server.get(&format!("/v1/jobs/{id}/download/{name}")).await.text(), bytes);
    }
    let seen = events(&server, &format!("/v1/jobs/{id}/events?from=start")).await;
    let of = |kind: &str| data(seen.iter().find(|event| event.event == kind).unwrap());
    assert_eq!((&of("log")["level"], &of("log")["message"]), (&json!("warn"), &json!("two files come")));
    assert_eq!(of("output")["chunk"], json!(["a", "b"]));
}

async fn a_handler_that_fails_or_panics_ends_its_job(engine: Engine) {
    let server = Server::start(engine).await;
    server.hub.jobs().register("t", |_: JobContext, how: String| async move {
        assert_ne!(how, "panic", "on purpose");
        Err::<(), _>("no luck")
    });
    for (input, code, message) in [
        (json!("fail"), "failed", "no luck"),
        (json!("panic"), "panicked", "the handler panicked"),
        (json!(7), "input_invalid", "the input cannot be used: invalid type: integer `7`, expected a string"),
    ] {
        let made = post(&server, "/v1/jobs", &[], json!({"type": "t", "input": input})).await.json();
        let end = ended(&server, made["id"].as_str().unwrap()).await;
        assert_eq!((&end["state"], &end["attempt"]), (&json!("failed"), &json!(1)), "{end}");
        assert_eq!(end["error"]["code"], code);
        assert!(end["error"]["message"].as_str().unwrap().starts_with(message), "{end}");
    }
}

async fn a_handler_is_tried_again_where_the_job_was_made_so(engine: Engine) {
    let server = Server::start(engine).await;
    server.hub.jobs().register("t", |job: JobContext, (): ()| async move {
        if job.attempt() < 3 { Err("not yet") } else { Ok(job.attempt()) }
    });
    let retry = json!({"max_attempts": 5, "backoff": {"base_ms": 1}});
    let made = post(&server, "/v1/jobs", &[], json!({"type": "t", "retry": retry})).await.json();
    let end = ended(&server, made["id"].as_str().unwrap()).await;
    assert_eq!((&end["state"], &end["attempt"], &end["result"]), (&json!("completed"), &json!(3), &json!(3)));
}

async fn a_cancelled_handler_is_told_and_stopped(engine: Engine) {
    let server = Server::start(engine).await;
    let (begun, mut runs) = tokio::sync::mpsc::channel(16);
    server.hub.jobs().register("t", move |job: JobContext, listens: bool| {
        let begun = begun.clone();
        async move {
            begun.send(()).await.unwrap();
            if listens {
                job.cancelled().await;
                assert!(job.is_cancelled());
                return Err::<(), _>("as you wish");
            }
            std::future::pending().await
        }
    });
    for (listens, message) in [(true, "as you wish"), (false, "enough")] {
        let made = post(&server, "/v1/jobs", &[], json!({"type": "t", "input": listens})).await.json();
        let id = made["id"].as_str().unwrap();
        runs.recv().await.unwrap();
        let grace = if listens { 20_000 } else { 50 };
        let wish = json!({"reason": "enough", "grace_ms": grace});
        assert_eq!(post(&server, &format!("/v1/jobs/{id}/cancel"), &[], wish).await.status, 202);
        let end = ended(&server, id).await;
        assert_eq!(
            (&end["state"], &end["error"]["message"]),
            (&json!("cancelled"), &json!(message)),
            "{end}"
        );
    }
    // Its handlers have left their slots.
    for _ in 0..8 {
        let made = post(&server, "/v1/jobs", &[], json!({"type": "t", "input": true})).await.json();
        runs.recv().await.unwrap();
        post(&server, &format!("/v1/jobs/{}/cancel", made["id"].as_str().unwrap()), &[], json!({})).await;
    }
}
