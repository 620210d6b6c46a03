//! Too much of everything.

use crate::case::{Case, Stream, is};
use crate::server::bytes;

const GROUP: &str = "limit";

pub fn cases() -> Vec<Case> {
    let json: [(&str, &str); 1] = [("content-type", "application/json")];
    let ndjson = [("content-type", "application/x-ndjson")];
    let get = |target: &str| bytes("GET", target, &[], b"");
    let post = |body: &str| bytes("POST", "/v1/publish", &json, body.as_bytes());
    let batch = |body: &str| bytes("POST", "/v1/publish", &ndjson, body.as_bytes());
    let channels = |count: usize| (0..count).map(|n| format!("\"c{n}\"")).collect::<Vec<_>>().join(",");
    let query = |count: usize| (0..count).map(|n| format!("channel=c{n}")).collect::<Vec<_>>().join("&");
    let data = |bytes: usize| format!(r#"{{"channel":"big","data":"{}"}}"#, "x".repeat(bytes));
    let line = r#"{"channel":"line","data":1}"#;
    let key = |key: &str| format!(r#"{{"channel":"a","data":1,"idempotency_key":"{key}"}}"#);
    let rows: Vec<(&str, Vec<u8>, &str)> = vec![
        ("101 channels on a stream", get(&format!("/events?{}", query(101))), "400 channels_too_many"),
        ("101 channels in a question", get(&format!("/v1/history?{}", query(101))), "400 channels_too_many"),
        (
            "1,001 channels in a publish",
            post(&format!(r#"{{"channels":[{}],"data":1}}"#, channels(1_001))),
            "400 channels_too_many",
        ),
        ("no channel in a publish", post(r#"{"channels":[],"data":1}"#), "400 channels_missing"),
        ("an event of 256 KiB and a byte", post(&data(256 * 1024 - 1)), "413 data_too_large"),
        ("a body of 1 MiB and more", post(&data(1024 * 1024)), "413 body_too_large"),
        ("a batch of 1,001 lines", batch(&format!("{line}\n").repeat(1_001)), "413 batch_too_large"),
        (
            "a batch of 8 MiB and more",
            batch(&format!("{}\n", data(200_000)).repeat(43)),
            "413 batch_too_large",
        ),
        ("JSON with something behind it", post(&format!("{line}{line}")), "400 json_invalid"),
        (
            "bytes that are no UTF-8",
            post("X").iter().copied().map(|byte| if byte == b'X' { 0xff } else { byte }).collect(),
            "400 json_invalid",
        ),
        ("a life of no milliseconds", post(r#"{"channel":"a","data":1,"ttl_ms":0}"#), "400 field_invalid"),
        ("a life below zero", post(r#"{"channel":"a","data":1,"ttl_ms":-1}"#), "400 field_invalid"),
        ("a key of 256 bytes", post(&key(&"k".repeat(256))), "400 idempotency_key_invalid"),
        ("an empty key", post(&key("")), "400 idempotency_key_invalid"),
        ("the last none", get("/events?channel=a&from=last:0"), "400 from_invalid"),
        ("the last hundred thousand", get("/events?channel=a&from=last:100000"), "400 from_invalid"),
        ("from yesterday", get("/events?channel=a&from=yesterday"), "400 from_invalid"),
        ("a page of no events", get("/v1/history?channel=a&limit=0"), "400 limit_invalid"),
        ("a page of a million events", get("/v1/history?channel=a&limit=1000000"), "400 limit_invalid"),
        ("an envelope that is not known", get("/events?channel=a&envelope=xml"), "400 query_invalid"),
        (
            "a job with a priority beyond its bounds",
            bytes("POST", "/v1/jobs", &json, br#"{"type":"t","priority":1000000}"#),
            "400 field_invalid",
        ),
        (
            "a schedule that is due all the time",
            bytes("PUT", "/v1/schedules/s", &json, br#"{"every_ms":1,"job":{"type":"t"}}"#),
            "400 schedule_invalid",
        ),
    ];
    let mut cases: Vec<Case> =
        rows.into_iter().map(|(name, request, must)| Case::refused(GROUP, name, request, must)).collect();
    cases.extend([
        Case::new(GROUP, "JSON that is 5,000 lists deep", "data as any other, everywhere", |world| {
            let data = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
            let mut plain = Stream::open(&world.dev, "channel=deep", &[]);
            let mut envelope = Stream::open(&world.dev, "channel=deep&envelope=json", &[]);
            let answer = world.dev.publish(&format!(r#"{{"channel":"deep","data":{data}}}"#));
            let is_heard = plain.next().is_some_and(|event| event.data == data)
                && envelope.next().is_some_and(|event| event.data.contains(&data));
            let page = world.dev.get("/v1/history?channel=deep");
            let is_kept = String::from_utf8_lossy(&page.body).contains(&data);
            let came = format!("{}, heard: {is_heard}, kept: {is_kept}", answer.shown());
            is(came, answer.status == 201 && is_heard && is_kept)
                .map(|_| "data as any other, everywhere".into())
        }),
        Case::new(GROUP, "the largest event there may be", "201, and it is heard", |world| {
            let mut stream = Stream::open(&world.dev, "channel=big", &[]);
            let text = "x".repeat(256 * 1024 - 2);
            let answer = world.dev.publish(&format!(r#"{{"channel":"big","data":"{text}"}}"#));
            let heard = stream.next().map_or(0, |event| event.data.len());
            is(format!("{}, {heard} bytes", answer.shown()), answer.status == 201 && heard == 256 * 1024)
                .map(|_| "201, and it is heard".into())
        }),
        Case::new(GROUP, "the 101st stream of one client behind a proxy", "429 streams_too_many", |world| {
            let from = [("x-forwarded-for", "203.0.113.7")];
            let open: Vec<Stream> = (0..100).map(|_| Stream::open(&world.dev, "channel=a", &from)).collect();
            let taken = open.iter().filter(|stream| stream.head.status == 200).count();
            let request = bytes("GET", "/events?channel=a", &from, b"");
            let answer = world.dev.ask(&request).ok_or("closed")?;
            is(answer.shown(), taken == 100 && answer.shown() == "429 streams_too_many")
        }),
        Case::new(GROUP, "the same, who writes other addresses in front", "429 streams_too_many", |world| {
            let one = [("x-forwarded-for", "203.0.113.8")];
            let open: Vec<Stream> = (0..100).map(|_| Stream::open(&world.dev, "channel=a", &one)).collect();
            let spoofed = [("x-forwarded-for", "198.51.100.1, 203.0.113.8")];
            let answer = world.dev.ask(&bytes("GET", "/events?channel=a", &spoofed, b"")).ok_or("closed")?;
            is(answer.shown(), open.len() == 100 && answer.shown() == "429 streams_too_many")
        }),
        Case::new(GROUP, "an EventSource that is one too many", "200, a retry, and the end", |world| {
            let from = [("x-forwarded-for", "203.0.113.9")];
            let open: Vec<Stream> = (0..100).map(|_| Stream::open(&world.dev, "channel=a", &from)).collect();
            let mut extra = Stream::open(&world.dev, "channel=a", &from);
            let ends = extra.ends();
            is(
                format!("{}, ends: {ends}", extra.head.status),
                open.len() == 100 && extra.head.status == 200 && ends,
            )
            .map(|_| "200, a retry, and the end".into())
        }),
        Case::new(GROUP, "10,000 paths that do not exist", "no metric grows with them", |world| {
            let lines = |text: &crate::server::Answer| String::from_utf8_lossy(&text.body).lines().count();
            let before = lines(&world.dev.get("/metrics"));
            let mut socket = world.dev.connect();
            let mut answers = std::io::BufReader::new(socket.try_clone().unwrap());
            for part in 0..100 {
                let piece: Vec<u8> =
                    (0..100).flat_map(|n| bytes("GET", &format!("/{part}/{n}"), &[], b"")).collect();
                std::io::Write::write_all(&mut socket, &piece).unwrap();
                for _ in 0..100 {
                    crate::server::Answer::read(&mut answers).ok_or("closed")?;
                }
            }
            let after = lines(&world.dev.get("/metrics"));
            is(format!("{before} lines, then {after}"), after <= before + 2)
                .map(|_| "no metric grows with them".into())
        }),
        Case::new(GROUP, "an error that repeats a megabyte", "a short answer", |world| {
            let answer = world.dev.publish(&format!(r#"{{"channel":"{}","data":1}}"#, "x".repeat(900_000)));
            is(format!("{} bytes", answer.body.len()), answer.status == 400 && answer.body.len() < 1_000)
                .map(|_| "a short answer".into())
        }),
    ]);
    cases
}
