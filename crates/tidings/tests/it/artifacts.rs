//! The files of jobs over HTTP: whole, in parts, again, and not at all.

use serde_json::json;
use tidings::jobs::JobContext;

use crate::http::{Answer, request};
use crate::server::{Engine, Server};

on_each_engine! {
    a_download_goes_on_where_it_was_cut,
    a_client_that_has_the_file_is_not_sent_it_again,
    a_file_that_is_elsewhere_is_redirected_to,
    what_cannot_be_downloaded_says_why,
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
