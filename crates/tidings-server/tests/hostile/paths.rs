//! Paths that some proxies fold into others: none of them is a route.

use crate::case::{Case, answered, is};
use crate::server::bytes;

const GROUP: &str = "path";
const BODY: &[u8] = br#"{"channel":"by-a-path","data":1}"#;

pub fn cases() -> Vec<Case> {
    let publish = [
        ("two slashes", "//v1/publish"),
        ("two slashes inside", "/v1//publish"),
        ("a dot", "/v1/./publish"),
        ("two dots", "/v1/jobs/../publish"),
        ("two dots, encoded", "/v1/jobs/%2e%2e/publish"),
        ("a dot, encoded", "/v1/%2e/publish"),
        ("letters, encoded", "/v1/%70ublish"),
        ("a slash, encoded", "/v1%2fpublish"),
        ("a backslash, encoded", "/v1%5cpublish"),
        ("NUL, encoded", "/v1/publish%00"),
        ("a line feed, encoded", "/v1/publish%0a"),
        ("a slash at the end", "/v1/publish/"),
        ("a parameter of the path", "/v1/publish;x=1"),
        ("a space at the end, encoded", "/v1/publish%20"),
        ("capitals", "/V1/publish"),
        ("an extension", "/v1/publish.json"),
        ("overlong UTF-8", "/v1%c0%afpublish"),
    ];
    let json = [("content-type", "application/json")];
    let mut cases: Vec<Case> = publish
        .into_iter()
        .map(|(name, path)| Case::refused(GROUP, name, bytes("POST", path, &json, BODY), "404 not_found"))
        .collect();
    cases.push(Case::new(GROUP, "none of them published", "only the right path's", move |world| {
        let before = world.dev.newest("by-a-path");
        world.dev.ask(&bytes("POST", "/v1/publish", &json, BODY)).ok_or("closed")?;
        let after = world.dev.newest("by-a-path");
        is(format!("{before:?}, then {after:?}"), before.is_none() && after == Some(1.into()))
    }));
    let ids = [
        ("a job called ..", "GET", "/v1/jobs/%2e%2e", "400 job_id_invalid"),
        ("a job with a slash", "GET", "/v1/jobs/a%2fb", "400 job_id_invalid"),
        ("a job with a line feed", "GET", "/v1/jobs/a%0ab", "400 job_id_invalid"),
        ("a file that climbs out of its folder", "PUT", "/v1/jobs/j/artifacts/..%2f..%2fetc%2fpasswd", "4xx"),
        ("a file called ..", "PUT", "/v1/jobs/j/artifacts/%2e%2e", "4xx"),
        ("a file with a backslash", "PUT", "/v1/jobs/j/artifacts/..%5c..%5cx", "4xx"),
        ("a download that climbs out", "GET", "/v1/jobs/j/download/..%2f..%2f..%2fetc%2fpasswd", "4xx"),
    ];
    for (name, method, path, must) in ids {
        let body: &[u8] = if method == "PUT" { b"x" } else { b"" };
        let request = bytes(method, path, &[], body);
        cases.push(Case::new(GROUP, name, must, move |world| {
            if must != "4xx" {
                return answered(&world.dev, &request, must);
            }
            let answer = world.dev.ask(&request).ok_or("closed")?;
            is(answer.shown(), (400..500).contains(&answer.status))
        }));
    }
    cases
}
