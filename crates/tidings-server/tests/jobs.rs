//! `tidings jobs`, from outside: the binary against a real server.
//!
//! Owns: what somebody at a terminal, or a script, sees. Does not know: the inside of the binary.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected has to fail"
)]

use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tidings::{Hub, Settings};
use tidings_client::Client;
use tidings_client::jobs::{Level, Progress, Upload};
use tidings_client::worker::{Fail, JobContext};
use tokio::net::TcpListener;
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    url: String,
    client: Client,
}

impl Server {
    /// A server whose worker runs `export`, which can be made to fail.
    async fn start() -> Self {
        let hub = Hub::open(Settings::in_memory().dev(true)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = hub.router();
        tokio::spawn(async move { tidings::serve(listener, router, &hub, std::future::pending()).await });
        let client = Client::new(&url).unwrap();
        let worker = client.worker("default").handle("export", |job: JobContext, rows: u32| async move {
            if rows == 0 {
                return Err(Fail::new("nothing \u{1b}to export").code("nothing").never());
            }
            job.progress(Progress::of(1.0, f64::from(rows)).unit("rows").step("read")).await?;
            job.log(Level::Warn, "careful\nnow").await?;
            job.artifact("a b.csv", Upload::bytes("x")).await?;
            Ok(rows)
        });
        tokio::spawn(worker.run());
        Self { url, client }
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, Stdio::null()).await
    }

    async fn run_with(&self, arguments: &[&str], input: Stdio) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
        command.arg("jobs").args(arguments).env_clear().env("TIDINGS_URL", &self.url).stdin(input);
        tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await.unwrap().unwrap()
    }

    /// What a command that has to succeed prints.
    async fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
        assert!(output.status.success(), "{arguments:?}");
        text(&output.stdout)
    }

    /// What a command that has to fail says, in one sentence.
    async fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()), "{arguments:?}");
        let said = text(&output.stderr);
        assert!(said.starts_with("tidings: ") && said.lines().count() == 1, "{said}");
        said
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_job_is_made_watched_listed_and_shown() {
    let server = Server::start().await;
    let id = server.says(&["create", "export", "--input", "4", "--tag", "a", "--id", "one"]).await;
    assert_eq!(id, "one\n");
    let watched = server.says(&["watch", "one", "--from-start"]).await;
    let lines: Vec<_> = watched.lines().collect();
    let expected = [
        "one  queued  0 %".to_owned(),
        "one  running  0 %".to_owned(),
        "one  running  25 %  1 of 4 rows · read".to_owned(),
        "one  warn  careful".to_owned(),
        "one  warn  now".to_owned(),
        "one  completed".to_owned(),
        format!("one  download  {}/v1/jobs/one/download", server.url),
    ];
    assert_eq!(lines, expected);
    let ls = server.says(&["ls", "--tag", "a"]).await;
    let rows: Vec<Vec<_>> = ls.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "TYPE", "QUEUE", "STATE", "PROGRESS", "AGE"]);
    assert_eq!(rows[1][..6], ["one", "export", "default", "completed", "100", "%"]);
    assert_eq!(rows.len(), 2);
    let json: Value = serde_json::from_str(&server.says(&["ls", "--json"]).await).unwrap();
    assert_eq!((json["id"].as_str(), json["progress"].to_string()), (Some("one"), "100".to_owned()));
    assert_eq!(server.says(&["ls", "--state", "failed"]).await.lines().count(), 1);
    let show = server.says(&["show", "one"]).await;
    assert!(
        show.starts_with("one\n  type       export\n  queue      default\n  state      completed"),
        "{show}"
    );
    assert!(show.contains("  file       a b.csv") && show.contains("  result     4\n"), "{show}");
    let json: Value = serde_json::from_str(&server.says(&["show", "one", "--json"]).await).unwrap();
    assert_eq!(json["artifacts"][0]["name"], "a b.csv");
}

#[tokio::test]
async fn a_watch_fails_if_a_job_did_and_a_retry_is_a_new_job() {
    let server = Server::start().await;
    let made = server.run(&["create", "export", "--input", "0", "--id", "bad", "--watch"]).await;
    assert_eq!(made.status.code(), Some(1));
    let said = text(&made.stdout);
    assert_eq!(said.lines().last(), Some("bad  failed  nothing \\u{1b}to export (nothing)"));
    server.says(&["create", "export", "--input", "2", "--id", "good"]).await;
    let both = server.run(&["watch", "good", "bad"]).await;
    assert_eq!(both.status.code(), Some(1), "not all were completed");
    assert!(text(&both.stdout).contains("good  completed\n"));
    let json = server.run(&["watch", "--json", "bad"]).await;
    let last: Value = serde_json::from_str(text(&json.stdout).lines().last().unwrap()).unwrap();
    assert_eq!((last["event"].as_str(), last["data"]["code"].as_str()), (Some("error"), Some("nothing")));
    let again = server.says(&["retry", "bad"]).await;
    let again = server.client.jobs().get(again.trim()).await.unwrap();
    assert_eq!(again.retry_of.as_deref(), Some("bad"));
}

#[tokio::test]
async fn a_list_goes_on_to_the_next_page_up_to_its_limit() {
    let server = Server::start().await;
    for n in 0..5 {
        server.says(&["create", "later", "--delay", "1h", "--id", &format!("job-{n}")]).await;
    }
    assert_eq!(server.says(&["ls", "--limit", "3"]).await.lines().count(), 1 + 3);
    assert_eq!(server.says(&["ls", "--limit", "1000"]).await.lines().count(), 1 + 5);
    assert_eq!(
        server.says(&["ls", "--queue", "default", "--type", "later", "--json"]).await.lines().count(),
        5
    );
    assert_eq!(server.says(&["cancel", "job-0", "--reason", "not today"]).await, "job-0 is cancelled\n");
    assert!(server.says(&["show", "job-0"]).await.contains("error      not today (cancelled)"));
}

#[tokio::test]
async fn input_comes_from_standard_input_too() {
    use std::io::{Seek, Write};
    let server = Server::start().await;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b" 3 ").unwrap();
    file.rewind().unwrap();
    let made = server.run_with(&["create", "export", "--input", "-", "--id", "in"], file.into()).await;
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert_eq!(server.client.jobs().wait("in").await.unwrap().result, 3);
}

#[tokio::test]
async fn what_cannot_be_done_is_said_in_one_sentence() {
    let server = Server::start().await;
    for command in [&["show", "nope"][..], &["watch", "nope"], &["cancel", "nope"], &["retry", "nope"]] {
        let said = server.refuses(command).await;
        assert!(said.contains("nope") && said.contains("job_not_found"), "{said}");
    }
    assert!(server.refuses(&["show", "a/b"]).await.contains("job id \"a/b\""));
    assert!(server.refuses(&["create", "export", "--input", "{]"]).await.contains("not JSON"));
    assert!(server.refuses(&["create", "ex port"]).await.contains("job_type_invalid"));
    server.says(&["create", "later", "--delay", "1h", "--id", "later"]).await;
    assert!(server.refuses(&["retry", "later"]).await.contains("job_not_finished"));
    assert!(server.refuses(&["create", "later", "--id", "later"]).await.contains("job_exists"));
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    for command in ["show", "watch"] {
        let said = server.refuses(&[command, "later", "--url", &url]).await;
        assert!(said.contains(&url), "{said}");
    }
}
