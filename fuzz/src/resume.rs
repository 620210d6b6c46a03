//! What a request for a stream says of its position, and what is decided from it: never past the head, never backwards.

use tidings_core::resume::{Asked, Decision, Position, Request, Retained, decide, gone, position};
use tidings_core::{EventId, Seq, Standing};

use crate::input::Input;

/// `header\n, query\n, from\n, flags, head, horizon, channels…`.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let texts = [input.text_line(), input.text_line(), input.text_line()];
    let given = |at: usize| (!texts[at].starts_with('-')).then_some(&*texts[at]);
    let asked = position(given(0), given(1), given(2));
    let first_id = [given(0), given(1)].into_iter().flatten().find(|text| !text.is_empty());
    match (&asked, first_id) {
        (Ok(Position::Id(id)), Some(text)) => assert_eq!(id.to_string(), text),
        (Ok(Position::Malformed), Some(text)) => assert_eq!(EventId::parse(text), None),
        (Ok(other), Some(_)) => panic!("an id was sent, and it is {other:?}"),
        (Ok(Position::Malformed), None) => panic!("nobody sent an id"),
        (Ok(_) | Err(_), _) => {}
    }

    let flags = input.byte();
    let head = Seq(u64::from(input.byte()));
    let mut below = |most: Seq| Seq(u64::from(input.byte()) % (most.0 + 1));
    let horizon = below(head);
    let mut channels = Vec::new();
    for _ in 0..flags >> 5 {
        let own_head = below(head);
        let floor = below(own_head);
        let kind = below(Seq(255)).0;
        channels.push(Retained {
            first: (kind & 1 != 0 && floor < own_head).then(|| floor.next()),
            head: own_head,
            floor,
            finished: (kind & 2 != 0 && own_head.0 > 0).then_some(own_head),
            deleted: (kind & 4 != 0 && floor.0 > 0).then_some(floor),
        });
    }
    let own = below(head);
    let stopped = flags & 1 != 0;
    let standings = [Standing::Known(own), Standing::Ahead, Standing::Foreign];
    let every = standings.map(|standing| Asked::Id { standing, stopped }).into_iter().chain([
        Asked::Now,
        Asked::Start,
        Asked::Malformed,
        Asked::Last(own),
    ]);
    for asked in every {
        let document = (flags & 4 != 0).then(|| channels.first().map_or(head, |c| c.head));
        let refused = flags & 2 != 0;
        let request = Request { asked, refused, head, horizon, channels: &channels, document };
        match decide(&request) {
            Decision::Stream(start) => {
                assert!(!refused);
                assert!(start.cursor <= head, "{request:?} → {start:?}");
                assert!(start.hello.is_none_or(|id| id <= head));
                assert!(start.reset.as_ref().is_none_or(|reset| reset.id <= head));
                if let Asked::Id { standing: Standing::Known(own), .. } = asked {
                    assert!(start.cursor >= own, "a resume never goes back: {request:?} → {start:?}");
                    let lost = gone(own, &channels).is_some() || own < horizon;
                    assert_eq!(start.reset.is_some(), lost, "who lost something is told: {request:?}");
                }
            }
            Decision::Stop => assert!(!refused || stopped, "{request:?}"),
            Decision::Refuse(_) => assert!(refused),
        }
    }
}
