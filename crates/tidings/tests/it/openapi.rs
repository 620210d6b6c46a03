//! `spec/openapi.yaml` against a running server.
//!
//! Owns: reading the paths and methods off that file, which is written so that lines are enough.

use std::collections::BTreeMap;

use crate::http::request;
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
