//! Names are what the table of `spec/wire.md` says, and nothing that could break a frame, a query or a log line.

use tidings_core::job::{Artifact, JobId, JobType, QueueName, ScheduleName, WorkerId};
use tidings_core::{ChannelName, EventName, Key};

/// The whole input is one name.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let text = &*text;
    let channel = ChannelName::parse(text);
    let is_printable = |c: char| ('!'..='~').contains(&c) && !"\"*,\\".contains(c);
    assert_eq!(channel.is_ok(), fits(text, 255) && text.chars().all(is_printable), "channel {text:?}");
    if let Ok(channel) = channel {
        assert_eq!(channel.as_str(), text);
        let is_reserved = text.starts_with("job:") || text.starts_with("tidings:");
        assert_eq!(channel.publishable().is_err(), is_reserved);
    }
    let event = EventName::parse(text);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    assert_eq!(event.is_ok(), fits(text, 64) && text.chars().all(is_plain), "event {text:?}");
    if let Ok(event) = event {
        let is_reserved = ["error", "open"].contains(&text) || text.starts_with("tidings.");
        assert_eq!(event.publishable().is_err(), is_reserved);
    }
    assert_eq!(
        Key::parse(text).is_ok(),
        fits(text, 128) && !text.chars().any(char::is_control),
        "key {text:?}"
    );
    assert_eq!(JobType::parse(text).is_ok(), fits(text, 64) && text.chars().all(is_plain), "type {text:?}");
    // These stand in paths, where one and two dots mean something else.
    let is_part = fits(text, 128) && text.chars().all(is_plain) && text != "." && text != "..";
    assert_eq!(JobId::parse(text).is_ok(), is_part, "job {text:?}");
    assert_eq!(QueueName::parse(text).is_ok(), is_part, "queue {text:?}");
    assert_eq!(WorkerId::parse(text).is_ok(), is_part, "worker {text:?}");
    assert_eq!(ScheduleName::parse(text).is_ok(), is_part, "schedule {text:?}");
    if Artifact::is_name(text) {
        assert!(!text.contains(['/', '\\', '\r', '\n', '\0']) && !text.starts_with('.'), "file {text:?}");
    }
}

fn fits(text: &str, max: usize) -> bool {
    !text.is_empty() && text.len() <= max
}
