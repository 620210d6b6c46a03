//! Pages of other sites, in a browser on the machine of a developer: `--dev` trusts loopback and nobody else.

use crate::case::{Case, is};
use crate::server::bytes;

const GROUP: &str = "web";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, host) in [
        ("another host (DNS rebinding)", "evil.example"),
        ("a host that begins like ours", "localhost.evil.example"),
        ("an address that begins like ours", "127.0.0.1.evil.example"),
        ("a host that ends like ours", "evil-localhost"),
        ("an address of this machine that is not loopback", "0.0.0.0"),
        ("a host with a dot behind", "evil.example.:80"),
    ] {
        let request = bytes("GET", "/v1/channels?channel=a", &[("host", host)], b"");
        cases.push(Case::refused(GROUP, name, request, "421 misdirected"));
    }
    let absolute = "GET http://evil.example/healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    cases.push(Case::refused(GROUP, "another host in target and Host", absolute, "421 misdirected"));
    for (name, origin) in [
        ("another origin", "https://evil.example"),
        ("the origin null", "null"),
        ("an origin that begins like ours", "http://localhost.evil.example"),
        ("an origin with a user", "http://localhost@evil.example"),
        ("an origin of a file", "file://"),
        ("an origin with a path", "http://localhost/x"),
        ("an extension of a browser", "chrome-extension://abcdef"),
    ] {
        for (how, method, target) in
            [("reads", "GET", "/events?channel=a"), ("asks", "OPTIONS", "/v1/publish")]
        {
            let headers = [("origin", origin), ("access-control-request-method", "POST")];
            let request = bytes(method, target, &headers, b"");
            cases.push(Case::new(GROUP, format!("{name} {how}"), "403 origin_not_allowed", move |world| {
                let answer = world.dev.ask(&request).ok_or("closed")?;
                let may_read = answer.headers.keys().any(|header| header.starts_with("access-control"));
                is(answer.shown(), answer.shown() == "403 origin_not_allowed" && !may_read)
            }));
        }
    }
    cases.push(Case::new(GROUP, "another origin publishes", "403, and nothing is published", |world| {
        let headers = [("origin", "https://evil.example"), ("content-type", "application/json")];
        let answer = world.dev.request("POST", "/v1/publish", &headers, br#"{"channel":"csrf","data":1}"#);
        is(answer.shown(), answer.shown() == "403 origin_not_allowed" && world.dev.newest("csrf").is_none())
            .map(|_| "403, and nothing is published".into())
    }));
    cases.push(Case::new(GROUP, "the origin of a refused answer", "never echoed", |world| {
        let request = bytes("GET", "/nothing", &[("origin", "https://evil.example")], b"");
        let answer = world.dev.ask(&request).ok_or("closed")?;
        let text = format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.body));
        is(text.clone(), !text.contains("evil")).map(|_| "never echoed".into())
    }));
    cases.push(Case::new(GROUP, "a redirect out of a query", "no Location on any answer", |world| {
        let answer = world.dev.get("/events?channel=a&next=https://evil.example&redirect=//evil.example");
        is(answer.shown(), answer.header("location").is_none()).map(|_| "no Location on any answer".into())
    }));
    cases
}
