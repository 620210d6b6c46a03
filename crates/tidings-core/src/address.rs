//! Addresses of clients: which proxies are believed, and what counts as one client.
//!
//! Owns: networks, the rule of the rightmost address that is not a proxy's. Does not know: sockets, header fields.
//! Flow: the peer of a connection + the addresses that it forwards + trusted networks → the client, if it is known.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr};

use alloc::string::String;

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a network, which is an address and how many of its bits count, such as 10.0.0.0/8")]
pub struct NetworkError(String);

/// A network: all addresses that begin with the same bits.
///
/// ```
/// use tidings_core::address::Network;
/// let network: Network = "10.0.0.0/8".parse()?;
/// assert!(network.contains("10.1.2.3".parse().unwrap()));
/// assert!(!network.contains("11.1.2.3".parse().unwrap()));
/// # Ok::<(), tidings_core::address::NetworkError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether an address lies in it. An IPv4 address that came over IPv6 is one of IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl core::str::FromStr for Network {
    type Err = NetworkError;

    /// Reads an address, alone or with a number of bits.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let error = || NetworkError(text.chars().take(64).collect());
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => all,
            Some(bits) if bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= all).ok_or_else(error)?
            }
            Some(_) => return Err(error()),
        };
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Who the client is, for what is counted by address. `None`: it is a program of this machine, or behind a proxy that does
/// not say.
///
/// `forwarded` are the lines of `X-Forwarded-For`. A peer on loopback and a trusted one are believed: the last address that
/// is not a proxy's was written by one of ours, and whatever stands before it by anybody.
///
/// ```
/// use tidings_core::address::client;
/// let (peer, trusted) = ("10.0.0.1".parse().unwrap(), ["10.0.0.0/8".parse()?]);
/// assert_eq!(client(peer, ["6.6.6.6, 9.9.9.9, 10.0.0.2"].into_iter(), &trusted), "9.9.9.9".parse().ok());
/// assert_eq!(client(peer, ["9.9.9.9"].into_iter(), &[]), Some(peer), "nobody said that it is a proxy");
/// # Ok::<(), tidings_core::address::NetworkError>(())
/// ```
#[must_use]
pub fn client<'a>(
    peer: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a str>,
    trusted: &[Network],
) -> Option<IpAddr> {
    let is_ours = |address: IpAddr| {
        address.to_canonical().is_loopback() || trusted.iter().any(|network| network.contains(address))
    };
    if !is_ours(peer) {
        return Some(peer.to_canonical());
    }
    let mut nearest = None;
    for text in forwarded.rev().flat_map(|line| line.rsplit(',')) {
        let Some(address) = read(text.trim()) else { break };
        nearest = Some(address);
        if !is_ours(address) {
            return nearest;
        }
    }
    // What stands behind it makes no sense, or nothing does: who that was is still better than nobody.
    nearest.filter(|address| !address.is_loopback())
}

/// What counts as one client: of IPv6, everybody has a whole network of 64 bits.
#[must_use]
pub fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// An address as proxies write it: some add the port.
fn read(text: &str) -> Option<IpAddr> {
    let plain = text.parse().ok();
    let with_port = || text.parse::<core::net::SocketAddr>().ok().map(|socket| socket.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    plain.or_else(with_port).or_else(in_brackets).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_what_begins_with_their_bits() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("192.168.1.128/25", "192.168.1.255", "192.168.1.127"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::1", "::1", "::2"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::ffff:11.0.0.1"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{network} {outside}");
        }
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("1.2.3.4".parse().unwrap()) && !all.contains("::1".parse().unwrap()));
        for bad in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "x", "::/129", "10.0.0.0/8/8"]
        {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_no_proxy() {
        let trusted: [Network; 2] = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        // Peer, what it forwards, and who that is.
        let table: [(&str, &[&str], Option<&str>); 17] = [
            ("9.9.9.9", &[], Some("9.9.9.9")),
            ("9.9.9.9", &["1.1.1.1"], Some("9.9.9.9")),
            ("::ffff:9.9.9.9", &[], Some("9.9.9.9")),
            ("127.0.0.1", &[], None),
            ("::1", &["1.1.1.1"], Some("1.1.1.1")),
            ("127.0.0.1", &["1.1.1.1, 2.2.2.2"], Some("2.2.2.2")),
            ("127.0.0.1", &["1.1.1.1", "2.2.2.2"], Some("2.2.2.2")),
            ("127.0.0.1", &["2.2.2.2, 127.0.0.1"], Some("2.2.2.2")),
            ("127.0.0.1", &["127.0.0.1"], None),
            ("10.0.0.1", &["1.1.1.1, 2.2.2.2, 10.9.9.9"], Some("2.2.2.2")),
            ("fd00::1", &["2001:db8::1"], Some("2001:db8::1")),
            ("10.0.0.1", &[], None),
            ("10.0.0.1", &["unknown"], None),
            ("10.0.0.1", &["evil, 10.3.3.3"], Some("10.3.3.3")),
            ("10.0.0.1", &["2.2.2.2:5678"], Some("2.2.2.2")),
            ("10.0.0.1", &["[2001:db8::1]:5678"], Some("2001:db8::1")),
            ("10.0.0.1", &["", "1.1.1.1, "], None),
        ];
        for (peer, forwarded, expected) in table {
            let found = client(peer.parse().unwrap(), forwarded.iter().copied(), &trusted);
            assert_eq!(found, expected.map(|e| e.parse().unwrap()), "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn a_client_of_ipv6_is_a_network() {
        let count = |text: &str| counted(text.parse().unwrap());
        assert_eq!(count("2001:db8:1:2:3:4:5:6"), count("2001:db8:1:2::1"));
        assert_ne!(count("2001:db8:1:2::1"), count("2001:db8:1:3::1"));
        assert_eq!(count("::ffff:9.9.9.9"), count("9.9.9.9"));
        assert_ne!(count("9.9.9.9"), count("9.9.9.8"));
    }
}
