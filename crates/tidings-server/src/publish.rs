//! `tidings publish`.
//!
//! Owns: reading the event from the command line. Does not know: HTTP (that is the client's).
//! Flow: arguments or standard input → the client → the id on standard output.

use std::io::{Read, Write};

use anyhow::{Context, Result};
use tidings::core::limits::BODY_BYTES_MAX;
use tidings_client::{Publish, PublishError};

use crate::cli::PublishFlags;

/// Publishes one event and prints its id.
pub(crate) async fn run(flags: PublishFlags) -> Result<()> {
    let data = if flags.data == "-" { standard_input()? } else { flags.data };
    let mut publish = Publish::to(flags.channel);
    if let Some(event) = flags.event {
        publish = publish.event(event);
    }
    publish = if flags.text { publish.text(data) } else { publish.json(data) };
    if let Some(key) = flags.key {
        publish = publish.key(key);
    }
    if let Some(key) = flags.idempotency_key {
        publish = publish.idempotency_key(key);
    }
    if flags.is_final {
        publish = publish.finish();
    }
    let client = flags.server.client()?;
    let published = client.publish(&publish).await.map_err(|error| match error {
        PublishError::NoAnswer(_) => {
            anyhow::Error::new(error).context(format!("cannot publish to {}", flags.server.url))
        }
        other => other.into(),
    })?;
    writeln!(std::io::stdout(), "{}", published.id.unwrap_or_default())?;
    Ok(())
}

fn standard_input() -> Result<String> {
    let mut text = String::new();
    let bound = u64::try_from(BODY_BYTES_MAX)?;
    std::io::stdin()
        .lock()
        .take(bound)
        .read_to_string(&mut text)
        .context("cannot read standard input as UTF-8")?;
    Ok(text)
}
