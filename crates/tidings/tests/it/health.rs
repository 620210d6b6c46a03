//! Health: readiness with its reason, metrics, a full disk.

use serde_json::json;
use tidings::{Hub, Settings};

use crate::server::{Engine, Server};

on_each_engine! {
    a_healthy_server_says_so,
    metrics_have_the_names_that_operators_know,
}

async fn a_healthy_server_says_so(engine: Engine) {
    let server = Server::start(engine).await;
    assert_eq!(server.get("/healthz").await.status, 200);
    let ready = server.get("/readyz").await;
    assert_eq!((ready.status, ready.json()), (200, json!({"ready": true})));
}

async fn metrics_have_the_names_that_operators_know(engine: Engine) {
    let server = Server::start(engine).await;
    let ids = server.numbers("a", 0..10).await;
    let mut stream = server.resume("channel=a", &ids[4]).await;
    stream.numbers(5).await;
    let mut reset = server.resume("channel=a", "zzz-1").await;
    reset.hello().await;
    reset.reset().await;
    server.until_metric("tidings_connections", 2.0).await;
    server.until_metric("tidings_connections_behind", 0.0).await;
    server.until_metric("tidings_delivered_total", 5.0).await;
    for (name, value) in [
        ("tidings_published_total", 10.0),
        ("tidings_resumes_total", 2.0),
        ("tidings_resets_total", 1.0),
        ("tidings_stalled_total", 0.0),
        ("tidings_aged_total", 0.0),
        ("tidings_shed_total", 0.0),
        ("tidings_streams_refused_total", 0.0),
        ("tidings_ephemeral_dropped_total", 0.0),
        ("tidings_commits_total", 1.0),
        ("tidings_commit_seconds_count", 1.0),
        ("tidings_channels", 1.0),
        ("tidings_idempotency_keys", 0.0),
        ("tidings_log_damaged", 0.0),
    ] {
        let found = server.metric(name).await;
        assert!((found - value).abs() < f64::EPSILON, "{name} is {found}, not {value}");
    }
    for positive in ["tidings_delivered_bytes_total", "tidings_log_bytes"] {
        assert!(server.metric(positive).await > 0.0, "{positive}");
    }
    let is_synced = server.metric("tidings_fsync_seconds_total").await > 0.0;
    assert_eq!(is_synced, engine == Engine::Disk);
    let answer = server.get("/metrics").await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("content-type"), Some(kind));
    assert!(answer.text().ends_with("# EOF\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_publishes_are_refused_and_streams_live_on() {
    let server = Server::start_with(Engine::Disk, |s| s.segment_bytes(64 << 10)).await;
    let ids = server.numbers("a", 0..3).await;
    // The same folder with a reserve that no disk has.
    let server = server.restart_with(|s| s.disk_reserve_bytes(u64::MAX)).await;
    let mut stream = server.resume("channel=a", &ids[0]).await;
    stream.hello().await;
    assert_eq!(stream.numbers(2).await, [1, 2]);
    let mut refused = None;
    for _ in 0..1_000 {
        let answer = server.post(&json!({"channel": "b", "text": "x".repeat(1_000)}).to_string()).await;
        if answer.status != 201 {
            refused = Some(answer);
            break;
        }
    }
    refused.expect("the disk is full at last").is_refusal(507, "disk_full");
    server.batch("{\"channel\":\"a\",\"data\":1}\n").await.is_refusal(507, "disk_full");
    let ready = server.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["ready"]), (503, &json!(false)));
    assert!(ready.json()["reason"].as_str().is_some_and(|r| !r.is_empty()), "{}", ready.text());
    assert_eq!(server.get("/healthz").await.status, 200);
    // Streams that come and streams that are there are served.
    let mut fresh = server.stream("channel=a&from=start").await;
    assert_eq!(fresh.numbers(3).await, [0, 1, 2]);
    server.post(r#"{"channel":"a","event":"typing","data":1,"ephemeral":true}"#).await;
    assert_eq!(stream.event().await.event, "typing");
    // With room again, publishing works again.
    let server = server.restart_with(|s| s.disk_reserve_bytes(0)).await;
    let mut stream = server.resume("channel=a", &ids[2]).await;
    stream.hello().await;
    server.numbers("a", 3..4).await;
    assert_eq!(stream.numbers(1).await, [3]);
}

#[test]
fn a_folder_that_is_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let settings = || Settings::on_disk(folder.path()).segment_bytes(64 << 10).disk_reserve_bytes(0);
    let hub = Hub::open(settings()).unwrap();
    assert!(Hub::open(settings()).is_err());
    hub.close().unwrap();
    drop(hub);
    Hub::open(settings()).unwrap().close().unwrap();
}
