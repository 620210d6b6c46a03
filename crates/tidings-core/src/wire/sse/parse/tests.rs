use std::vec;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::wire::sse::encode;
use crate::{ChannelName, Epoch, EventId, EventName, Payload, Seq};

fn items(parser: &mut Parser, chunks: &[&[u8]]) -> Vec<Item> {
    let mut items = vec![];
    for chunk in chunks {
        let mut input = *chunk;
        while let Some(item) = parser.next(&mut input).unwrap() {
            items.push(item);
        }
        assert!(input.is_empty());
    }
    items
}

fn input(case: &Value) -> Vec<u8> {
    if let Some(text) = case["input"].as_str() {
        return text.as_bytes().to_vec();
    }
    let hex = case["input_hex"].as_str().unwrap();
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn event(value: &Value) -> Event {
    let text = |key: &str| value[key].as_str().unwrap().into();
    Event {
        event: text("event"),
        data: text("data"),
        last_event_id: text("last_event_id"),
        channel: value["channel"].as_str().map(Into::into),
        time_ms: value["time"].as_u64(),
    }
}

#[test]
fn every_fixture_holds_for_every_way_to_cut_it_in_two_and_byte_by_byte() {
    let fixture: Value =
        serde_json::from_str(include_str!("../../../../../../spec/fixtures/sse-parse.json")).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    for case in cases {
        let bytes = input(case);
        let events: Vec<Event> = case["events"].as_array().unwrap().iter().map(event).collect();
        let retries: Vec<u64> =
            case["retry"].as_array().map_or(vec![], |r| r.iter().map(|ms| ms.as_u64().unwrap()).collect());
        let check = |chunks: &[&[u8]]| {
            let mut parser = Parser::new("", 1 << 16);
            let (mut got_events, mut got_retries) = (vec![], vec![]);
            for item in items(&mut parser, chunks) {
                match item {
                    Item::Event(event) => got_events.push(event),
                    Item::Retry(ms) => got_retries.push(ms),
                }
            }
            let name = &case["name"];
            assert_eq!(got_events, events, "{name}");
            assert_eq!(got_retries, retries, "{name}");
            assert_eq!(parser.last_event_id(), case["last_event_id"].as_str().unwrap(), "{name}");
        };
        for cut in 0..=bytes.len() {
            check(&[&bytes[..cut], &bytes[cut..]]);
        }
        check(&bytes.chunks(1).collect::<Vec<_>>());
        check(&bytes.chunks(3).collect::<Vec<_>>());
    }
}

#[test]
fn the_id_of_an_earlier_response_stays_until_the_stream_says_another() {
    let mut parser = Parser::new("a-1", 1 << 10);
    let got = items(&mut parser, &[b"data: x\n\nid: a-2\ndata: y\n"]);
    let [Item::Event(event)] = &got[..] else { panic!("{got:?}") };
    assert_eq!(event.last_event_id, "a-1");
    assert_eq!(parser.last_event_id(), "a-1");
}

#[test]
fn a_retry_beyond_any_number_is_the_largest_one() {
    let got = items(&mut Parser::new("", 1 << 10), &[b"retry: 99999999999999999999\n"]);
    assert_eq!(got, [Item::Retry(u64::MAX)]);
}

#[test]
fn an_event_above_the_limit_ends_the_reading_and_one_at_it_does_not() {
    let at = b"data: 345678\ndata: 6\n\n";
    assert_eq!(items(&mut Parser::new("", 14), &[at]).len(), 1);
    for chunk in [1, 5, at.len()] {
        let mut parser = Parser::new("", 13);
        let mut results = at.chunks(chunk).map(|mut piece| parser.next(&mut piece));
        assert!(results.any(|r| r == Err(ParseError::TooLarge { max: 13 })));
        assert!(parser.next(&mut b"\n\ndata: a\n\n".as_slice()).is_err(), "there is no way back");
    }
    let mut parser = Parser::new("", 8);
    for _ in 0..1_000 {
        assert_eq!(parser.next(&mut b"endless".as_slice()).is_err(), parser.too_large);
        assert!(parser.line.len() <= 8);
    }
    assert!(parser.too_large);
}

#[test]
fn a_comment_of_any_length_is_not_kept() {
    let mut parser = Parser::new("", 16);
    for _ in 0..1_000 {
        assert_eq!(parser.next(&mut b": and so on".as_slice()), Ok(None));
    }
    assert_eq!(parser.line, b":");
    assert_eq!(items(&mut parser, &[b"\ndata: a\n\n"]).len(), 1);
}

/// Text that holds what could break a frame more often than chance would have it.
fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<String>(),
        "[\r\n]{1,3}",
        Just("\n\ndata: forged\n\n".into()),
        Just("\rid: forged-1\r\r".into()),
        Just("\u{feff}: \u{2028}\0".into()),
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_is_encoded_is_read_back_as_exactly_one_event(
        text in hostile_text(), json in any::<bool>(), name in "[A-Za-z0-9_.:-]{1,64}",
        channel in "[!#-)+\\-./0-9:;<=>?@A-Z\\[\\]^_`a-z{|}~]{1,40}", time: u64, seq: u64, chunk in 1_usize..40,
    ) {
        let payload = if json {
            Payload::json(&serde_json::to_string_pretty(&[&text]).unwrap()).unwrap()
        } else {
            Payload::text(&text).unwrap()
        };
        let (name, channel) = (EventName::parse(&name).unwrap(), ChannelName::parse(&channel).unwrap());
        let id = EventId::new(Epoch::parse("k3").unwrap(), Seq(seq));
        let frame = encode::frame(&encode::body(&name, &channel, time, &payload), id);
        let mut parser = Parser::new("", 1 << 20);
        let chunks: Vec<&[u8]> = frame.chunks(chunk).collect();
        let last_event_id = alloc::string::ToString::to_string(&id);
        let expected = Event {
            event: name.as_str().into(),
            data: payload.as_str().into(),
            last_event_id,
            channel: Some(channel.as_str().into()),
            time_ms: Some(time),
        };
        prop_assert_eq!(items(&mut parser, &chunks), vec![Item::Event(expected)]);
    }

    #[test]
    fn no_bytes_make_it_panic_or_keep_more_than_its_limit(bytes: Vec<u8>, chunk in 1_usize..9) {
        let mut parser = Parser::new("", 20);
        for mut piece in bytes.chunks(chunk) {
            while let Ok(Some(_)) = parser.next(&mut piece) {}
            prop_assert!(parser.line.len() + parser.data.len() <= 20 + 20 * 3);
        }
    }
}
