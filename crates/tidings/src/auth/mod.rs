//! Who may do what: from a request's credentials to a grant, and whether it still holds.
//!
//! Owns: the seam for those who know credentials. Does not know: JWTs, API keys, forward-auth (that is in the binary, or in
//! the application), routes.
//! Flow: a request's head → `Authorize` → `Authorized` → handlers and live streams.

mod authorize;

pub use authorize::{AuthError, Authorize, Authorized, Authorizing, Renew, Revoked};
