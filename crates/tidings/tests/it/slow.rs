//! Readers that do not read.

use std::net::SocketAddr;

use serde_json::json;
use tokio::net::TcpSocket;

use crate::client::Stream;
use crate::server::{Engine, Server, keep};

on_each_engine! {
    a_reader_that_reads_nothing_gets_everything_later_and_delays_nobody,
    a_keyed_event_may_be_replaced_for_a_reader_behind_only,
    a_reader_behind_the_tail_catches_up_from_the_log,
    a_deletion_is_told_between_two_frames_to_a_reader_that_is_behind,
}

/// A stream over a socket that takes little.
pub async fn reader(addr: SocketAddr, query: &str, id: Option<&str>) -> Stream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2_048).unwrap();
    let socket = socket.connect(addr).await.unwrap();
    Stream::on(socket, addr, &format!("/events?{query}"), id).await
}

async fn a_reader_that_reads_nothing_gets_everything_later_and_delays_nobody(engine: Engine) {
    let server = Server::start(engine).await;
    let mut slow = reader(server.addr, "channel=a&channel=b", None).await;
    let mut wrapped = reader(server.addr, "channel=a&envelope=json", None).await;
    let mut quick = server.stream("channel=a").await;
    for stream in [&mut slow, &mut wrapped, &mut quick] {
        stream.hello().await;
    }
    server.until_metric("tidings_connections_behind", 0.0).await;
    let text = "x".repeat(20_000);
    for n in 0..100 {
        server.publish(json!({"channel": "a", "text": format!("{n} {text}")})).await;
        assert!(quick.event().await.data.starts_with(&format!("{n} ")));
    }
    server.until_metric("tidings_connections_behind", 2.0).await;
    for n in 0..100 {
        assert!(slow.event().await.data.starts_with(&format!("{n} ")), "{n}");
        let event = wrapped.event().await;
        assert!(event.data.contains(&format!(r#""data":"{n} xx"#)), "{n}");
    }
    server.until_metric("tidings_connections_behind", 0.0).await;
    server.publish(json!({"channel": "a", "data": 7})).await;
    assert_eq!(slow.numbers(1).await, [7]);
}

async fn a_keyed_event_may_be_replaced_for_a_reader_behind_only(engine: Engine) {
    let server = Server::start(engine).await;
    let from = server.numbers("a", 0..1).await.remove(0);
    let mut live = server.stream("channel=a").await;
    live.hello().await;
    server.until_metric("tidings_connections_behind", 0.0).await;
    let mut lines = Vec::new();
    for n in 0..900 {
        lines.push(
            json!({"channel": "a", "event": "price", "key": format!("k{}", n % 3), "data": n}).to_string(),
        );
        if n % 9 == 0 {
            lines.push(json!({"channel": "a", "event": "news", "data": n}).to_string());
        }
    }
    assert_eq!(server.batch(&lines.join("\n")).await.status, 200);
    for line in &lines {
        let event = live.event().await;
        let sent: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (event.event, event.data),
            (sent["event"].as_str().unwrap().to_owned(), sent["data"].to_string())
        );
    }
    let mut behind = server.resume("channel=a", &from).await;
    behind.hello().await;
    let (mut news, mut prices) = (Vec::new(), Vec::new());
    let keyed = loop {
        let event = behind.event().await;
        let number: u64 = event.data.parse().unwrap();
        if event.event == "news" {
            news.push(number)
        } else {
            prices.push(number)
        }
        if number == 899 {
            break prices;
        }
    };
    assert_eq!(news, (0..900).step_by(9).collect::<Vec<_>>(), "keyless events are exact");
    assert!(keyed.len() < 900, "some were replaced");
    for key in 0..3 {
        let of_key: Vec<u64> = keyed.iter().copied().filter(|n| n % 3 == key).collect();
        assert_eq!(of_key.last(), Some(&(897 + key)), "the newest of each key is there");
        assert!(of_key.is_sorted());
    }
}

async fn a_reader_behind_the_tail_catches_up_from_the_log(engine: Engine) {
    let server = Server::start_with(engine, |s| s.tail_bytes(1).retention(keep(100_000))).await;
    server.numbers("a", 0..5_000).await;
    server.numbers("b", 5_000..5_500).await;
    let mut stream = server.stream("channel=a&channel=b&channel=c&from=start").await;
    let mut slow = reader(server.addr, "channel=b&channel=a&from=start", None).await;
    let publisher = {
        let addr = server.addr;
        tokio::spawn(async move {
            for n in 5_500..5_700_u64 {
                let body = json!({"channel": "b", "data": n}).to_string();
                let kind = [("content-type", "application/json")];
                let answer = crate::http::request(addr, "POST", "/v1/publish", &kind, body.as_bytes()).await;
                assert_eq!(answer.status, 201, "{}", answer.text());
            }
        })
    };
    let all: Vec<u64> = (0..5_700).collect();
    assert_eq!(stream.numbers(5_700).await, all);
    assert_eq!(slow.numbers(5_700).await, all);
    publisher.await.unwrap();
}

async fn a_deletion_is_told_between_two_frames_to_a_reader_that_is_behind(engine: Engine) {
    let server = Server::start(engine).await;
    let mut slow = reader(server.addr, "channel=a&channel=b", None).await;
    slow.hello().await;
    server.until_metric("tidings_connections_behind", 0.0).await;
    let text = "x".repeat(100_000);
    for n in 0..20 {
        let channel = if n % 2 == 0 { "a" } else { "b" };
        server.publish(json!({"channel": channel, "text": format!("{n} {text}")})).await;
    }
    server.until_metric("tidings_connections_behind", 1.0).await;
    assert_eq!(server.delete("/v1/channels?channel=a").await.status, 204);
    server.numbers("a", 99..100).await;
    let (mut resets, mut got) = (0, Vec::new());
    loop {
        let event = slow.next().await.unwrap();
        match &*event.event {
            "tidings.reset" => {
                let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
                assert_eq!((&data["reason"], &data["channels"]), (&json!("deleted"), &json!(["a"])));
                resets += 1;
            }
            _ if event.data == "99" => break,
            _ => {
                let (n, rest) = event.data.split_once(' ').unwrap();
                assert_eq!(rest, text, "a whole frame");
                got.push((event.channel.clone().unwrap(), n.parse::<u64>().unwrap()));
            }
        }
    }
    assert_eq!(resets, 1);
    let of_b: Vec<u64> = got.iter().filter(|(c, _)| c == "b").map(|(_, n)| *n).collect();
    assert_eq!(of_b, (0..20).filter(|n| n % 2 == 1).collect::<Vec<_>>(), "the other channel is whole");
    assert!(got.len() < 20, "what was deleted unread is gone");
}
