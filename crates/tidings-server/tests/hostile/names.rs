//! Names that mean something else to somebody else.

use crate::case::{Case, Stream, answered, is};
use crate::server::bytes;

const GROUP: &str = "name";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let invalid = "400 channel_name_invalid";
    for (name, query) in [
        ("NUL", "a%00"),
        ("a line feed", "a%0ab"),
        ("CR and LF", "a%0d%0ab"),
        ("a space", "a%20b"),
        ("a plus, which is a space", "a+b"),
        ("a quotation mark", "a%22"),
        ("a backslash", "a%5cb"),
        ("a star", "*"),
        ("a star behind a prefix", "user:*"),
        ("a comma, for two in one", "a,b"),
        ("DEL", "a%7f"),
        ("overlong UTF-8", "a%c0%af"),
        ("bytes that are no UTF-8", "a%ff"),
        ("a surrogate as UTF-8", "a%ed%a0%80"),
        ("a letter with its accent", "caf%c3%a9"),
        ("a letter and its accent", "cafe%cc%81"),
        ("a full-width star", "user:%ef%bc%8a"),
        ("a letter of another script", "us%d0%b5r:1"),
        ("a zero-width space", "user:1%e2%80%8b"),
        ("text that runs to the left", "user:%e2%80%ae1"),
        ("a byte order mark", "%ef%bb%bfuser:1"),
        ("nothing", ""),
    ] {
        let target = format!("/events?channel={query}");
        cases.push(Case::refused(GROUP, name, bytes("GET", &target, &[], b""), invalid));
    }
    cases.push(Case::refused(
        GROUP,
        "256 bytes",
        bytes("GET", &format!("/events?channel={}", "x".repeat(256)), &[], b""),
        invalid,
    ));
    cases.push(Case::refused(
        GROUP,
        "a subject with a line feed",
        bytes("GET", "/events?as=a%0ab", &[], b""),
        "400 subject_invalid",
    ));
    cases.extend(published());
    cases.extend([
        Case::new(GROUP, "a name that is encoded twice", "another channel", |world| {
            world.dev.publish(r#"{"channel":"twice","data":1}"#);
            let answer = world.dev.get("/v1/channels?channel=%2574wice").json();
            is(
                format!("{} with head {}", answer["channel"], answer["head"]),
                answer["channel"] == "%74wice" && answer["head"].is_null(),
            )
            .map(|_| "another channel".into())
        }),
        Case::new(GROUP, "capitals", "another channel", |world| {
            world.dev.publish(r#"{"channel":"Case","data":1}"#);
            let answer = world.dev.get("/v1/channels?channel=case").json();
            is(format!("head {}", answer["head"]), answer["head"].is_null()).map(|_| "another channel".into())
        }),
        Case::new(GROUP, "a parameter twice, to hide one", "both count", |world| {
            let mut stream = Stream::open(&world.dev, "channel=hidden-a&channel=hidden-b", &[]);
            world.dev.publish(r#"{"channel":"hidden-a","data":1}"#);
            world.dev.publish(r#"{"channel":"hidden-b","data":2}"#);
            let heard: Vec<String> = (0..2).filter_map(|_| stream.next()).map(|event| event.data).collect();
            is(heard.join(" and "), heard == ["1", "2"]).map(|_| "both count".into())
        }),
    ]);
    cases
}

/// Names in bodies, where JSON has ways of its own to spell them.
fn published() -> Vec<Case> {
    let json = [("content-type", "application/json")];
    [
        ("a channel of a job", r#"{"channel":"job:1","data":1}"#, "403 channel_reserved"),
        (
            "a channel of a job, spelt with an escape",
            r#"{"channel":"\u006aob:1","data":1}"#,
            "403 channel_reserved",
        ),
        ("a channel of the server", r#"{"channel":"tidings:x","data":1}"#, "403 channel_reserved"),
        ("a line feed, spelt with an escape", r#"{"channel":"a\nb","data":1}"#, "400 channel_name_invalid"),
        ("NUL, spelt with an escape", r#"{"channel":"a\u0000","data":1}"#, "400 channel_name_invalid"),
        ("half of a surrogate pair", r#"{"channel":"a\ud800","data":1}"#, "400 json_invalid"),
        (
            "one reserved channel among others",
            r#"{"channels":["a","job:1"],"data":1}"#,
            "403 channel_reserved",
        ),
        ("a channel twice", r#"{"channels":["a","a"],"data":1}"#, "400 field_invalid"),
        ("the field channel twice", r#"{"channel":"a","channel":"job:1","data":1}"#, "400 field_invalid"),
        ("an event called error", r#"{"channel":"a","event":"error","data":1}"#, "422 event_reserved"),
        ("an event called open", r#"{"channel":"a","event":"open","data":1}"#, "422 event_reserved"),
        ("a control event", r#"{"channel":"a","event":"tidings.reset","data":1}"#, "422 event_reserved"),
        (
            "an event with a line feed",
            r#"{"channel":"a","event":"x\ndata: y","data":1}"#,
            "400 event_name_invalid",
        ),
        ("a key with a line feed", r#"{"channel":"a","key":"x\ny","data":1}"#, "400 key_invalid"),
        ("a field that does not exist", r#"{"channel":"a","data":1,"id":"a-1"}"#, "400 field_unknown"),
        ("a list in place of an object", r#"["a",null,null,1]"#, "400 field_invalid"),
    ]
    .into_iter()
    .map(|(name, body, must)| {
        let request = bytes("POST", "/v1/publish", &json, body.as_bytes());
        Case::new(GROUP, format!("{name}, published"), must, move |world| {
            answered(&world.dev, &request, must)
        })
    })
    .collect()
}
