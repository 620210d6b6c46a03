//! Publishing: answers, refusals and repeats.

use tidings_client::{Client, Publish};

use crate::fake::{Act, Fake, answer};

const JSON: &str = "content-type: application/json\r\n";
const PROBLEM: &str = "content-type: application/problem+json\r\n";

async fn start(script: impl IntoIterator<Item = Act>) -> (Fake, Client) {
    let fake = Fake::start(script).await;
    let client = Client::new(&fake.url).unwrap();
    (fake, client)
}

#[tokio::test]
async fn a_publish_gives_ids_and_says_what_was_a_repeat() {
    let (fake, client) = start([
        Act::Send(answer("201 Created", JSON, "{\"id\":\"k-1\"}")),
        Act::Send(answer("201 Created", JSON, "{\"ids\":{\"a\":\"k-2\",\"b\":\"k-3\"}}")),
        Act::Send(answer("200 OK", JSON, "{\"id\":\"k-1\",\"duplicate\":true}")),
        Act::Send(answer("202 Accepted", JSON, "{\"id\":null}")),
    ])
    .await;
    let one = client.publish(&Publish::to("a").event("e").data(1)).await.unwrap();
    assert_eq!((one.id.as_deref(), one.duplicate), (Some("k-1"), false));
    let two = client.publish(&Publish::to_all(["a", "b"]).text("x")).await.unwrap();
    assert_eq!(two.ids["b"], "k-3");
    let repeat = client.publish(&Publish::to("a").data(1).idempotency_key("i")).await.unwrap();
    assert_eq!((repeat.id.as_deref(), repeat.duplicate), (Some("k-1"), true));
    let typing = client.publish(&Publish::to("a").data(1).ephemeral()).await.unwrap();
    assert_eq!(typing.id, None);
    let first = &fake.requests()[0];
    assert!(first.starts_with("POST /v1/publish HTTP/1.1\r\n"), "{first}");
    assert!(first.ends_with("{\"channel\":\"a\",\"event\":\"e\",\"data\":1}"), "{first}");
    assert_eq!(fake.header("content-type")[0], "application/json");
}

#[tokio::test]
async fn a_refusal_keeps_its_code_and_is_not_repeated() {
    let problem = "{\"status\":409,\"code\":\"channel_finished\",\"title\":\"t\"}";
    let (fake, client) = start([Act::Send(answer("409 Conflict", PROBLEM, problem))]).await;
    let error = client.publish(&Publish::to("a").idempotency_key("i")).await.unwrap_err();
    assert_eq!(error.code(), "channel_finished");
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn only_a_publish_with_a_key_is_repeated() {
    let busy = || Act::Send(answer("503 Service Unavailable", PROBLEM, "{\"code\":\"outcome_unknown\"}"));
    let taken = || Act::Send(answer("201 Created", JSON, "{\"id\":\"k-1\"}"));
    for failure in [busy(), Act::Drop] {
        let (fake, client) = start([failure.clone(), taken()]).await;
        let code = client.publish(&Publish::to("a")).await.unwrap_err().code().to_owned();
        assert!(["outcome_unknown", "no_answer"].contains(&code.as_str()), "{code}");
        assert_eq!(fake.requests().len(), 1);

        let (fake, client) = start([failure, taken()]).await;
        let published = client.publish(&Publish::to("a").idempotency_key("i")).await.unwrap();
        assert_eq!(published.id.as_deref(), Some("k-1"));
        assert_eq!(fake.requests().len(), 2);
    }
}

#[tokio::test]
async fn a_batch_has_one_result_for_each_line() {
    let lines =
        "{\"id\":\"k-1\"}\n{\"line\":2,\"code\":\"event_reserved\",\"detail\":\"d\"}\n{\"id\":\"k-2\"}\n";
    let head = "content-type: application/x-ndjson\r\n";
    let (fake, client) = start([
        Act::Send(answer("200 OK", head, lines)),
        Act::Send(answer("200 OK", head, "{\"id\":\"k-1\"}\n")),
    ])
    .await;
    let batch = [Publish::to("a").data(1), Publish::to("a").event("open"), Publish::to("b").data(2)];
    let results = client.publish_batch(&batch).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap().id.as_deref(), Some("k-1"));
    assert_eq!(results[1].as_ref().unwrap_err().code(), "event_reserved");
    assert_eq!(results[2].as_ref().unwrap().id.as_deref(), Some("k-2"));
    assert_eq!(fake.header("content-type")[0], "application/x-ndjson");
    // An answer with a line too few must not be taken for the results of the first lines.
    let error = client.publish_batch(&batch).await.unwrap_err();
    assert_eq!(error.code(), "answer_invalid");
}
