//! The managed queue over HTTP: what workers, producers and operators see.

use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Answer, request};
use crate::server::{Engine, Server};

on_each_engine! {
    a_job_goes_to_a_worker_and_ends_once,
    a_waiting_worker_gets_a_new_job,
    a_worker_that_goes_away_while_it_waits_takes_no_job_along,
    higher_priorities_come_first_and_types_take_turns,
    only_the_lease_that_is_valid_may_report,
    a_job_goes_on_without_a_channel_of_publish_to_that_is_finished,
    a_silent_worker_loses_its_job,
    a_failed_run_is_tried_again_until_its_attempts_are_used_up,
    a_released_job_is_leased_again_with_the_same_attempt,
    a_delayed_job_waits_for_its_time,
    a_job_that_nobody_takes_in_time_has_expired,
    a_run_that_takes_too_long_has_failed,
    a_cancelled_job_ends_whether_or_not_its_worker_does,
    a_unique_key_has_one_job,
    a_finished_job_is_made_again_as_another_one,
    lists_and_pages_show_each_job_once,
    workers_are_told_what_to_do,
    many_leases_are_renewed_at_once,
    the_end_of_a_job_can_be_waited_for,
    a_job_whose_time_is_over_is_forgotten_with_its_files,
    a_job_that_is_refused_leaves_the_input_of_the_other_alone,
}

pub async fn post(server: &Server, target: &str, body: Value) -> Answer {
    let kind = [("content-type", "application/json")];
    request(server.addr, "POST", target, &kind, body.to_string().as_bytes()).await
}

/// Makes a job and returns its id.
async fn make(server: &Server, body: Value) -> String {
    let made = post(server, "/v1/jobs", body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["id"].as_str().unwrap().to_owned()
}

/// A leased job: its id and its token.
struct Held {
    id: String,
    token: String,
    job: Value,
}

impl Held {
    async fn report(&self, server: &Server, what: &str, mut body: Value) -> Answer {
        body["lease"] = json!(self.token);
        post(server, &format!("/v1/jobs/{}/{what}", self.id), body).await
    }

    async fn complete(&self, server: &Server) {
        let answer = self.report(server, "complete", json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

async fn leases(server: &Server, body: Value) -> Vec<Held> {
    let answer = post(server, "/v1/queues/default/lease", body).await;
    if answer.status == 204 {
        return Vec::new();
    }
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let held =
        |job: &Value| Held { id: text(&job["id"]), token: text(&job["lease"]["token"]), job: job.clone() };
    answer.json()["jobs"].as_array().unwrap().iter().map(held).collect()
}

/// Leases the job that is there.
async fn lease(server: &Server) -> Held {
    let mut leased = leases(server, json!({"worker_id": "w", "wait_ms": 5_000, "lease_ms": 10_000})).await;
    assert_eq!(leased.len(), 1);
    leased.remove(0)
}

async fn document(server: &Server, id: &str) -> Value {
    server.get(&format!("/v1/jobs/{id}")).await.json()
}

/// The types of all events of a job that has ended.
async fn story(server: &Server, id: &str) -> Vec<String> {
    let mut stream = server.stream_at(&format!("/v1/jobs/{id}/events?from=start")).await;
    let mut story = Vec::new();
    while let Some(event) = stream.next().await {
        story.push(event.event);
    }
    story
}

async fn ended(server: &Server, id: &str) -> Value {
    server.get(&format!("/v1/jobs/{id}?wait=20s&until=terminal")).await.json()
}

async fn a_job_goes_to_a_worker_and_ends_once(engine: Engine) {
    let server = Server::start(engine).await;
    let id = make(&server, json!({"type": "t", "input": {"rows": 7}, "tags": ["a"]})).await;
    let held = lease(&server).await;
    assert_eq!((held.id.as_str(), &held.job["input"]), (id.as_str(), &json!({"rows": 7})));
    assert_eq!((&held.job["attempt"], &held.job["tags"]), (&json!(1), &json!(["a"])));
    assert_eq!(held.job["lease"]["renew_every_ms"], json!(3_333));
    assert_eq!(document(&server, &id).await["state"], "running");
    let log = held.report(&server, "logs", json!({"logs": [{"message": "on it"}], "n": 1})).await;
    assert_eq!(log.status, 200, "{}", log.text());
    held.report(&server, "output", json!({"chunks": [1, {"two": 2}], "n": 2})).await;
    let again = held.report(&server, "output", json!({"chunks": [1, {"two": 2}], "n": 2})).await;
    assert_eq!(again.json()["duplicate"], true, "{}", again.text());
    let end = held.report(&server, "complete", json!({"result": 42, "n": 3})).await;
    assert_eq!((end.status, &end.json()["stored"]), (200, &json!(true)));
    let again = held.report(&server, "complete", json!({"result": 42, "n": 3})).await;
    assert_eq!((again.status, &again.json()["duplicate"]), (200, &json!(true)), "{}", again.text());
    let late = held.report(&server, "fail", json!({"message": "late"})).await;
    late.is_problem(409, "lease_lost");
    let seen = story(&server, &id).await;
    let expected =
        ["tidings.hello", "progress", "progress", "log", "output", "output", "progress", "complete"];
    assert_eq!(seen, expected);
    let logs = server.get(&format!("/v1/jobs/{id}/logs")).await.json();
    assert_eq!(logs["logs"][0]["message"], "on it", "{logs}");
}

async fn a_waiting_worker_gets_a_new_job(engine: Engine) {
    let server = Server::start(engine).await;
    let waiting = leases(&server, json!({"worker_id": "w", "types": ["t"], "wait_ms": 20_000}));
    let (held, id) = tokio::join!(waiting, async {
        server.until_jobs_wait(1).await;
        make(&server, json!({"type": "other"})).await;
        make(&server, json!({"type": "t"})).await
    });
    assert_eq!(held.iter().map(|h| h.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
    let nothing =
        post(&server, "/v1/queues/default/lease", json!({"worker_id": "w", "types": ["t"], "wait_ms": 1}));
    assert_eq!(nothing.await.status, 204);
}

async fn a_worker_that_goes_away_while_it_waits_takes_no_job_along(engine: Engine) {
    let server = Server::start(engine).await;
    let gone = tokio::time::timeout(
        Duration::from_millis(200),
        leases(&server, json!({"worker_id": "gone", "wait_ms": 20_000})),
    );
    assert!(gone.await.is_err(), "there is nothing to lease");
    let id = make(&server, json!({"type": "t"})).await;
    let held = lease(&server).await;
    assert_eq!((held.id.as_str(), &held.job["attempt"]), (id.as_str(), &json!(1)));
}

async fn higher_priorities_come_first_and_types_take_turns(engine: Engine) {
    let server = Server::start(engine).await;
    for (name, kind, priority) in
        [("a1", "a", 0), ("a2", "a", 0), ("a3", "a", 0), ("b1", "b", 0), ("top", "a", 7)]
    {
        make(&server, json!({"type": kind, "id": name, "priority": priority})).await;
    }
    let mut order = Vec::new();
    for _ in 0..5 {
        order.push(lease(&server).await.id);
    }
    assert_eq!(order[0], "top");
    assert!(order.iter().position(|id| id == "b1") <= Some(2), "a busy type starves no other: {order:?}");
    let of_a: Vec<&String> = order.iter().filter(|id| id.starts_with('a')).collect();
    assert_eq!(of_a, ["a1", "a2", "a3"], "the oldest first");
}

async fn only_the_lease_that_is_valid_may_report(engine: Engine) {
    let server = Server::start(engine).await;
    let id = make(&server, json!({"type": "t"})).await;
    let held = lease(&server).await;
    let other = Held { token: "1.00000000000000000000000000000000".into(), id: id.clone(), job: Value::Null };
    for (what, body) in [
        ("progress", json!({"progress": 1})),
        ("logs", json!({"message": "x"})),
        ("output", json!({"chunks": [1]})),
        ("heartbeat", json!({})),
        ("release", json!({})),
        ("fail", json!({"message": "x"})),
        ("complete", json!({})),
    ] {
        other.report(&server, what, body.clone()).await.is_problem(409, "lease_lost");
        post(&server, &format!("/v1/jobs/{id}/{what}"), body.clone()).await.is_problem(409, "lease_lost");
        let mut of_another_run = body;
        of_another_run["attempt"] = 2.into();
        held.report(&server, what, of_another_run).await.is_problem(409, "attempt_stale");
    }
    assert_eq!(document(&server, &id).await["v"], 2, "nothing changed");
    held.complete(&server).await;
}

async fn a_job_goes_on_without_a_channel_of_publish_to_that_is_finished(engine: Engine) {
    let server = Server::start(engine).await;
    let before = make(&server, json!({"type": "t", "publish_to": ["order:7", "user:42"]})).await;
    server.publish(json!({"channel": "order:7", "data": 1, "final": true})).await;
    let behind = make(&server, json!({"type": "t", "publish_to": ["order:7", "user:42"]})).await;
    for id in [before, behind] {
        let held = lease(&server).await;
        assert_eq!(held.id, id);
        held.report(&server, "progress", json!({"progress": 1})).await;
        held.complete(&server).await;
        assert_eq!(document(&server, &id).await["state"], "completed");
    }
    let copies = server.get("/v1/history?channel=user:42").await.json();
    let ends = copies["events"].as_array().unwrap().iter().filter(|event| event["event"] == "complete");
    assert_eq!(ends.count(), 2, "the other channel has everything");
}

async fn a_silent_worker_loses_its_job(engine: Engine) {
    let server = Server::start(engine).await;
    let id = make(&server, json!({"type": "t", "lease_ms": 1_000, "max_stalls": 1})).await;
    let body = json!({"worker_id": "w", "wait_ms": 10_000});
    let silent = leases(&server, body.clone()).await.remove(0);
    let next = leases(&server, body).await.remove(0);
    assert_eq!((next.id.as_str(), &next.job["attempt"]), (id.as_str(), &json!(2)));
    silent.report(&server, "complete", json!({})).await.is_problem(409, "lease_lost");
    silent.report(&server, "progress", json!({"progress": 99})).await.is_problem(409, "lease_lost");
    let end = ended(&server, &id).await;
    assert_eq!((&end["state"], &end["error"]["code"]), (&json!("failed"), &json!("stalled")), "{end}");
    assert_eq!((&end["attempt"], &end["progress"]), (&json!(2), &json!(0)));
    assert_eq!(story(&server, &id).await.last().unwrap(), "error");
}

async fn a_failed_run_is_tried_again_until_its_attempts_are_used_up(engine: Engine) {
    let server = Server::start(engine).await;
    let retry = json!({"max_attempts": 3, "backoff": {"kind": "fixed", "base_ms": 1, "jitter": 0}});
    let id = make(&server, json!({"type": "t", "retry": retry})).await;
    for attempt in 1..=3 {
        let held = lease(&server).await;
        assert_eq!(held.job["attempt"], attempt);
        let body = json!({"error": {"message": "no luck", "code": "unlucky", "stack": "at main"}});
        let answer = held.report(&server, "fail", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let now = document(&server, &id).await;
        if attempt < 3 {
            assert_eq!((&now["state"], &now["reason"]), (&json!("retrying"), &json!("failed")));
        }
        assert_eq!(now["error"], json!({"message": "no luck", "code": "unlucky"}));
    }
    assert_eq!(document(&server, &id).await["state"], "failed");
    assert_eq!(story(&server, &id).await.iter().filter(|e| *e == "error").count(), 1);

    let id = make(&server, json!({"type": "t"})).await;
    let held = lease(&server).await;
    held.report(&server, "fail", json!({"message": "for good", "retry": "never"})).await;
    assert_eq!(document(&server, &id).await["state"], "failed");
    let id = make(&server, json!({"type": "t"})).await;
    lease(&server)
        .await
        .report(&server, "fail", json!({"message": "later", "retry": {"after_ms": 60_000}}))
        .await;
    let later = document(&server, &id).await;
    let wait = later["run_at"].as_u64().unwrap() - later["updated_at"].as_u64().unwrap();
    assert_eq!((&later["state"], wait), (&json!("retrying"), 60_000));
}

async fn a_released_job_is_leased_again_with_the_same_attempt(engine: Engine) {
    let server = Server::start(engine).await;
    make(&server, json!({"type": "t"})).await;
    for _ in 0..5 {
        let held = lease(&server).await;
        assert_eq!(held.job["attempt"], 1);
        held.report(&server, "progress", json!({"progress": 50, "n": 9})).await;
        let released = held.report(&server, "release", json!({"attempt": 1, "n": 3})).await;
        assert_eq!(released.status, 200, "{}", released.text());
        let now = document(&server, &held.id).await;
        assert_eq!(
            (&now["state"], &now["reason"], &now["progress"]),
            (&json!("queued"), &json!("released"), &json!(0))
        );
        held.report(&server, "complete", json!({})).await.is_problem(409, "lease_lost");
    }
}

async fn a_delayed_job_waits_for_its_time(engine: Engine) {
    let server = Server::start(engine).await;
    let id = make(&server, json!({"type": "t", "delay_ms": 700})).await;
    assert_eq!(document(&server, &id).await["state"], "scheduled");
    assert!(leases(&server, json!({"worker_id": "w", "wait_ms": 0})).await.is_empty());
    let held = lease(&server).await;
    let started = document(&server, &held.id).await;
    let waited = started["started_at"].as_u64().unwrap() - started["created_at"].as_u64().unwrap();
    assert!(waited >= 700, "{started}");
}

async fn a_job_that_nobody_takes_in_time_has_expired(engine: Engine) {
    let server = Server::start(engine).await;
    let id = make(&server, json!({"type": "t", "ttl": {"queued_ms": 100}})).await;
    let end = ended(&server, &id).await;
    assert_eq!((&end["state"], &end["error"]["code"]), (&json!("expired"), &json!("expired")));
    assert!(leases(&server, json!({"worker_id": "w", "wait_ms": 0})).await.is_empty());
}

async fn a_run_that_takes_too_long_has_failed(engine: Engine) {
    let server = Server::start(engine).await;
    let retry = json!({"max_attempts": 1});
    let id = make(&server, json!({"type": "t", "timeout_ms": 1_000, "retry": retry})).await;
    let held = lease(&server).await;
    assert!(held.job["deadline"].is_u64());
    let end = ended(&server, &id).await;
    assert_eq!((&end["state"], &end["error"]["code"]), (&json!("failed"), &json!("timed_out")));
    held.report(&server, "heartbeat", json!({})).await.is_problem(409, "lease_lost");
}

async fn a_cancelled_job_ends_whether_or_not_its_worker_does(engine: Engine) {
    let server = Server::start(engine).await;
    let cancel = async |id: &str, body: Value| post(&server, &format!("/v1/jobs/{id}/cancel"), body).await;
    let waiting = make(&server, json!({"type": "t"})).await;
    let answer = cancel(&waiting, json!({"reason": "changed my mind"})).await;
    assert_eq!((answer.status, &answer.json()["state"]), (202, &json!("cancelled")));
    assert_eq!(document(&server, &waiting).await["error"]["message"], "changed my mind");
    cancel(&waiting, json!({})).await.is_problem(409, "job_finished");

    let id = make(&server, json!({"type": "t"})).await;
    let held = lease(&server).await;
    assert_eq!(held.id, id, "what was cancelled is not leased");
    assert_eq!(cancel(&id, json!({"reason": "stop"})).await.json()["state"], "running");
    let beat = held.report(&server, "heartbeat", json!({})).await.json();
    assert_eq!((&beat["cancel_requested"], &beat["cancel"]["reason"]), (&json!(true), &json!("stop")));
    held.report(&server, "fail", json!({"message": "as you wish"})).await;
    assert_eq!(document(&server, &id).await["state"], "cancelled");

    let id = make(&server, json!({"type": "t"})).await;
    let stubborn = lease(&server).await;
    cancel(&id, json!({"grace_ms": 100})).await;
    assert_eq!(ended(&server, &id).await["state"], "cancelled");
    stubborn.report(&server, "progress", json!({"progress": 5})).await.is_problem(409, "lease_lost");
}

async fn a_unique_key_has_one_job(engine: Engine) {
    let mut server = Server::start(engine).await;
    let with = |conflict: &str| json!({"type": "t", "unique": {"key": "k", "on_conflict": conflict}});
    let first = make(&server, with("reject")).await;
    post(&server, "/v1/jobs", with("reject")).await.is_problem(409, "unique_conflict");
    let same = post(&server, "/v1/jobs", with("return")).await;
    assert_eq!(
        (same.status, &same.json()["id"], &same.json()["duplicate"]),
        (200, &json!(first), &json!(true))
    );
    let second = make(&server, with("replace")).await;
    let replaced = document(&server, &first).await;
    assert_eq!((&replaced["state"], &replaced["error"]["code"]), (&json!("cancelled"), &json!("replaced")));
    if engine == Engine::Disk {
        server = server.restart().await;
        post(&server, "/v1/jobs", with("reject")).await.is_problem(409, "unique_conflict");
    }
    let held = lease(&server).await;
    assert_eq!(held.id, second);
    held.complete(&server).await;
    let third = make(&server, json!({"type": "t", "unique": {"key": "k", "ttl_ms": 60_000}})).await;
    let held = lease(&server).await;
    assert_eq!(held.id, third);
    held.complete(&server).await;
    // With a time of its own the key outlasts its job, and a restart.
    if engine == Engine::Disk {
        server = server.restart().await;
    }
    post(&server, "/v1/jobs", with("reject")).await.is_problem(409, "unique_conflict");
}

async fn a_finished_job_is_made_again_as_another_one(engine: Engine) {
    let server = Server::start(engine).await;
    let big = "x".repeat(10_000);
    let body = json!({"type": "t", "input": big, "priority": 3, "tags": ["a"]});
    let id = make(&server, body).await;
    let retry = format!("/v1/jobs/{id}/retry");
    post(&server, &retry, json!({})).await.is_problem(409, "job_not_finished");
    let held = lease(&server).await;
    assert_eq!(held.job["input"], json!(big));
    held.report(&server, "fail", json!({"message": "x", "retry": "never"})).await;
    let again = post(&server, &retry, json!({})).await;
    assert_eq!(again.status, 201, "{}", again.text());
    let held = lease(&server).await;
    assert_eq!((held.id != id, &held.job["input"]), (true, &json!(big)));
    let now = document(&server, &held.id).await;
    assert_eq!((&now["retry_of"], &now["priority"], &now["tags"]), (&json!(id), &json!(3), &json!(["a"])));
    post(&server, "/v1/jobs/nobody/retry", json!({})).await.is_problem(404, "job_not_found");
}

async fn lists_and_pages_show_each_job_once(engine: Engine) {
    let mut server = Server::start(engine).await;
    for number in 0..7 {
        let tag = if number % 2 == 0 { "even" } else { "odd" };
        make(&server, json!({"type": "t", "id": format!("j{number}"), "tags": [tag]})).await;
    }
    for _ in 0..3 {
        lease(&server).await.complete(&server).await;
    }
    if engine == Engine::Disk {
        server = server.restart().await;
        // Ended jobs are found behind everything else.
        server.until_ended_listed(3).await;
    }
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = server.get(&format!("/v1/jobs?limit=2{cursor}")).await.json();
        ids.extend(page["jobs"].as_array().unwrap().iter().map(|j| j["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(
        ids,
        ["j6", "j5", "j4", "j3", "j2", "j1", "j0"],
        "those that have not ended first, newest first"
    );
    let count = async |query: &str| server.get(query).await.json()["jobs"].as_array().unwrap().len();
    assert_eq!(count("/v1/jobs?state=completed").await, 3);
    assert_eq!(count("/v1/jobs?tag=even").await, 4);
    assert_eq!(count("/v1/jobs?tag=even&state=queued").await, 2);
    assert_eq!(count("/v1/jobs?queue=other").await, 0);
    let queues = server.get("/v1/queues").await.json();
    assert_eq!(
        queues["queues"],
        json!([{"queue": "default", "scheduled": 0, "queued": 4, "retrying": 0, "running": 0}])
    );
    server.get("/v1/jobs?state=sleeping").await.is_problem(400, "query_invalid");
    server.get("/v1/jobs?cursor=nowhere").await.is_problem(400, "query_invalid");
    server.get("/v1/jobs?limit=0").await.is_problem(400, "limit_invalid");
}

async fn workers_are_told_what_to_do(engine: Engine) {
    let server = Server::start(engine).await;
    let kind = [("content-type", "application/json")];
    let tell = async |state: &str| {
        let body = json!({"state": state}).to_string();
        request(server.addr, "PUT", "/v1/workers/w", &kind, body.as_bytes()).await
    };
    tell("quiet").await.is_problem(404, "not_found");
    make(&server, json!({"type": "t"})).await;
    let held = lease(&server).await;
    let workers = server.get("/v1/workers").await.json();
    assert_eq!((&workers["workers"][0]["id"], &workers["workers"][0]["jobs"]), (&json!("w"), &json!(1)));
    let waiting = post(&server, "/v1/queues/default/lease", json!({"worker_id": "w", "wait_ms": 20_000}));
    let (told, answer) = tokio::join!(waiting, async {
        server.until_jobs_wait(1).await;
        tell("quiet").await
    });
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(told.json(), json!({"jobs": [], "worker": {"state": "quiet"}}), "the wait ends at once");
    make(&server, json!({"type": "t"})).await;
    let none = post(&server, "/v1/queues/default/lease", json!({"worker_id": "w", "wait_ms": 1})).await;
    assert_eq!(none.json()["jobs"], json!([]), "a quiet worker gets no job");
    tell("stop").await;
    let renewed = json!({"worker_id": "w", "leases": [{"id": held.id, "token": held.token}]});
    let renewed = post(&server, "/v1/leases:renew", renewed).await.json();
    assert_eq!(
        (&renewed["worker"]["state"], &renewed["leases"][0]["status"]),
        (&json!("stop"), &json!("ok"))
    );
    let stopped =
        post(&server, "/v1/queues/default/lease", json!({"worker_id": "w", "wait_ms": 25_000})).await;
    assert_eq!(stopped.json()["worker"]["state"], "stop", "who is to stop does not wait for jobs");
    tell("dance").await.is_problem(400, "field_invalid");
}

async fn many_leases_are_renewed_at_once(engine: Engine) {
    let server = Server::start(engine).await;
    for _ in 0..3 {
        make(&server, json!({"type": "t", "lease_ms": 2_000})).await;
    }
    let held = leases(&server, json!({"worker_id": "w", "max": 10})).await;
    assert_eq!(held.len(), 3);
    post(&server, &format!("/v1/jobs/{}/cancel", held[1].id), json!({})).await;
    held[2].complete(&server).await;
    let all: Vec<Value> = held.iter().map(|h| json!({"id": h.id, "token": h.token})).collect();
    let answer = post(&server, "/v1/leases:renew", json!({"worker_id": "w", "leases": all})).await.json();
    let status: Vec<&str> =
        answer["leases"].as_array().unwrap().iter().map(|l| l["status"].as_str().unwrap()).collect();
    assert_eq!(status, ["ok", "cancel", "lost"]);
    let before = held[0].job["lease"]["expires_at"].as_u64().unwrap();
    assert!(answer["leases"][0]["expires_at"].as_u64().unwrap() >= before);
}

async fn the_end_of_a_job_can_be_waited_for(engine: Engine) {
    let server = Server::start(engine).await;
    let id = make(&server, json!({"type": "t"})).await;
    let short = server.get(&format!("/v1/jobs/{id}?wait=10ms&until=terminal")).await.json();
    assert_eq!(short["state"], "queued");
    let held = lease(&server).await;
    let (end, ()) = tokio::join!(ended(&server, &id), held.complete(&server));
    assert_eq!(end["state"], "completed");
    for query in ["wait=20s", "wait=26s&until=terminal", "wait=x&until=terminal", "wait=1s&until=never"] {
        server.get(&format!("/v1/jobs/{id}?{query}")).await.is_problem(400, "query_invalid");
    }
}

async fn a_job_whose_time_is_over_is_forgotten_with_its_files(engine: Engine) {
    let server = Server::start(engine).await;
    let id =
        make(&server, json!({"type": "t", "input": "x".repeat(10_000), "ttl": {"result_ms": 300}})).await;
    server.delete(&format!("/v1/jobs/{id}")).await.is_problem(409, "job_not_finished");
    lease(&server).await.complete(&server).await;
    let path = format!("/v1/jobs/{id}");
    for _ in 0..200 {
        if server.get(&path).await.status == 404 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.get(&path).await.is_problem(404, "job_not_found");
    assert_eq!(server.get("/v1/jobs").await.json()["jobs"], json!([]));
    if let Some(data) = server.data() {
        let folder = data.join("artifacts").join(&id);
        for _ in 0..100 {
            if !folder.exists() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(!folder.exists(), "the input's file is gone");
    }
    let id = make(&server, json!({"type": "t"})).await;
    lease(&server).await.complete(&server).await;
    assert_eq!(server.delete(&format!("/v1/jobs/{id}")).await.status, 204);
    server.delete(&format!("/v1/jobs/{id}")).await.is_problem(404, "job_not_found");
}

async fn a_job_that_is_refused_leaves_the_input_of_the_other_alone(engine: Engine) {
    let server = Server::start(engine).await;
    let input = |letter: &str| json!(letter.repeat(10_000));
    make(&server, json!({"type": "t", "id": "7", "input": input("a")})).await;
    for other in [input("b"), json!("short")] {
        let again = post(&server, "/v1/jobs", json!({"type": "t", "id": "7", "input": other})).await;
        again.is_problem(409, "job_exists");
    }
    assert_eq!(lease(&server).await.job["input"], input("a"));

    let keyed = async |input: Value| {
        let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
        let body = json!({"type": "t", "input": input}).to_string();
        request(server.addr, "POST", "/v1/jobs", &headers, body.as_bytes()).await
    };
    assert_eq!(keyed(input("c")).await.status, 201);
    keyed(input("d")).await.is_problem(422, "idempotency_key_reused");
    assert_eq!(keyed(input("c")).await.status, 200);
    assert_eq!(lease(&server).await.job["input"], input("c"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_input_is_lost_fails_instead_of_running_without_it() {
    let server = Server::start(Engine::Disk).await;
    let id = make(&server, json!({"type": "t", "input": "x".repeat(10_000)})).await;
    std::fs::remove_dir_all(server.data().unwrap().join("artifacts").join(&id)).unwrap();
    assert!(leases(&server, json!({"worker_id": "w", "wait_ms": 100})).await.is_empty());
    let end = document(&server, &id).await;
    assert_eq!((&end["state"], &end["error"]["code"]), (&json!("failed"), &json!("input_lost")), "{end}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_and_waiting_jobs_survive_a_restart() {
    let server = Server::start(Engine::Disk).await;
    let running = make(&server, json!({"type": "t", "lease_ms": 5_000})).await;
    let held = lease(&server).await;
    held.report(&server, "logs", json!({"message": "before", "n": 1})).await;
    let waiting = make(&server, json!({"type": "t", "priority": -1})).await;
    let later = make(&server, json!({"type": "t", "delay_ms": 60_000})).await;
    let server = server.restart().await;
    let again = held.report(&server, "logs", json!({"message": "before", "n": 1})).await;
    assert_eq!(again.json()["duplicate"], true, "the repeat is known: {}", again.text());
    held.complete(&server).await;
    assert_eq!(document(&server, &running).await["state"], "completed");
    assert_eq!(lease(&server).await.id, waiting);
    assert_eq!(document(&server, &later).await["state"], "scheduled");
    let seen = story(&server, &running).await;
    assert_eq!(seen.iter().filter(|e| *e == "complete").count(), 1, "{seen:?}");
}
