//! First inputs of the targets, made from `spec/`, so that what the contract names is tried before what chance finds.
//!
//! Owns: how a fixture becomes bytes. Does not know: what a target does with them.
//! Flow: `spec/fixtures` and the paths of `spec/openapi.yaml` → one file for each input.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// Bodies for the routes that take one.
const BODIES: &[(&str, &str)] = &[
    (
        "/v1/publish",
        r#"{"channel":"a","event":"e","data":{"n":1},"key":"k","ttl_ms":9,"idempotency_key":"i"}"#,
    ),
    ("/v1/publish", r#"{"channels":["a","b"],"text":"x\ny","final":false}"#),
    ("/v1/publish", r#"{"channel":"a","data":1,"ephemeral":true}"#),
    (
        "/v1/jobs",
        r#"{"id":"j","type":"t","queue":"q","input":{},"priority":1,"max_attempts":3,"tags":["x"]}"#,
    ),
    (
        "/v1/jobs",
        r#"{"type":"t","unique_key":"u","timeout_ms":1000,"backoff":{"kind":"exponential","base_ms":100}}"#,
    ),
    ("/v1/jobs/{id}", r#"{"type":"t","mode":"external"}"#),
    ("/v1/jobs:report", r#"{"job":"j","progress":42}"#),
    ("/v1/jobs/{id}/progress", r#"{"progress":42.5,"current":1,"total":2,"message":"m","n":1,"lease":"l"}"#),
    ("/v1/jobs/{id}/logs", r#"{"logs":[{"level":"info","message":"m"}]}"#),
    ("/v1/jobs/{id}/output", r#"{"output":["a","b"]}"#),
    (
        "/v1/jobs/{id}/complete",
        r#"{"result":{"a":1},"artifacts":[{"name":"f.csv","url":"https://a.example/f"}]}"#,
    ),
    ("/v1/jobs/{id}/fail", r#"{"message":"m","code":"c","retry":{"after_ms":5}}"#),
    ("/v1/jobs/{id}/cancel", r#"{"reason":"r","grace_ms":0}"#),
    ("/v1/queues/{queue}/lease", r#"{"worker":"w","types":["t"],"max":2}"#),
    ("/v1/leases:renew", r#"{"leases":[{"job":"j","lease":"l"}]}"#),
    ("/v1/workers/{id}", r#"{"state":"draining"}"#),
    ("/v1/schedules/{name}", r#"{"cron":"*/5 * * * *","timezone":"Europe/Berlin","job":{"type":"t"}}"#),
    ("/v1/schedules/{name}", r#"{"every_ms":60000,"job":{"type":"t"}}"#),
];

/// Headers that something reads.
const HEADERS: &str = "content-type: application/json\ncookie: tidings=a.b.c; other=\"x\"\nlast-event-id: a-1~s\n\
    authorization: Bearer a.b.c\norigin: http://localhost:1\nidempotency-key: \"k\"\nif-none-match: \"a\"\n\
    range: bytes=0-1\ntidings-lease: l\naccept: text/event-stream\n";

/// Writes the first inputs of a target into a folder.
pub(super) fn write(target: &str, folder: &Path) -> Result<()> {
    for (number, input) in inputs(target)?.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:03}")), input)?;
    }
    Ok(())
}

fn inputs(target: &str) -> Result<Vec<Vec<u8>>> {
    Ok(match target {
        "names" => names()?,
        "ids" => texts("ids", "ids", "text")?
            .into_iter()
            .map(|id| [&id[..], b"\n\x01\x02\x03\x01"].concat())
            .collect(),
        "resume" => {
            let line =
                |id: Vec<u8>| [&id[..], b"\n-\nlast:5\n\xe1\x20\x05\x10\x08\x07\x03\x09\x02\x01"].concat();
            texts("ids", "ids", "text")?.into_iter().map(line).collect()
        }
        "sse_parse" => parse()?,
        "sse_encode" => encode()?,
        "publish" => publish()?,
        "request" => requests()?,
        "http1" => requests()?
            .iter()
            .map(|request| [b"\x07", raw(request).get(2..).unwrap_or_default()].concat())
            .collect(),
        "grants" => grants()?,
        "server" => requests()?.iter().map(|request| raw(request)).collect(),
        "job" => jobs(),
        "jwt" => tokens(),
        "jwks" => sets(),
        "settings" => settings(),
        _ => Vec::new(),
    })
}

fn fixture(name: &str) -> Result<Value> {
    let path = format!("spec/fixtures/{name}.json");
    serde_json::from_str(&std::fs::read_to_string(&path).context(path)?).context("a fixture is JSON")
}

fn rows(fixture: &str, list: &str) -> Result<Vec<Value>> {
    let rows = self::fixture(fixture)?;
    Ok(rows.get(list).and_then(Value::as_array).cloned().unwrap_or_default())
}

fn text(row: &Value, field: &str) -> String {
    row[field].as_str().unwrap_or_default().to_owned()
}

fn texts(fixture: &str, list: &str, field: &str) -> Result<Vec<Vec<u8>>> {
    let repeat = |row: &Value| usize::try_from(row["repeat"].as_u64().unwrap_or(1)).unwrap_or(1);
    Ok(rows(fixture, list)?.iter().map(|row| text(row, field).repeat(repeat(row)).into_bytes()).collect())
}

fn names() -> Result<Vec<Vec<u8>>> {
    let lists = ["channels", "events", "keys"].map(|list| texts("names", list, "text"));
    Ok(lists.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

fn parse() -> Result<Vec<Vec<u8>>> {
    let unhex = |hex: &str| -> Vec<u8> {
        let digits: Vec<u8> =
            hex.chars().filter_map(|c| c.to_digit(16)).filter_map(|d| u8::try_from(d).ok()).collect();
        digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect()
    };
    let stream = |row: &Value| match row["input"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => unhex(&text(row, "input_hex")),
    };
    Ok(rows("sse-parse", "cases")?.iter().map(|row| [b"\x03\xff\n", &stream(row)[..]].concat()).collect())
}

fn encode() -> Result<Vec<Vec<u8>>> {
    let input = |row: &Value| {
        let (kind, data) = match row["text"].as_str() {
            Some(text) => (0, text.to_owned()),
            None => (1, text(row, "data")),
        };
        let names = format!("{}\n{}\n{data}", text(row, "event"), text(row, "channel"));
        [&[kind], &1_u64.to_be_bytes()[..], &2_u64.to_be_bytes()[..], names.as_bytes()].concat()
    };
    Ok(rows("sse-encode", "events")?.iter().map(input).collect())
}

fn publish() -> Result<Vec<Vec<u8>>> {
    let bodies: Vec<&str> =
        BODIES.iter().filter(|(path, _)| *path == "/v1/publish").map(|(_, body)| *body).collect();
    let one = bodies.iter().map(|body| format!("\0\n{body}").into_bytes());
    let with_key = bodies.iter().map(|body| format!("\0\"key\"\n{body}").into_bytes());
    let batch = std::iter::once(format!("\x01\n{}\n\n{{", bodies.join("\n")).into_bytes());
    let events = rows("sse-encode", "events")?;
    let data = events.iter().filter_map(|row| row["data"].as_str());
    let data = data.map(|data| format!("\0\n{{\"channel\":\"c\",\"data\":{data}}}").into_bytes());
    Ok(one.chain(with_key).chain(batch).chain(data).collect())
}

fn requests() -> Result<Vec<Vec<u8>>> {
    let description = std::fs::read_to_string("spec/openapi.yaml")?;
    let mut path = "";
    let mut requests = Vec::new();
    for line in description.lines() {
        if let Some(found) = line.strip_prefix("  /").and_then(|rest| rest.strip_suffix(':')) {
            path = found;
        }
        let Some(method) = line.strip_prefix("    ").and_then(|rest| rest.strip_suffix(':')) else {
            continue;
        };
        if !["get", "put", "post", "delete"].contains(&method) {
            continue;
        }
        let method = method.to_uppercase();
        let bodies: Vec<&str> = BODIES
            .iter()
            .filter(|(of, _)| of.trim_start_matches('/') == path)
            .map(|(_, body)| *body)
            .collect();
        let target = path.replace("{id}", "j").replace("{name}", "f.csv").replace("{queue}", "q");
        let query = if method == "GET" {
            "?channel=a&channel=b%2Fc&from=last:3&limit=2&as=me&envelope=json"
        } else {
            ""
        };
        for body in if bodies.is_empty() || method == "GET" { vec![""] } else { bodies } {
            requests.push(format!("{method} /{target}{query}\n{HEADERS}\n{body}").into_bytes());
        }
    }
    Ok(requests)
}

/// Every pattern and every channel of a row, one channel at a time.
fn grants() -> Result<Vec<Vec<u8>>> {
    let list = |value: &Value| -> Vec<String> {
        let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(Into::into).collect()
    };
    let mut inputs = Vec::new();
    for row in rows("grants", "valid")?.iter().chain(&rows("grants", "invalid")?) {
        let at = |pointer: &str| row.pointer(pointer).map(list).unwrap_or_default();
        let patterns = [at("/grant/subscribe"), at("/grant/publish")].concat().join("\n");
        let subject = row.pointer("/grant/sub").and_then(Value::as_str).unwrap_or_default();
        let mut names = [at("/allows/subscribe"), at("/refuses/subscribe")].concat();
        names.push("a".into());
        let flags = u8::from(!subject.is_empty());
        let input = |name: &String| [&[flags], format!("{subject}\n{name}\n{patterns}").as_bytes()].concat();
        inputs.extend(names.iter().map(input));
    }
    Ok(inputs)
}

/// The same as bytes of HTTP/1.1, in one piece.
fn raw(request: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(request);
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let (first, headers) = head.split_once('\n').unwrap_or((head, ""));
    let headers = headers.replace('\n', "\r\n");
    let length = body.len();
    let text =
        format!("{first} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{headers}\r\n\r\n{body}");
    [&[0, 0xc0], text.as_bytes()].concat()
}

fn jobs() -> Vec<Vec<u8>> {
    let steps: &[(u8, u8, &str)] = &[
        (0, 2, ""),
        (1, 2, "42\n"),
        (1, 2, "{\"progress\":50,\"n\":1,\"data\":{}}\n"),
        (4, 2, "{\"logs\":[{\"message\":\"m\"}]}\n"),
        (5, 2, "{\"output\":[\"a\"]}\n"),
        (6, 2, ""),
        (11, 255, ""),
        (3, 2, "{\"message\":\"m\",\"retry\":{\"after_ms\":5}}\n"),
        (11, 255, ""),
        (0, 2, ""),
        (7, 2, ""),
        (8, 2, "r\n"),
        (2, 2, "{\"result\":{\"a\":1}}\n"),
    ];
    let of = |flags: u8, skip: usize| {
        let mut input = vec![flags, 3];
        for (verb, number, line) in steps.iter().skip(skip) {
            input.extend([*verb, *number]);
            input.extend_from_slice(line.as_bytes());
        }
        input
    };
    (0..steps.len()).map(|skip| of(if skip % 3 == 0 { 1 } else { 0x20 }, skip)).collect()
}

/// Changes to minted tokens, and headers and claims that are signed.
fn tokens() -> Vec<Vec<u8>> {
    let mut inputs: Vec<Vec<u8>> = (0..4).map(|minted| vec![0, minted]).collect();
    for (kind, more) in
        [(0, &b"A"[..]), (1, b"."), (2, b""), (3, b"\x05"), (4, b"\x02"), (10, b"\x01"), (16, b"\x03")]
    {
        inputs.extend((0..4).map(|minted| [&[0, minted, kind, 0, 40], more].concat()));
    }
    let headers = [
        r#"{"alg":"HS256"}"#,
        r#"{"alg":"HS256","typ":"at+jwt","kid":"r"}"#,
        r#"{"alg":"none"}"#,
        r#"{"alg":"RS256","kid":"r"}"#,
        r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AA"}}"#,
        r#"{"alg":"HS256","jku":"https://a.example/","crit":["exp"],"zip":"DEF"}"#,
    ];
    let claims = [
        r#"{"sub":"42","iss":"us","aud":"here","exp":1795964460,"nbf":1795964400,"iat":1795964400}"#,
        r#"{"sub":"42","iss":"us","aud":["here"],"exp":1795964460.5,"jti":"t","sid":"s","tidings":{"subscribe":["a*"]}}"#,
        r#"{"sub":"42","iss":"them","aud":"there","exp":1795964399,"nbf":1795964900}"#,
        r#"{"sub":null,"iss":["us"],"aud":{"here":1},"exp":"1795964460","tidings":{"admin":true}}"#,
    ];
    for header in headers {
        for claims in claims {
            inputs
                .extend((0..2).map(|who| [&[1, who], header.as_bytes(), b"\n", claims.as_bytes()].concat()));
        }
    }
    inputs
}

fn sets() -> Vec<Vec<u8>> {
    let point = "A".repeat(43);
    let ec = format!(r#"{{"kty":"EC","crv":"P-256","kid":"e","x":"{point}","y":"{point}"}}"#);
    let ed = format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"d","alg":"EdDSA","use":"sig","x":"{point}"}}"#);
    let rsa = format!(r#"{{"kty":"RSA","kid":"r","n":"{}","e":"AQAB"}}"#, "_".repeat(342));
    let oct = r#"{"kty":"oct","kid":"o","k":"AAAA","alg":"HS256"}"#.to_owned();
    let wrong = ec.replace(r#""kid":"e""#, r#""kid":"e","alg":"RS256""#);
    let other = ed.replace(r#""sig""#, r#""enc""#);
    let all = [&ec, &ed, &rsa, &oct, &wrong, &other];
    let one = all.iter().map(|key| format!(r#"{{"keys":[{key}]}}"#));
    let most = format!(r#"{{"keys":[{}]}}"#, all.map(String::as_str).join(","));
    one.chain([most, format!(r#"{{"keys":[{}]}}"#, [ed.as_str(); 4].join(","))])
        .map(String::into_bytes)
        .collect()
}

/// Each setting with values of each kind, and names.
fn settings() -> Vec<Vec<u8>> {
    let values = [
        "1",
        "0",
        "-1",
        "true",
        "127.0.0.1:0",
        "0.0.0.0:4080",
        "a,b",
        "demo:*",
        "https://a.example",
        "/a=b",
        "json",
    ];
    let one = (0..64).flat_map(|setting| values.map(|value| [&[setting], value.as_bytes(), b"\n"].concat()));
    let names = ["TIDINGS_LISTN", "TIDINGS_DEV", "TIDINGS_", "TIDINGS_URL", "tidings_listen"];
    one.chain(names.map(|name| [b"\0\n", name.as_bytes()].concat())).collect()
}
