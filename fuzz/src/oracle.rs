//! A reader of streams, written from WHATWG HTML §9.2.6 alone: all bytes at once, no cleverness.

/// What a stream said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Event {
        event: String,
        data: String,
        last_event_id: String,
        channel: Option<String>,
        time_ms: Option<u64>,
    },
    Retry(u64),
}

/// Everything that a whole stream said, and the id that a reconnect would send.
pub(crate) fn read(stream: &[u8], last_event_id: &str) -> (Vec<Said>, String) {
    let text = String::from_utf8_lossy(stream);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut lines: Vec<String> =
        text.replace("\r\n", "\n").replace('\r', "\n").split('\n').map(Into::into).collect();
    // What stands behind the last line end is no line.
    lines.pop();

    let mut said = Vec::new();
    let (mut data, mut event) = (String::new(), String::new());
    let (mut channel, mut time_ms) = (None, None);
    let (mut buffer, mut last) = (last_event_id.to_owned(), last_event_id.to_owned());
    for line in lines {
        if line.is_empty() {
            last.clone_from(&buffer);
            if !data.is_empty() {
                data.pop();
                let event = if event.is_empty() { "message".to_owned() } else { event.clone() };
                said.push(Said::Event {
                    event,
                    data: data.clone(),
                    last_event_id: last.clone(),
                    channel,
                    time_ms,
                });
            }
            data.clear();
            event.clear();
            (channel, time_ms) = (None, None);
            continue;
        }
        let (field, value) = match line.find(':') {
            Some(0) => continue,
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line.as_str(), ""),
        };
        let value = value.strip_prefix(' ').unwrap_or(value);
        let is_number = !value.is_empty() && value.chars().all(|c| c.is_ascii_digit());
        match field {
            "event" => event = value.to_owned(),
            "data" => data = format!("{data}{value}\n"),
            "id" if !value.contains('\0') => buffer = value.to_owned(),
            "retry" if is_number => said.push(Said::Retry(value.parse().unwrap_or(u64::MAX))),
            "channel" => channel = Some(value.to_owned()),
            "time" if is_number => time_ms = value.parse().ok(),
            _ => {}
        }
    }
    (said, last)
}
