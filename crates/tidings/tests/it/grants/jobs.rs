//! Jobs: whose they are, and who may do what with them.

use serde_json::json;

use super::*;

on_each_engine! {
    a_job_belongs_to_whoever_made_it,
    a_job_that_one_may_not_read_looks_like_one_that_is_not_there,
    whoever_may_only_make_jobs_makes_plain_ones_of_its_own,
    a_worker_sees_its_queue_only,
    lists_hold_what_the_caller_may_read,
}

async fn make(server: &Server, who: &str, body: Value) -> String {
    let answer = ask(server, who, "POST", "/v1/jobs", body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["jobId"].as_str().unwrap().to_owned()
}

fn ada() -> String {
    user("ada", json!({ "jobs": ["create:report"] }))
}

async fn a_job_belongs_to_whoever_made_it(engine: Engine) {
    let (server, _) = start(engine).await;
    let id = make(&server, &ada(), json!({ "type": "report" })).await;
    let document = ask(&server, &ada(), "GET", &format!("/v1/jobs/{id}"), Value::Null).await.json();
    assert_eq!(document["subject"], "ada");
    let (mut own, _) = greeted(&server, &ada(), &format!("/v1/jobs/{id}/events")).await;
    assert_eq!(own.event().await.event, "progress");
    // Its channel is as readable as the job.
    let (_channel, _) = greeted(&server, &ada(), &format!("/events?channel=job:{id}&channel=user:ada")).await;
    let cancelled = ask(&server, &ada(), "POST", &format!("/v1/jobs/{id}/cancel"), Value::Null).await;
    assert_eq!(cancelled.status, 202, "{}", cancelled.text());
    let retried = ask(&server, &ada(), "POST", &format!("/v1/jobs/{id}/retry"), Value::Null).await;
    assert_eq!(retried.status, 201, "{}", retried.text());
    let retried = retried.json()["jobId"].as_str().unwrap().to_owned();
    let document = ask(&server, &ada(), "GET", &format!("/v1/jobs/{retried}"), Value::Null).await.json();
    assert_eq!(document["subject"], "ada");
    // A back end makes one for somebody.
    let id = make(&server, &back_end(), json!({ "type": "other", "subject": "ada" })).await;
    assert_eq!(ask(&server, &ada(), "GET", &format!("/v1/jobs/{id}"), Value::Null).await.status, 200);
    let cancel = ask(&server, &ada(), "POST", &format!("/v1/jobs/{id}/cancel"), Value::Null).await;
    assert_eq!((cancel.status, &cancel.json()["code"]), (403, &json!("forbidden")));
}

async fn a_job_that_one_may_not_read_looks_like_one_that_is_not_there(engine: Engine) {
    let (server, _) = start(engine).await;
    let id = make(&server, &ada(), json!({ "type": "report" })).await;
    let bob = user("bob", json!({ "jobs": ["create:report"] }));
    let requests = [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/logs"),
        ("GET", "/download"),
        ("GET", "/download/x"),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("POST", "/progress"),
        ("POST", "/complete"),
        ("PUT", "/artifacts/x"),
        ("POST", "/heartbeat"),
    ];
    for (method, path) in requests {
        let body = match (method, path) {
            ("GET", _) => Value::Null,
            (_, "/progress") => json!(5),
            _ => json!({}),
        };
        let of = |id: &str| ask(&server, &bob, method, format!("/v1/jobs/{id}{path}").leak(), body.clone());
        let (real, none) = (of(&id).await, of("job_00000000000000000000000000000000").await);
        assert_eq!(real.status, 404, "{method} {path}: {}", real.text());
        assert_eq!(
            real.text().replace(&id, "job_00000000000000000000000000000000"),
            none.text(),
            "{method} {path}"
        );
    }
    let mut stream = stream(&server, &[("authorization", &bob)], &format!("/v1/jobs/{id}/events"), "").await;
    let event = stream.next().await.unwrap();
    assert_eq!(event.event, "error");
    assert_eq!(serde_json::from_str::<Value>(&event.data).unwrap()["code"], "job_not_found");
    let refused = ask(&server, &bob, "GET", &format!("/events?channel=job:{id}"), Value::Null).await;
    assert_eq!(refused.status, 403);
}

async fn whoever_may_only_make_jobs_makes_plain_ones_of_its_own(engine: Engine) {
    let (server, _) = start(engine).await;
    let refused = [
        json!({ "type": "other" }),
        json!({ "type": "report", "id": "mine" }),
        json!({ "type": "report", "subject": "bob" }),
        json!({ "type": "report", "unique": { "key": "k" } }),
        json!({ "type": "report", "mode": "external" }),
        json!({ "type": "report", "publish_to": ["news"] }),
        json!({ "type": "report", "publish_to": ["user:bob"] }),
    ];
    for body in refused {
        let answer = ask(&server, &ada(), "POST", "/v1/jobs", body.clone()).await;
        assert_eq!((answer.status, &answer.json()["code"]), (403, &json!("forbidden")), "{body}");
    }
    make(&server, &ada(), json!({ "type": "report", "subject": "ada", "publish_to": ["user:ada"] })).await;
    // The same key of two users makes two jobs.
    let with_key = |who: String| {
        let addr = server.addr;
        async move {
            let headers = [
                ("content-type", "application/json"),
                ("authorization", who.as_str()),
                ("idempotency-key", "k"),
            ];
            request(addr, "POST", "/v1/jobs", &headers, br#"{"type":"report"}"#).await.json()
        }
    };
    let first = with_key(ada()).await;
    let other = with_key(user("bob", json!({ "jobs": ["create:report"] }))).await;
    assert_ne!(first["jobId"], other["jobId"]);
    assert_eq!(with_key(ada()).await["jobId"], first["jobId"]);
    assert_eq!(ask(&server, "", "POST", "/v1/jobs", json!({ "type": "report" })).await.status, 401);
}

async fn a_worker_sees_its_queue_only(engine: Engine) {
    let (server, _) = start(engine).await;
    let id = make(&server, &back_end(), json!({ "type": "report", "queue": "exports" })).await;
    let worker = bearer(json!({ "object": { "jobs": ["work:exports"] }, "key": "worker" }));
    let lease = json!({ "worker_id": "w", "wait_ms": 0 });
    let other = ask(&server, &worker, "POST", "/v1/queues/other/lease", lease.clone()).await;
    assert_eq!((other.status, &other.json()["code"]), (403, &json!("forbidden")));
    let leased = ask(&server, &worker, "POST", "/v1/queues/exports/lease", lease).await.json();
    let token = leased["jobs"][0]["lease"]["token"].clone();
    let report = json!({ "progress": 5, "lease": token });
    let stranger = bearer(json!({ "object": { "jobs": ["work:other"] }, "key": "stranger" }));
    let target = format!("/v1/jobs/{id}/progress");
    assert_eq!(
        ask(&server, &stranger, "POST", &target, report.clone()).await.status,
        404,
        "not even with the token"
    );
    let taken = ask(&server, &worker, "POST", &target, report).await;
    assert!([200, 202].contains(&taken.status), "{}", taken.text());
    assert_eq!(
        ask(&server, &worker, "POST", &format!("/v1/jobs/{id}/cancel"), Value::Null).await.status,
        403
    );
    let line = json!({ "id": id, "report": "complete", "lease": token }).to_string();
    let headers = [("content-type", "application/x-ndjson"), ("authorization", stranger.as_str())];
    let batch = request(server.addr, "POST", "/v1/jobs:report", &headers, line.as_bytes()).await;
    assert_eq!(batch.lines()[0]["code"], "job_not_found");
    let queues = ask(&server, &stranger, "GET", "/v1/queues", Value::Null).await.json();
    assert_eq!(queues, json!({ "queues": [] }));
    assert_eq!(ask(&server, &ada(), "GET", "/v1/queues", Value::Null).await.status, 403);
    let upsert = json!({ "type": "report", "queue": "exports" });
    assert_eq!(ask(&server, &stranger, "PUT", "/v1/jobs/theirs", upsert.clone()).await.status, 403);
    assert_eq!(ask(&server, &worker, "PUT", "/v1/jobs/ours", upsert).await.status, 201);
    let schedule = json!({ "cron": "@daily", "job": { "type": "report" } });
    assert_eq!(ask(&server, &worker, "PUT", "/v1/schedules/x", schedule).await.status, 403);
}

async fn lists_hold_what_the_caller_may_read(engine: Engine) {
    let (server, _) = start(engine).await;
    let own = make(&server, &ada(), json!({ "type": "report" })).await;
    make(&server, &back_end(), json!({ "type": "report", "subject": "bob" })).await;
    let list = async |who: &str, query: &str| {
        let page = ask(&server, who, "GET", &format!("/v1/jobs{query}"), Value::Null).await.json();
        page["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(list(&ada(), "").await, std::slice::from_ref(&own));
    assert_eq!(list(&back_end(), "").await.len(), 2);
    assert_eq!(list(&back_end(), "?subject=ada").await, [own]);
    assert_eq!(list(&user("carol", json!({})), "").await, Vec::<String>::new());
    assert_eq!(ask(&server, "", "GET", "/v1/jobs", Value::Null).await.status, 401);
}
