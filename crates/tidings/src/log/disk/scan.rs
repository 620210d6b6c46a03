//! Reading a segment from its first frame on.
//!
//! Owns: where its valid frames end, and what stands behind them. Does not know: what that means for the log.
//! Flow: in ← the bytes of a segment · out → frames and records, in order.

use super::format::{ALIGN, FRAME_HEADER, FrameHeader, RawRecord, SEGMENT_HEADER, to_usize};

/// A frame that passed its checksum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) header: FrameHeader,
    /// Where it starts in the segment.
    pub(super) offset: usize,
    records: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at `offset`, if a whole and valid one stands there.
    pub(super) fn at(bytes: &'a [u8], offset: usize, salt: u32) -> Option<Self> {
        let rest = bytes.get(offset..)?;
        let header = FrameHeader::decode(rest, salt)?;
        let records = rest.get(FRAME_HEADER..FRAME_HEADER.checked_add(to_usize(header.len))?)?;
        header.holds(records, salt).then_some(Self { header, offset, records })
    }

    /// Its records with their offsets in the segment; it ends early with `None` where one does not parse.
    pub(super) fn records(&self) -> impl Iterator<Item = Option<(usize, RawRecord<'a>)>> + use<'a> {
        let mut rest = self.records;
        let mut offset = self.offset + FRAME_HEADER;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let Some(record) = RawRecord::decode_checked(rest) else {
                rest = &[];
                return Some(None);
            };
            let at = offset;
            rest = rest.get(record.len..).unwrap_or_default();
            offset += record.len;
            Some(Some((at, record)))
        })
    }

    /// Where the next frame starts.
    pub(super) fn end(&self) -> usize {
        self.offset + self.header.extent()
    }
}

/// The bytes of a segment, and the frames at their front: checksums are the larger part of a start, and can be computed
/// ahead of those who read the records.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) bytes: Vec<u8>,
    frames: Vec<(usize, FrameHeader)>,
}

impl Scanned {
    pub(super) fn new(bytes: Vec<u8>, salt: u32) -> Self {
        let frames = frames(&bytes, salt).map(|frame| (frame.offset, frame.header)).collect();
        Self { bytes, frames }
    }

    pub(super) fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        self.frames.iter().filter_map(|&(offset, header)| {
            let records = self.bytes.get(offset + FRAME_HEADER..)?.get(..to_usize(header.len))?;
            Some(Frame { header, offset, records })
        })
    }
}

/// What stands behind the last valid frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing: the space was never written.
    Zero,
    /// Something that is no frame, and no frame behind it: a commit that was not completed. Its last byte that is not
    /// zero stands before this offset.
    Torn(usize),
    /// A frame stands behind it, at this offset: what is before was once written and acknowledged.
    Damaged(usize),
}

/// The valid frames at the front of a segment's bytes.
pub(super) fn frames(bytes: &[u8], salt: u32) -> impl Iterator<Item = Frame<'_>> {
    frames_from(bytes, SEGMENT_HEADER, salt)
}

/// The valid frames from `offset` on.
pub(super) fn frames_from(bytes: &[u8], mut offset: usize, salt: u32) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let frame = Frame::at(bytes, offset, salt)?;
        offset = frame.end();
        Some(frame)
    })
}

/// What stands at and behind `offset`, where the last valid frame ends.
pub(super) fn rest(bytes: &[u8], offset: usize, salt: u32) -> Rest {
    let rest = bytes.get(offset..).unwrap_or_default();
    let Some(last) = last_written(rest) else { return Rest::Zero };
    match next_frame(bytes, offset + ALIGN, offset + last, salt) {
        Some(frame) => Rest::Damaged(frame.offset),
        None => Rest::Torn(offset + last + 1),
    }
}

/// The first valid frame that starts in `from..upto`.
pub(super) fn next_frame(bytes: &[u8], from: usize, upto: usize, salt: u32) -> Option<Frame<'_>> {
    (from..upto).step_by(ALIGN).find_map(|offset| Frame::at(bytes, offset, salt))
}

/// How many bytes there are before nothing but zeros.
pub(super) fn written(bytes: &[u8]) -> usize {
    last_written(bytes).map_or(0, |last| last + 1)
}

fn last_written(bytes: &[u8]) -> Option<usize> {
    // By blocks: most of a segment may be space that was never written.
    const BLOCK: usize = 4096;
    let zero = [0; BLOCK];
    let written = |block: &[u8]| Some(block) != zero.get(..block.len());
    let index = bytes.chunks(BLOCK).rposition(written)?;
    let start = index * BLOCK;
    let block = bytes.get(start..)?.chunks(BLOCK).next()?;
    Some(start + block.iter().rposition(|&byte| byte != 0)?)
}
