//! Schedules over HTTP: jobs that the clock makes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Answer, request};
use crate::server::{Engine, Server};

on_each_engine! {
    each_due_time_makes_a_job_unless_the_one_before_has_not_ended,
    a_schedule_is_made_shown_replaced_and_deleted,
    what_makes_no_sense_is_refused,
}

async fn put(server: &Server, name: &str, body: &Value) -> Answer {
    let kind = [("content-type", "application/json")];
    request(server.addr, "PUT", &format!("/v1/schedules/{name}"), &kind, body.to_string().as_bytes()).await
}

async fn made(server: &Server, name: &str, body: &Value) {
    let answer = put(server, name, body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
}

async fn schedule(server: &Server, name: &str) -> Value {
    server.get(&format!("/v1/schedules/{name}")).await.json()
}

async fn jobs(server: &Server, job_type: &str) -> Vec<Value> {
    let answer = server.get(&format!("/v1/jobs?type={job_type}")).await.json();
    answer["jobs"].as_array().unwrap().clone()
}

/// Waits until there are so many jobs of a type.
async fn until(server: &Server, job_type: &str, count: usize) -> Vec<Value> {
    for _ in 0..1_000 {
        let jobs = jobs(server, job_type).await;
        if jobs.len() >= count {
            return jobs;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("there are not {count} jobs of type {job_type}");
}

async fn each_due_time_makes_a_job_unless_the_one_before_has_not_ended(engine: Engine) {
    let server = Server::start(engine).await;
    let job = |job_type: &str| json!({ "type": job_type, "queue": "q", "input": 7, "tags": ["t"] });
    made(&server, "gone", &json!({ "every_ms": 1_000, "job": job("gone") })).await;
    made(&server, "alone", &json!({ "every_ms": 1_000, "job": job("alone") })).await;
    made(&server, "many", &json!({ "every_ms": 1_000, "job": job("many"), "overlap": "allow" })).await;
    assert_eq!(server.delete("/v1/schedules/gone").await.status, 204);

    // Nobody runs these jobs, so none of them ends.
    let many = until(&server, "many", 2).await;
    assert_eq!(jobs(&server, "alone").await.len(), 1);
    assert_eq!(jobs(&server, "gone").await.len(), 0);
    for job in &many {
        assert_eq!(
            (&job["schedule"], &job["queue"], &job["state"]),
            (&json!("many"), &json!("q"), &json!("queued"))
        );
        assert_eq!(job["tags"], json!(["t"]));
    }
    let now = schedule(&server, "many").await;
    let (created, last) = (now["created_at"].as_u64().unwrap(), now["last_at"].as_u64().unwrap());
    assert_eq!(((last - created) % 1_000, now["next_at"].as_u64().unwrap() - last), (0, 1_000), "{now}");
    assert!(jobs(&server, "many").await.iter().any(|job| job["id"] == now["last_job"]), "{now}");

    // The one that stood in the way ends, so the next due time makes another.
    let first = jobs(&server, "alone").await[0]["id"].as_str().unwrap().to_owned();
    let cancel = request(server.addr, "POST", &format!("/v1/jobs/{first}/cancel"), &[], b"").await;
    assert_eq!(cancel.status, 202, "{}", cancel.text());
    let both = until(&server, "alone", 2).await;
    assert_eq!(both.iter().filter(|job| job["id"] == *first).count(), 1);

    if engine == Engine::Disk {
        let before = jobs(&server, "many").await.len();
        let server = server.restart().await;
        assert_eq!(schedule(&server, "many").await["created_at"], json!(created));
        server.get("/v1/schedules/gone").await.is_problem(404, "schedule_not_found");
        let jobs = until(&server, "many", before + 1).await;
        let mut ids: Vec<&str> = jobs.iter().map(|job| job["id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), jobs.len());
    }
}

async fn a_schedule_is_made_shown_replaced_and_deleted(engine: Engine) {
    let server = Server::start(engine).await;
    let nightly = json!({ "cron": "30 2 * * *", "tz": "Europe/Berlin", "job": { "type": "clean" } });
    let first = put(&server, "nightly", &nightly).await;
    assert_eq!(first.status, 201, "{}", first.text());
    let first = first.json();
    assert_eq!(first, schedule(&server, "nightly").await);
    assert_eq!((&first["overlap"], &first["missed"]), (&json!("skip"), &json!("once")));
    assert_eq!((&first["last_at"], &first["last_job"]), (&Value::Null, &Value::Null));
    let again = put(&server, "nightly", &nightly).await;
    assert_eq!((again.status, again.json()), (200, first.clone()), "nothing changed");

    let yearly = json!({ "cron": "@yearly", "job": { "type": "clean", "priority": 3 }, "missed": "skip" });
    let replaced = put(&server, "nightly", &yearly).await;
    assert_eq!(replaced.status, 200, "{}", replaced.text());
    let replaced = replaced.json();
    assert_eq!((&replaced["tz"], &replaced["created_at"]), (&json!("UTC"), &first["created_at"]));
    assert_eq!(replaced["job"], yearly["job"]);
    assert_ne!(replaced["next_at"], first["next_at"]);

    made(&server, "a", &json!({ "every_ms": 60_000, "job": { "type": "clean" } })).await;
    let listed = server.get("/v1/schedules").await.json();
    let names: Vec<&Value> = listed["schedules"].as_array().unwrap().iter().map(|s| &s["name"]).collect();
    assert_eq!(names, ["a", "nightly"]);
    assert_eq!(listed["schedules"][1], replaced);

    assert_eq!(server.delete("/v1/schedules/nightly").await.status, 204);
    server.get("/v1/schedules/nightly").await.is_problem(404, "schedule_not_found");
    server.delete("/v1/schedules/nightly").await.is_problem(404, "schedule_not_found");
    made(&server, "nightly", &nightly).await;
    let server = match engine {
        Engine::Memory => server,
        Engine::Disk => server.restart().await,
    };
    assert_eq!(schedule(&server, "nightly").await["cron"], nightly["cron"]);
}

async fn what_makes_no_sense_is_refused(engine: Engine) {
    let server = Server::start(engine).await;
    let job = json!({ "type": "clean" });
    for times in [
        json!({}),
        json!({ "cron": "* * * * *", "every_ms": 1_000 }),
        json!({ "cron": "every day" }),
        json!({ "cron": "61 * * * *" }),
        json!({ "cron": "0 0 30 2 *" }),
        json!({ "cron": "* * * * *", "tz": "Europe/Nowhere" }),
        json!({ "every_ms": 999 }),
        json!({ "every_ms": 366_u64 * 24 * 60 * 60 * 1_000 + 1 }),
        json!({ "every_ms": 1_000, "tz": "UTC" }),
    ] {
        let mut body = times.clone();
        body["job"] = job.clone();
        put(&server, "x", &body).await.is_refusal(400, "schedule_invalid");
    }
    put(&server, "a%20b", &json!({ "every_ms": 1_000, "job": job }))
        .await
        .is_refusal(400, "schedule_invalid");
    let of = |change: Value| {
        let mut body = json!({ "every_ms": 1_000, "job": job.clone() });
        body["job"].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        body
    };
    for (change, status, code) in [
        (json!({ "type": "a b" }), 400, "job_type_invalid"),
        (json!({ "id": "7" }), 400, "field_invalid"),
        (json!({ "unique": { "key": "k" } }), 400, "field_invalid"),
        (json!({ "delay_ms": 5 }), 400, "field_invalid"),
        (json!({ "run_at": 5 }), 400, "field_invalid"),
        (json!({ "mode": "external" }), 400, "field_invalid"),
        (json!({ "priority": 1_000 }), 400, "field_invalid"),
        (json!({ "colour": "red" }), 400, "field_unknown"),
        (json!({ "publish_to": ["tidings:x"] }), 403, "channel_reserved"),
        (json!({ "parent": "nobody" }), 422, "parent_invalid"),
        (json!({ "input": "x".repeat(16 * 1024) }), 413, "data_too_large"),
    ] {
        put(&server, "x", &of(change)).await.is_refusal(status, code);
    }
    put(&server, "x", &json!({ "every_ms": 1_000 })).await.is_refusal(400, "field_missing");
    put(&server, "x", &json!({ "every_ms": 1_000, "job": job, "when": 1 }))
        .await
        .is_refusal(400, "field_unknown");
    put(&server, "x", &json!({ "every_ms": 1_000, "job": [1] })).await.is_refusal(400, "field_invalid");
    put(&server, "x", &json!([])).await.is_refusal(400, "field_invalid");
    server.get("/v1/schedules/x").await.is_problem(404, "schedule_not_found");
    assert_eq!(server.get("/v1/schedules").await.json(), json!({ "schedules": [] }));
}
