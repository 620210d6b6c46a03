//! Where a request comes from: our own pages, listed ones, others, or nobody knows.
//!
//! Owns: origins (RFC 6454, Fetch) and what follows from `Origin`, `Sec-Fetch-Site` and `Host`. Does not know: what is
//! asked for, or with which credentials.
//! Flow: header fields as text + the origins that are allowed → a `Site`.

use alloc::string::String;
use core::fmt;
use core::net::Ipv6Addr;

/// Where a request comes from, as far as the browser says so.
///
/// Only a browser holds somebody's cookie for a page that is not trusted with it, so what another program writes into
/// these fields does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Site {
    /// A page of the same origin, the user's own address bar, or the origin of the public URL.
    Own,
    /// A page of an origin that is listed.
    Listed,
    /// A page of any other origin, or evidence that makes no sense.
    Foreign,
    /// Nothing tells: a program that is no browser, an old one's same-origin read, or a link that was followed.
    #[default]
    Unknown,
}

impl Site {
    /// Whether a page that this comes from may see what belongs to the user of its cookie.
    #[must_use]
    pub const fn may_read(self) -> bool {
        !matches!(self, Self::Foreign)
    }

    /// Whether a page that this comes from may change something in the name of the user of its cookie.
    #[must_use]
    pub const fn may_write(self) -> bool {
        matches!(self, Self::Own | Self::Listed)
    }
}

/// What a request says about where it comes from. A field that came twice, or is not text, is `Some("")`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evidence<'a> {
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// `Sec-Fetch-Site`.
    pub fetch_site: Option<&'a str>,
    /// `Sec-Fetch-Mode` and `Sec-Fetch-Dest` say that a page is being opened in a tab.
    pub navigates: bool,
    /// The authority that was asked for.
    pub host: Option<&'a str>,
}

/// Decides where a request comes from. What was listed counts before what the browser thinks of it, and that before
/// what can be compared: behind a proxy that rewrites it, `Host` is not the browser's.
///
/// ```
/// use tidings_core::site::{Evidence, Origin, Site, site};
/// let listed = [Origin::parse("https://app.example")?];
/// let from = |origin| Evidence { origin: Some(origin), host: Some("rt.example"), ..Evidence::default() };
/// assert_eq!(site(&from("https://app.example"), &listed, None), Site::Listed);
/// assert_eq!(site(&from("https://rt.example"), &listed, None), Site::Own);
/// assert_eq!(site(&from("https://app.example.evil"), &listed, None), Site::Foreign);
/// # Ok::<(), tidings_core::site::OriginError>(())
/// ```
#[must_use]
pub fn site(evidence: &Evidence<'_>, listed: &[Origin], public: Option<&Origin>) -> Site {
    let origin = evidence.origin.map(split);
    if let Some(Ok(origin)) = &origin {
        if public.is_some_and(|own| own.is(origin)) {
            return Site::Own;
        }
        if listed.iter().any(|known| known.is(origin)) {
            return Site::Listed;
        }
    }
    match (evidence.fetch_site, origin) {
        (Some("same-origin" | "none"), _) => Site::Own,
        // Somebody followed a link: only they see the answer, and a write would have an origin.
        (Some("cross-site" | "same-site"), None) if evidence.navigates => Site::Unknown,
        (Some(_), _) | (None, Some(Err(_))) => Site::Foreign,
        (None, Some(Ok(origin))) => {
            if evidence.host.is_some_and(|host| origin.is_at(host)) {
                Site::Own
            } else {
                Site::Foreign
            }
        }
        (None, None) => Site::Unknown,
    }
}

/// Why a text is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an origin, which is scheme://host or scheme://host:port and nothing else, such as https://app.example"
)]
pub struct OriginError(String);

/// An origin: scheme, host and port, as browsers compare them. No wildcard, no path, never `null`.
///
/// ```
/// use tidings_core::site::Origin;
/// assert_eq!(Origin::parse("HTTPS://App.example:443")?.as_str(), "https://app.example");
/// assert!(Origin::parse("https://*.example").is_err());
/// # Ok::<(), tidings_core::site::OriginError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin(String);

impl Origin {
    /// Reads an origin and normalises it: lower case, no default port.
    ///
    /// # Errors
    /// [`OriginError`].
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let error = || OriginError(text.chars().take(100).collect());
        let parts = split(text).map_err(|_| error())?;
        let mut out = alloc::format!("{}://{}", parts.scheme, parts.host);
        out.make_ascii_lowercase();
        if let Some(port) = parts.port.filter(|port| Some(*port) != default_port(parts.scheme)) {
            fmt::Write::write_fmt(&mut out, format_args!(":{port}")).map_err(|_| error())?;
        }
        Ok(Self(out))
    }

    /// The origin of an absolute URL.
    ///
    /// # Errors
    /// [`OriginError`].
    pub fn of_url(url: &str) -> Result<Self, OriginError> {
        let after = url.find("://").map_or(0, |at| at + 3);
        let (start, rest) = url.split_at(after);
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        Self::parse(url.get(..start.len() + end).unwrap_or(url))
    }

    /// The origin as browsers write it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a text is the same origin.
    #[must_use]
    pub fn is_text(&self, text: &str) -> bool {
        split(text).is_ok_and(|other| self.is(&other))
    }

    fn is(&self, other: &Parts<'_>) -> bool {
        // It was split when it was made.
        split(&self.0).is_ok_and(|own| {
            own.scheme.eq_ignore_ascii_case(other.scheme)
                && own.host.eq_ignore_ascii_case(other.host)
                && own.port() == other.port()
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::str::FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        Self::parse(text)
    }
}

/// Whether an origin is a page of this machine, on any port.
#[must_use]
pub fn is_loopback_origin(text: &str) -> bool {
    split(text).is_ok_and(|o| default_port(o.scheme).is_some() && is_loopback_name(o.host))
}

/// Whether an authority names this machine.
#[must_use]
pub fn is_loopback_host(text: &str) -> bool {
    authority(text).is_some_and(|(name, _)| is_loopback_name(name))
}

/// Whether a text is the name of a host, with or without a port.
#[must_use]
pub fn is_host(text: &str) -> bool {
    authority(text).is_some()
}

fn is_loopback_name(name: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

struct Parts<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl Parts<'_> {
    fn port(&self) -> Option<u16> {
        self.port.or_else(|| default_port(self.scheme))
    }

    /// Whether a page of this origin would ask this host for what is its own. `Host` has no scheme.
    fn is_at(&self, host: &str) -> bool {
        let Some((name, port)) = authority(host) else { return false };
        name.eq_ignore_ascii_case(self.host) && port.or_else(|| default_port(self.scheme)) == self.port()
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match () {
        () if scheme.eq_ignore_ascii_case("https") => Some(443),
        () if scheme.eq_ignore_ascii_case("http") => Some(80),
        () => None,
    }
}

struct NoOrigin;

/// Schemes of applications that are shells around pages, such as `capacitor`, are origins too.
fn split(text: &str) -> Result<Parts<'_>, NoOrigin> {
    let (scheme, rest) = text.split_once("://").ok_or(NoOrigin)?;
    let (first, others) = scheme.as_bytes().split_first().ok_or(NoOrigin)?;
    let allows = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    if !first.is_ascii_alphabetic() || !others.iter().all(allows) || scheme.eq_ignore_ascii_case("file") {
        return Err(NoOrigin);
    }
    let (host, port) = authority(rest).ok_or(NoOrigin)?;
    Ok(Parts { scheme, host, port })
}

/// A host and its port, if both are valid (RFC 3986 §3.2.2, without user info, escapes and wildcards).
fn authority(text: &str) -> Option<(&str, Option<u16>)> {
    let end = match text.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => text.bytes().position(|b| b == b':').unwrap_or(text.len()),
    };
    let (name, rest) = text.split_at_checked(end)?;
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        None => return None,
        // `u16` would read a plus sign, and as many zeros as one likes.
        Some(digits) if digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|port| *port > 0)?)
        }
        Some(_) => return None,
    };
    let valid = match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => {
            (1..=253).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        }
    };
    valid.then_some((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_normalised_and_everything_else_is_refused() {
        for (text, normal) in [
            ("https://app.example", "https://app.example"),
            ("HTTPS://APP.Example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("http://app.example:443", "http://app.example:443"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ] {
            assert_eq!(Origin::parse(text).unwrap().as_str(), normal, "{text}");
        }
        for text in [
            "",
            "null",
            "*",
            "app.example",
            "https://",
            "https://*",
            "https://*.example",
            "https://app.example/",
            "https://app.example/x",
            "https://app.example?x",
            "https://user@app.example",
            "https://app.example:",
            "https://app.example:0",
            "https://app.example:70000",
            "https://app.example:+1",
            "https://a b",
            "https://app.example,https://b",
            "https://bücher.example",
            "https://[::1",
            "https://[x]",
            "https://::1",
            "file:///",
            "file://x",
            "://x",
            "1x://x",
            "https:/app.example",
            " https://app.example",
        ] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
        for url in ["https://app.example/rt", "https://app.example:443?x", "https://app.example#/"] {
            assert_eq!(Origin::of_url(url).unwrap().as_str(), "https://app.example", "{url}");
        }
        assert!(Origin::of_url("/rt").is_err() && Origin::of_url("").is_err());
    }

    #[test]
    fn where_a_request_comes_from_follows_from_a_table() {
        let listed = [Origin::parse("https://shop.example").unwrap()];
        let public = Origin::parse("https://app.example").unwrap();
        // Origin, Sec-Fetch-Site, Host, and what follows for a request that is no navigation, and for one that is.
        let table = [
            (None, None, "rt.example", Site::Unknown, Site::Unknown),
            (None, Some("same-origin"), "rt.example", Site::Own, Site::Own),
            (None, Some("none"), "rt.example", Site::Own, Site::Own),
            (None, Some("same-site"), "rt.example", Site::Foreign, Site::Unknown),
            (None, Some("cross-site"), "rt.example", Site::Foreign, Site::Unknown),
            (None, Some(""), "rt.example", Site::Foreign, Site::Foreign),
            (None, Some("Same-Origin"), "rt.example", Site::Foreign, Site::Foreign),
            (Some("https://app.example"), None, "rt.example", Site::Own, Site::Own),
            (Some("https://app.example"), Some("same-site"), "rt.example", Site::Own, Site::Own),
            (Some("https://app.example:443"), None, "rt.example", Site::Own, Site::Own),
            (Some("http://app.example"), None, "rt.example", Site::Foreign, Site::Foreign),
            (Some("https://shop.example"), None, "rt.example", Site::Listed, Site::Listed),
            (Some("https://shop.example"), Some("cross-site"), "rt.example", Site::Listed, Site::Listed),
            (
                Some("https://shop.example:8443"),
                Some("cross-site"),
                "rt.example",
                Site::Foreign,
                Site::Foreign,
            ),
            (Some("https://shop.example.evil"), None, "rt.example", Site::Foreign, Site::Foreign),
            (Some("https://shopXexample"), None, "rt.example", Site::Foreign, Site::Foreign),
            (Some("null"), None, "rt.example", Site::Foreign, Site::Foreign),
            (Some("null"), Some("cross-site"), "rt.example", Site::Foreign, Site::Foreign),
            (Some(""), None, "rt.example", Site::Foreign, Site::Foreign),
            // The browser knows better than a `Host` that a proxy may have written.
            (Some("https://site.example"), Some("same-origin"), "10.0.0.7:4080", Site::Own, Site::Own),
            (Some("http://rt.example"), Some("cross-site"), "rt.example", Site::Foreign, Site::Foreign),
            (Some("http://rt.example"), Some("same-site"), "rt.example", Site::Foreign, Site::Foreign),
            // Without its word, the host decides.
            (Some("http://rt.example"), None, "rt.example", Site::Own, Site::Own),
            (Some("https://RT.example"), None, "rt.EXAMPLE", Site::Own, Site::Own),
            (Some("https://rt.example"), None, "rt.example:443", Site::Own, Site::Own),
            (Some("https://rt.example"), None, "rt.example:80", Site::Foreign, Site::Foreign),
            (Some("http://rt.example:4080"), None, "rt.example:4080", Site::Own, Site::Own),
            (Some("http://rt.example:4080"), None, "rt.example", Site::Foreign, Site::Foreign),
            (Some("http://rt.example"), None, "user@rt.example", Site::Foreign, Site::Foreign),
        ];
        for (origin, fetch_site, host, plain, navigation) in table {
            for (navigates, expected) in [(false, plain), (true, navigation)] {
                let evidence = Evidence { origin, fetch_site, navigates, host: Some(host) };
                assert_eq!(site(&evidence, &listed, Some(&public)), expected, "{evidence:?}");
            }
        }
        let evidence = Evidence { origin: Some("https://rt.example"), ..Evidence::default() };
        assert_eq!(site(&evidence, &[], None), Site::Foreign, "without a host");
    }

    #[test]
    fn only_sites_that_are_ours_or_listed_may_write_and_foreign_ones_may_not_even_read() {
        let may = |site: Site| (site.may_read(), site.may_write());
        assert_eq!(may(Site::Own), (true, true));
        assert_eq!(may(Site::Listed), (true, true));
        assert_eq!(may(Site::Unknown), (true, false));
        assert_eq!(may(Site::Foreign), (false, false));
    }

    #[test]
    fn only_loopback_names_are_of_this_machine() {
        for good in ["localhost", "LOCALHOST:4080", "127.0.0.1:1", "[::1]:80", "[::1]"] {
            assert!(is_loopback_host(good), "{good}");
        }
        for bad in
            ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "localhost:x", "::1"]
        {
            assert!(!is_loopback_host(bad), "{bad}");
        }
        assert!(is_loopback_origin("https://localhost:3000"));
        for bad in
            ["null", "localhost", "ftp://localhost", "http://localhost@evil.example", "http://localhost/x"]
        {
            assert!(!is_loopback_origin(bad), "{bad}");
        }
    }
}
