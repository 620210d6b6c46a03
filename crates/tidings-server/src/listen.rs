//! The listening socket: inherited, so that a restart loses no connection attempt, or our own.
//!
//! Owns: where connections come from. Does not know: what they ask.
//! Flow: `LISTEN_FDS` or an address → a listener, and what happened in one sentence if there is none.

use std::net::TcpListener;

use anyhow::{Context, Result, bail};
use listenfd::ListenFd;

use crate::door::Place;

/// Connections that wait to be accepted: the kernel's own default. Beyond, a reconnecting client loses a whole second.
const BACKLOG: i32 = 4_096;

/// Opens every listener. The first one takes the inherited socket if there is one; the others bind their addresses.
pub(crate) fn all(places: &[Place], is_dev: bool) -> Result<Vec<(tokio::net::TcpListener, Place)>> {
    let mut inherited = inherited(is_dev)?;
    let open = |place: &Place| {
        let listener = match inherited.take() {
            Some(listener) => listener,
            None => bind(place)?,
        };
        listener.set_nonblocking(true)?;
        Ok((tokio::net::TcpListener::from_std(listener)?, *place))
    };
    places.iter().map(open).collect()
}

fn inherited(is_dev: bool) -> Result<Option<TcpListener>> {
    let mut sockets = ListenFd::from_env();
    let Some(listener) =
        sockets.take_tcp_listener(0).context("the inherited socket is not a TCP listener")?
    else {
        return Ok(None);
    };
    let address = listener.local_addr()?;
    if is_dev && !address.ip().is_loopback() {
        bail!(
            "--dev means no authentication, so the inherited socket on {address} is refused: it is not a loopback address"
        );
    }
    tracing::info!(%address, "took over an inherited socket");
    Ok(Some(listener))
}

fn bind(place: &Place) -> Result<TcpListener> {
    let Place { address, flag, .. } = *place;
    let listener = TcpListener::bind(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow::anyhow!("{address} is taken by another program: stop it, or choose another with {flag}")
        }
        _ => anyhow::Error::new(error).context(format!("cannot listen on {address}")),
    })?;
    // The standard library has just said 128; a listening socket takes another number.
    rustix::net::listen(&listener, BACKLOG).with_context(|| format!("cannot listen on {address}"))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_of_connections_waits_to_be_accepted_and_is_not_refused() {
        let address = "127.0.0.1:0".parse().unwrap();
        let place = Place { flag: "--listen", address, role: tidings::Role::everything() };
        let listener = bind(&place).unwrap();
        let address = listener.local_addr().unwrap();
        // Nobody accepts. One that does not fit the queue is tried again by the kernel after a second.
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(900)).unwrap();
        let waiting: Vec<TcpStream> = (0..300).map(connect).collect();
        assert_eq!(waiting.len(), 300);
    }
}
