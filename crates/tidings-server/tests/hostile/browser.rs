//! Cookies, pages of other sites, tickets, and streams whose grant is over.

use serde_json::json;

use crate::case::{Case, Outcome, Stream, World, answered, is};
use crate::server::{Server, bytes};
use crate::tokens::{self, now, reads, token};

const OWN: &str = "https://own.example";
const LISTED: &str = "https://app.example";

pub fn cases() -> Vec<Case> {
    [cookies(), csrf(), cors(), tickets(), live()].into_iter().flatten().collect()
}

fn cookie() -> String {
    format!("tidings={}", token(&json!({"tidings": {"publish": ["chat"]}})))
}

fn reads_with(headers: &[(&str, &str)]) -> Vec<u8> {
    bytes("GET", "/v1/history?channel=user:42", headers, b"")
}

fn cookies() -> Vec<Case> {
    let group = "cookie";
    let none = "401 unauthorized";
    let same = ("sec-fetch-site", "same-origin");
    let mut cases =
        vec![Case::new(group, "a good one, so that the others show something", "200", move |world| {
            answered(&world.auth, &reads_with(&[("cookie", &cookie()), same]), "200")
        })];
    let rows: [(&str, fn() -> String); 7] = [
        ("an expired one", || format!("tidings={}", token(&json!({"exp": now() - 1})))),
        ("one that is no token", || "tidings=42".into()),
        ("an empty one", || "tidings=".into()),
        ("a name that ends like ours", || cookie().replace("tidings=", "xtidings=")),
        ("a name in capitals", || cookie().replace("tidings=", "TIDINGS=")),
        ("two that differ, as a neighbouring host could set", || {
            format!("tidings={}; {}", token(&json!({"sub": "43"})), cookie())
        }),
        ("a name within another's value", || format!("x=\"a{}\"", cookie())),
    ];
    for (name, value) in rows {
        cases.push(Case::new(group, name, none, move |world| {
            answered(&world.auth, &reads_with(&[("cookie", &value()), same]), none)
        }));
    }
    cases.push(Case::new(
        group,
        "a good one beside a bad Authorization",
        "401 token_invalid",
        move |world| {
            let headers = [("cookie", &*cookie()), ("authorization", "Bearer x.y.z"), same];
            answered(&world.auth, &reads_with(&headers), "401 token_invalid")
        },
    ));
    for (name, headers) in [
        ("a page of another origin reads", vec![("origin", "https://evil.example")]),
        ("a page without an origin reads", vec![("origin", "null")]),
        ("a page of another site reads, without Origin", vec![("sec-fetch-site", "cross-site")]),
        ("a page of a neighbouring host reads", vec![("sec-fetch-site", "same-site")]),
        ("a page whose Sec-Fetch-Site is none that is known", vec![("sec-fetch-site", "friendly")]),
    ] {
        let must = "403 origin_not_allowed";
        cases.push(Case::new(group, name, must, move |world| {
            let cookie = cookie();
            let headers = [&headers[..], &[("cookie", &*cookie)]].concat();
            answered(&world.auth, &reads_with(&headers), must)
        }));
    }
    cases.push(Case::new(group, "an EventSource of another origin", "403 before the first byte", |world| {
        let headers =
            [("cookie", &*cookie()), ("origin", "https://evil.example"), ("accept", "text/event-stream")];
        let answer = world.auth.ask(&bytes("GET", "/events", &headers, b"")).ok_or("closed")?;
        let is_shared = answer.header("access-control-allow-origin").is_some();
        is(answer.shown(), answer.shown() == "403 origin_not_allowed" && !is_shared)
    }));
    cases
}

/// Writes by cookie: whoever cannot show where they come from changes nothing.
fn csrf() -> Vec<Case> {
    let group = "csrf";
    let post = |more: &[(&str, &str)]| {
        let cookie = cookie();
        let headers = [&[("cookie", &*cookie), ("content-type", "application/json")], more].concat();
        bytes("POST", "/v1/publish", &headers, br#"{"channel":"chat","data":"csrf"}"#)
    };
    let rows: Vec<(&str, Vec<(&str, &str)>, &str)> = vec![
        ("the listed origin", vec![("origin", LISTED)], "201"),
        ("the application's own origin", vec![("origin", OWN)], "201"),
        ("a page of the same origin", vec![("sec-fetch-site", "same-origin")], "201"),
        ("nothing that says where it comes from", vec![], "403 cross_site"),
        ("another origin", vec![("origin", "https://evil.example")], "403 cross_site"),
        ("the origin null", vec![("origin", "null")], "403 cross_site"),
        ("an empty origin", vec![("origin", "")], "403 cross_site"),
        (
            "an origin that begins like the listed one",
            vec![("origin", "https://app.example.evil.example")],
            "403 cross_site",
        ),
        (
            "an origin that ends like the listed one",
            vec![("origin", "https://evilapp.example")],
            "403 cross_site",
        ),
        (
            "a letter where the listed one has a dot",
            vec![("origin", "https://appxexample")],
            "403 cross_site",
        ),
        ("the listed one by http", vec![("origin", "http://app.example")], "403 cross_site"),
        ("the listed one at another port", vec![("origin", "https://app.example:8443")], "403 cross_site"),
        ("the listed one with a path", vec![("origin", "https://app.example/x")], "403 cross_site"),
        (
            "the listed one with a user",
            vec![("origin", "https://app.example@evil.example")],
            "403 cross_site",
        ),
        (
            "a loopback origin, which only --dev trusts",
            vec![("origin", "http://localhost:3000")],
            "403 cross_site",
        ),
        ("Sec-Fetch-Site same-site", vec![("sec-fetch-site", "same-site")], "403 cross_site"),
        ("Sec-Fetch-Site cross-site", vec![("sec-fetch-site", "cross-site")], "403 cross_site"),
        ("a Referer in place of an Origin", vec![("referer", "https://app.example/page")], "403 cross_site"),
    ];
    let mut cases: Vec<Case> = rows
        .into_iter()
        .map(|(name, headers, must)| {
            Case::new(group, name, must, move |world| answered(&world.auth, &post(&headers), must))
        })
        .collect();
    cases.push(Case::new(
        group,
        "a form that another site sends",
        "415 media_type_unsupported, or 403",
        |world| {
            let headers =
                [("cookie", &*cookie()), ("origin", "https://evil.example"), ("content-type", "text/plain")];
            let body = br#"{"channel":"chat","data":"csrf"}"#;
            let answer = world.auth.ask(&bytes("POST", "/v1/publish", &headers, body)).ok_or("closed")?;
            is(answer.shown(), matches!(answer.status, 403 | 415))
        },
    ));
    for (name, method, target, body) in [
        ("a ticket is asked for", "POST", "/v1/tickets", "{}"),
        ("a job is made", "POST", "/v1/jobs", r#"{"type":"report"}"#),
        (
            "an open stream gets other channels",
            "POST",
            "/v1/connections/c1/channels",
            r#"{"channels":["user:42"]}"#,
        ),
    ] {
        cases.push(Case::new(group, format!("{name} by another site"), "403 cross_site", move |world| {
            let cookie = cookie();
            let headers = [
                ("cookie", &*cookie),
                ("origin", "https://evil.example"),
                ("content-type", "application/json"),
            ];
            answered(&world.auth, &bytes(method, target, &headers, body.as_bytes()), "403 cross_site")
        }));
    }
    cases
}

fn cors() -> Vec<Case> {
    let group = "cors";
    let ask = |world: &World, method: &str, origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "GET")];
        world.auth.ask(&bytes(method, "/v1/history?channel=demo:a", &headers, b"")).ok_or("closed")
    };
    let mut cases = vec![
        Case::new(
            group,
            "the listed origin may read, with credentials",
            "its name, and no star",
            move |world| {
                let answer = ask(world, "GET", LISTED)?;
                let origin = answer.header("access-control-allow-origin");
                let is_right = origin == Some(LISTED)
                    && answer.header("access-control-allow-credentials") == Some("true");
                is(format!("{origin:?}"), is_right).map(|_| "its name, and no star".into())
            },
        ),
        Case::new(group, "its preflight", "204, for ten minutes", move |world| {
            let answer = ask(world, "OPTIONS", LISTED)?;
            let age = answer.header("access-control-max-age").unwrap_or_default().to_owned();
            is(format!("{} {age}", answer.status), answer.status == 204 && age == "600")
                .map(|_| "204, for ten minutes".into())
        }),
    ];
    for (name, origin) in [
        ("another origin", "https://evil.example"),
        ("null", "null"),
        ("one that begins like the listed one", "https://app.example.evil.example"),
        ("the listed one in capitals", "https://APP.example.evil"),
        ("a star", "*"),
        ("the listed one and another", "https://app.example https://evil.example"),
    ] {
        for method in ["GET", "OPTIONS"] {
            cases.push(Case::new(
                group,
                format!("{name}, {method}"),
                "nothing that lets it read",
                move |world| {
                    let answer = ask(world, method, origin)?;
                    let header =
                        answer.headers.keys().find(|header| header.starts_with("access-control-allow"));
                    is(header.map_or("nothing that lets it read", |header| header), header.is_none())
                },
            ));
        }
    }
    cases
}

fn tickets() -> Vec<Case> {
    let group = "ticket";
    let invalid = "401 ticket_invalid";
    vec![
        Case::new(group, "used twice", "a stream, then 401 ticket_invalid", move |world| {
            let ticket = ticket(world, "{}")?;
            let first = Stream::open(&world.auth, &format!("ticket={ticket}"), &[]);
            if first.head.status != 200 {
                return Err(format!("{} for the first", first.head.shown()));
            }
            let second = bytes("GET", &format!("/events?ticket={ticket}"), &[], b"");
            answered(&world.auth, &second, invalid).map(|_| "a stream, then 401 ticket_invalid".into())
        }),
        Case::new(group, "used twice at once", "one stream", |world| {
            let ticket = ticket(world, "{}")?;
            let (target, server) = (format!("ticket={ticket}"), &world.auth);
            let statuses: Vec<bool> = std::thread::scope(|scope| {
                let open = |_| {
                    scope.spawn(|| {
                        let mut stream = Stream::open(server, &target, &[]);
                        stream.any().is_some_and(|event| event.event == "tidings.hello")
                    })
                };
                let threads: Vec<_> = (0..8).map(open).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let opened = statuses.iter().filter(|opened| **opened).count();
            is(format!("{opened} streams"), opened == 1).map(|_| "one stream".into())
        }),
        Case::new(group, "guessed", invalid, move |world| {
            let target = format!("/events?ticket=tt_{}", "a".repeat(43));
            answered(&world.auth, &bytes("GET", &target, &[], b""), invalid)
        }),
        Case::new(group, "for other channels than it was made for", "403 forbidden", |world| {
            let ticket = ticket(world, r#"{"channels":["user:42"]}"#)?;
            let target = format!("/events?channel=demo:a&channel=chat&ticket={ticket}");
            answered(&world.auth, &bytes("GET", &target, &[], b""), "403 forbidden")
        }),
        Case::new(group, "on something else than a stream", "401 unauthorized", |world| {
            let ticket = ticket(world, "{}")?;
            let target = format!("/v1/history?channel=user:42&ticket={ticket}");
            answered(&world.auth, &bytes("GET", &target, &[], b""), "401 unauthorized")
        }),
        Case::new(group, "made with a cookie by another site", "403 cross_site", |world| {
            let cookie = cookie();
            let headers = [
                ("cookie", &*cookie),
                ("sec-fetch-site", "cross-site"),
                ("content-type", "application/json"),
            ];
            answered(&world.auth, &bytes("POST", "/v1/tickets", &headers, b"{}"), "403 cross_site")
        }),
        Case::new(group, "made by nobody", "401 unauthorized", |world| {
            let headers = [("content-type", "application/json")];
            answered(&world.auth, &bytes("POST", "/v1/tickets", &headers, b"{}"), "401 unauthorized")
        }),
    ]
}

fn ticket(world: &World, body: &str) -> Result<String, String> {
    let bearer = format!("Bearer {}", token(&json!({})));
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    let answer = world.auth.request("POST", "/v1/tickets", &headers, body.as_bytes());
    answer.json()["ticket"].as_str().map(Into::into).ok_or(answer.shown())
}

/// Streams whose grant ends while they are open.
fn live() -> Vec<Case> {
    let group = "live";
    vec![
        Case::new(group, "an EventSource without credentials", "told, then 204", |world| {
            let mut stream = Stream::open(&world.auth, "channel=user:42", &[]);
            let told = stream.next().ok_or("nothing")?;
            let headers = [("accept", "text/event-stream"), ("last-event-id", &*told.last_event_id)];
            let again =
                world.auth.ask(&bytes("GET", "/events?channel=user:42", &headers, b"")).ok_or("closed")?;
            let came = format!("{} {}, then {}", told.event, told.last_event_id, again.status);
            let is_right = told.event == "tidings.unauthorized"
                && told.last_event_id.ends_with("~s")
                && again.status == 204;
            is(came, is_right).map(|_| "told, then 204".into())
        }),
        Case::new(
            group,
            "a token that ends while its stream is open",
            "tidings.unauthorized, and the end",
            |world| {
                ends(
                    &world.auth,
                    "77",
                    &token(&json!({"sub": "77", "exp": now() + 2})),
                    || (),
                    "token_expired",
                )
            },
        ),
        Case::new(group, "a token that is revoked by its id", "tidings.unauthorized, and the end", |world| {
            let revoke = || {
                world.auth.as_admin("POST", "/v1/revocations", r#"{"token":"stolen"}"#);
            };
            ends(&world.auth, "78", &token(&json!({"sub": "78", "jti": "stolen"})), revoke, "token_revoked")
        }),
        Case::new(group, "a session that is revoked", "tidings.unauthorized, and the end", |world| {
            let revoke = || {
                world.auth.as_admin("POST", "/v1/revocations", r#"{"session":"s-1"}"#);
            };
            ends(&world.auth, "79", &token(&json!({"sub": "79", "sid": "s-1"})), revoke, "token_revoked")
        }),
        Case::new(group, "a subject that is revoked", "tidings.unauthorized, and the end", |world| {
            let revoke = || {
                world.auth.as_admin("POST", "/v1/revocations", r#"{"subject":"80"}"#);
            };
            ends(&world.auth, "80", &token(&json!({"sub": "80"})), revoke, "token_revoked")
        }),
        Case::new(group, "a revoked token, used again", "401 token_revoked", |world| {
            let stolen = token(&json!({"sub": "81", "jti": "used-again"}));
            world.auth.as_admin("POST", "/v1/revocations", r#"{"token":"used-again"}"#);
            answered(&world.auth, &reads(&stolen, "user:81"), "401 token_revoked")
        }),
        Case::new(
            group,
            "a stream that takes another user's credentials",
            "404 connection_not_found",
            |world| {
                let bearer = format!("Bearer {}", token(&json!({"sub": "82"})));
                let mut stream = Stream::open(&world.auth, "", &[("authorization", &bearer)]);
                let hello: serde_json::Value =
                    serde_json::from_str(&stream.any().ok_or("nothing")?.data).map_err(|e| e.to_string())?;
                let target =
                    format!("/v1/connections/{}/auth", hello["connection"].as_str().unwrap_or_default());
                let other = format!("Bearer {}", token(&json!({"sub": "83"})));
                let headers = [("authorization", &*other), ("content-type", "application/json")];
                answered(&world.auth, &bytes("POST", &target, &headers, b""), "404 connection_not_found")
            },
        ),
        Case::new(
            group,
            "no token, cookie, key or ticket of all these is in the server's log",
            "no secret",
            |world| {
                let ticket = ticket(world, "{}")?;
                world.auth.ask(&bytes("GET", &format!("/events?ticket={ticket}x"), &[], b""));
                let secrets =
                    [token(&json!({})), world.auth.key().to_owned(), ticket, tokens::SECRET.to_owned()];
                let tails = secrets
                    .iter()
                    .map(|secret| secret.rsplit(['.', '_']).next().unwrap_or_default().to_owned());
                tokens::told_nothing(&world.auth, &tails.collect::<Vec<_>>())
            },
        ),
    ]
}

/// A stream with this token is told and ended, and nothing that is published behind that is heard.
fn ends(server: &Server, subject: &str, token: &str, end: impl Fn(), code: &str) -> Outcome {
    let mut stream = Stream::open(server, "", &[("authorization", &format!("Bearer {token}"))]);
    if stream.any().is_none_or(|event| event.event != "tidings.hello") {
        return Err(format!("{} at first", stream.head.shown()));
    }
    end();
    let mut told = stream.next().ok_or("ended without a word")?;
    while told.event == "tidings.auth_expiring" {
        told = stream.next().ok_or("ended without a word")?;
    }
    server.as_admin("POST", "/v1/publish", &format!(r#"{{"channel":"user:{subject}","data":"late"}}"#));
    let rest = stream.next();
    let is_right = told.event == "tidings.unauthorized" && told.data.contains(code) && rest.is_none();
    is(format!("{} {} then {rest:?}", told.event, told.data), is_right)
        .map(|_| "tidings.unauthorized, and the end".into())
}
