//! Jobs against a scripted server: requests, repeats and streams.

use serde_json::{Value, json};
use tidings_client::jobs::{External, JobItem, Jobs, Level, NewJob, Upload};
use tidings_client::{Client, Retry, State};

use crate::fake::{Act, Fake, answer, stream};

const JSON: &str = "content-type: application/json\r\nconnection: close\r\n";
const PROBLEM: &str = "content-type: application/problem+json\r\nconnection: close\r\n";

async fn start(script: impl IntoIterator<Item = Act>) -> (Fake, Jobs) {
    let fake = Fake::start(script).await;
    let jobs = Client::new(&fake.url).unwrap().jobs();
    (fake, jobs)
}

fn ok(body: &Value) -> Act {
    Act::Send(answer("200 OK", JSON, &body.to_string()))
}

fn problem(status: &str, code: &str) -> Act {
    Act::Send(answer(status, PROBLEM, &json!({ "code": code, "title": "t" }).to_string()))
}

fn busy() -> Act {
    problem("503 Service Unavailable", "overloaded")
}

fn document(state: &str, progress: f64) -> Value {
    json!({ "id": "j1", "jobId": "j1", "type": "work", "mode": "managed", "state": state, "progress": progress })
}

#[tokio::test]
async fn a_job_that_is_made_again_after_a_failure_carries_the_same_key() {
    let made = json!({ "id": "j1", "jobId": "j1", "state": "queued", "urls": { "self": "/v1/jobs/j1" } });
    let (fake, jobs) = start([busy(), Act::Drop, ok(&made)]).await;
    let created = jobs.create(&NewJob::new("work").input(7)).await.unwrap();
    assert_eq!((created.id.as_str(), created.state), ("j1", State::Queued));
    assert_eq!(created.urls.this.as_deref(), Some("/v1/jobs/j1"));
    let keys = fake.header("idempotency-key");
    assert!(keys.len() == 3 && keys[0].len() == 32 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert!(fake.requests()[2].ends_with(r#"{"type":"work","input":7}"#));
}

#[tokio::test]
async fn waiting_asks_again_until_the_job_has_ended() {
    let (fake, jobs) = start([ok(&document("queued", 0.0)), busy(), ok(&document("completed", 100.0))]).await;
    assert_eq!(jobs.wait("j1").await.unwrap().state, State::Completed);
    assert!(fake.requests()[0].starts_with("GET /v1/jobs/j1?wait=25s&until=terminal HTTP/1.1\r\n"));
    assert_eq!(fake.requests().len(), 3);
}

#[tokio::test]
async fn a_cancel_or_delete_that_took_effect_before_its_repeat_is_no_failure() {
    let finished = || problem("409 Conflict", "job_finished");
    let (_fake, jobs) = start([Act::Drop, finished(), ok(&document("cancelled", 0.0))]).await;
    assert_eq!(jobs.cancel("j1", Some("why"), None).await, Ok(State::Cancelled));
    let (_fake, jobs) = start([Act::Drop, finished(), ok(&document("completed", 100.0))]).await;
    assert_eq!(jobs.cancel("j1", None, None).await.unwrap_err().code(), "job_finished");
    let (fake, jobs) = start([finished()]).await;
    assert_eq!(jobs.cancel("j1", None, None).await.unwrap_err().code(), "job_finished");
    assert_eq!(fake.requests().len(), 1, "the first answer is the truth");
    let (_fake, jobs) = start([Act::Drop, problem("404 Not Found", "job_not_found")]).await;
    assert_eq!(jobs.delete("j1").await, Ok(()));
    let (_fake, jobs) = start([problem("404 Not Found", "job_not_found")]).await;
    assert_eq!(jobs.delete("j1").await.unwrap_err().code(), "job_not_found");
}

#[tokio::test]
async fn a_retry_is_never_repeated_by_itself_and_a_bad_id_is_never_sent() {
    let (fake, jobs) = start([Act::Drop]).await;
    assert_eq!(jobs.retry("j1").await.unwrap_err().code(), "no_answer");
    assert_eq!(jobs.get("../x").await.unwrap_err().code(), "job_id_invalid");
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn a_watch_resumes_and_ends_with_the_job() {
    let event = |name: &str, seq: u32, data: &Value| {
        format!("event: {name}\nchannel: job:j1\ntime: 17\ndata: {data}\nid: k-{seq}\n\n")
    };
    let hello = "event: tidings.hello\ndata: {\"connection\":\"c\"}\n\n";
    let first = [
        hello.to_owned(),
        event("progress", 3, &document("running", 40.0)),
        event("log", 4, &json!({ "jobId": "j1", "level": "error", "message": "m", "ts": 5 })),
    ];
    let second = [
        hello.to_owned(),
        event("output", 5, &json!({ "jobId": "j1", "chunk": [1] })),
        event("invented", 6, &json!({})),
        event("complete", 7, &document("completed", 100.0)),
    ];
    let (fake, jobs) = start([Act::Send(stream(&first.concat())), Act::Send(stream(&second.concat()))]).await;
    let quick =
        Retry::default().base(std::time::Duration::from_millis(1)).floor_max(std::time::Duration::ZERO);
    let mut watch = jobs.watch("j1").unwrap().retry(quick).open().unwrap();
    let mut seen = Vec::new();
    while let Some(item) = watch.next().await.unwrap() {
        seen.push(match item {
            JobItem::Progress(job) => format!("{} {}", job.state.as_str(), job.progress),
            JobItem::Log(line) => format!("{} {}", line.level.as_str(), line.message),
            JobItem::Output(chunk) => chunk.to_string(),
            JobItem::Complete(job) => format!("complete {}", job.progress),
            JobItem::Disconnected { .. } => "disconnected".into(),
            JobItem::Reconnected => "reconnected".into(),
            other => panic!("{other:?}"),
        });
    }
    let expected = ["running 40", "error m", "disconnected", "reconnected", "[1]", "complete 100"];
    assert_eq!(seen, expected);
    assert_eq!(fake.header("last-event-id"), ["-", "k-4"]);
    assert!(fake.requests()[0].starts_with("GET /v1/jobs/j1/events"));
    assert_eq!(watch.next().await, Ok(None));
}

#[tokio::test]
async fn a_watch_of_no_job_says_so() {
    let (_fake, jobs) = start([problem("404 Not Found", "job_not_found")]).await;
    let mut watch = jobs.watch("j1").unwrap().open().unwrap();
    assert_eq!(watch.next().await.unwrap_err().code(), "job_not_found");
    assert_eq!(watch.next().await, Ok(None));
}

#[tokio::test]
async fn reports_of_another_queue_have_a_counter_and_the_attempt_that_was_named() {
    let stored = || ok(&json!({ "stored": true, "cancel_requested": true, "v": 2 }));
    let (fake, jobs) = start((0..5).map(|_| stored())).await;
    let job = External::new("bull:x:1", "work").queue("x").state(State::Running);
    let report = jobs.external(&job).await.unwrap().attempt(2);
    assert!(report.progress(10).await.unwrap().cancel_requested);
    report.log(Level::Info, "m").await.unwrap();
    report.retrying("again", Some(9)).await.unwrap();
    report.fail("c", "m").await.unwrap();
    let requests = fake.requests();
    assert!(requests[0].starts_with("PUT /v1/jobs/bull:x:1 HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(requests[0].ends_with(r#"{"type":"work","queue":"x","state":"running"}"#), "{}", requests[0]);
    let bodies: Vec<Value> = requests[1..]
        .iter()
        .map(|request| serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap())
        .collect();
    assert!(bodies.windows(2).all(|pair| pair[1]["n"].as_u64() > pair[0]["n"].as_u64()));
    assert!(bodies.iter().all(|body| body["attempt"] == 2 && body.get("lease").is_none()));
    assert_eq!((&bodies[2]["retrying"], &bodies[2]["next_attempt_at"]), (&json!(true), &json!(9)));
    assert_eq!((&bodies[3]["code"], &bodies[3]["message"]), (&json!("c"), &json!("m")));
}

#[tokio::test]
async fn a_file_is_sent_piece_by_piece_and_again_only_if_it_can_be_read_again() {
    let stored = || ok(&json!({ "stored": true, "cancel_requested": false, "v": 2 }));
    let file = "x".repeat(200_000);
    let (fake, jobs) = start([busy(), stored(), busy()]).await;
    let report = jobs.report("j1").unwrap();
    report.artifact("a.txt", Upload::bytes(file.clone())).await.unwrap();
    let requests = fake.requests();
    assert!(requests[0].contains("content-length: 200000\r\n") && requests[1].ends_with(&file));
    let once = Upload::reader(std::io::Cursor::new(file.into_bytes()));
    assert_eq!(report.artifact("a.txt", once).await.unwrap_err().code(), "overloaded");
    assert_eq!(fake.requests().len(), 3);
    let missing = report.artifact("a.txt", Upload::file("/no/such/file")).await.unwrap_err();
    assert_eq!(missing.code(), "io_failed");
    assert!(missing.to_string().contains("/no/such/file"), "{missing}");
}

#[tokio::test]
async fn a_download_is_whole_or_an_error() {
    let whole = answer("200 OK", "content-type: text/csv\r\n", "a,b\n");
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_owned();
    let elsewhere = answer("303 See Other", "location: https://cdn.example/x\r\n", "");
    let gone = problem("410 Gone", "artifact_gone");
    let (fake, jobs) = start([Act::Send(whole), Act::Send(cut), Act::Send(elsewhere), gone]).await;
    let mut download = jobs.download("j1", Some("ä.csv")).await.unwrap();
    assert_eq!((download.size(), download.content_type()), (Some(4), Some("text/csv")));
    let mut file = Vec::new();
    assert_eq!(download.copy_to(&mut file).await, Ok(4));
    assert_eq!(file, b"a,b\n");
    assert!(fake.requests()[0].starts_with("GET /v1/jobs/j1/download/%C3%A4.csv HTTP/1.1\r\n"));
    let mut broken = jobs.download("j1", None).await.unwrap();
    assert_eq!(broken.copy_to(&mut Vec::new()).await.unwrap_err().code(), "no_answer");
    let elsewhere = jobs.download("j1", None).await.unwrap_err();
    assert_eq!(elsewhere.to_string(), "the file is at https://cdn.example/x");
    assert_eq!(jobs.download("j1", None).await.unwrap_err().code(), "artifact_gone");
}
