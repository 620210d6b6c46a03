//! A subscription over cuts, refusals, stalls and drains.

use std::time::Duration;

use tidings_client::{Client, Disconnect, From, Item, Retry, SubscribeError, Subscription};

use crate::fake::{Act, Fake, answer, stream};

const HELLO: &str = "event: tidings.hello\ndata: {\"connection\":\"c1\",\"keepalive_ms\":15000}\nid: k-5\n\n";
const HELLO_NO_ID: &str = "event: tidings.hello\ndata: {\"connection\":\"c1\",\"keepalive_ms\":15000}\n\n";

fn event(seq: u64) -> String {
    format!("event: tick\nchannel: c\ntime: 17\ndata: {{\"n\":{seq}}}\nid: k-{seq}\n\n")
}

fn quick() -> Retry {
    Retry::default().base(Duration::from_millis(1)).max(Duration::from_millis(2)).floor_max(Duration::ZERO)
}

fn open(fake: &Fake, from: From) -> Subscription {
    Client::new(&fake.url).unwrap().subscribe(["c"]).from(from).retry(quick()).open().unwrap()
}

/// The items until the subscription is over, one word each.
async fn words(stream: &mut Subscription) -> (Vec<String>, Option<SubscribeError>) {
    let mut words = Vec::new();
    loop {
        assert!(words.len() < 100, "the subscription does not end: {words:?}");
        match stream.next().await {
            Ok(Some(item)) => words.push(word(&item)),
            Ok(None) => return (words, None),
            Err(error) => return (words, Some(error)),
        }
    }
}

fn word(item: &Item) -> String {
    match item {
        Item::Event(event) => event.data.clone(),
        Item::Hello(hello) => format!("hello {}", hello.id.as_deref().unwrap_or("-")),
        Item::Reset(reset) => format!("reset {} {}", reset.reason, reset.id.as_deref().unwrap_or("-")),
        Item::Drain { spread } => format!("drain {spread:?}"),
        Item::Disconnected { reason: Disconnect::Network(_), .. } => "network".into(),
        Item::Disconnected { reason, .. } => format!("{reason:?}"),
        Item::Reconnected { attempts } => format!("reconnected {attempts}"),
        other => format!("{other:?}"),
    }
}

fn done() -> Act {
    Act::Send("HTTP/1.1 204 No Content\r\n\r\n".into())
}

#[tokio::test]
async fn an_event_has_its_fields_and_the_request_is_the_agreed_one() {
    let fake = Fake::start([Act::Hold(stream(&format!("{HELLO}{}", event(6))))]).await;
    let mut stream = open(&fake, From::LastN(2));
    assert!(
        matches!(stream.next().await, Ok(Some(Item::Hello(hello))) if hello.keepalive_ms == Some(15_000))
    );
    let Ok(Some(Item::Event(event))) = stream.next().await else { panic!("not an event") };
    assert_eq!((event.event.as_str(), event.channel.as_str(), event.time_ms), ("tick", "c", 17));
    assert_eq!((event.data.as_str(), event.id.as_deref()), ("{\"n\":6}", Some("k-6")));
    assert_eq!(stream.last_id(), Some("k-6"));
    assert!(fake.requests()[0].starts_with("GET /events?channel=c&from=last%3A2 HTTP/1.1\r\n"));
    assert_eq!(fake.header("accept"), ["text/event-stream, application/problem+json"]);
    stream.close();
    assert_eq!(stream.next().await, Ok(None));
}

#[tokio::test]
async fn a_cut_after_every_byte_of_an_event_neither_loses_nor_repeats_it() {
    let whole = event(6);
    for cut in 0..=whole.len() {
        let first = stream(&format!("{HELLO}{}", &whole[..cut]));
        let rest = if cut == whole.len() { String::new() } else { whole.clone() };
        let fake = Fake::start([Act::Send(first), Act::Send(stream(&(rest + &event(7)))), done()]).await;
        let (words, error) = words(&mut open(&fake, From::Now)).await;
        assert_eq!(error, None);
        let data: Vec<_> = words.iter().filter(|word| word.starts_with('{')).collect();
        assert_eq!(data, ["{\"n\":6}", "{\"n\":7}"], "cut at {cut}");
        let resumed = if cut == whole.len() { "k-6" } else { "k-5" };
        assert_eq!(fake.header("last-event-id"), ["-", resumed, "k-7"], "cut at {cut}");
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_before_its_first_event_resumes_from_hello() {
    let script = [Act::Drop, Act::Send(stream(HELLO)), Act::Send(stream(HELLO_NO_ID)), done()];
    let fake = Fake::start(script).await;
    let (words, error) = words(&mut open(&fake, From::Now)).await;
    let expected = ["network", "reconnected 1", "hello k-5", "Ended", "reconnected 1", "hello -", "Ended"];
    assert_eq!((words, error), (expected.map(str::to_owned).to_vec(), None));
    assert_eq!(fake.header("last-event-id"), ["-", "-", "k-5", "k-5"]);
}

#[tokio::test]
async fn from_start_is_said_until_something_was_handed_out() {
    let body = format!("{HELLO_NO_ID}{}", event(1));
    let fake = Fake::start([Act::Send(stream(HELLO_NO_ID)), Act::Send(stream(&body)), done()]).await;
    words(&mut open(&fake, From::Start)).await;
    let targets: Vec<String> =
        fake.requests().iter().map(|r| r.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(
        targets,
        ["/events?channel=c&from=start", "/events?channel=c&from=start", "/events?channel=c"]
    );
    assert_eq!(fake.header("last-event-id"), ["-", "-", "k-1"]);
}

#[tokio::test]
async fn events_without_an_id_leave_the_position_alone() {
    let ephemeral = "event: typing\nchannel: c\ntime: 1\ndata: 1\n\n";
    let cursor = "event: tidings.cursor\ndata: {}\nid: k-9\n\n";
    let body = format!("{HELLO}{}{ephemeral}", event(6));
    let fake = Fake::start([Act::Send(stream(&body)), Act::Send(stream(cursor)), done()]).await;
    let mut stream = open(&fake, From::Now);
    let mut ids = Vec::new();
    while let Some(item) = stream.next().await.unwrap() {
        if let Item::Event(event) = item {
            ids.push(event.id);
        }
    }
    assert_eq!(ids, [Some("k-6".to_owned()), None]);
    assert_eq!(fake.header("last-event-id"), ["-", "k-6", "k-9"]);
}

#[tokio::test]
async fn a_reset_is_told_and_moves_the_position() {
    let reset = "event: tidings.reset\ndata: {\"reason\":\"epoch\",\"channels\":[\"c\"]}\nid: m-2\n\n";
    let fake = Fake::start([Act::Send(stream(&format!("{HELLO}{reset}"))), done()]).await;
    let (words, _) = words(&mut open(&fake, From::Id("old-7".into()))).await;
    assert_eq!(words, ["hello k-5", "reset epoch m-2", "Ended"]);
    assert_eq!(fake.header("last-event-id"), ["old-7", "m-2"]);
}

#[tokio::test]
async fn what_cannot_get_better_ends_the_subscription_with_its_code() {
    let problem = "{\"status\":400,\"code\":\"channel_name_invalid\",\"title\":\"t\"}";
    let head = "content-type: application/problem+json\r\n";
    let fake = Fake::start([Act::Send(answer("400 Bad Request", head, problem))]).await;
    let mut stream = open(&fake, From::Now);
    let (words, error) = words(&mut stream).await;
    assert_eq!((words.len(), error.unwrap().code()), (0, "channel_name_invalid"));
    assert_eq!(stream.next().await, Ok(None));
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let page = answer("200 OK", "content-type: text/html\r\n", "<form>");
    let busy = answer("429 Too Many Requests", "", "");
    let script = [Act::Send(page), Act::Send(busy), Act::Drop, Act::Send(stream(&event(6))), done()];
    let fake = Fake::start(script).await;
    let (words, error) = words(&mut open(&fake, From::Now)).await;
    assert_eq!(words, ["Status(200)", "Status(429)", "network", "reconnected 3", "{\"n\":6}", "Ended"]);
    assert_eq!(error, None);
}

#[tokio::test]
async fn retry_after_is_the_floor_of_the_wait() {
    let busy = answer("503 Service Unavailable", "retry-after: 7\r\n", "");
    let fake = Fake::start([Act::Send(busy), done()]).await;
    let client = Client::new(&fake.url).unwrap();
    let mut stream = client.subscribe(["c"]).open().unwrap();
    let item = stream.next().await.unwrap().unwrap();
    let Item::Disconnected { reason, retry_in } = item else { panic!("{item:?}") };
    assert_eq!(reason, Disconnect::Status(503));
    assert!((Duration::from_secs(7)..=Duration::from_millis(7_500)).contains(&retry_in), "{retry_in:?}");
    // Nothing but the wait is pending, so paused time jumps over it, and not before it.
    tokio::time::pause();
    tokio::select! {
        item = stream.next() => panic!("{item:?} before the wait was over"),
        () = tokio::time::sleep(retry_in - Duration::from_millis(2)) => {}
    }
    tokio::time::resume();
    assert_eq!(stream.next().await, Ok(None));
    assert_eq!(fake.requests().len(), 2);
}

#[tokio::test]
async fn silence_for_two_and_a_half_keep_alives_is_a_stall() {
    let hello = HELLO.replace("15000", "4000");
    let script = [Act::Hold(stream(&hello)), Act::Send(stream(&event(6))), done()];
    let fake = Fake::start(script).await;
    let mut stream = open(&fake, From::Now);
    assert_eq!(word(&stream.next().await.unwrap().unwrap()), "hello k-5");
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    let limit = Duration::from_secs(100);
    let item = tokio::time::timeout(limit, stream.next()).await.expect("no stall").unwrap().unwrap();
    let silent = before.elapsed();
    tokio::time::resume();
    assert_eq!(word(&item), "Stalled");
    assert!((9_900..=10_100).contains(&silent.as_millis()), "{silent:?}");
    let (words, _) = words(&mut stream).await;
    assert_eq!(words, ["reconnected 1", "{\"n\":6}", "Ended"]);
    assert_eq!(fake.header("last-event-id"), ["-", "k-5", "k-6"]);
}

#[tokio::test]
async fn what_the_stream_says_with_retry_is_the_floor_of_the_wait() {
    let fake = Fake::start([Act::Send(stream(&format!("retry: 2317\n\n{HELLO}")))]).await;
    let mut stream = Client::new(&fake.url).unwrap().subscribe(["c"]).open().unwrap();
    assert_eq!(word(&stream.next().await.unwrap().unwrap()), "hello k-5");
    let item = stream.next().await.unwrap().unwrap();
    let Item::Disconnected { retry_in, .. } = item else { panic!("{item:?}") };
    assert!((2_317..=2_817).contains(&retry_in.as_millis()), "{retry_in:?}");
}

#[tokio::test]
async fn after_a_drain_the_wait_falls_into_the_spread() {
    let drain = "event: tidings.drain\ndata: {\"spread_ms\":3}\nid: k-6\n\n";
    let body = format!("retry: 60000\n\n{HELLO}{drain}");
    let fake = Fake::start([Act::Send(stream(&body)), done()]).await;
    let client = Client::new(&fake.url).unwrap();
    let mut stream = client.subscribe(["c"]).open().unwrap();
    let mut waits = Vec::new();
    while let Some(item) = stream.next().await.unwrap() {
        if let Item::Disconnected { retry_in, .. } = item {
            waits.push(retry_in);
            assert!(retry_in <= Duration::from_millis(3), "{waits:?}");
        }
    }
    assert_eq!(waits.len(), 1);
    assert_eq!(fake.header("last-event-id"), ["-", "k-6"]);
}

#[tokio::test]
async fn a_dropped_next_loses_nothing() {
    let body: String = (6..60).map(event).collect();
    let fake = Fake::start([Act::Send(stream(&body)), done()]).await;
    let mut stream = open(&fake, From::Now);
    let mut seen = Vec::new();
    'over: loop {
        tokio::select! {
            biased;
            // Ready at once on every second poll, so most calls of `next` are dropped halfway.
            () = tokio::task::yield_now() => {}
            item = stream.next() => match item.unwrap() {
                Some(Item::Event(event)) => seen.push(event.id.unwrap()),
                Some(_) => {}
                None => break 'over,
            },
        }
    }
    assert_eq!(seen, (6..60).map(|seq| format!("k-{seq}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_endless_line_costs_bounded_memory_and_a_reconnect() {
    let flood = format!("data: {}", "x".repeat(4 * 1024 * 1024));
    let fake = Fake::start([Act::Hold(stream(&flood)), done()]).await;
    let mut stream = open(&fake, From::Now);
    let item = stream.next().await.unwrap().unwrap();
    assert!(matches!(item, Item::Disconnected { reason: Disconnect::Unreadable(_), .. }), "{item:?}");
    stream.close();
}
