//! Where a connection's bytes go: a socket of our own, or a response body that hyper writes.
//!
//! Owns: the two ways to hand over bytes without waiting. Does not know: frames, positions.
//! Flow: in ← bytes from the shard · out → a socket, or `StreamBody` for HTTP/2 and for embedders.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::Frame as BodyFrame;
use mio::net::TcpStream;
use rustix::io::Errno;
use rustix::net::SendFlags;
use tidings_core::limits;

use super::inbox::{Command, Inbox, Key};

/// What a sink did with some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    All,
    /// This many of them; it says when it can take more.
    Part(usize),
    /// The peer is gone.
    Gone,
}

/// A connection's way out.
#[derive(Debug)]
pub(crate) enum Sink {
    Socket(TcpStream),
    Body(Feed),
}

/// The shard's end of a response body. However a connection goes, its response ends.
#[derive(Debug)]
pub(crate) struct Feed(Arc<BodyPipe>);

impl Feed {
    pub(super) fn new(pipe: Arc<BodyPipe>, inbox: Arc<Inbox>, key: Key) -> Self {
        pipe.own(inbox, key);
        Self(pipe)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Sink {
    /// Hands over bytes, as many as fit now.
    pub(crate) fn offer(&mut self, bytes: &Bytes) -> Taken {
        match self {
            Self::Socket(socket) => offer_socket(socket, bytes),
            Self::Body(feed) => feed.0.offer(bytes),
        }
    }

    /// Takes back what it was handed and has not passed on; says whether that was anything.
    pub(crate) fn withdraw(&mut self) -> bool {
        match self {
            // The kernel has it.
            Self::Socket(_) => false,
            Self::Body(feed) => feed.0.withdraw(),
        }
    }

    /// Says that nothing follows. A socket still has to be drained.
    pub(crate) fn end(&mut self) {
        match self {
            // A peer that is already gone needs no end.
            Self::Socket(socket) => socket.shutdown(Shutdown::Write).unwrap_or_default(),
            Self::Body(feed) => feed.0.end(),
        }
    }

    /// Throws away what the peer sends. `None` at its end; else how much it was.
    pub(crate) fn discard(&mut self) -> Option<usize> {
        let Self::Socket(socket) = self else { return Some(0) };
        let mut total = 0;
        let mut buffer = [0; 4096];
        loop {
            match socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(n) => total += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Some(total),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
            if total > limits::PIPELINED_BYTES_MAX {
                return Some(total);
            }
        }
    }
}

fn offer_socket(socket: &TcpStream, bytes: &Bytes) -> Taken {
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|r| !r.is_empty()) {
        // Not through the C library, whose `send` prepares for the thread to be cancelled, each time.
        match rustix::net::send(socket, rest, SendFlags::NOSIGNAL) {
            Ok(0) => return Taken::Gone,
            Ok(n) => sent += n,
            // Edge-triggered: only a refused write makes the socket report that it has room again.
            Err(Errno::AGAIN) => return Taken::Part(sent),
            Err(Errno::INTR) => {}
            Err(_) => return Taken::Gone,
        }
    }
    Taken::All
}

/// What a response body may hold that hyper has not taken.
const PIPE_BYTES_MAX: usize = limits::SLICE_BYTES_MAX;

/// A bounded pipe into a response body.
#[derive(Debug)]
pub(crate) struct BodyPipe {
    state: Mutex<PipeState>,
}

#[derive(Debug, Default)]
struct PipeState {
    queue: VecDeque<Bytes>,
    bytes: usize,
    ended: bool,
    gone: bool,
    /// The shard was refused and waits for room.
    refused: bool,
    reader: Option<Waker>,
    /// Where it is noted when the shard has let go of it, in milliseconds of the clock that never jumps.
    let_go_ms: Option<Arc<AtomicU64>>,
    /// Whom to tell about room and about the end; known once the shard has the connection.
    owner: Option<(Arc<Inbox>, Key)>,
}

impl BodyPipe {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(PipeState::default()) })
    }

    fn own(&self, inbox: Arc<Inbox>, key: Key) {
        let mut state = self.lock();
        state.owner = Some((inbox, key));
        if state.gone {
            state.tell(Command::Gone);
        }
    }

    fn offer(&self, bytes: &Bytes) -> Taken {
        let mut state = self.lock();
        if state.gone {
            return Taken::Gone;
        }
        if state.bytes > 0 && state.bytes + bytes.len() > PIPE_BYTES_MAX {
            state.refused = true;
            return Taken::Part(0);
        }
        state.bytes += bytes.len();
        state.queue.push_back(bytes.clone());
        state.wake_reader();
        Taken::All
    }

    fn withdraw(&self) -> bool {
        let mut state = self.lock();
        state.queue.clear();
        std::mem::take(&mut state.bytes) > 0
    }

    /// Nothing follows.
    fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.note_let_go();
        state.wake_reader();
    }

    /// It ends now. What was not taken of one that had no end is not worth keeping: its client comes back for it.
    fn abandon(&self) {
        let mut state = self.lock();
        if !state.ended {
            state.queue.clear();
        }
        drop(state);
        self.end();
    }

    /// From when its shard lets go of it, the time stands there.
    pub(crate) fn note_let_go(&self, at_ms: Arc<AtomicU64>) {
        let mut state = self.lock();
        state.let_go_ms = Some(at_ms);
        if state.ended {
            state.note_let_go();
        }
    }

    fn lock(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PipeState {
    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn note_let_go(&self) {
        if let Some(at_ms) = &self.let_go_ms {
            at_ms.store(crate::clock::now_ms(), Ordering::Relaxed);
        }
    }

    fn tell(&self, command: fn(Key) -> Command) {
        if let Some((inbox, key)) = &self.owner {
            inbox.push(command(*key));
        }
    }
}

/// The body of a stream's response, fed by its shard.
#[derive(Debug)]
pub(crate) struct StreamBody(pub(crate) Arc<BodyPipe>);

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Self::Error>>> {
        let mut state = self.0.lock();
        if let Some(bytes) = state.queue.pop_front() {
            state.bytes = state.bytes.saturating_sub(bytes.len());
            if state.refused && state.bytes <= PIPE_BYTES_MAX / 2 {
                state.refused = false;
                state.tell(Command::Writable);
            }
            return Poll::Ready(Some(Ok(BodyFrame::data(bytes))));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.gone = true;
        state.queue.clear();
        state.tell(Command::Gone);
    }
}
