//! `spec/openapi.yaml` against a running server.
//!
//! Owns: reading the paths and methods off that file, which is written so that lines are enough.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::http::request;
use crate::queue::post;
use crate::server::{Engine, Server};

const DESCRIPTION: &str = include_str!("../../../../spec/openapi.yaml");
const METHODS: [&str; 7] = ["get", "head", "post", "put", "delete", "patch", "trace"];

/// The methods of each path.
fn described() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut paths: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut path = "";
    let of_paths = DESCRIPTION.lines().skip_while(|l| *l != "paths:").take_while(|l| *l != "components:");
    for line in of_paths.filter_map(|l| l.strip_suffix(':')) {
        if let Some(named) = line.strip_prefix("  /") {
            path = named;
        } else if let Some(method) = line.strip_prefix("    ").filter(|m| METHODS.contains(m)) {
            paths.entry(path).or_default().push(method);
        }
    }
    paths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_path_answers_the_methods_that_are_described_and_no_other() {
    let server = Server::start(Engine::Memory).await;
    let paths = described();
    assert_eq!(paths.len(), 38);
    for (path, methods) in paths {
        let target = format!("/{}", path.replace("{id}", "7").replace("{name}", "x").replace("{queue}", "q"));
        for method in METHODS {
            // Refused at the edge of its handler, so that no stream is opened and nothing is written.
            let asked = format!("{target}?channel=%20&after=%20&envelope=x");
            let answer = request(server.addr, &method.to_uppercase(), &asked, &[], b"").await;
            let is_answered = answer.status != 405;
            assert_eq!(is_answered, methods.contains(&method), "{method} {target}: {}", answer.status);
            if answer.status == 404 && method != "head" {
                assert_ne!(answer.json()["code"], "not_found", "{method} {target}");
            }
        }
    }
}

#[test]
fn every_reference_in_the_description_leads_somewhere() {
    let references = DESCRIPTION.split("$ref: \"#/components/").skip(1);
    let mut count = 0;
    for reference in references.map(|r| r.split('"').next().unwrap()) {
        let (kind, name) = reference.split_once('/').unwrap();
        let section = DESCRIPTION.split(&format!("\n  {kind}:\n")).nth(1).unwrap();
        let section = section.lines().take_while(|l| l.starts_with("    "));
        let mut names = section.filter_map(|l| l.strip_prefix("    ")?.split_once(':')).map(|(n, _)| n);
        assert!(names.any(|n| n == name), "{reference}");
        count += 1;
    }
    assert!(count > 100);
}

/// The fields of a shape, and those that are always there.
fn shape(name: &str) -> (BTreeSet<&'static str>, BTreeSet<&'static str>) {
    let lines = DESCRIPTION.lines().skip_while(|l| *l != "  schemas:");
    let lines = lines.skip_while(|l| *l != format!("    {name}:")).skip(1);
    let lines: Vec<&str> = lines.take_while(|l| l.starts_with("     ")).collect();
    let required = lines.iter().find_map(|l| l.trim().strip_prefix("required: [")?.strip_suffix(']'));
    let at = lines.iter().position(|l| l.trim() == "properties:").unwrap_or_else(|| panic!("{name}"));
    let indent = " ".repeat(lines[at].len() - "properties:".len() + 2);
    let fields = lines[at + 1..].iter().map_while(|l| l.strip_prefix(&*indent));
    let fields = fields.filter(|l| !l.starts_with(' ')).filter_map(|l| Some(l.split_once(':')?.0));
    (fields.collect(), required.into_iter().flat_map(|names| names.split(", ")).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_have_the_fields_that_are_described() {
    let server = Server::start(Engine::Memory).await;
    let made = post(&server, "/v1/jobs", json!({"type": "t"})).await.json();
    let target = format!("/v1/jobs/{}", made["id"].as_str().unwrap());
    let asked = json!({"worker_id": "w"});
    let leased = post(&server, "/v1/queues/default/lease", asked).await.json();
    let (job, lease) = (&leased["jobs"][0], &leased["jobs"][0]["lease"]["token"]);
    let reported = post(&server, &format!("{target}/heartbeat"), json!({"lease": lease})).await.json();
    let leases = json!({"worker_id": "w", "leases": [{"id": job["id"], "token": lease}]});
    let published = post(&server, "/v1/publish", json!({"channel": "a", "data": 1})).await.json();
    let schedule = json!({"every_ms": 1_000_000, "job": {"type": "t"}}).to_string();
    let kind = [("content-type", "application/json")];
    let schedule = request(server.addr, "PUT", "/v1/schedules/s", &kind, schedule.as_bytes()).await.json();
    let history = server.get("/v1/history?channel=a").await.json();
    let workers = server.get("/v1/workers").await.json();
    let mut wrong = Vec::new();
    for (name, answer) in [
        ("JobCreated", &made),
        ("Job", &server.get(&target).await.json()),
        ("Jobs", &server.get("/v1/jobs").await.json()),
        ("Leased", &leased),
        ("Reported", &reported),
        ("Renewed", &post(&server, "/v1/leases:renew", leases).await.json()),
        ("LogPage", &server.get(&format!("{target}/logs")).await.json()),
        ("Queues", &server.get("/v1/queues").await.json()),
        ("Workers", &workers),
        ("Worker", &workers["workers"][0]),
        ("Schedule", &schedule),
        ("Schedules", &server.get("/v1/schedules").await.json()),
        ("Published", &published),
        ("History", &history),
        ("Event", &history["events"][0]),
        ("Channel", &server.get("/v1/channels?channel=a").await.json()),
        ("Connections", &server.get("/v1/connections").await.json()),
        ("Problem", &server.get("/v1/jobs/none").await.json()),
    ] {
        let there: BTreeSet<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
        let (fields, required) = shape(name);
        let undescribed: Vec<&str> = there.difference(&fields).copied().collect();
        let missing: Vec<&str> = required.difference(&there).copied().collect();
        if !undescribed.is_empty() || !missing.is_empty() {
            wrong.push(format!("{name} is described without {undescribed:?}, and sent without {missing:?}"));
        }
        if name == "Job" {
            let unsent: Vec<&str> = fields.difference(&there).copied().collect();
            assert_eq!(unsent, Vec::<&str>::new(), "a document has all of its fields");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The fields that a request may have are what its refusal of another one names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_have_the_fields_that_are_described() {
    let server = Server::start(Engine::Memory).await;
    let kind = [("content-type", "application/json")];
    request(server.addr, "PUT", "/v1/jobs/7", &kind, br#"{"type":"t"}"#).await;
    let mut wrong = Vec::new();
    for (name, method, target) in [
        ("Publish", "POST", "/v1/publish"),
        ("CreateJob", "POST", "/v1/jobs"),
        ("AnnounceJob", "PUT", "/v1/jobs/7"),
        ("Progress", "POST", "/v1/jobs/7/progress"),
        ("LogLine", "POST", "/v1/jobs/7/logs"),
        ("Output", "POST", "/v1/jobs/7/output"),
        ("Completion", "POST", "/v1/jobs/7/complete"),
        ("Fail", "POST", "/v1/jobs/7/fail"),
        ("Heartbeat", "POST", "/v1/jobs/7/heartbeat"),
        ("Release", "POST", "/v1/jobs/7/release"),
        ("Cancel", "POST", "/v1/jobs/7/cancel"),
        ("Lease", "POST", "/v1/queues/q/lease"),
        ("Renew", "POST", "/v1/leases:renew"),
        ("WorkerState", "PUT", "/v1/workers/w"),
        ("NewSchedule", "PUT", "/v1/schedules/s"),
    ] {
        let refused = request(server.addr, method, target, &kind, br#"{"?":0}"#).await.json();
        let detail = refused["detail"].as_str().unwrap_or_else(|| panic!("{name}: {refused}"));
        let (_, named) = detail.split_once("expected").unwrap_or_else(|| panic!("{name}: {refused}"));
        let named: BTreeSet<&str> = named.split('`').skip(1).step_by(2).collect();
        let described = shape(name).0;
        if named != described {
            wrong.push(format!("{name} has {named:?}, and is described with {described:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
