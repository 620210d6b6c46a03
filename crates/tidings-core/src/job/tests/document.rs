//! What pages read, and what is stored beside it.

use std::boxed::Box;
use std::format;
use std::string::ToString;
use std::vec;

use super::*;
use crate::{Payload, limits};

#[test]
fn the_document_has_the_names_that_pages_read() {
    let mut job = running(|_| {});
    let report = r#"{"current": 42, "total": 100, "unit": "rows", "data": {"a" : 1}}"#;
    job.handle_progress(NOW + 500, of(RIGHT), progress(report)).unwrap();
    let data = job.event(Change::State, Audience::Job).unwrap().data;
    expect_test::expect![[r#"{"id":"7","jobId":"7","type":"t","queue":"default","mode":"managed","state":"running","reason":null,"priority":0,"progress":42,"current":42,"total":100,"unit":"rows","step":null,"message":null,"eta_ms":null,"data":{"a" : 1},"attempt":1,"max_attempts":3,"cancel_requested":false,"created_at":1000000,"run_at":null,"started_at":1000000,"updated_at":1000500,"finished_at":null,"result":null,"error":null,"artifacts":[],"downloadUrl":null,"tags":[],"parent":null,"retry_of":null,"schedule":null,"subject":null,"v":3}"#]]
    .assert_eq(&data);
}

#[test]
fn the_end_is_complete_or_error_and_error_is_called_failed_elsewhere() {
    let mut job = running(|_| {});
    let artifacts = vec![Artifact { name: "r.csv".into(), content_type: None, size: Some(3), url: None }];
    let download_url = Some("/d".into());
    let report =
        Completion { artifacts, download_url, ..Completion::from_json(r#"{"result": [1]}"#).unwrap() };
    let change = job.handle_complete(NOW, of(RIGHT), report).unwrap();
    let event = job.event(change, Audience::Job).unwrap();
    assert_eq!((event.event, event.is_final), ("complete", true));
    let data: Value = serde_json::from_str(&event.data).unwrap();
    assert_eq!(data["downloadUrl"], "/d");
    assert_eq!(data["result"][0], 1);
    assert_eq!(data["progress"].to_string(), "100");
    assert_eq!(data["artifacts"][0].to_string(), r#"{"content_type":null,"name":"r.csv","size":3}"#);

    let mut job = running(|_| {});
    let change =
        job.handle_fail(NOW, of(RIGHT), fail(r#"{"message": "no", "state": "cancelled"}"#), 0).unwrap();
    let own = job.event(change, Audience::Job).unwrap();
    assert_eq!((own.event, own.is_final), ("error", true));
    assert_eq!(
        own.data,
        r#"{"jobId":"7","state":"cancelled","message":"no","code":"cancelled","attempt":1}"#
    );
    let elsewhere = job.event(change, Audience::PublishTo).unwrap();
    assert_eq!((elsewhere.event, elsewhere.is_final), ("failed", false));
    assert_eq!(job.event(Change::Duplicate, Audience::Job), None);
    assert_eq!(job.event(Change::Entries, Audience::Job), None, "they are events of their own");
}

#[test]
fn the_largest_document_is_an_event() {
    let mut job =
        running(|new| new.tags = vec!["\u{1}".repeat(limits::JOB_TAG_BYTES_MAX); limits::JOB_TAGS_MAX]);
    let text = "\u{1}".repeat(limits::JOB_TEXT_BYTES_MAX + 9);
    let json = |bytes: usize| RawValue::from_string(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap();
    let some = || Some(Some(text.clone()));
    let (unit, step, message) = (some(), some(), some());
    let data = Some(Some(json(limits::JOB_DATA_BYTES_MAX)));
    let report = Progress { unit, step, message, data, ..Progress::default() };
    job.handle_progress(NOW, of(RIGHT), report).unwrap();
    let artifact = |number: usize| Artifact {
        name: format!("{number:02}{}", "\"".repeat(248)),
        content_type: Some("\"".repeat(250)),
        size: Some(u64::MAX),
        url: Some(format!("http://{}", "x".repeat(limits::ARTIFACT_URL_BYTES_MAX - 7))),
    };
    let artifacts = (0..limits::JOB_ARTIFACTS_MAX).map(artifact).collect();
    let result: Option<Box<RawValue>> = Some(json(limits::JOB_RESULT_BYTES_MAX));
    let report = Completion { result, artifacts, ..Completion::default() };
    let change = job.handle_complete(NOW, of(RIGHT), report).unwrap();
    assert_eq!(job.document().artifacts.len(), limits::JOB_ARTIFACTS_MAX);
    let data = job.event(change, Audience::Job).unwrap().data;
    assert!(data.len() > limits::DATA_BYTES_MAX / 2);
    assert!(Payload::json(&data).is_ok());
}

#[test]
fn what_is_hidden_of_a_running_job_is_small() {
    let mut job = running(|_| {});
    job.handle_progress(NOW, Claim { n: Some(123_456), ..of(RIGHT) }, Progress::percent(1.0)).unwrap();
    let hidden = serde_json::to_string(job.hidden()).unwrap();
    expect_test::expect![[r#"{"n":123456,"terms":{},"lease":{"hash":340282366920938463463374607431768211454,"worker":"w","lease_ms":30000}}"#]]
    .assert_eq(&hidden);
    let mut job = running(|new| {
        new.terms.timeout_ms = Some(600_000);
        new.terms.backoff = Some(Backoff::default());
        new.terms.queued_ms = Some(60_000);
        new.terms.result_ms = 60_000;
        new.terms.unique = Some("report:42".into());
    });
    job.handle_cancel(NOW, Some("the user left".into()), None, "cancelled").unwrap();
    let document = serde_json::to_string(job.document()).unwrap();
    let hidden = serde_json::to_string(job.hidden()).unwrap();
    assert!(hidden.len() < 500 && document.len() < 800, "{} and {} bytes", hidden.len(), document.len());
    let waits = serde_json::to_string(super::job(|_| {}).hidden()).unwrap();
    assert_eq!(waits, r#"{"terms":{}}"#);
}

#[test]
fn a_job_that_was_stored_before_it_could_be_leased_is_read() {
    let stored = |queue: &str| {
        format!(
            r#"{{"id":"7","jobId":"7","type":"t","queue":{queue},"mode":"managed","state":"running","progress":42.5,"current":1,"total":null,"unit":null,"step":"s","message":null,"eta_ms":null,"data":{{"a" : 1}},"attempt":1,"max_attempts":2,"cancel_requested":false,"created_at":1000,"started_at":1500,"updated_at":1500,"finished_at":null,"result":null,"error":null,"artifacts":[],"downloadUrl":null,"tags":["x"],"v":2}}"#
        )
    };
    let read = |queue: &str| serde_json::from_str::<Document>(&stored(queue)).unwrap();
    assert_eq!(read(r#""exports""#).queue, "exports");
    assert_eq!(read(r#""all of it""#).queue, "default", "no worker could ask for it");
    let document = read("null");
    assert_eq!((document.queue.as_str(), document.priority, document.run_at), ("default", 0, None));
    assert_eq!((document.reason, document.parent.as_deref(), document.v), (None, None, 2));
    let hidden: Hidden = serde_json::from_str("{}").unwrap();
    assert_eq!(hidden, Hidden::default());
    assert_eq!(hidden.terms.lease_ms, limits::LEASE_MS_DEFAULT);
    // A handler of the process ran it, and no lease was stored.
    let mut job = Job::restore(document, hidden);
    assert_eq!(job.due_ms(), None);
    assert_eq!(job.handle_interrupted(2_000), Ok(Change::State));
    assert_eq!(standing(&job), (State::Retrying, Some(Reason::Interrupted), 2));
    lease(&mut job, 2_000, RIGHT).unwrap();
    assert_eq!(job.handle_complete(3_000, of(RIGHT), Completion::default()), Ok(Change::Complete));
    assert!(value(&stored_and_read(&job)) == value(&job));
}

#[test]
fn ids_fit_a_path_and_name_their_channel() {
    for good in ["7", "job_01J", "bull:exports:123", "celery:6f-1", "...", &"x".repeat(128)] {
        let id = JobId::parse(good).unwrap();
        assert_eq!(id.as_str(), good);
        assert_eq!(JobId::of_channel(id.channel()), Some(id.clone()));
        assert!(id.channel().is_job());
        assert_eq!(QueueName::parse(good).unwrap().as_str(), good);
    }
    for bad in ["", ".", "..", "a/b", "a b", "a\n", "ä", "a%2f", "a?b", "a~s", &"x".repeat(129)] {
        assert_eq!(JobId::parse(bad).unwrap_err().code(), "job_id_invalid", "{bad:?}");
        assert_eq!(QueueName::parse(bad).unwrap_err().code(), "queue_invalid", "{bad:?}");
        assert_eq!(WorkerId::parse(bad).unwrap_err().code(), "worker_invalid", "{bad:?}");
        assert_eq!(ScheduleName::parse(bad).unwrap_err().code(), "schedule_invalid", "{bad:?}");
    }
    assert_eq!(JobId::of_channel(&crate::ChannelName::parse("orders").unwrap()), None);
    assert_eq!(JobType::parse("a b").unwrap_err().code(), "job_type_invalid");
}
