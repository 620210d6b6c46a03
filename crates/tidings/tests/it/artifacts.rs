//! The files of jobs over HTTP: whole, in parts, again, and not at all.

use serde_json::{Value, json};
use tidings::jobs::JobContext;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::http::{Answer, head, read_answer, request};
use crate::server::{Engine, Server};

on_each_engine! {
    a_download_goes_on_where_it_was_cut,
    a_client_that_has_the_file_is_not_sent_it_again,
    a_file_that_is_elsewhere_is_redirected_to,
    what_cannot_be_downloaded_says_why,
    a_file_of_another_queue_is_stored_replaced_and_downloaded,
    only_the_worker_that_has_the_job_stores_files,
    an_upload_keeps_its_lease_and_ends_when_it_is_lost,
    a_file_that_may_not_be_stored_leaves_nothing,
    an_upload_that_is_cut_leaves_nothing,
}

const EXPORTS: &str = "/api/exports";
const NAME: &str = "bericht ü.csv";

/// More than one piece, and no two parts of it alike.
fn content() -> Vec<u8> {
    (0..40_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// A server with a job that has made its file; the path of the job under both routes.
async fn exported(engine: Engine) -> (Server, [String; 2]) {
    let server = Server::start_with(engine, |settings| {
        settings.job_routes(vec![format!("{EXPORTS}=export").parse().unwrap()])
    })
    .await;
    server.hub.jobs().register("export", |job: JobContext, _: Option<u32>| async move {
        job.artifact(NAME, content().as_slice()).await
    });
    let made = request(server.addr, "POST", EXPORTS, &[], b"").await;
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["jobId"].as_str().unwrap().to_owned();
    let mut events = server.stream_at(&format!("{EXPORTS}/{id}/events")).await;
    let mut last = String::new();
    while let Some(event) = events.next().await {
        last = event.event;
    }
    assert_eq!(last, "complete");
    (server, [format!("{EXPORTS}/{id}"), format!("/v1/jobs/{id}")])
}

async fn get(server: &Server, target: &str, headers: &[(&str, &str)]) -> Answer {
    request(server.addr, "GET", target, headers, b"").await
}

async fn a_download_goes_on_where_it_was_cut(engine: Engine) {
    let (server, paths) = exported(engine).await;
    let content = content();
    for path in paths {
        for target in [format!("{path}/download"), format!("{path}/download/bericht%20%C3%BC.csv")] {
            let whole = get(&server, &target, &[]).await;
            assert_eq!((whole.status, whole.body == content), (200, true), "{target}");
            assert_eq!(whole.header("accept-ranges"), Some("bytes"));
            assert_eq!(whole.header("content-type"), Some("text/csv; charset=utf-8"));
            assert_eq!(whole.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(whole.header("cache-control"), Some("private, no-cache"));
            assert_eq!(
                whole.header("content-disposition"),
                Some("attachment; filename=\"bericht__.csv\"; filename*=UTF-8''bericht%20%C3%BC.csv")
            );
            let etag = whole.header("etag").unwrap().to_owned();
            let modified = whole.header("last-modified").unwrap().to_owned();
            let cut = 100_001;
            let range = format!("bytes={cut}-");
            for same in [etag.as_str(), modified.as_str()] {
                let rest = get(&server, &target, &[("range", &range), ("if-range", same)]).await;
                assert_eq!((rest.status, rest.body == content[cut..]), (206, true), "{same}");
                let said = format!("bytes {cut}-{}/{}", content.len() - 1, content.len());
                assert_eq!(rest.header("content-range"), Some(said.as_str()));
                let length = (content.len() - cut).to_string();
                assert_eq!(rest.header("content-length"), Some(length.as_str()));
                assert_eq!(rest.header("etag"), Some(etag.as_str()));
            }
            let other = get(&server, &target, &[("range", &range), ("if-range", "\"other\"")]).await;
            assert_eq!((other.status, other.body == content), (200, true));
            assert_eq!(other.header("content-range"), None);
            for several in ["bytes=0-1,5-6", "lines=1-2", "bytes=x"] {
                let whole = get(&server, &target, &[("range", several)]).await;
                assert_eq!((whole.status, whole.body == content), (200, true), "{several}");
            }
            let one = get(&server, &target, &[("range", "bytes=-1")]).await;
            assert_eq!((one.status, one.body.as_slice()), (206, &content[content.len() - 1..]));
            let behind = get(&server, &target, &[("range", "bytes=160000-")]).await;
            behind.is_problem(416, "range_not_satisfiable");
            assert_eq!(behind.header("content-range"), Some("bytes */160000"));
        }
    }
}

async fn a_client_that_has_the_file_is_not_sent_it_again(engine: Engine) {
    let (server, [path, _]) = exported(engine).await;
    let target = format!("{path}/download");
    let head = request(server.addr, "HEAD", &target, &[("range", "bytes=0-1")], b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some("160000"));
    let etag = head.header("etag").unwrap();
    assert!(etag.starts_with('"'), "{etag} is strong");
    let modified = head.header("last-modified").unwrap();
    for has in [("if-none-match", etag), ("if-modified-since", modified)] {
        for method in ["GET", "HEAD"] {
            let answer = request(server.addr, method, &target, &[has], b"").await;
            assert_eq!((answer.status, answer.body.len()), (304, 0), "{method} {has:?}");
            assert_eq!(answer.header("etag"), Some(etag));
            assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
        }
    }
    get(&server, &target, &[("if-match", "\"other\"")]).await.is_problem(412, "precondition_failed");
}

async fn a_file_that_is_elsewhere_is_redirected_to(engine: Engine) {
    let server = Server::start(engine).await;
    let kind = [("content-type", "application/json")];
    let made = request(server.addr, "PUT", "/v1/jobs/bull:7", &kind, br#"{"type":"x"}"#).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let complete = async |url: &str| {
        let report = json!({ "artifacts": [{ "name": "a.csv", "url": url }] }).to_string();
        request(server.addr, "POST", "/v1/jobs/bull:7/complete", &kind, report.as_bytes()).await
    };
    for url in ["javascript:alert(1)", "/etc/passwd", "file:///etc/passwd", "https://a/\nx: y"] {
        complete(url).await.is_problem(400, "field_invalid");
    }
    let url = "https://files.example/a.csv?signed=1";
    assert_eq!(complete(url).await.status, 200);
    for target in ["/v1/jobs/bull:7/download", "/v1/jobs/bull:7/download/a.csv"] {
        let answer = server.get(target).await;
        assert_eq!((answer.status, answer.header("location")), (303, Some(url)));
    }
}

async fn what_cannot_be_downloaded_says_why(engine: Engine) {
    let (server, [path, _]) = exported(engine).await;
    let kind = [("content-type", "application/json")];
    request(server.addr, "PUT", "/v1/jobs/9", &kind, br#"{"type":"x"}"#).await;
    server.get("/v1/jobs/9/download").await.is_problem(409, "job_not_finished");
    request(server.addr, "POST", "/v1/jobs/9/complete", &kind, b"{}").await;
    server.get("/v1/jobs/9/download").await.is_problem(404, "artifact_not_found");
    server.get("/v1/jobs/nobody/download").await.is_problem(404, "job_not_found");
    for name in
        ["other.csv", "..%2Fx", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "%2Fetc%2Fpasswd", "x%00", ".input.json"]
    {
        server.get(&format!("{path}/download/{name}")).await.is_problem(404, "artifact_not_found");
    }
    if let Some(data) = server.data() {
        std::fs::remove_dir_all(data.join("artifacts")).unwrap();
        server.get(&format!("{path}/download")).await.is_problem(410, "artifact_gone");
    }
}

async fn send(server: &Server, method: &str, target: &str, body: Value) -> Answer {
    let kind = [("content-type", "application/json")];
    request(server.addr, method, target, &kind, body.to_string().as_bytes()).await
}

async fn put(server: &Server, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    request(server.addr, "PUT", target, headers, body).await
}

/// A job of another queue.
async fn external(server: &Server, id: &str) {
    let made = send(server, "PUT", &format!("/v1/jobs/{id}"), json!({ "type": "x" })).await;
    assert_eq!(made.status, 201, "{}", made.text());
}

/// A job that a worker has leased: its path, its lease.
async fn leased(server: &Server) -> (String, String) {
    let made = send(server, "POST", "/v1/jobs", json!({ "type": "x", "lease_ms": 1_000 })).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let leased = send(server, "POST", "/v1/queues/default/lease", json!({ "worker_id": "w" })).await;
    let job = &leased.json()["jobs"][0];
    assert_eq!(job["id"], made.json()["id"]);
    let token = job["lease"]["token"].as_str().unwrap().to_owned();
    (format!("/v1/jobs/{}", job["id"].as_str().unwrap()), token)
}

/// Begins an upload of so many bytes, and sends fewer.
async fn begin(server: &Server, target: &str, lease: &str, length: usize, sent: &[u8]) -> TcpStream {
    let length = length.to_string();
    let headers = [("content-length", length.as_str()), ("connection", "close"), ("tidings-lease", lease)];
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    socket.write_all(head(server.addr, "PUT", target, &headers).as_bytes()).await.unwrap();
    socket.write_all(sent).await.unwrap();
    socket
}

/// The names of the files in the job's document.
async fn names(server: &Server, path: &str) -> Vec<String> {
    let document = server.get(path).await.json();
    let artifacts = document["artifacts"].as_array().unwrap();
    artifacts.iter().map(|a| a["name"].as_str().unwrap().to_owned()).collect()
}

async fn a_file_of_another_queue_is_stored_replaced_and_downloaded(engine: Engine) {
    let server = Server::start(engine).await;
    external(&server, "9").await;
    // Far more than the body of another request may have.
    let content: Vec<u8> = (0..1_500_000_u32).flat_map(u32::to_le_bytes).collect();
    for (name, body) in [("a%20b.csv", &b"first"[..]), ("a%20b.csv", &content), ("empty", b"")] {
        let stored = put(&server, &format!("/v1/jobs/9/artifacts/{name}"), &[], body).await;
        assert_eq!((stored.status, &stored.json()["stored"]), (200, &json!(true)), "{}", stored.text());
    }
    let markdown = [("content-type", "text/markdown")];
    put(&server, "/v1/jobs/9/artifacts/c.csv", &markdown, b"#").await;
    let artifacts = server.get("/v1/jobs/9").await.json()["artifacts"].clone();
    let expected = json!([
        { "name": "a b.csv", "content_type": "text/csv; charset=utf-8", "size": content.len() },
        { "name": "empty", "content_type": "application/octet-stream", "size": 0 },
        { "name": "c.csv", "content_type": "text/markdown", "size": 1 },
    ]);
    assert_eq!(artifacts, expected);
    #[allow(clippy::cast_precision_loss, reason = "a small number")]
    server.until_metric("tidings_artifacts_bytes", (content.len() + 1) as f64).await;
    assert_eq!(send(&server, "POST", "/v1/jobs/9/complete", json!({})).await.status, 200);
    let first = server.get("/v1/jobs/9/download").await;
    assert!(first.status == 200 && first.body == content);
    assert_eq!(server.get("/v1/jobs/9/download/empty").await.body, b"");
    put(&server, "/v1/jobs/9/artifacts/late", &[], b"x").await.is_refusal(409, "job_finished");
    put(&server, "/v1/jobs/nobody/artifacts/a", &[], b"x").await.is_refusal(404, "job_not_found");
    let gone = server.delete("/v1/jobs/9").await;
    assert_eq!(gone.status, 204, "{}", gone.text());
    server.until_metric("tidings_artifacts_bytes", 0.0).await;
}

async fn only_the_worker_that_has_the_job_stores_files(engine: Engine) {
    let server = Server::start(engine).await;
    let (path, lease) = leased(&server).await;
    let target = format!("{path}/artifacts/a");
    let with = |lease: &str| lease.to_owned();
    for wrong in [with(""), with("1.wrong"), format!("{lease}0"), with("\u{7f}")] {
        let refused = put(&server, &target, &[("tidings-lease", &wrong)], b"wrong").await;
        assert!(refused.status == 409 || refused.status == 400, "{wrong:?}: {}", refused.text());
    }
    put(&server, &target, &[], b"none").await.is_refusal(409, "lease_lost");
    let stored = put(&server, &target, &[("tidings-lease", &lease)], b"right").await;
    assert_eq!((stored.status, stored.json()["expires_at"].is_u64()), (200, true), "{}", stored.text());
    let done = send(&server, "POST", &format!("{path}/complete"), json!({ "lease": lease })).await;
    assert_eq!(done.status, 200, "{}", done.text());
    put(&server, &target, &[("tidings-lease", &lease)], b"late").await.is_refusal(409, "lease_lost");
    assert_eq!(server.get(&format!("{path}/download/a")).await.text(), "right");
}

async fn an_upload_keeps_its_lease_and_ends_when_it_is_lost(engine: Engine) {
    let server = Server::start(engine).await;
    let (path, lease) = leased(&server).await;
    let mut slow = begin(&server, &format!("{path}/artifacts/slow"), &lease, 6, b"abc").await;
    // Longer than the lease, in which the worker has nothing else to say.
    tokio::time::sleep(std::time::Duration::from_millis(1_600)).await;
    slow.write_all(b"def").await.unwrap();
    let stored = read_answer(&mut slow).await;
    assert_eq!(stored.status, 200, "{}", stored.text());
    let mut lost = begin(&server, &format!("{path}/artifacts/slow"), &lease, 6, b"123").await;
    let cancelled = send(&server, "POST", &format!("{path}/cancel"), json!({ "grace_ms": 0 })).await;
    assert_eq!(cancelled.status, 202, "{}", cancelled.text());
    read_answer(&mut lost).await.is_refusal(409, "lease_lost");
    assert_eq!(server.get(&format!("{path}/download/slow")).await.text(), "abcdef");
}

async fn a_file_that_may_not_be_stored_leaves_nothing(engine: Engine) {
    let server = Server::start_with(engine, |settings| {
        settings.artifact_bytes_max(3_000_000).artifacts_bytes_max(4_000_000)
    })
    .await;
    external(&server, "9").await;
    let before = server.get("/v1/jobs/9").await.json();
    let names =
        ["%2e%2e", "..%2Fx", "%2e%2e%2fx", "%2Fetc%2Fpasswd", "a%5Cb", "x%00", "a%0Ab", ".input.json", "%2E"];
    for name in names {
        let refused = put(&server, &format!("/v1/jobs/9/artifacts/{name}"), &[], b"x").await;
        refused.is_refusal(400, "artifact_name_invalid");
    }
    let long = format!("/v1/jobs/9/artifacts/{}", "x".repeat(251));
    put(&server, &long, &[], b"x").await.is_refusal(400, "artifact_name_invalid");
    for path in ["/v1/jobs/9/artifacts/../x", "/v1/jobs/9/artifacts/a/b", "/v1/jobs/9/artifacts/"] {
        put(&server, path, &[], b"x").await.is_problem(404, "not_found");
    }
    put(&server, "/v1/jobs/9/artifacts/a", &[("content-range", "bytes 0-0/2")], b"x")
        .await
        .is_refusal(400, "field_invalid");
    // A client that reads nothing before it has sent everything sees the reason all the same.
    let large = vec![b'x'; 8_000_000];
    put(&server, "/v1/jobs/9/artifacts/a", &[], &large).await.is_refusal(413, "body_too_large");
    let mut chunked = format!("{:x}\r\n", large.len()).into_bytes();
    chunked.extend_from_slice(&large);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    let headers = [("transfer-encoding", "chunked"), ("connection", "close")];
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    let text = head(server.addr, "PUT", "/v1/jobs/9/artifacts/a", &headers);
    socket.write_all(text.as_bytes()).await.unwrap();
    socket.write_all(&chunked).await.unwrap();
    read_answer(&mut socket).await.is_refusal(413, "body_too_large");
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    socket.write_all(format!("{text}1\r\nxx").as_bytes()).await.unwrap();
    read_answer(&mut socket).await.is_refusal(400, "framing_invalid");
    server.until_metric("tidings_artifacts_bytes", 0.0).await;
    assert_eq!(server.get("/v1/jobs/9").await.json(), before);
    assert_eq!(put(&server, "/v1/jobs/9/artifacts/a", &[], &large[..2_500_000]).await.status, 200);
    let full = put(&server, "/v1/jobs/9/artifacts/b", &[], &large[..2_500_000]).await;
    full.is_refusal(507, "artifacts_full");
    server.until_metric("tidings_artifacts_bytes", 2_500_000.0).await;
}

async fn an_upload_that_is_cut_leaves_nothing(engine: Engine) {
    let server = Server::start(engine).await;
    let (path, lease) = leased(&server).await;
    let target = format!("{path}/artifacts/a");
    let cut = begin(&server, &target, &lease, 1_000_000, &[b'x'; 500_000]).await;
    server.until_metric("tidings_artifacts_bytes", 1_000_000.0).await;
    drop(cut);
    server.until_metric("tidings_artifacts_bytes", 0.0).await;
    assert!(names(&server, &path).await.is_empty());
    if let Some(data) = server.data() {
        let id = path.rsplit('/').next().unwrap();
        assert_eq!(std::fs::read_dir(data.join("artifacts").join(id)).unwrap().count(), 0);
    }
    let stored = put(&server, &target, &[("tidings-lease", &lease)], b"x").await;
    assert_eq!(stored.status, 200, "{}", stored.text());
    assert_eq!(names(&server, &path).await, ["a"]);
}
