//! The listening socket: inherited, so that a restart loses no connection attempt, or our own.
//!
//! Owns: where connections come from. Does not know: what they ask.
//! Flow: `LISTEN_FDS` or an address → a listener, and what happened in one sentence if there is none.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};
use listenfd::ListenFd;

/// Takes the inherited socket if there is one, else binds the address.
pub(crate) fn listener(address: SocketAddr) -> Result<tokio::net::TcpListener> {
    let listener = match inherited()? {
        Some(listener) => listener,
        None => bind(address)?,
    };
    listener.set_nonblocking(true)?;
    Ok(tokio::net::TcpListener::from_std(listener)?)
}

fn inherited() -> Result<Option<TcpListener>> {
    let mut sockets = ListenFd::from_env();
    let Some(listener) =
        sockets.take_tcp_listener(0).context("the inherited socket is not a TCP listener")?
    else {
        return Ok(None);
    };
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        bail!(
            "--dev means no authentication, so the inherited socket on {address} is refused: it is not a loopback address"
        );
    }
    tracing::info!(%address, "took over an inherited socket");
    Ok(Some(listener))
}

fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow::anyhow!("{address} is taken by another program: stop it, or choose another with --listen")
        }
        _ => anyhow::Error::new(error).context(format!("cannot listen on {address}")),
    })
}
