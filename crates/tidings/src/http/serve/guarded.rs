//! A socket of HTTP/1 that only whole, unambiguous requests come off, and that does not wait for ever.
//!
//! Owns: reading through `wire::http1`, the time of a head that has begun, the time of a write that is not taken. Does not
//! know: hyper, what is asked.
//! Flow: the peer's bytes → what hyper may read, or an offence that the connection's driver answers.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tidings_core::wire::http1::{Bounds, Offence, Requests};
use tidings_core::wire::problem::Code;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// An answer of so many bytes is put together: `send` takes one piece, and is what streams have used just before.
const JOINED_BYTES: usize = 512;

/// What was wrong with the newest request, told to the driver of the connection.
pub(super) type Told = Arc<OnceLock<Offence>>;

/// The socket.
#[derive(Debug)]
pub(super) struct Guarded {
    socket: TcpStream,
    requests: Requests,
    told: Told,
    times: Times,
    /// When the head that has begun has to be complete.
    head: Option<Pin<Box<Sleep>>>,
    /// When what is being written has to move.
    write: Option<Pin<Box<Sleep>>>,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) head: Duration,
    pub(super) write: Duration,
}

impl Guarded {
    pub(super) fn new(socket: TcpStream, times: Times, told: Told) -> Self {
        let requests = Requests::new(Bounds::default());
        Self { socket, requests, told, times, head: None, write: None }
    }

    pub(super) fn into_inner(self) -> TcpStream {
        self.socket
    }

    fn tell(&self, offence: Offence) {
        // Only the first one counts: nothing passes behind it.
        self.told.set(offence).unwrap_or_default();
    }

    /// Passes on what waits of a head that came in pieces.
    fn pass_waiting(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let waiting = self.requests.waiting();
        let count = waiting.len().min(buf.remaining());
        buf.put_slice(waiting.get(..count).unwrap_or_default());
        self.requests.taken(count);
        count > 0
    }

    fn poll_head_time(&mut self, cx: &mut Context<'_>) {
        if !self.requests.is_within_head() {
            self.head = None;
            return;
        }
        let timeout = self.times.head;
        let head = self.head.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        if head.as_mut().poll(cx).is_ready() {
            let detail = "the head of the request did not arrive in time";
            self.tell(Offence { code: Code::RequestTimeout, detail, origin: None, within_body: false });
        }
    }

    /// A write that the peer takes nothing of ends the connection in time.
    fn poll_write_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write = None;
            return written;
        }
        let timeout = self.times.write;
        let write = self.write.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(write.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the answer is not taken")))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.pass_waiting(buf) {
                return Poll::Ready(Ok(()));
            }
            if let Some(offence) = this.told.get() {
                // Whoever reads the body has to hear of it; anything else is answered by the driver, which has polled this.
                return match offence.within_body {
                    true => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, offence.detail))),
                    false => Poll::Pending,
                };
            }
            let before = buf.filled().len();
            match Pin::new(&mut this.socket).poll_read(cx, buf) {
                Poll::Pending => {
                    this.poll_head_time(cx);
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
            let new = buf.filled().get(before..).unwrap_or_default();
            if new.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let read = this.requests.read(new);
            buf.set_filled(before + read.passes);
            if let Some(offence) = read.offence {
                this.tell(offence);
            }
            if read.passes > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write(cx, buf);
        this.poll_write_time(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut small = [0; JOINED_BYTES];
        if let Some(whole) = joined(bufs, &mut small) {
            return self.poll_write(cx, whole);
        }
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write_vectored(cx, bufs);
        this.poll_write_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.told.get().is_some() {
            // The refusal is still to be written.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

/// The pieces as one, if there is room for them.
fn joined<'a>(pieces: &[io::IoSlice<'_>], room: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut end = 0;
    for piece in pieces {
        let begin = end;
        end += piece.len();
        room.get_mut(begin..end)?.copy_from_slice(piece);
    }
    room.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_put_together_where_they_fit_and_in_order() {
        let slices =
            |pieces: &[&'static [u8]]| pieces.iter().map(|p| io::IoSlice::new(p)).collect::<Vec<_>>();
        let mut room = [0; 8];
        assert_eq!(joined(&slices(&[b"head", b"", b"body"]), &mut room), Some(&b"headbody"[..]));
        assert_eq!(joined(&slices(&[b"head", b"body", b"!"]), &mut room), None);
        assert_eq!(joined(&slices(&[]), &mut room), Some(&b""[..]));
    }
}
