//! What was encoded is read back as exactly one event with the same fields, whatever its parts are.

use tidings_core::wire::sse::encode;
use tidings_core::{ChannelName, Epoch, EventId, EventName, Payload, Seq};

use crate::input::Input;
use crate::oracle::{Said, read};

/// `kind, seq(8), time(8), event\n, channel\n, data`.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let (seq, time_ms) = (input.number(8), input.number(8));
    let (event, channel) = (input.text_line(), input.text_line());
    let text = String::from_utf8_lossy(input.rest());
    let epoch = Epoch::from_random(seq.rotate_left(17) ^ time_ms);
    let id = EventId { stopped: kind & 2 != 0, ..EventId::new(epoch, Seq(seq)) };

    let payload = if kind & 1 == 0 { Payload::text(&text) } else { Payload::json(&text) };
    if let Ok(payload) = &payload {
        said_right(payload, &text, kind & 1 != 0);
    }
    let (Ok(event), Ok(channel), Ok(payload)) =
        (EventName::parse(&event), ChannelName::parse(&channel), payload)
    else {
        return;
    };
    let body = encode::body(&event, &channel, time_ms, &payload);
    let frame = encode::frame(&body, id);
    let expected = Said::Event {
        event: event.as_str().to_owned(),
        data: payload.as_str().to_owned(),
        last_event_id: id.to_string(),
        channel: Some(channel.as_str().to_owned()),
        time_ms: Some(time_ms),
    };
    // Twice, with a comment between: one event never reaches into the next.
    let stream = [&frame[..], encode::KEEPALIVE, &frame[..]].concat();
    let (said, last) = read(&stream, "");
    assert_eq!(said, [expected.clone(), expected]);
    assert_eq!(last, id.to_string());
    // Cut anywhere, it has said nothing and moved no id.
    for cut in [frame.len() - 1, frame.len() / 2, body.len().min(frame.len() - 1)] {
        assert_eq!(read(&frame[..cut], "before"), (vec![], "before".to_owned()));
    }
}

/// The payload means what was given.
fn said_right(payload: &Payload, given: &str, is_json: bool) {
    assert!(!payload.as_str().contains('\r'));
    if is_json {
        assert!(!payload.as_str().contains('\n'));
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        assert_eq!(value(payload.as_str()), value(given));
    } else {
        let lines: Vec<&str> = payload.as_str().split('\n').collect();
        let unified = given.replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!(lines, unified.split('\n').collect::<Vec<_>>());
    }
}
