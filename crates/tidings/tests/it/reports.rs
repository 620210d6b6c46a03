//! Reports of other queues, many at once, and what is refused: nothing of it changes a job.

use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Answer, request};
use crate::queue::post;
use crate::server::{Engine, Server};

on_each_engine! {
    another_queue_announces_reports_and_ends_its_job,
    a_newer_attempt_begins_anew_and_an_older_one_is_stale,
    a_silent_queue_has_lost_its_job,
    a_cancelled_job_of_another_queue_hears_of_it_with_every_answer,
    progress_is_thinned_out_and_ends_on_the_last_value,
    many_reports_of_many_jobs_come_in_one_request,
    other_channels_get_the_same_events,
    a_stream_waits_for_a_job_that_is_announced_soon,
    what_makes_no_sense_is_refused_and_changes_nothing,
    a_job_that_makes_no_sense_is_not_made,
}

async fn put(server: &Server, id: &str, body: Value) -> Answer {
    let kind = [("content-type", "application/json")];
    request(server.addr, "PUT", &format!("/v1/jobs/{id}"), &kind, body.to_string().as_bytes()).await
}

async fn report(server: &Server, id: &str, what: &str, body: Value) -> Answer {
    post(server, &format!("/v1/jobs/{id}/{what}"), body).await
}

async fn document(server: &Server, id: &str) -> Value {
    server.get(&format!("/v1/jobs/{id}")).await.json()
}

async fn another_queue_announces_reports_and_ends_its_job(engine: Engine) {
    let server = Server::start(engine).await;
    let id = "bull:exports:123";
    let made = put(&server, id, json!({"type": "export", "queue": "exports", "tags": ["a"]})).await;
    assert_eq!((made.status, &made.json()["state"]), (201, &json!("queued")));
    let same = put(&server, id, json!({"type": "export"})).await;
    assert_eq!((same.status, &same.json()["v"]), (200, &json!(1)));
    let moved = put(&server, id, json!({"type": "export", "state": "running", "tags": ["b"]})).await.json();
    assert_eq!(
        (&moved["state"], &moved["tags"], &moved["queue"]),
        (&json!("running"), &json!(["b"]), &json!("exports"))
    );
    put(&server, id, json!({"type": "import"})).await.is_problem(409, "job_exists");
    put(&server, id, json!({"type": "export", "state": "completed"})).await.is_problem(400, "field_invalid");
    let elsewhere = json!([{"name": "report.csv", "url": "https://files.example/report.csv"}]);
    let end = report(&server, id, "complete", json!({"result": 1, "artifacts": elsewhere})).await;
    assert_eq!(end.status, 200, "{}", end.text());
    assert_eq!(document(&server, id).await["downloadUrl"], format!("/v1/jobs/{id}/download"));
    let file = server.get(&format!("/v1/jobs/{id}/download")).await;
    assert_eq!((file.status, file.header("location")), (303, Some("https://files.example/report.csv")));
    put(&server, id, json!({"type": "export", "state": "running"})).await.is_problem(409, "job_finished");
    report(&server, id, "progress", json!(5)).await.is_problem(409, "job_finished");
}

async fn a_newer_attempt_begins_anew_and_an_older_one_is_stale(engine: Engine) {
    let server = Server::start(engine).await;
    put(&server, "7", json!({"type": "t"})).await;
    report(&server, "7", "progress", json!({"progress": 80, "attempt": 1, "n": 5})).await;
    let failed = json!({"message": "again", "retrying": true, "attempt": 1, "n": 6, "next_attempt_at": 99});
    let answer = report(&server, "7", "fail", failed.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let now = document(&server, "7").await;
    assert_eq!(
        (&now["state"], &now["attempt"], &now["progress"]),
        (&json!("retrying"), &json!(2), &json!(0))
    );
    let repeat = report(&server, "7", "fail", failed).await;
    assert_eq!(document(&server, "7").await["attempt"], 2, "{}", repeat.text());
    report(&server, "7", "progress", json!({"progress": 90, "attempt": 1}))
        .await
        .is_problem(409, "attempt_stale");
    report(&server, "7", "heartbeat", json!({"attempt": 1})).await.is_problem(409, "attempt_stale");
    report(&server, "7", "progress", json!({"progress": 3, "attempt": 2, "n": 1})).await;
    let beat = report(&server, "7", "heartbeat", json!({"attempt": 3})).await;
    assert_eq!(beat.status, 200, "{}", beat.text());
    let now = document(&server, "7").await;
    assert_eq!((&now["state"], &now["attempt"], &now["progress"]), (&json!("running"), &json!(3), &json!(0)));
    report(&server, "7", "complete", json!({"attempt": 3, "n": 2})).await;
    assert_eq!(document(&server, "7").await["state"], "completed");
}

async fn a_silent_queue_has_lost_its_job(engine: Engine) {
    let server = Server::start(engine).await;
    put(&server, "7", json!({"type": "t", "stale_after_ms": 1_000})).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    report(&server, "7", "heartbeat", json!({})).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(document(&server, "7").await["state"], "queued", "it was heard of meanwhile");
    let end = server.get("/v1/jobs/7?wait=10s&until=terminal").await.json();
    assert_eq!((&end["state"], &end["error"]["code"]), (&json!("failed"), &json!("lost")));
}

async fn a_cancelled_job_of_another_queue_hears_of_it_with_every_answer(engine: Engine) {
    let server = Server::start(engine).await;
    put(&server, "7", json!({"type": "t"})).await;
    report(&server, "7", "cancel", json!({})).await;
    for (what, body) in [("progress", json!(1)), ("logs", json!({"message": "x"})), ("heartbeat", json!({}))]
    {
        assert_eq!(report(&server, "7", what, body).await.json()["cancel_requested"], true, "{what}");
    }
    assert_eq!(document(&server, "7").await["state"], "running", "only its queue can stop it");
    report(&server, "7", "fail", json!({"message": "stopped", "state": "cancelled"})).await;
    assert_eq!(document(&server, "7").await["state"], "cancelled");
}

async fn progress_is_thinned_out_and_ends_on_the_last_value(engine: Engine) {
    let server = Server::start(engine).await;
    put(&server, "7", json!({"type": "t"})).await;
    let mut stored = 0;
    for n in 1..=200 {
        let answer = report(&server, "7", "progress", json!({"progress": f64::from(n) / 4.0, "n": n})).await;
        let expected = if answer.json()["stored"] == true { 200 } else { 202 };
        assert_eq!(answer.status, expected);
        stored += u32::from(answer.status == 200);
    }
    report(&server, "7", "logs", json!({"message": "behind the last progress"})).await;
    let history = server.get("/v1/history?channel=job:7&limit=1000").await.json();
    let events = history["events"].as_array().unwrap();
    let values: Vec<f64> = events
        .iter()
        .filter(|e| e["event"] == "progress")
        .map(|e| e["data"]["progress"].as_f64().unwrap())
        .collect();
    assert!(values.len() < 100 && values.len() as u32 >= stored, "{} events, {stored} stored", values.len());
    assert_eq!(values.last(), Some(&50.0), "what was held comes before the log line");
    assert_eq!(events.last().unwrap()["event"], "log");
}

async fn many_reports_of_many_jobs_come_in_one_request(engine: Engine) {
    let server = Server::start(engine).await;
    let lines = [
        json!({"id": "a", "report": "upsert", "type": "t"}),
        json!({"id": "b", "report": "upsert", "type": "t", "state": "running"}),
        json!({"id": "a", "report": "progress", "progress": 10, "n": 1}),
        json!({"id": "a", "report": "logs", "logs": [{"message": "x"}], "n": 2}),
        json!({"id": "b", "report": "fail", "message": "no"}),
        json!({"id": "a", "report": "complete", "result": {"rows": 3}, "n": 3}),
        json!({"id": "c", "report": "progress", "progress": 1}),
        json!({"id": "a", "report": "dance"}),
        json!({"report": "progress"}),
        json!({"id": "a", "report": "progress", "progress": 200}),
    ];
    let mut body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    body.push_str("{\n\n");
    let kind = [("content-type", "application/x-ndjson")];
    let answer = request(server.addr, "POST", "/v1/jobs:report", &kind, body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answers = answer.lines();
    assert_eq!(answers.len(), 11);
    for (index, id) in [(0, "a"), (1, "b"), (2, "a"), (3, "a"), (4, "b"), (5, "a")] {
        assert_eq!(
            (&answers[index]["id"], answers[index]["code"].is_null()),
            (&json!(id), true),
            "{}",
            answers[index]
        );
    }
    let codes: Vec<&Value> = answers[6..].iter().map(|a| &a["code"]).collect();
    let expected = ["job_not_found", "field_invalid", "field_missing", "progress_invalid", "json_invalid"];
    assert_eq!(codes, expected);
    assert_eq!(answers[10]["line"], 11);
    assert_eq!(document(&server, "a").await["state"], "completed");
    assert_eq!(document(&server, "b").await["state"], "failed");
    let json_kind = [("content-type", "application/json")];
    let wrong = request(server.addr, "POST", "/v1/jobs:report", &json_kind, b"{}").await;
    wrong.is_refusal(415, "media_type_unsupported");
}

async fn other_channels_get_the_same_events(engine: Engine) {
    let server = Server::start(engine).await;
    let mut stream = server.stream("channel=user:42&from=start").await;
    stream.hello().await;
    put(&server, "7", json!({"type": "t", "publish_to": ["user:42"]})).await;
    report(&server, "7", "progress", json!(50)).await;
    report(&server, "7", "logs", json!({"message": "x"})).await;
    report(&server, "7", "output", json!({"chunks": ["word"]})).await;
    report(&server, "7", "fail", json!({"message": "no"})).await;
    let mut names = Vec::new();
    for _ in 0..5 {
        names.push(stream.event().await.event);
    }
    assert_eq!(
        names,
        ["progress", "progress", "log", "output", "failed"],
        "`error` is the browser's own there"
    );
    let denied = json!({"type": "t", "publish_to": ["job:8"]});
    put(&server, "8", denied).await.is_problem(403, "channel_reserved");
}

async fn a_stream_waits_for_a_job_that_is_announced_soon(engine: Engine) {
    let server = Server::start(engine).await;
    let source = [("accept", "text/event-stream")];
    let early = request(server.addr, "GET", "/v1/jobs/bull:1/events", &source, b"");
    let (seen, ()) = tokio::join!(early, async {
        // Whether the stream or the job comes first, the page sees the same.
        tokio::time::sleep(Duration::from_millis(100)).await;
        put(&server, "bull:1", json!({"type": "t"})).await;
        report(&server, "bull:1", "complete", json!({})).await;
    });
    assert!(seen.text().contains("event: complete"), "{}", seen.text());
    let ours = format!("/v1/jobs/job_{}/events", "0".repeat(28));
    let unknown = request(server.addr, "GET", &ours, &source, b"").await;
    assert!(unknown.text().contains("job_not_found"), "an id of ours is not waited for");
}

async fn what_makes_no_sense_is_refused_and_changes_nothing(engine: Engine) {
    let server = Server::start(engine).await;
    put(&server, "7", json!({"type": "t"})).await;
    report(&server, "7", "progress", json!(40)).await;
    let before = document(&server, "7").await;
    let long = "x".repeat(20_000);
    let many: Vec<Value> = (0..101).map(|_| json!({"message": "x"})).collect();
    for (what, body, code) in [
        ("progress", json!({"progress": 101}), "progress_invalid"),
        ("progress", json!({"progress": -1}), "progress_invalid"),
        ("progress", json!({"progress": "half"}), "progress_invalid"),
        ("progress", json!({"current": -1}), "progress_invalid"),
        ("progress", json!({"data": long}), "data_too_large"),
        ("logs", json!({"logs": many}), "field_invalid"),
        ("logs", json!({"logs": []}), "field_invalid"),
        ("logs", json!({"message": "x", "level": "loud"}), "field_invalid"),
        ("output", json!({"chunks": []}), "field_invalid"),
        ("output", json!({"chunks": [1, "x".repeat(256 * 1024)]}), "data_too_large"),
        ("complete", json!({"result": "x".repeat(70_000)}), "data_too_large"),
        (
            "complete",
            json!({"artifacts": [{"name": "../../etc/passwd", "url": "https://a.example"}]}),
            "field_invalid",
        ),
        ("complete", json!({"artifacts": [{"name": "a", "url": "javascript:alert(1)"}]}), "field_invalid"),
        ("fail", json!({}), "field_invalid"),
        ("fail", json!({"message": "x", "error": {"message": "y"}}), "field_invalid"),
        ("fail", json!({"message": "x", "state": "sleeping"}), "field_invalid"),
        ("fail", json!({"message": "x", "retry": "perhaps"}), "field_invalid"),
        ("cancel", json!({"grace_ms": 3_600_001}), "field_invalid"),
        ("cancel", json!({"why": "x"}), "field_unknown"),
    ] {
        let answer = report(&server, "7", what, body).await;
        let problem = answer.json();
        assert_eq!(problem["code"], code, "{what}: {}", answer.text());
        assert_eq!(answer.status, if code == "data_too_large" { 413 } else { 400 }, "{what}");
        assert_eq!(problem["committed"], false, "{what}: {}", answer.text());
    }
    let nan = [("content-type", "application/json")];
    let nan = request(server.addr, "POST", "/v1/jobs/7/progress", &nan, br#"{"progress": NaN}"#).await;
    nan.is_problem(400, "json_invalid");
    let back = report(&server, "7", "progress", json!({"progress": 10, "message": "backwards"})).await;
    assert!(back.status == 200 || back.status == 202, "{}", back.text());
    let now = document(&server, "7").await;
    assert_eq!(
        (&now["progress"], &now["message"]),
        (&json!(40), &json!("backwards")),
        "a number never falls"
    );
    assert_eq!(now["v"].as_u64(), before["v"].as_u64().map(|v| v + 1), "nothing else changed it");
    let wrong_lease = report(&server, "7", "complete", json!({"lease": "1.abc"})).await;
    wrong_lease.is_problem(409, "lease_lost");
}

async fn a_job_that_makes_no_sense_is_not_made(engine: Engine) {
    let server = Server::start(engine).await;
    let tags: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    let channels: Vec<String> = (0..9).map(|n| format!("c{n}")).collect();
    for (extra, status, code) in [
        (json!({"tags": tags}), 400, "field_invalid"),
        (json!({"tags": [""]}), 400, "field_invalid"),
        (json!({"priority": 101}), 400, "field_invalid"),
        (json!({"retry": {"max_attempts": 0}}), 400, "field_invalid"),
        (json!({"retry": {"max_attempts": 101}}), 400, "field_invalid"),
        (json!({"retry": {"backoff": {"jitter": 2}}}), 400, "field_invalid"),
        (json!({"retry": {"backoff": {"kind": "linear"}}}), 400, "field_invalid"),
        (json!({"lease_ms": 10}), 400, "field_invalid"),
        (json!({"timeout_ms": 1}), 400, "field_invalid"),
        (json!({"delay_ms": 1, "run_at": 1}), 400, "field_invalid"),
        (json!({"delay_ms": 99_999_999_999_u64}), 400, "field_invalid"),
        (json!({"unique": {"key": ""}}), 400, "field_invalid"),
        (json!({"unique": {"key": "k", "ttl_ms": 0}}), 400, "field_invalid"),
        (json!({"ttl": {"result_ms": 0}}), 400, "field_invalid"),
        (json!({"mode": "magic"}), 400, "field_invalid"),
        (json!({"queue": "a b"}), 400, "queue_invalid"),
        (json!({"queue": ".."}), 400, "queue_invalid"),
        (json!({"id": "a/b"}), 400, "job_id_invalid"),
        (json!({"type": "a b"}), 400, "job_type_invalid"),
        (json!({"id": "me", "parent": "me"}), 422, "parent_invalid"),
        (json!({"parent": "nobody"}), 422, "parent_invalid"),
        (json!({"publish_to": channels}), 400, "channels_too_many"),
        (json!({"input": "x".repeat(256 * 1024)}), 413, "data_too_large"),
        (json!({"colour": "red"}), 400, "field_unknown"),
    ] {
        let mut body = json!({"type": "t"});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        post(&server, "/v1/jobs", body).await.is_problem(status, code);
    }
    for state in ["completed", "failed", "cancelled", "expired"] {
        put(&server, "9", json!({"type": "t", "state": state})).await.is_refusal(400, "field_invalid");
    }
    assert_eq!(server.get("/v1/jobs").await.json()["jobs"], json!([]));
    for (queue, body, code) in [
        ("a%20b", json!({"worker_id": "w"}), "queue_invalid"),
        ("q", json!({"worker_id": "a b"}), "worker_invalid"),
        ("q", json!({"worker_id": "w", "max": 101}), "field_invalid"),
        ("q", json!({"worker_id": "w", "wait_ms": 25_001}), "field_invalid"),
        ("q", json!({"worker_id": "w", "types": []}), "field_invalid"),
        ("q", json!({"worker_id": "w", "lease_ms": 1}), "field_invalid"),
        ("q", json!({}), "field_missing"),
    ] {
        post(&server, &format!("/v1/queues/{queue}/lease"), body).await.is_problem(400, code);
    }
}
