//! Bytes of a stream, cut into any pieces, say what they say in one piece; and no stream makes the reader hold more than
//! it was allowed to.

use tidings_core::wire::sse::parse::{Item, ParseError, Parser};

use crate::input::Input;
use crate::oracle::{Said, read};

/// `seed, most, id\n, stream`.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (seed, small) = (input.byte(), usize::from(input.byte()));
    let id = input.text_line();
    let stream = input.rest();
    let (expected, last) = read(stream, &id);

    let (said, at_end) = said(stream, &id, seed, 1 << 24);
    assert!(at_end.is_ok());
    assert_eq!(said, expected);
    assert_eq!(at_end, Ok(last));

    // A reader that allows less says the same for as long as it says anything.
    let (said, at_end) = self::said(stream, &id, seed, small);
    assert!(expected.starts_with(&said), "{said:?} is not how {expected:?} begins");
    for item in &said {
        if let Said::Event { data, .. } = item {
            assert!(data.len() <= small);
        }
    }
    if at_end.is_ok() {
        assert_eq!(said, expected);
    }
}

fn said(stream: &[u8], id: &str, seed: u8, max: usize) -> (Vec<Said>, Result<String, ParseError>) {
    let mut parser = Parser::new(id, max);
    let mut said = Vec::new();
    let mut random = u32::from(seed);
    let mut rest = stream;
    while !rest.is_empty() {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = if seed == 0 { rest.len() } else { 1 + (random >> 16) as usize % usize::from(seed) };
        let (chunk, behind) = rest.split_at(length.min(rest.len()));
        let mut chunk = chunk;
        loop {
            match parser.next(&mut chunk) {
                Ok(Some(item)) => said.push(same(item)),
                Ok(None) => break,
                Err(error) => {
                    let mut more: &[u8] = b"data: x\n\n";
                    assert_eq!(parser.next(&mut more), Err(error.clone()), "an error is for good");
                    return (said, Err(error));
                }
            }
        }
        assert!(chunk.is_empty(), "all of a chunk is taken");
        rest = behind;
    }
    (said, Ok(parser.last_event_id().to_owned()))
}

fn same(item: Item) -> Said {
    match item {
        Item::Retry(ms) => Said::Retry(ms),
        Item::Event(event) => Said::Event {
            event: event.event,
            data: event.data,
            last_event_id: event.last_event_id,
            channel: event.channel,
            time_ms: event.time_ms,
        },
    }
}
