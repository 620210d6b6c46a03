//! Data that would like to be more than data.

use crate::case::{Case, Outcome, Stream, World, is};

const GROUP: &str = "sse";

pub fn cases() -> Vec<Case> {
    let texts = [
        ("an empty line and an event", "a\n\nevent: x\ndata: injected\n\n"),
        ("the same with CR", "a\r\revent: x\rdata: injected\r\r"),
        ("the same with CR and LF", "a\r\n\r\nevent: x\r\ndata: injected\r\n\r\n"),
        ("LF, then CR", "a\n\r\n\rdata: injected\n\r"),
        ("an id", "\nid: zzz-999\n"),
        ("a retry", "\nretry: 1\n"),
        ("a comment", "\n: comment\n"),
        ("a channel", "\nchannel: user:42\n"),
        ("NUL", "a\0b"),
        ("a byte order mark", "\u{feff}a"),
        ("line separators of Unicode", "a\u{2028}b\u{2029}c\u{85}d"),
        ("escape sequences of a terminal", "\u{1b}[2J\u{7}"),
        ("a space in front", " a"),
        ("a colon in front", ": a"),
        ("nothing", ""),
    ];
    let mut cases: Vec<Case> = texts
        .into_iter()
        .map(|(name, text)| {
            Case::new(GROUP, format!("{name}, in a text"), "one event, the same data", move |world| {
                let body = serde_json::json!({"channel": "sse", "text": text});
                one_event(world, &body.to_string(), &text.replace("\r\n", "\n").replace('\r', "\n"))
            })
        })
        .collect();
    cases.push(Case::new(
        GROUP,
        "line ends between the tokens of JSON",
        "one event, the same data",
        |world| {
            one_event(world, "{\"channel\":\"sse\",\"data\":{\r\n\r\n\"a\":\n\n1\r}}", "{    \"a\":  1 }")
        },
    ));
    cases.push(Case::new(GROUP, "an envelope around text with lines", "one event, one line", |world| {
        let mut stream = Stream::open(&world.dev, "channel=sse&envelope=json", &[]);
        world.dev.publish(r#"{"channel":"sse","text":"a\n\ndata: b\r\n"}"#);
        let event = stream.next().ok_or("no event")?;
        let data: serde_json::Value = serde_json::from_str(&event.data).map_err(|e| e.to_string())?;
        is(event.data.clone(), data["data"] == "a\n\ndata: b\n").map(|_| "one event, one line".into())
    }));
    cases.push(Case::new(GROUP, "a message of a job with lines", "one event", |world| {
        world.dev.post("/v1/jobs", r#"{"id":"lines","type":"t","mode":"external"}"#);
        let mut stream = Stream::open(&world.dev, "channel=job:lines&from=now", &[]);
        let report = r#"{"progress":1,"message":"a\n\nevent: error\ndata: x\r\r"}"#;
        let answer = world.dev.post("/v1/jobs/lines/progress", report);
        let event = stream.next().ok_or(answer.shown())?;
        is(format!("{} {}", event.event, event.data.len()), event.event == "progress")
            .map(|_| "one event".into())
    }));
    for (name, id) in [
        ("an id that is none", "../../etc/passwd"),
        ("an id of another log", "zzzzzzzz-1"),
        ("an id beyond 64 bits", "a-99999999999999999999999"),
        ("an id with a script", "<script>alert(1)</script>"),
        ("an id of 8 KiB", &*"9".repeat(8_000).leak()),
    ] {
        cases.push(Case::new(
            GROUP,
            format!("{name}, in Last-Event-ID"),
            "tidings.reset, and live",
            move |world| {
                let mut stream = Stream::open(&world.dev, "channel=sse-reset", &[("last-event-id", id)]);
                let reset = stream.next().ok_or("no event")?;
                world.dev.publish(r#"{"channel":"sse-reset","data":5}"#);
                let live = stream.next().ok_or("not live")?;
                let came = format!("{}, then {}", reset.event, live.data);
                is(came, reset.event == "tidings.reset" && live.data == "5" && !reset.data.contains(id))
                    .map(|_| "tidings.reset, and live".into())
            },
        ));
    }
    cases.push(Case::new(GROUP, "none of these is in the server's log", "no line of it", |world| {
        let said = world.dev.said();
        let found = ["injected", "<script>", "\u{1b}"].into_iter().find(|text| said.contains(text));
        is(found.unwrap_or("no line of it"), found.is_none())
    }));
    cases
}

/// Published, it is heard as one event with this data, and the next event is the next one published.
fn one_event(world: &World, body: &str, data: &str) -> Outcome {
    let mut stream = Stream::open(&world.dev, "channel=sse", &[]);
    let answer = world.dev.publish(body);
    if answer.status != 201 {
        return Err(answer.shown());
    }
    world.dev.publish(r#"{"channel":"sse","data":"end"}"#);
    let (event, end) = (stream.next().ok_or("no event")?, stream.next().ok_or("no end")?);
    let same = event.data == data
        && event.event == "message"
        && event.channel.as_deref() == Some("sse")
        && answer.json()["id"] == event.last_event_id.as_str()
        && end.data == "\"end\"";
    is(format!("{event:?} then {end:?}"), same).map(|_| "one event, the same data".into())
}
