//! What is known of a request before a handler reads it.
//!
//! Owns: the peer, the listener's role and the site, as one value in the request's extensions. Does not know: routes,
//! credentials.
//! Flow: `serve` (peer) → `edge` (role, site) → whoever decides what the request may do.

use std::net::IpAddr;

use http::Extensions;
use http::request::Parts;
use tidings_core::address;
use tidings_core::site::Site;

use crate::Hub;

/// What a listener is for: which routes it has, and whether API keys count there.
///
/// ```
/// use tidings::Role;
/// let public = Role::everything().without_admin().without_api_keys();
/// assert!(!public.takes_api_keys());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    api_keys: bool,
    routes: Routes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Routes {
    All,
    NoAdmin,
    AdminOnly,
}

impl Role {
    /// Every route, and every kind of credentials: a server with one listener.
    #[must_use]
    pub const fn everything() -> Self {
        Self { api_keys: true, routes: Routes::All }
    }

    /// Connections, revocations, metrics and readiness, and nothing else.
    #[must_use]
    pub const fn admin() -> Self {
        Self { api_keys: true, routes: Routes::AdminOnly }
    }

    /// Without the routes of [`Role::admin`]: they look like paths that do not exist.
    #[must_use]
    pub const fn without_admin(mut self) -> Self {
        self.routes = Routes::NoAdmin;
        self
    }

    /// API keys do not count: those who listen here are pages and users.
    #[must_use]
    pub const fn without_api_keys(mut self) -> Self {
        self.api_keys = false;
        self
    }

    /// Whether API keys count.
    #[must_use]
    pub const fn takes_api_keys(self) -> bool {
        self.api_keys
    }

    /// Whether the listener has a route.
    pub(super) const fn has(self, group: Group) -> bool {
        match (self.routes, group) {
            (Routes::All, _) | (_, Group::Health) => true,
            (Routes::NoAdmin, Group::App) | (Routes::AdminOnly, Group::Admin) => true,
            (Routes::NoAdmin, Group::Admin) | (Routes::AdminOnly, Group::App) => false,
        }
    }
}

/// Whom a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// Pages, users and back ends.
    App,
    /// Operators.
    Admin,
    /// Whoever watches that a listener lives.
    Health,
}

/// What is known of a request. Inside another server, there is no peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// The other end of the connection.
    pub(crate) peer: Option<IpAddr>,
    /// What the listener is for.
    pub(crate) role: Role,
    /// Where the page is, if there is one.
    pub(crate) site: Site,
}

impl Arrival {
    /// A request that nothing is known of.
    pub(crate) const UNKNOWN: Self = Self { peer: None, role: Role::everything(), site: Site::Unknown };

    /// What is known of the request with these extensions.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or(Self::UNKNOWN)
    }
}

/// The other end of the connection that a request came on, if this server accepted it: for those who judge requests.
#[must_use]
pub fn peer(extensions: &Extensions) -> Option<IpAddr> {
    Arrival::of(extensions).peer
}

/// The address that whoever sent a request counts for, if that is known.
pub(crate) fn client(hub: &Hub, parts: &Parts) -> Option<IpAddr> {
    let peer = Arrival::of(&parts.extensions).peer?;
    let lines = parts.headers.get_all("x-forwarded-for").iter();
    let lines = lines.map(|line| line.to_str().unwrap_or_default());
    address::client(peer, lines, &hub.0.settings.trusted_proxies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_its_own_routes_and_every_one_shows_that_it_lives() {
        let groups = |role: Role| [Group::App, Group::Admin, Group::Health].map(|group| role.has(group));
        assert_eq!(groups(Role::everything()), [true, true, true]);
        assert_eq!(groups(Role::everything().without_admin()), [true, false, true]);
        assert_eq!(groups(Role::admin()), [false, true, true]);
        assert!(Role::admin().takes_api_keys() && Role::everything().takes_api_keys());
        assert!(!Role::everything().without_api_keys().takes_api_keys());
    }
}
