//! The bytes of the log's files.
//!
//! Owns: how a file starts, frames and records. Does not know: files, state, which of it is still wanted.
//! Flow: events → records in one frame → bytes · bytes → records, or that they are none.
//!
//! All numbers are little-endian. Every file starts with the same 24 bytes, whatever its version, so that a newer one
//! is told from a damaged one. Checksums start from the segment's random salt: what a user publishes can therefore
//! never pass for a frame, and a block of another file never for one of this file.

use bytes::Bytes;
use tidings_core::{ChannelName, Epoch, Key, Seq};

use crate::log::{Append, Flags, Idempotency, Record};

/// The newest format that this program writes and reads. The second one has pinned events, of which a program that knows
/// only the first would lose the state of unfinished jobs; files of the first are read as they are.
pub(super) const VERSION: u32 = 2;
/// Frames start at multiples of this, so that recovery knows where to look for them.
pub(super) const ALIGN: usize = 8;
/// Bytes of a segment before its first frame.
pub(super) const SEGMENT_HEADER: usize = 80;
/// Bytes of a frame before its first record.
pub(super) const FRAME_HEADER: usize = 40;
/// No commit is larger: offsets inside a segment fit 32 bits with room to spare.
pub(super) const FRAME_BYTES_MAX: usize = 256 << 20;

const MAGIC: &[u8; 8] = b"tidings\n";
const PREAMBLE: usize = 24;
const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"frm\x01");
const RECORD_HEADER: usize = 36;
const EPOCH_BYTES: usize = tidings_core::limits::EPOCH_BYTES_MAX;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum FileKind {
    Segment = 1,
    Epochs = 2,
    Checkpoint = 3,
    Index = 4,
}

/// Why the start of a file was not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadStart {
    /// It is not the start of such a file.
    Damaged,
    /// It is, of a newer version.
    Version(u32),
}

/// Reads numbers and runs of bytes off the front of a slice.
pub(super) struct Take<'a>(pub(super) &'a [u8]);

impl<'a> Take<'a> {
    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*front)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    pub(super) fn seq(&mut self) -> Option<Seq> {
        self.u64().map(Seq)
    }

    pub(super) fn epoch(&mut self) -> Option<Epoch> {
        let bytes: [u8; EPOCH_BYTES] = self.array()?;
        let len = bytes.iter().position(|&b| b == 0).unwrap_or(EPOCH_BYTES);
        Epoch::parse(std::str::from_utf8(bytes.get(..len)?).ok()?)
    }
}

/// Lengths that are bounded long before they could not fit.
pub(super) fn len32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

pub(super) fn to_usize(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

pub(super) fn len64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

pub(super) fn put_epoch(out: &mut Vec<u8>, epoch: Epoch) {
    let text = epoch.as_str().as_bytes();
    out.extend_from_slice(text);
    out.resize(out.len() + EPOCH_BYTES.saturating_sub(text.len()), 0);
}

fn patch(bytes: &mut [u8], at: usize, value: [u8; 4]) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value);
    }
}

/// The first bytes of every file.
pub(super) fn put_preamble(out: &mut Vec<u8>, kind: FileKind) {
    let start = out.len();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(kind as u32).to_le_bytes());
    let crc = crc32c::crc32c(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
}

/// Reads the first bytes of a file.
pub(super) fn take_preamble(take: &mut Take<'_>, kind: FileKind) -> Result<(), BadStart> {
    let all = take.bytes(PREAMBLE).ok_or(BadStart::Damaged)?;
    let mut fields = Take(all);
    let magic = fields.bytes(8);
    let (Some(version), Some(found), Some(crc)) = (fields.u32(), fields.u32(), fields.u32()) else {
        return Err(BadStart::Damaged);
    };
    let expected = crc32c::crc32c(all.get(..16).unwrap_or_default());
    if magic != Some(MAGIC.as_slice()) || crc != expected {
        return Err(BadStart::Damaged);
    }
    if version > VERSION {
        return Err(BadStart::Version(version));
    }
    if found != kind as u32 { Err(BadStart::Damaged) } else { Ok(()) }
}

/// A whole small file: its contents between the preamble and a checksum over everything.
pub(super) fn sealed_file(kind: FileKind, contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREAMBLE + contents.len() + 4);
    put_preamble(&mut out, kind);
    out.extend_from_slice(contents);
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out
}

/// The contents of such a file.
pub(super) fn open_sealed(bytes: &[u8], kind: FileKind) -> Result<&[u8], BadStart> {
    let mut take = Take(bytes);
    take_preamble(&mut take, kind)?;
    let (whole, crc) = bytes.split_last_chunk::<4>().ok_or(BadStart::Damaged)?;
    if crc32c::crc32c(whole) != u32::from_le_bytes(*crc) {
        return Err(BadStart::Damaged);
    }
    whole.get(PREAMBLE..).ok_or(BadStart::Damaged)
}

/// How a segment starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// The first sequence that may stand in it.
    pub(super) first: Seq,
    /// Where it was rewritten: the last sequence that it stands for, whether that is still in it or not.
    pub(super) covers: Option<Seq>,
    /// Random; every checksum of the segment starts from it.
    pub(super) salt: u32,
    /// The run that made it.
    pub(super) epoch: Epoch,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER);
        put_preamble(&mut out, FileKind::Segment);
        out.extend_from_slice(&self.first.0.to_le_bytes());
        out.extend_from_slice(&self.covers.unwrap_or(Seq::ZERO).0.to_le_bytes());
        out.extend_from_slice(&u32::from(self.covers.is_some()).to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        put_epoch(&mut out, self.epoch);
        out.resize(SEGMENT_HEADER - 4, 0);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadStart> {
        let header = bytes.get(..SEGMENT_HEADER).ok_or(BadStart::Damaged)?;
        let mut take = Take(header);
        take_preamble(&mut take, FileKind::Segment)?;
        let crc = header.last_chunk::<4>().map(|crc| u32::from_le_bytes(*crc));
        if crc != header.get(..SEGMENT_HEADER - 4).map(crc32c::crc32c) {
            return Err(BadStart::Damaged);
        }
        let fields = (|| {
            let (first, covers, rewritten) = (take.seq()?, take.seq()?, take.u32()?);
            let covers = (rewritten != 0).then_some(covers);
            Some(Self { first, covers, salt: take.u32()?, epoch: take.epoch()? })
        })();
        fields.ok_or(BadStart::Damaged)
    }
}

/// How a frame starts: one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Bytes of its records.
    pub(super) len: u32,
    /// Its first event's sequence; without events, the one that the next event will have.
    pub(super) first: Seq,
    /// How many events it holds.
    pub(super) count: u32,
    /// The run that wrote it.
    pub(super) epoch: Epoch,
    crc: u32,
}

impl FrameHeader {
    /// Reads a frame's head; `None` where none stands.
    pub(super) fn decode(bytes: &[u8], salt: u32) -> Option<Self> {
        let header = bytes.get(..FRAME_HEADER)?;
        let mut take = Take(header);
        if take.u32()? != FRAME_MAGIC {
            return None;
        }
        let (len, first, count) = (take.u32()?, take.seq()?, take.u32()?);
        let epoch = take.epoch();
        let (crc, own) = (take.u32()?, take.u32()?);
        let expected = crc32c::crc32c_append(salt, header.get(..FRAME_HEADER - 4)?);
        (own == expected).then_some(Self { len, first, count, epoch: epoch?, crc })
    }

    /// Whether these are the frame's records, unchanged.
    pub(super) fn holds(&self, records: &[u8], salt: u32) -> bool {
        crc32c::crc32c_append(salt, records) == self.crc
    }

    /// Bytes from this frame's start to the next one's.
    pub(super) fn extent(&self) -> usize {
        padded(FRAME_HEADER + to_usize(self.len))
    }
}

/// Rounded up to where the next frame may start.
pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

/// Fills in the checksums of a frame whose records stand behind `FRAME_HEADER` free bytes, and pads it.
pub(super) fn finish_frame(buf: &mut Vec<u8>, first: Seq, count: u32, epoch: Epoch, salt: u32) {
    let mut at = FRAME_HEADER;
    while let Some(len) = buf.get(at..).and_then(|rest| Take(rest).u32()) {
        let end = at + to_usize(len);
        let crc = buf.get(at + 8..end).map_or(0, |rest| crc32c::crc32c_append(salt, rest));
        patch(buf, at + 4, crc.to_le_bytes());
        at = end;
    }
    let records = buf.get(FRAME_HEADER..).unwrap_or_default();
    let mut header = Vec::with_capacity(FRAME_HEADER);
    header.extend_from_slice(&FRAME_MAGIC.to_le_bytes());
    header.extend_from_slice(&len32(records.len()).to_le_bytes());
    header.extend_from_slice(&first.0.to_le_bytes());
    header.extend_from_slice(&count.to_le_bytes());
    put_epoch(&mut header, epoch);
    header.extend_from_slice(&crc32c::crc32c_append(salt, records).to_le_bytes());
    let own = crc32c::crc32c_append(salt, &header);
    header.extend_from_slice(&own.to_le_bytes());
    if let Some(place) = buf.get_mut(..FRAME_HEADER) {
        place.copy_from_slice(&header);
    }
    buf.resize(padded(buf.len()), 0);
}

const FINAL: u8 = 1;
const TEXT: u8 = 2;
const EXPIRES: u8 = 4;
const PRIVATE: u8 = 8;
const KEYED: u8 = 16;
const PINNED: u8 = 32;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An event; the others take no sequence.
    Event,
    /// A channel's floor moved to its head, `seq`.
    Deleted,
    /// The floor of the whole log moved to `seq`.
    LogFloor,
    /// A channel's record is forgotten; `seq` was its head.
    Forgotten,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Event => 0,
            Self::Deleted => 1,
            Self::LogFloor => 2,
            Self::Forgotten => 3,
        }
    }
}

/// A record as it stands in a buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawRecord<'a> {
    pub(super) kind: Kind,
    pub(super) seq: Seq,
    pub(super) prev: Seq,
    pub(super) time_ms: u64,
    pub(super) flags: Flags,
    pub(super) expires_at_ms: Option<u64>,
    /// On the first event of a keyed group, with the number of its events.
    pub(super) idempotency: Option<(Idempotency, u32)>,
    pub(super) channel: &'a str,
    pub(super) key: &'a str,
    pub(super) private: Option<&'a [u8]>,
    pub(super) body: &'a [u8],
    /// Bytes of the whole record.
    pub(super) len: usize,
}

impl<'a> RawRecord<'a> {
    /// Reads the record at the front of `bytes`; `None` if there is none, or not the one that was written.
    pub(super) fn decode(bytes: &'a [u8], salt: u32) -> Option<Self> {
        let record = Self::decode_checked(bytes)?;
        let mut take = Take(bytes.get(4..record.len)?);
        let crc = take.u32()?;
        (crc32c::crc32c_append(salt, take.0) == crc).then_some(record)
    }

    /// As [`RawRecord::decode`], of bytes that have passed the checksum of their frame.
    pub(super) fn decode_checked(bytes: &'a [u8]) -> Option<Self> {
        let len = to_usize(Take(bytes).u32()?);
        let mut take = Take(bytes.get(..len)?.get(8..)?);
        let (seq, prev, time_ms) = (take.seq()?, take.seq()?, take.u64()?);
        let (code, bits, channel_len, key_len) = (take.u8()?, take.u8()?, take.u8()?, take.u8()?);
        let kind = match code {
            0 => Kind::Event,
            1 => Kind::Deleted,
            2 => Kind::LogFloor,
            3 => Kind::Forgotten,
            _ => return None,
        };
        let expires_at_ms = if bits & EXPIRES != 0 { Some(take.u64()?) } else { None };
        let idempotency = if bits & KEYED != 0 {
            let (key, fingerprint, time_ms) = (take.u128()?, take.u128()?, take.u64()?);
            Some((Idempotency { key, fingerprint, time_ms }, take.u32()?))
        } else {
            None
        };
        let private_len = if bits & PRIVATE != 0 { Some(to_usize(take.u32()?)) } else { None };
        let channel = std::str::from_utf8(take.bytes(usize::from(channel_len))?).ok()?;
        let key = std::str::from_utf8(take.bytes(usize::from(key_len))?).ok()?;
        let private = match private_len {
            Some(len) => Some(take.bytes(len)?),
            None => None,
        };
        let flags =
            Flags { is_final: bits & FINAL != 0, is_text: bits & TEXT != 0, is_pinned: bits & PINNED != 0 };
        let body = take.0;
        Some(Self {
            kind,
            seq,
            prev,
            time_ms,
            flags,
            expires_at_ms,
            idempotency,
            channel,
            key,
            private,
            body,
            len,
        })
    }

    /// The record as readers get it, sharing `buffer`, in which it stands.
    pub(super) fn to_record(self, buffer: &Bytes, channel: Option<&ChannelName>) -> Option<Record> {
        let channel = match channel {
            Some(channel) => channel.clone(),
            None => ChannelName::parse(self.channel).ok()?,
        };
        let key = if self.key.is_empty() { None } else { Some(Key::parse(self.key).ok()?) };
        Some(Record {
            seq: self.seq,
            prev: self.prev,
            channel,
            body: buffer.slice_ref(self.body),
            private: self.private.map(|private| buffer.slice_ref(private)),
            key,
            time_ms: self.time_ms,
            expires_at_ms: self.expires_at_ms,
            flags: self.flags,
        })
    }

    /// Writes it behind what `out` holds, without its checksum, which needs the segment's salt.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> usize {
        let bits = bit(self.flags.is_final, FINAL)
            | bit(self.flags.is_text, TEXT)
            | bit(self.flags.is_pinned, PINNED)
            | bit(self.expires_at_ms.is_some(), EXPIRES)
            | bit(self.private.is_some(), PRIVATE)
            | bit(self.idempotency.is_some(), KEYED);
        let start = out.len();
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.seq.0.to_le_bytes());
        out.extend_from_slice(&self.prev.0.to_le_bytes());
        out.extend_from_slice(&self.time_ms.to_le_bytes());
        // Names and keys are at most 255 bytes (limits.rs).
        let channel_len = u8::try_from(self.channel.len()).unwrap_or(u8::MAX);
        let key_len = u8::try_from(self.key.len()).unwrap_or(u8::MAX);
        out.extend_from_slice(&[self.kind.code(), bits, channel_len, key_len]);
        if let Some(expires) = self.expires_at_ms {
            out.extend_from_slice(&expires.to_le_bytes());
        }
        if let Some((idempotency, count)) = self.idempotency {
            out.extend_from_slice(&idempotency.key.to_le_bytes());
            out.extend_from_slice(&idempotency.fingerprint.to_le_bytes());
            out.extend_from_slice(&idempotency.time_ms.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
        }
        if let Some(private) = self.private {
            out.extend_from_slice(&len32(private.len()).to_le_bytes());
        }
        out.extend_from_slice(self.channel.as_bytes());
        out.extend_from_slice(self.key.as_bytes());
        out.extend_from_slice(self.private.unwrap_or_default());
        out.extend_from_slice(self.body);
        let len = out.len() - start;
        patch(out, start, len32(len).to_le_bytes());
        len
    }

    /// A record that is no event.
    pub(super) fn control(kind: Kind, channel: &'a str, seq: Seq) -> Self {
        Self {
            kind,
            seq,
            prev: Seq::ZERO,
            time_ms: 0,
            flags: Flags::default(),
            expires_at_ms: None,
            idempotency: None,
            channel,
            key: "",
            private: None,
            body: &[],
            len: 0,
        }
    }

    /// The record of an event.
    pub(super) fn event(
        event: &'a Append,
        seq: Seq,
        prev: Seq,
        idempotency: Option<(Idempotency, u32)>,
    ) -> Self {
        Self {
            kind: Kind::Event,
            seq,
            prev,
            time_ms: event.time_ms,
            flags: event.flags,
            expires_at_ms: event.expires_at_ms,
            idempotency,
            channel: event.channel.as_str(),
            key: event.key.as_ref().map_or("", |key| key.as_str()),
            private: event.private.as_deref(),
            body: &event.body,
            len: 0,
        }
    }
}

const _: () = assert!(RECORD_HEADER >= 8);

fn bit(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

/// An upper bound of the bytes that an event takes in a frame.
pub(super) fn record_bytes_max(event: &Append) -> usize {
    let private = event.private.as_ref().map_or(0, Bytes::len);
    let key = event.key.as_ref().map_or(0, |key| key.as_str().len());
    RECORD_HEADER + 8 + 44 + 4 + event.channel.as_str().len() + key + private + event.body.len()
}
