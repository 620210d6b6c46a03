//! `tidings health`.
//!
//! Owns: asking a server on this machine whether it is ready, for a container or a supervisor that has no other program to
//! ask with. Does not know: what makes a server ready.
//! Flow: an address → `GET /readyz` → its answer on standard output, and the exit code.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cli::HealthFlags;

/// How long connecting may take, and each piece of the answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The answer is a line or two.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Asks, and says what came.
pub(crate) fn run(flags: &HealthFlags) -> Result<ExitCode> {
    let address = reachable(flags.admin_listen.unwrap_or(flags.listen));
    let answer = ask(address).with_context(|| format!("no answer from {address}"))?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("no answer of HTTP from {address}") };
    writeln!(std::io::stdout(), "{}", body.trim())?;
    let is_ready = head.split(' ').nth(1) == Some("200");
    Ok(if is_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where a server that listens on all addresses is found.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn ask(address: SocketAddr) -> Result<String> {
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let host = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port());
    write!(socket, "GET /readyz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}
