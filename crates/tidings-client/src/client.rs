//! The entry: one server.
//!
//! Owns: the base URL. Does not know: streams, what is published.
//! Flow: in ← a base URL · out → URLs of routes, requests.

use http::Uri;

use crate::bearer::Bearer;
use crate::subscribe::Subscribe;
use crate::transport::Transport;

/// Why a base URL was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Not `http://host[:port][/prefix]`.
    #[error("base url {0:?} is not http://host[:port][/prefix]")]
    Invalid(String),
    /// A scheme other than `http`.
    #[error("base url {0:?} is not plain http: TLS is not supported yet, use a proxy on this machine")]
    Scheme(String),
}

impl UrlError {
    /// A stable code for this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "url_invalid",
            Self::Scheme(_) => "url_scheme_unsupported",
        }
    }
}

/// A server to subscribe at and to publish to. Cloning is cheap and shares the connections.
///
/// ```
/// use tidings_client::Client;
/// assert!(Client::new("http://127.0.0.1:4080").is_ok());
/// assert_eq!(Client::new("https://example.org").unwrap_err().code(), "url_scheme_unsupported");
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    transport: Transport,
}

impl Client {
    /// A client of the server at `base_url`, such as `http://127.0.0.1:4080` or `http://localhost/rt`. Connects to
    /// nothing yet.
    ///
    /// # Errors
    /// [`UrlError`] if `base_url` is not plain `http://`.
    pub fn new(base_url: &str) -> Result<Self, UrlError> {
        let invalid = || UrlError::Invalid(base_url.into());
        let uri: Uri = base_url.parse().map_err(|_| invalid())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some(_) => return Err(UrlError::Scheme(base_url.into())),
            None => return Err(invalid()),
        }
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        if !has_host || uri.query().is_some() {
            return Err(invalid());
        }
        Ok(Self { base: base_url.trim_end_matches('/').into(), transport: Transport::new() })
    }

    /// Brings a token with every request: a JWT or an API key.
    ///
    /// ```
    /// # use tidings_client::Client;
    /// # let key = String::new();
    /// let client = Client::new("http://127.0.0.1:4080")?.bearer(&key);
    /// # Ok::<(), tidings_client::UrlError>(())
    /// ```
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        Self { transport: self.transport.with_bearer(Bearer::fixed(token)), ..self }
    }

    /// Asks for a token when one is needed, and for another when the server refuses it, 401 or 403. A subscription then goes
    /// on where it was; without another token it is over.
    ///
    /// ```
    /// # use tidings_client::Client;
    /// # async fn log_in() -> Option<String> { None }
    /// let client = Client::new("http://127.0.0.1:4080")?.tokens(|| async { log_in().await });
    /// # Ok::<(), tidings_client::UrlError>(())
    /// ```
    #[must_use]
    pub fn tokens<F>(self, source: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<String>> + Send + 'static,
    {
        Self { transport: self.transport.with_bearer(Bearer::from_source(source)), ..self }
    }

    /// Begins a subscription to `channels`; see [`Subscribe::open`].
    ///
    /// Without any channel the server gives the caller's own.
    pub fn subscribe<C: Into<String>>(&self, channels: impl IntoIterator<Item = C>) -> Subscribe {
        Subscribe::new(self.clone(), channels.into_iter().map(Into::into).collect())
    }

    /// The URL of a route; `path` begins with a slash.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_with_a_host_is_a_base_url() {
        for bad in ["", "localhost", "http://", "127.0.0.1:4080", "http://a/?x=1", "http://a b"] {
            assert_eq!(Client::new(bad).unwrap_err().code(), "url_invalid", "{bad:?}");
        }
        for bad in ["https://a", "ftp://a"] {
            assert_eq!(Client::new(bad).unwrap_err().code(), "url_scheme_unsupported", "{bad:?}");
        }
        let client = Client::new("http://localhost:1/rt/").unwrap();
        assert_eq!(client.url("/events"), "http://localhost:1/rt/events");
    }
}
