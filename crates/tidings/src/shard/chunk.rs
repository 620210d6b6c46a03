//! Several frames in one write.
//!
//! Owns: bytes for a socket and where in them each frame ends. Does not know: sockets.
//! Flow: in ← frames in order · out → bytes, and what is left of a frame when a socket took a part.

use std::sync::Arc;

use bytes::Bytes;
use tidings_core::Seq;

use crate::frame::{Encoding, Frame};

/// Frames of one connection, or of one channel for all its connections.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) bytes: Bytes,
    frames: Vec<(usize, Arc<Frame>)>,
    encoding: Option<Encoding>,
}

/// What is left when a socket took a part of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    /// The rest of the frame that was cut: nothing else may be written before it.
    pub(crate) pending: Bytes,
    /// The last frame of which the socket took a byte; `None` if it took none of any.
    pub(crate) reached: Option<Seq>,
    /// How many frames that are.
    pub(crate) frames: usize,
}

impl Chunk {
    /// Joins frames. One frame alone is shared, not copied.
    pub(crate) fn new<'a>(frames: impl Iterator<Item = &'a Arc<Frame>> + Clone, encoding: Encoding) -> Self {
        let mut marks = Vec::new();
        let mut end = 0;
        for frame in frames.clone() {
            end += frame.bytes(encoding).len();
            marks.push((end, Arc::clone(frame)));
        }
        let bytes = match marks.as_slice() {
            [] => Bytes::new(),
            [(_, only)] => only.bytes(encoding).clone(),
            _ => {
                let mut joined = Vec::with_capacity(end);
                frames.for_each(|f| joined.extend_from_slice(f.bytes(encoding)));
                Bytes::from(joined)
            }
        };
        Self { bytes, frames: marks, encoding: Some(encoding) }
    }

    /// How many frames it holds.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether a frame in it finishes its channel.
    pub(crate) fn has_final(&self) -> bool {
        self.frames.iter().any(|(_, f)| f.flags.is_final)
    }

    /// Whether a frame up to a position finishes its channel.
    pub(crate) fn has_final_upto(&self, upto: Seq) -> bool {
        self.frames.iter().any(|(_, f)| f.flags.is_final && f.seq <= upto)
    }

    /// The sequence of its last frame.
    pub(crate) fn last(&self) -> Option<Seq> {
        self.frames.last().map(|(_, f)| f.seq)
    }

    /// What is left after a socket took `taken` bytes. The rest of a frame shares the frame's own bytes, so that a stalled
    /// connection keeps one frame alive, not the chunk.
    pub(crate) fn rest(&self, taken: usize) -> Rest {
        let cut = self.frames.partition_point(|(end, _)| *end <= taken);
        let start = cut.checked_sub(1).and_then(|i| self.frames.get(i)).map_or(0, |(end, _)| *end);
        let before = cut.checked_sub(1).and_then(|i| self.frames.get(i)).map(|(_, f)| f.seq);
        match (self.frames.get(cut), self.encoding) {
            (Some((_, frame)), Some(encoding)) if taken > start => Rest {
                pending: frame.bytes(encoding).slice(taken - start..),
                reached: Some(frame.seq),
                frames: cut + 1,
            },
            _ => Rest { pending: Bytes::new(), reached: before, frames: cut },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::test_frame;

    fn frame(seq: u64) -> Arc<Frame> {
        test_frame(seq, "c")
    }

    #[test]
    fn at_every_cut_what_was_taken_and_what_is_pending_make_whole_frames() {
        let frames = [frame(3), frame(5), frame(8)];
        let chunk = Chunk::new(frames.iter(), Encoding::Plain);
        for taken in 0..=chunk.bytes.len() {
            let rest = chunk.rest(taken);
            let mut sent = chunk.bytes.slice(..taken).to_vec();
            sent.extend_from_slice(&rest.pending);
            let whole: Vec<u8> =
                frames.iter().take(rest.frames).flat_map(|f| f.bytes(Encoding::Plain).to_vec()).collect();
            assert_eq!(sent, whole, "cut at {taken}");
            assert_eq!(rest.reached, rest.frames.checked_sub(1).map(|i| frames[i].seq));
        }
    }
}
