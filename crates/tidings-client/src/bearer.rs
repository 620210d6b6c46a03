//! The token that requests bring.
//!
//! Owns: which token is used, and asking for another one. Does not know: what it says, what it is needed for.
//! Flow: a token, or somebody who has some → `Authorization: Bearer` on every request → refused → the next one.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

type Asking = Pin<Box<dyn Future<Output = Option<String>> + Send>>;
type Source = dyn Fn() -> Asking + Send + Sync;

/// What requests are authorized with.
#[derive(Default)]
pub(crate) struct Bearer {
    value: RwLock<Option<HeaderValue>>,
    source: Option<Box<Source>>,
    /// Held by whoever asks the source; the others wait for its token.
    asking: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bearer").finish_non_exhaustive()
    }
}

impl Bearer {
    /// One token, for good. One that no header can hold is refused by the server like any other that is wrong.
    pub(crate) fn fixed(token: &str) -> Arc<Self> {
        Arc::new(Self { value: RwLock::new(Some(header(token))), ..Self::default() })
    }

    /// A token when one is needed, and another when it is refused.
    pub(crate) fn from_source<F>(source: impl Fn() -> F + Send + Sync + 'static) -> Arc<Self>
    where
        F: Future<Output = Option<String>> + Send + 'static,
    {
        Arc::new(Self { source: Some(Box::new(move || Box::pin(source()))), ..Self::default() })
    }

    /// Puts the token into a request; says which.
    pub(crate) async fn apply(&self, headers: &mut HeaderMap) -> Option<HeaderValue> {
        if self.current().is_none() {
            self.renew(None).await;
        }
        let value = self.current()?;
        headers.insert(AUTHORIZATION, value.clone());
        Some(value)
    }

    /// Asks for another token than the one that was refused. `false` if there is none.
    pub(crate) async fn renew(&self, refused: Option<&HeaderValue>) -> bool {
        let Some(source) = &self.source else { return false };
        let _asking = self.asking.lock().await;
        // Somebody else may have asked meanwhile.
        if self.current().as_ref() != refused {
            return true;
        }
        let Some(token) = source().await else { return false };
        let value = header(&token);
        let is_another = refused != Some(&value);
        *self.value.write().unwrap_or_else(PoisonError::into_inner) = Some(value);
        is_another
    }

    fn current(&self) -> Option<HeaderValue> {
        self.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn header(token: &str) -> HeaderValue {
    let value = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut value = value.unwrap_or_else(|_| HeaderValue::from_static("Bearer -"));
    value.set_sensitive(true);
    value
}
