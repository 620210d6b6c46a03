//! The body of an answer, in pieces that the peer has to ask for.
//!
//! Owns: their size, when the answer last moved, and that its connection is busy as long as it is there. Does not know:
//! protocols, what the body holds.
//! Flow: a body → pieces · one large piece would be hyper's at once, and nobody could see that it is not taken.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use slab::Slab;

use super::crowd::Busy;
use crate::shard::BodyPipe;

/// The server works on the next piece: it is not the peer that is late.
const OURS: u64 = u64::MAX;

/// Answers of a connection that are on their way, with the time when each last moved.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<Slab<Arc<AtomicU64>>>);

impl Answers {
    /// Whether one of them was asked for no piece for so long.
    pub(super) fn are_stuck(&self, limit: Duration) -> bool {
        let now = crate::clock::now_ms();
        let is_late = |moved: u64| u128::from(now.saturating_sub(moved)) >= limit.as_millis();
        // What is ours lies ahead of every clock.
        self.lock().iter().any(|(_, moved)| is_late(moved.load(Ordering::Relaxed)))
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Arc<AtomicU64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One answer's place among them.
#[derive(Debug)]
pub(super) struct Turn {
    answers: Arc<Answers>,
    place: usize,
    moved_ms: Arc<AtomicU64>,
    of_stream: bool,
}

impl Turn {
    pub(super) fn new(answers: Arc<Answers>) -> Self {
        let moved_ms = Arc::new(AtomicU64::new(crate::clock::now_ms()));
        let place = answers.lock().insert(Arc::clone(&moved_ms));
        Self { answers, place, moved_ms, of_stream: false }
    }

    /// A stream may be quiet, and its shard sees when it is not taken: it counts once its shard has let go of it.
    pub(super) fn of_stream(answers: Arc<Answers>, pipe: &BodyPipe) -> Self {
        let mut turn = Self::new(answers);
        turn.of_stream = true;
        turn.moved_ms.store(OURS, Ordering::Relaxed);
        pipe.note_let_go(Arc::clone(&turn.moved_ms));
        turn
    }

    fn moved(&self, at_ms: u64) {
        if !self.of_stream || self.moved_ms.load(Ordering::Relaxed) != OURS {
            self.moved_ms.store(at_ms, Ordering::Relaxed);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.answers.lock().try_remove(self.place);
    }
}

/// A body in pieces.
#[derive(Debug)]
pub(super) struct Pieces {
    body: Body,
    rest: Bytes,
    bytes_max: usize,
    turn: Option<Turn>,
    _busy: Busy,
}

impl Pieces {
    pub(super) fn new(body: Body, bytes_max: usize, turn: Option<Turn>, busy: Busy) -> Self {
        Self { body, rest: Bytes::new(), bytes_max, turn, _busy: busy }
    }

    fn moved(&self, at_ms: u64) {
        if let Some(turn) = &self.turn {
            turn.moved(at_ms);
        }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => {
                    self.moved(OURS);
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(other) => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        self.moved(crate::clock::now_ms());
        let count = self.rest.len().min(self.bytes_max);
        let piece = self.rest.split_to(count);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = u64::try_from(self.rest.len()).unwrap_or(u64::MAX);
        match hint.exact() {
            Some(exact) => SizeHint::with_exact(exact.saturating_add(rest)),
            None => {
                hint.set_lower(hint.lower().saturating_add(rest));
                hint
            }
        }
    }
}
