//! Tokens: brought with every request, and exchanged when they are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidings_client::{Client, Item, Publish, Retry, Subscription};

use crate::fake::{Act, Fake, answer, stream};

const HELLO: &str = "event: tidings.hello\ndata: {\"connection\":\"c1\",\"keepalive_ms\":15000}\nid: k-5\n\n";
const OVER: &str = "event: tidings.unauthorized\ndata: {\"code\":\"token_expired\"}\nid: k-5~s\n\n";

fn refusal(status: &str) -> Act {
    Act::Send(answer(
        status,
        "content-type: application/problem+json\r\nconnection: close\r\n",
        "{\"code\":\"token_expired\"}",
    ))
}

fn published() -> Act {
    Act::Send(answer("201 Created", "connection: close\r\n", "{\"id\":\"k-1\"}"))
}

/// A client whose source gives t1, t2, … up to `last`, and then the last one again.
fn client(fake: &Fake, last: usize) -> (Client, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let client = Client::new(&fake.url).unwrap().tokens(move || {
        let n = (count.fetch_add(1, Ordering::SeqCst) + 1).min(last);
        async move { Some(format!("t{n}")) }
    });
    (client, asked)
}

fn open(client: &Client) -> Subscription {
    let quick = Retry::default().base(Duration::from_millis(1)).max(Duration::from_millis(2));
    client.subscribe(["c"]).retry(quick).open().unwrap()
}

#[tokio::test]
async fn a_token_is_brought_with_every_request() {
    let fake = Fake::start([published(), Act::Hold(stream(HELLO))]).await;
    let client = Client::new(&fake.url).unwrap().bearer("tk_1");
    client.publish(&Publish::to("c").text("x")).await.unwrap();
    open(&client).next().await.unwrap();
    assert_eq!(fake.header("authorization"), ["Bearer tk_1", "Bearer tk_1"]);
    assert!(!format!("{client:?}").contains("tk_1"), "no log shows it");
}

#[tokio::test]
async fn a_refusal_is_final_without_another_token() {
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let fake = Fake::start([refusal(status)]).await;
        let error = open(&Client::new(&fake.url).unwrap().bearer("t")).next().await.unwrap_err();
        assert_eq!((error.code(), fake.requests().len()), ("token_expired", 1), "{status}");
    }
    let fake = Fake::start([refusal("401 Unauthorized")]).await;
    let (client, asked) = client(&fake, 1);
    assert_eq!(open(&client).next().await.unwrap_err().code(), "token_expired");
    assert_eq!((asked.load(Ordering::SeqCst), fake.requests().len()), (2, 1), "the same token again is none");
}

#[tokio::test]
async fn another_token_is_asked_for_once_and_the_request_goes_on() {
    let fake = Fake::start([refusal("401 Unauthorized"), published()]).await;
    let (client, asked) = client(&fake, 2);
    client.publish(&Publish::to("c").text("x")).await.unwrap();
    assert_eq!(fake.header("authorization"), ["Bearer t1", "Bearer t2"]);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_stream_whose_grant_ends_resumes_with_another_token() {
    let fake = Fake::start([Act::Send(stream(&format!("{HELLO}{OVER}"))), Act::Hold(stream(HELLO))]).await;
    let (client, _) = client(&fake, 2);
    let mut stream = open(&client);
    let mut hellos = 0;
    while hellos < 2 {
        hellos += usize::from(matches!(stream.next().await.unwrap(), Some(Item::Hello(_))));
    }
    assert_eq!(fake.header("authorization"), ["Bearer t1", "Bearer t2"]);
    assert_eq!(fake.header("last-event-id"), ["-", "k-5~s"]);
}

#[tokio::test]
async fn a_stream_whose_grant_ends_is_over_without_another_token() {
    let fake = Fake::start([Act::Send(stream(&format!("{HELLO}{OVER}")))]).await;
    let mut stream = open(&Client::new(&fake.url).unwrap().bearer("t"));
    let error = loop {
        match stream.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a word"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), "token_expired");
    assert_eq!(fake.requests().len(), 1, "the same token is not tried again");
}
