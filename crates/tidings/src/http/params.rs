//! Query parameters.
//!
//! Owns: reading a query string. Does not know: what parameters mean beyond their names.
//! Flow: the query of a request → values; unknown ones are ignored.

use std::borrow::Cow;

use tidings_core::{ChannelName, limits};

use super::problem::{Code, Problem};

/// What a page of a list or of history holds at most, and if nobody says.
const LIMIT_MAX: usize = 1_000;
const LIMIT_DEFAULT: usize = 100;

/// A decoded query.
#[derive(Debug)]
pub(super) struct Params<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Params<'a> {
    pub(super) fn of(uri: &'a http::Uri) -> Self {
        Self(form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).collect())
    }

    /// The first value of a parameter.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of a parameter.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// The channels of a stream, each once. None if none is named.
    pub(super) fn channels(&self) -> Result<Vec<ChannelName>, Problem> {
        let mut channels: Vec<ChannelName> = Vec::new();
        for text in self.all("channel") {
            let channel = ChannelName::parse(text)?;
            if !channels.contains(&channel) {
                channels.push(channel);
            }
            if channels.len() > limits::STREAM_CHANNELS_MAX {
                let max = limits::STREAM_CHANNELS_MAX;
                return Err(Problem::new(
                    Code::ChannelsTooMany,
                    format!("a stream has at most {max} channels"),
                ));
            }
        }
        Ok(channels)
    }

    /// The one channel that a request is about.
    pub(super) fn channel(&self) -> Result<ChannelName, Problem> {
        let text =
            self.one("channel").ok_or_else(|| Problem::new(Code::ChannelsMissing, "name a channel"))?;
        Ok(ChannelName::parse(text)?)
    }

    /// How long a page is to be.
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        let Some(text) = self.one("limit") else { return Ok(LIMIT_DEFAULT) };
        let limit = text.parse().ok().filter(|n| (1..=LIMIT_MAX).contains(n));
        limit.ok_or_else(|| Problem::new(Code::LimitInvalid, format!("limit is 1 to {LIMIT_MAX}")))
    }

    /// With `--dev`: who asks.
    pub(super) fn subject(&self) -> Result<&str, Problem> {
        let subject = self.one("as").filter(|s| !s.is_empty()).unwrap_or("dev");
        // `user:<subject>` has to be a channel.
        ChannelName::parse(&format!("user:{subject}")).map(|_| subject).map_err(|_| {
            Problem::new(Code::SubjectInvalid, format!("{subject:?} cannot be part of a channel name"))
        })
    }
}
