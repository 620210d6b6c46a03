//! What happens in the demo by itself: ticks, so that a gap would show, and notifications.
//!
//! Owns: their text and pace. Does not know: who watches.
//! Flow: a timer → the hub.

use std::time::Duration;

use serde_json::{Value, json};
use tidings::Hub;
use tidings::core::ChannelName;

use super::export::publication;

const NOTES: [(&str, &str); 8] = [
    ("Order 48213 was paid", "success"),
    ("Ana Duarte approved invoice 2041", "success"),
    ("Storage is at 80\u{a0}%", "warning"),
    ("Build 318 passed", "success"),
    ("Two new members joined the workspace", "info"),
    ("The nightly backup is complete", "info"),
    ("A card payment was declined", "warning"),
    ("The parcel left the warehouse in Porto", "info"),
];

/// Publishes a tick a second and a notification every eight, until the hub closes.
pub(crate) async fn run(hub: Hub) {
    let mut tick = last_tick(&hub).await;
    if tick == 0 {
        let welcome = "Welcome! Open a second tab and say hello: messages come by SSE and leave by POST.";
        publish(&hub, "demo:chat", "chat", &json!({ "name": "tidings", "text": welcome, "tab": "server" }))
            .await;
    }
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        // The count goes on where the log ends, also after a restart: the page checks that none is missing.
        if publish(&hub, "demo:ticks", "tick", &json!({ "n": tick + 1 })).await {
            tick += 1;
        }
        if tick % 8 == 3 {
            let index = usize::try_from(tick / 8).unwrap_or(0) % NOTES.len();
            if let Some((title, level)) = NOTES.get(index) {
                notify(&hub, title, level).await;
            }
        }
    }
}

/// Publishes a notification.
pub(crate) async fn notify(hub: &Hub, title: &str, level: &str) {
    publish(hub, "demo:notifications", "notification", &json!({ "title": title, "level": level })).await;
}

async fn last_tick(hub: &Hub) -> u64 {
    let Ok(channel) = ChannelName::parse("demo:ticks") else { return 0 };
    let newest = hub.newest(&channel).await.ok().flatten();
    let tick = newest.and_then(|data| serde_json::from_str::<Value>(&data).ok()?.get("n")?.as_u64());
    tick.unwrap_or(0)
}

async fn publish(hub: &Hub, channel: &str, event: &str, data: &Value) -> bool {
    let published = match publication(channel, event, data) {
        Ok(publication) => hub.publish(publication).await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    if let Err(error) = &published {
        tracing::warn!(%error, channel, "the demo could not publish");
    }
    published.is_ok()
}
