//! The edge: hosts, origins, methods, paths.

use serde_json::Value;

use tidings::Role;

use crate::client::Stream;
use crate::http::request;
use crate::server::{Engine, Server};

on_each_engine! {
    every_answer_to_an_allowed_origin_can_be_read_there,
    a_foreign_origin_is_refused,
    a_foreign_host_is_misdirected,
    a_preflight_is_answered_without_anything_else,
    unknown_paths_and_wrong_methods_are_problems,
    a_name_that_is_no_text_is_refused_as_the_name_that_it_should_be,
    answers_are_never_stored,
}

const ORIGIN: &str = "http://localhost:5173";

async fn every_answer_to_an_allowed_origin_can_be_read_there(engine: Engine) {
    let server = Server::start(engine).await;
    let json = ("content-type", "application/json");
    let cases = [
        ("GET", "/events?channel=a%20b", "", 400),
        ("GET", "/v1/channels?channel=a", "", 200),
        ("GET", "/v1/history?channel=a&limit=x", "", 400),
        ("GET", "/nothing", "", 404),
        ("PUT", "/v1/publish", "", 405),
        ("POST", "/v1/publish", "{", 400),
        ("POST", "/v1/publish", r#"{"channel":"job:1","data":1}"#, 403),
        ("POST", "/v1/publish", r#"{"channel":"a","data":1}"#, 201),
        ("GET", "/v1/jobs/nothing", "", 404),
        ("DELETE", "/v1/connections/c", "", 404),
        ("GET", "/metrics", "", 200),
        ("HEAD", "/events?channel=a", "", 200),
    ];
    for origin in [ORIGIN, "https://127.0.0.1", "http://[::1]:8080"] {
        for (method, target, body, status) in cases {
            let headers = [("origin", origin), json];
            let answer = request(server.addr, method, target, &headers, body.as_bytes()).await;
            assert_eq!(answer.status, status, "{method} {target}");
            assert_eq!(answer.header("access-control-allow-origin"), Some(origin), "{method} {target}");
            assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
            let exposed = Some("Retry-After, ETag, Content-Disposition, Content-Range, Accept-Ranges");
            assert_eq!(answer.header("access-control-expose-headers"), exposed);
            assert_eq!(answer.header("vary"), Some("origin, cookie, authorization"));
        }
        let socket = tokio::net::TcpStream::connect(server.addr).await.unwrap();
        let text = crate::http::head(server.addr, "GET", "/events?channel=a", &[("origin", origin)]);
        let mut socket = socket;
        tokio::io::AsyncWriteExt::write_all(&mut socket, text.as_bytes()).await.unwrap();
        let stream = Stream::answered(socket, "").await;
        assert_eq!(stream.head.header("access-control-allow-origin"), Some(origin));
        assert_eq!(stream.head.header("access-control-allow-credentials"), Some("true"));
    }
    let answer = server.get("/v1/channels?channel=a").await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(answer.header("vary"), Some("origin, cookie, authorization"));
}

async fn a_foreign_origin_is_refused(engine: Engine) {
    let server = Server::start(engine).await;
    for origin in
        ["https://evil.example", "null", "http://localhost.evil.example", "file://", "http://localhost@x"]
    {
        for (method, target) in [
            ("GET", "/events?channel=a"),
            ("POST", "/v1/publish"),
            ("OPTIONS", "/v1/publish"),
            ("GET", "/nothing"),
        ] {
            let headers =
                [("origin", origin), ("accept", "text/event-stream"), ("content-type", "application/json")];
            let body = if method == "POST" { "{\"channel\":\"a\",\"data\":1}" } else { "" };
            let answer = request(server.addr, method, target, &headers, body.as_bytes()).await;
            answer.is_problem(403, "origin_not_allowed");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    let shown = server.get("/v1/channels?channel=a").await.json();
    assert_eq!(shown["head"], Value::Null, "nothing was published");
}

async fn a_foreign_host_is_misdirected(engine: Engine) {
    let server = Server::start(engine).await;
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "10.0.0.1"] {
        let answer = request(server.addr, "GET", "/events?channel=a", &[("host", host)], b"").await;
        answer.is_problem(421, "misdirected");
    }
    let two = [("host", "localhost"), ("host", "evil.example")];
    let answer = request(server.addr, "GET", "/healthz", &two, b"").await;
    assert!(matches!(answer.status, 400 | 421));
    let same = [("host", "evil.example")];
    let absolute = request(server.addr, "GET", "http://evil.example/healthz", &same, b"").await;
    absolute.is_problem(421, "misdirected");
    for host in ["localhost", "LOCALHOST:4080", "127.0.0.1:1", "[::1]:80"] {
        assert_eq!(
            request(server.addr, "GET", "/healthz", &[("host", host)], b"").await.status,
            200,
            "{host}"
        );
    }
}

async fn a_preflight_is_answered_without_anything_else(engine: Engine) {
    let server = Server::start(engine).await;
    for target in ["/v1/publish", "/events", "/v1/jobs/1/progress", "/nothing"] {
        let headers = [("origin", ORIGIN), ("access-control-request-method", "POST")];
        let answer = request(server.addr, "OPTIONS", target, &headers, b"").await;
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        let expected = [
            ("access-control-allow-origin", ORIGIN),
            ("access-control-allow-credentials", "true"),
            (
                "access-control-allow-headers",
                "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Range, If-Range, If-None-Match, Tidings-Lease",
            ),
            ("access-control-max-age", "600"),
            ("cache-control", "no-store"),
        ];
        for (name, value) in expected {
            assert_eq!(answer.header(name), Some(value), "{name} of {target}");
        }
        for method in ["GET", "POST", "PUT", "DELETE"] {
            assert!(answer.header("access-control-allow-methods").unwrap().contains(method));
        }
    }
    assert_eq!(request(server.addr, "OPTIONS", "/events", &[], b"").await.status, 204);
}

async fn unknown_paths_and_wrong_methods_are_problems(engine: Engine) {
    let server = Server::start(engine).await;
    for path in
        ["/", "/v1", "/v1/", "/events/", "/event", "/v2/publish", "/v1/connections/a/b", "/%00", "//events"]
    {
        server.get(path).await.is_problem(404, "not_found");
    }
    let cases = [
        ("POST", "/events", "GET,HEAD"),
        ("PUT", "/v1/events", "GET,HEAD"),
        ("GET", "/v1/publish", "POST"),
        ("POST", "/v1/channels", "GET,HEAD,DELETE"),
        ("PATCH", "/v1/history", "GET,HEAD"),
        ("GET", "/v1/connections/c", "DELETE"),
        ("DELETE", "/healthz", "GET,HEAD"),
        ("TRACE", "/metrics", "GET,HEAD"),
    ];
    for (method, path, allowed) in cases {
        let answer = request(server.addr, method, path, &[], b"").await;
        answer.is_problem(405, "method_not_allowed");
        let sorted = |text: &str| {
            let mut methods: Vec<String> = text.split(',').map(|m| m.trim().to_owned()).collect();
            methods.sort();
            methods
        };
        let allow = answer.header("allow").unwrap_or_else(|| panic!("no Allow for {method} {path}"));
        assert_eq!(sorted(allow), sorted(allowed), "{method} {path}");
    }
}

async fn a_name_that_is_no_text_is_refused_as_the_name_that_it_should_be(engine: Engine) {
    let server = Server::start(engine).await;
    for (method, path, status, code) in [
        ("GET", "/v1/jobs/%ff", 400, "job_id_invalid"),
        ("PUT", "/v1/jobs/%ff", 400, "job_id_invalid"),
        ("GET", "/v1/jobs/a%c3/events", 400, "job_id_invalid"),
        ("POST", "/v1/jobs/%ff/progress", 400, "job_id_invalid"),
        ("GET", "/v1/jobs/%ff/download/%ff", 400, "job_id_invalid"),
        ("PUT", "/v1/jobs/a/artifacts/%ff", 400, "artifact_name_invalid"),
        ("GET", "/v1/jobs/a/download/%ff", 404, "artifact_not_found"),
        ("POST", "/v1/queues/%ff/lease", 400, "queue_invalid"),
        ("PUT", "/v1/workers/%ff", 400, "worker_invalid"),
        ("GET", "/v1/schedules/%ff", 400, "schedule_invalid"),
        ("DELETE", "/v1/connections/%ff", 404, "connection_not_found"),
        ("POST", "/v1/connections/%ff/channels", 404, "connection_not_found"),
    ] {
        request(server.addr, method, path, &[], b"").await.is_refusal(status, code);
    }
}

async fn answers_are_never_stored(engine: Engine) {
    let server = Server::start(engine).await;
    for target in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/connections",
        "/v1/channels?channel=a",
        "/v1/history?channel=a",
    ] {
        assert_eq!(server.get(target).await.header("cache-control"), Some("no-store"), "{target}");
    }
    assert_eq!(server.delete("/v1/channels?channel=a").await.header("cache-control"), Some("no-store"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_of_the_worker_is_for_everybody_and_asked_for_again_each_time() {
    let server = Server::start_with(Engine::Memory, |s| s.dev(false)).await;
    let first = request(server.addr, "GET", "/tidings/worker.js", &[], b"").await;
    let said = ["content-type", "cache-control", "x-content-type-options"].map(|name| first.header(name));
    assert_eq!(said, [Some("text/javascript; charset=utf-8"), Some("no-cache"), Some("nosniff")]);
    assert_eq!(first.status, 200);
    assert!(first.text().contains("addEventListener(\"connect\""), "{}", first.text());
    let etag = first.header("etag").unwrap();
    for (known, status) in [(etag, 304), (&format!("\"x\", W/{etag}"), 304), ("\"x\"", 200)] {
        let again = request(server.addr, "GET", "/tidings/worker.js", &[("if-none-match", known)], b"").await;
        assert_eq!((again.status, again.header("etag")), (status, Some(etag)), "{known}");
        assert_eq!(again.text().is_empty(), status == 304);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_hub_leaves_hosts_and_origins_to_its_application() {
    let server = Server::start_with(Engine::Memory, |s| s.dev(false)).await;
    let headers = [("host", "app.example"), ("origin", "https://app.example")];
    let answer = request(server.addr, "GET", "/v1/channels?channel=a", &headers, b"").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listed_origins_and_that_of_the_public_url_are_allowed_and_nothing_that_looks_like_them() {
    let listed = vec!["https://shop.example".parse().unwrap(), "http://intra.example:8080".parse().unwrap()];
    let server = Server::start_with(Engine::Memory, |s| {
        s.dev(false).allowed_origins(listed).public_url("https://app.example/rt".into())
    })
    .await;
    let allowed = ["https://shop.example", "https://app.example", "http://intra.example:8080"];
    let others = [
        "http://shop.example",
        "https://shop.example:8443",
        "https://shop.example.evil",
        "https://evilshop.example",
        "https://shop.example@evil",
        "https://shopXexample",
        "https://shop.example, https://evil",
        "http://intra.example",
        "http://localhost:4080",
        "null",
        "*",
        "",
    ];
    for origin in allowed.into_iter().chain(others) {
        let expected = allowed.contains(&origin).then_some(origin);
        for (method, target) in
            [("OPTIONS", "/v1/publish"), ("GET", "/nothing"), ("HEAD", "/events?channel=a")]
        {
            let headers = [("host", "rt.example"), ("origin", origin)];
            let answer = request(server.addr, method, target, &headers, b"").await;
            assert_eq!(answer.header("vary"), Some("origin, cookie, authorization"));
            assert_eq!(answer.header("access-control-allow-origin"), expected, "{method} {target} {origin}");
            assert_eq!(answer.header("access-control-allow-credentials"), expected.map(|_| "true"));
            let methods = answer.header("access-control-allow-methods");
            assert_eq!(methods.is_some(), method == "OPTIONS" && expected.is_some());
        }
    }
    let twice =
        [("host", "rt.example"), ("origin", "https://shop.example"), ("origin", "https://evil.example")];
    let answer = request(server.addr, "GET", "/v1/channels?channel=a", &twice, b"").await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_dev_a_listed_origin_is_allowed_beside_those_of_this_machine() {
    let listed = vec!["https://shop.example".parse().unwrap()];
    let server = Server::start_with(Engine::Memory, |s| s.allowed_origins(listed)).await;
    for (origin, status) in [("https://shop.example", 200), (ORIGIN, 200), ("https://evil.example", 403)] {
        let answer = request(server.addr, "GET", "/v1/channels?channel=a", &[("origin", origin)], b"").await;
        assert_eq!(answer.status, status, "{origin}");
        assert_eq!(answer.header("access-control-allow-origin"), (status == 200).then_some(origin));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_listener_is_not_for_looks_like_a_path_that_does_not_exist() {
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    let hub = tidings::Hub::open(tidings::Settings::in_memory().shards(1)).unwrap();
    let ask = async |role, path: &str| {
        let request = hyper::Request::get(path).body(axum::body::Body::empty()).unwrap();
        let answer = hub.router_for(role).oneshot(request).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        (head.status.as_u16(), format!("{:?}", head.headers), body.replace(path, "PATH"))
    };
    let admin = ["/metrics", "/readyz", "/v1/connections", "/v1/connections/c1"];
    let public = ["/v1/channels?channel=a", "/v1/jobs", "/v1/queues", "/v1/publish"];
    for (role, hidden, shown) in
        [(Role::everything().without_admin(), admin, public), (Role::admin(), public, admin)]
    {
        for path in hidden {
            let path = path.split('?').next().unwrap();
            let nothing = format!("/{}", "x".repeat(path.len() - 1));
            assert_eq!(ask(role, path).await, ask(role, &nothing).await, "{path}");
        }
        for path in shown {
            assert_ne!(ask(role, path).await.0, 404, "{path}");
        }
        assert_eq!(ask(role, "/healthz").await.0, 200);
    }
    hub.close().unwrap();
}

/// Method, target, header fields, body.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_alone_answers_as_its_router_does() {
    const JSON: (&str, &str) = ("content-type", "application/json");
    let hub = tidings::Hub::open(tidings::Settings::in_memory().dev(true).shards(1)).unwrap();
    let publish = r#"{"channel":"a","data":1}"#;
    let cases: [Case; 11] = [
        ("POST", "/v1/publish", &[JSON], publish),
        ("POST", "/v1/publish?x=1", &[JSON, ("origin", ORIGIN)], publish),
        ("POST", "/v1/publish", &[("content-type", "application/x-ndjson")], "{\n"),
        ("POST", "/v1/publish", &[JSON], "{"),
        ("POST", "/v1/publish", &[JSON], "\u{feff}{}"),
        ("POST", "/v1/publish", &[], publish),
        ("POST", "/v1/publish", &[JSON, ("origin", "https://evil.example")], publish),
        ("POST", "/v1/publish", &[JSON, ("host", "evil.example")], publish),
        ("GET", "/v1/publish", &[JSON], ""),
        ("OPTIONS", "/v1/publish", &[("origin", ORIGIN)], ""),
        ("POST", "/v1/publish/", &[JSON], publish),
    ];
    for role in [Role::everything(), Role::everything().without_admin().without_api_keys(), Role::admin()] {
        let (routed, alone) = (tcp().await, tcp().await);
        let addrs = [routed.local_addr().unwrap(), alone.local_addr().unwrap()];
        let (hub, router) = (hub.clone(), hub.router_for(role));
        let serving = tokio::spawn(async move {
            tokio::join!(
                tidings::serve(routed, router, &hub, std::future::pending()),
                tidings::serve_hub(vec![(alone, role)], &hub, std::future::pending()),
            )
        });
        for (method, target, headers, body) in cases {
            let mut seen = Vec::new();
            for addr in addrs {
                let answer = request(addr, method, target, headers, body.as_bytes()).await;
                let mut fields = answer.head.headers.clone();
                fields.retain(|(name, _)| name != "date");
                fields.sort();
                // Of a publish that took effect, the id is another one each time.
                let body = if answer.status == 201 { String::new() } else { answer.text() };
                seen.push((answer.status, fields, body));
            }
            assert_eq!(seen[0], seen[1], "{role:?} {method} {target} {body}");
        }
        serving.abort();
    }
}

async fn tcp() -> tokio::net::TcpListener {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn further_paths_of_the_stream_are_served() {
    let server = Server::start_with(Engine::Memory, |s| s.events_paths(vec!["/api/events".into()])).await;
    for path in ["/api/events", "/v1/events"] {
        let mut socket = tokio::net::TcpStream::connect(server.addr).await.unwrap();
        let text = crate::http::head(server.addr, "GET", &format!("{path}?channel=a"), &[]);
        tokio::io::AsyncWriteExt::write_all(&mut socket, text.as_bytes()).await.unwrap();
        Stream::answered(socket, "").await.hello().await;
    }
}
