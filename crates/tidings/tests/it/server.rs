//! A server on a free port of this machine.
//!
//! Owns: its life, restarts included. Does not know: what is asked of it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tidings::log::Retention;
use tidings::{Hub, Role, Settings};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::Stream;
use crate::http::{Answer, request};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Memory,
    Disk,
}

pub struct Server {
    pub addr: SocketAddr,
    pub hub: Hub,
    settings: Settings,
    folder: Option<TempDir>,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

impl Server {
    pub async fn start(engine: Engine) -> Self {
        Self::start_with(engine, |settings| settings).await
    }

    pub async fn start_with(engine: Engine, change: impl FnOnce(Settings) -> Settings) -> Self {
        let folder = (engine == Engine::Disk).then(|| tempfile::tempdir().unwrap());
        let settings = match &folder {
            None => Settings::in_memory(),
            Some(folder) => {
                Settings::on_disk(folder.path().join("data")).segment_bytes(1 << 20).disk_reserve_bytes(0)
            }
        };
        let settings = change(settings.dev(true).drain(Duration::from_millis(300)));
        Self::run(settings, folder).await
    }

    async fn run(settings: Settings, folder: Option<TempDir>) -> Self {
        let hub = Hub::open(settings.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (served, alone) = (hub.clone(), folder.is_some());
        let stopped = async { stopped.await.unwrap_or_default() };
        // Both ways to serve a hub are tested: as the binary does, and as an application does.
        let serving = tokio::spawn(async move {
            match alone {
                true => tidings::serve_hub(vec![(listener, Role::everything())], &served, stopped).await,
                false => tidings::serve(listener, served.router(), &served, stopped).await,
            }
        });
        Self { addr, hub, settings, folder, stop: Some(stop), serving: Some(serving) }
    }

    /// Begins a graceful stop.
    pub fn begin_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until `serve` has returned.
    pub async fn stopped(&mut self) {
        let serving = self.serving.take().unwrap();
        tokio::time::timeout(Duration::from_secs(20), serving).await.expect("serve returns").unwrap();
    }

    /// Stops, and starts again on the same folder and another port.
    pub async fn restart(self) -> Self {
        self.restart_with(|settings| settings).await
    }

    /// The same with other settings.
    pub async fn restart_with(mut self, change: impl FnOnce(Settings) -> Settings) -> Self {
        self.begin_stop();
        self.stopped().await;
        let hub = self.hub.clone();
        tokio::task::spawn_blocking(move || hub.close()).await.unwrap().unwrap();
        let (settings, folder) = (change(self.settings.clone()), self.folder.take());
        drop(self);
        Self::run(settings, folder).await
    }

    /// The data folder, if there is one.
    pub fn data(&self) -> Option<std::path::PathBuf> {
        self.folder.as_ref().map(|folder| folder.path().join("data"))
    }

    pub async fn get(&self, target: &str) -> Answer {
        request(self.addr, "GET", target, &[], b"").await
    }

    pub async fn delete(&self, target: &str) -> Answer {
        request(self.addr, "DELETE", target, &[], b"").await
    }

    pub async fn post(&self, body: &str) -> Answer {
        request(self.addr, "POST", "/v1/publish", &[("content-type", "application/json")], body.as_bytes())
            .await
    }

    pub async fn batch(&self, body: &str) -> Answer {
        let kind = [("content-type", "application/x-ndjson")];
        request(self.addr, "POST", "/v1/publish", &kind, body.as_bytes()).await
    }

    /// Publishes and gives the id.
    pub async fn publish(&self, body: Value) -> String {
        let answer = self.post(&body.to_string()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Publishes numbers to a channel with one commit, and gives their ids.
    pub async fn numbers(&self, channel: &str, numbers: std::ops::Range<u64>) -> Vec<String> {
        let mut ids = Vec::new();
        for from in numbers.clone().step_by(1_000) {
            let to = (from + 1_000).min(numbers.end);
            let lines: Vec<String> =
                (from..to).map(|n| format!(r#"{{"channel":"{channel}","data":{n}}}"#)).collect();
            let answer = self.batch(&lines.join("\n")).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            ids.extend(answer.lines().iter().map(|line| line["id"].as_str().unwrap().to_owned()));
        }
        ids
    }

    pub async fn stream(&self, query: &str) -> Stream {
        Stream::open(self.addr, query, None).await
    }

    /// A stream that is not at `/events`.
    pub async fn stream_at(&self, target: &str) -> Stream {
        let socket = TcpStream::connect(self.addr).await.unwrap();
        Stream::on(socket, self.addr, target, None).await
    }

    pub async fn resume(&self, query: &str, last_event_id: &str) -> Stream {
        Stream::open(self.addr, query, Some(last_event_id)).await
    }

    /// Returns when so many lease requests wait for a job.
    pub async fn until_jobs_wait(&self, count: usize) {
        self.until_metric("tidings_lease_requests_waiting", count as f64).await;
    }

    /// Returns when so many ended jobs are listed.
    pub async fn until_ended_listed(&self, count: usize) {
        for _ in 0..400 {
            let page = self.get("/v1/jobs?state=completed").await.json();
            if page["jobs"].as_array().is_some_and(|jobs| jobs.len() >= count) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("ended jobs are not listed");
    }

    /// A figure of `/metrics`.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.text();
        let line = text.lines().find(|l| l.split(' ').next() == Some(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Waits until a figure of `/metrics` has a value.
    pub async fn until_metric(&self, name: &str, wanted: f64) {
        for _ in 0..1_000 {
            if (self.metric(name).await - wanted).abs() < f64::EPSILON {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} is {}, not {wanted}", self.metric(name).await);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
        self.hub.close().unwrap_or_default();
    }
}

/// Retention of so many events per channel.
pub fn keep(events: u64) -> Retention {
    Retention::default().events_max(events)
}
