//! The index of a full segment, in a file beside it.
//!
//! Owns: finding a channel's events in one segment with a few small reads. Does not know: what is retained.
//! Flow: in ← the index in memory, once the segment is full · out → places, read from the file.
//!
//! The index is made from the segment and can be made again, so damage to it is healed rather than refused: at a start
//! the segment is read instead, later the first who meets the damage reads it, and maintenance writes the index again. In
//! memory stays a byte per channel that tells most absent ones, a table of where to look for the others, and a checksum
//! for every 4 KiB. So every byte is proved when it is used: a channel that only seems to be absent would be a silent gap.

mod proved;
mod rebuilt;

use std::io;
use std::sync::{Arc, OnceLock};

use tidings_core::Seq;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::proved::{FirstRead, Proved};
pub(super) use self::rebuilt::Rebuilt;
use super::format::{self, FileKind, Take, len32, len64, to_usize};
use super::io::{Access, Disk, DiskFile};
use super::segment::{Entry, Mark, MemoryIndex, SegmentFile, Span};

const ENTRY_BYTES: usize = size_of::<Entry>();
const DIRECTORY_BYTES: usize = 40;
/// Channels that share a place in the table: one read of 2.5 KiB finds one of them.
const BUCKET: usize = 64;
/// Entries that are read at once at the end of a search.
const BLOCK: usize = 256;

/// The index of a segment that is full.
#[derive(Debug)]
pub(super) struct SealedIndex {
    file: Proved,
    segment: Arc<SegmentFile>,
    data_end: u64,
    /// What is used instead, once the file was met damaged or unreadable.
    rebuilt: OnceLock<Rebuilt>,
    seed: u64,
    marks: Vec<Mark>,
    /// Where the directory starts in the file.
    directory: u64,
    channels: usize,
    names: u64,
    names_len: usize,
    /// Where the entries start in the file.
    lists: u64,
    /// Directory positions by the top bits of a name's hash.
    table: Vec<u32>,
    filter: Filter,
}

/// What the directory says of one channel.
#[derive(Debug, Clone, Copy)]
struct Listed {
    hash: u64,
    list: u32,
    count: u32,
    first: u32,
    last: u32,
    bytes: u64,
    name_offset: u32,
    name_len: u16,
}

impl Listed {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hash.to_le_bytes());
        out.extend_from_slice(&self.list.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.last.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.name_offset.to_le_bytes());
        out.extend_from_slice(&self.name_len.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
    }

    fn decode(take: &mut Take<'_>) -> Option<Self> {
        Some(Self {
            hash: take.u64()?,
            list: take.u32()?,
            count: take.u32()?,
            first: take.u32()?,
            last: take.u32()?,
            bytes: take.u64()?,
            name_offset: take.u32()?,
            name_len: take.u16().zip(take.u16()).map(|(len, _)| len)?,
        })
    }
}

/// A channel of a segment, for maintenance.
#[derive(Debug, Clone)]
pub(super) struct Holding {
    pub(super) name: String,
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) bytes: u64,
}

/// The name of the index of the segment with this name.
pub(super) fn index_name(segment: &str) -> String {
    format!("{}.idx", segment.strip_suffix(".seg").unwrap_or(segment))
}

/// Writes the index of a full segment and opens it.
pub(super) fn seal(disk: &dyn Disk, segment: &SealInput<'_>, seed: u64) -> io::Result<SealedIndex> {
    let name = index_name(&segment.shared.name);
    super::io::replace_file(disk, &name, &encode(segment, seed))?;
    match open(disk, segment.shared, segment.last, segment.data_end)? {
        Some(index) => Ok(index),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{name} is not as it was written"))),
    }
}

/// What an index is made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct SealInput<'a> {
    pub(super) shared: &'a Arc<SegmentFile>,
    pub(super) last: Seq,
    pub(super) data_end: u64,
    pub(super) index: &'a MemoryIndex,
}

fn encode(segment: &SealInput<'_>, seed: u64) -> Vec<u8> {
    let index = segment.index;
    let hash = |seed: u64, name: &str| xxh3_64_with_seed(name.as_bytes(), seed);
    // Two names with one hash would be one channel: another seed then, which is hardly ever needed.
    let (seed, channels) = (seed..)
        .map(|seed| {
            let mut all: Vec<_> = index.channels.values().map(|c| (hash(seed, c.name.as_str()), c)).collect();
            all.sort_unstable_by(|(a, c), (b, d)| {
                (a, &c.name, c.entries.first().map(|e| e.delta)).cmp(&(
                    b,
                    &d.name,
                    d.entries.first().map(|e| e.delta),
                ))
            });
            (seed, all)
        })
        .find(|(_, all)| !all.windows(2).any(|w| matches!(w, [(a, c), (b, d)] if a == b && c.name != d.name)))
        .unwrap_or_default();
    let (mut directory, mut names, mut lists) = (Vec::new(), Vec::new(), Vec::new());
    let mut count = 0_usize;
    // A name may stand twice: its channel was forgotten and came again. On disk they are one list.
    for same in channels.chunk_by(|(a, _), (b, _)| a == b) {
        let Some((hash, first)) = same.first() else { continue };
        let list = len32(lists.len() / ENTRY_BYTES);
        let (mut bytes, mut first_delta, mut last_delta) = (0, None, 0);
        for entry in same.iter().flat_map(|(_, channel)| &channel.entries) {
            first_delta.get_or_insert(entry.delta);
            last_delta = entry.delta;
            bytes += u64::from(entry.len);
            for field in [entry.delta, entry.offset, entry.len, entry.body] {
                lists.extend_from_slice(&field.to_le_bytes());
            }
        }
        let listed = Listed {
            hash: *hash,
            list,
            count: len32(lists.len() / ENTRY_BYTES).saturating_sub(list),
            first: first_delta.unwrap_or(0),
            last: last_delta,
            bytes,
            name_offset: len32(names.len()),
            name_len: u16::try_from(first.name.as_str().len()).unwrap_or(u16::MAX),
        };
        names.extend_from_slice(first.name.as_str().as_bytes());
        listed.encode(&mut directory);
        count += 1;
    }
    let mut out = Vec::with_capacity(256 + directory.len() + names.len() + lists.len());
    format::put_preamble(&mut out, FileKind::Index);
    out.extend_from_slice(&segment.shared.header.salt.to_le_bytes());
    out.extend_from_slice(&segment.last.0.to_le_bytes());
    out.extend_from_slice(&segment.data_end.to_le_bytes());
    out.extend_from_slice(&seed.to_le_bytes());
    for number in [index.marks.len(), count, names.len(), lists.len() / ENTRY_BYTES] {
        out.extend_from_slice(&len32(number).to_le_bytes());
    }
    out.extend_from_slice(&crc32c::crc32c(&lists).to_le_bytes());
    for mark in &index.marks {
        out.extend_from_slice(&mark.seq.0.to_le_bytes());
        out.extend_from_slice(&mark.offset.to_le_bytes());
    }
    out.extend_from_slice(&directory);
    out.extend_from_slice(&names);
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out.extend_from_slice(&lists);
    out
}

const FIXED: usize = 24 + 4 + 8 + 8 + 8 + 4 * 4 + 4;
const MARK: usize = 12;

/// Opens a segment's index; `None` if there is none that fits it, and one has to be made.
fn open(
    disk: &dyn Disk,
    segment: &Arc<SegmentFile>,
    last: Seq,
    data_end: u64,
) -> io::Result<Option<SealedIndex>> {
    let file = match disk.open(&index_name(&segment.name), Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let index = read_head(file, segment)?;
    Ok(index.filter(|(_, found_last, end)| *found_last == last && *end == data_end).map(|(index, ..)| index))
}

/// As [`open`], but takes the segment's extent from the index. One that cannot be read is no better than none.
pub(super) fn open_extent(disk: &dyn Disk, segment: &Arc<SegmentFile>) -> Option<(SealedIndex, Seq, u64)> {
    let name = index_name(&segment.name);
    match disk.open(&name, Access::Read).and_then(|file| read_head(file, segment)) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(file = %name, %error, "an index cannot be read: its segment is read instead");
            None
        }
    }
}

fn read_head(
    file: Arc<dyn DiskFile>,
    segment: &Arc<SegmentFile>,
) -> io::Result<Option<(SealedIndex, Seq, u64)>> {
    let mut file = FirstRead::begin(file)?;
    if file.len() < len64(FIXED) {
        return Ok(None);
    }
    let mut bytes = file.next(FIXED)?;
    let mut take = Take(&bytes);
    if format::take_preamble(&mut take, FileKind::Index).is_err() {
        return Ok(None);
    }
    let head = (|| {
        let fields = (take.u32()?, take.seq()?, take.u64()?, take.u64()?);
        Some((fields, [take.u32()?, take.u32()?, take.u32()?, take.u32()?]))
    })();
    let Some(((salt, last, data_end, seed), [marks, channels, names_len, entries])) = head else {
        return Ok(None);
    };
    let (marks_len, channels, names_len) = (to_usize(marks), to_usize(channels), to_usize(names_len));
    let checked = FIXED + marks_len * MARK + channels * DIRECTORY_BYTES + names_len;
    let whole = len64(checked) + 4 + u64::from(entries) * len64(ENTRY_BYTES);
    if salt != segment.header.salt || whole != file.len() {
        return Ok(None);
    }
    let lists_crc = bytes.last_chunk::<4>().map_or(0, |crc| u32::from_le_bytes(*crc));
    bytes.extend(file.next(checked + 4 - FIXED)?);
    let Some((content, crc)) = bytes.split_last_chunk::<4>() else { return Ok(None) };
    if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
        return Ok(None);
    }
    let mut take = Take(content.get(FIXED..).unwrap_or_default());
    let marks: Option<Vec<Mark>> =
        (0..marks_len).map(|_| Some(Mark { seq: take.seq()?, offset: take.u32()? })).collect();
    let hashes: Option<Vec<u64>> =
        (0..channels).map(|_| Listed::decode(&mut take).map(|listed| listed.hash)).collect();
    let (Some(marks), Some(hashes)) = (marks, hashes) else { return Ok(None) };
    let directory = len64(FIXED + marks_len * MARK);
    let names = directory + len64(channels * DIRECTORY_BYTES);
    if !lists_are_whole(&mut file, whole, lists_crc)? {
        return Ok(None);
    }
    let index = SealedIndex {
        file: file.finish(),
        segment: segment.clone(),
        data_end,
        rebuilt: OnceLock::new(),
        seed,
        marks,
        directory,
        channels,
        names,
        names_len,
        lists: len64(checked) + 4,
        table: table(&hashes),
        filter: Filter::new(&hashes),
    };
    Ok(Some((index, last, data_end)))
}

/// Whether what follows are the lists as they were written.
fn lists_are_whole(file: &mut FirstRead, whole: u64, expected: u32) -> io::Result<bool> {
    let mut crc = 0;
    while file.at() < whole {
        let len = usize::try_from((whole - file.at()).min(1 << 20)).unwrap_or(0);
        crc = crc32c::crc32c_append(crc, &file.next(len)?);
    }
    Ok(crc == expected)
}

/// For each value of the top bits, the first directory position of a hash with them; one more for the end.
fn table(hashes: &[u64]) -> Vec<u32> {
    let bits = bucket_bits(hashes.len());
    let mut table = vec![0; (1 << bits) + 1];
    for hash in hashes {
        if let Some(count) = table.get_mut(bucket_of(*hash, bits) + 1) {
            *count += 1;
        }
    }
    let mut sum = 0;
    for place in &mut table {
        sum += *place;
        *place = sum;
    }
    table
}

fn bucket_bits(channels: usize) -> u32 {
    (channels / BUCKET).next_power_of_two().trailing_zeros()
}

fn bucket_of(hash: u64, bits: u32) -> usize {
    usize::try_from(hash.checked_shr(64 - bits).unwrap_or(0)).unwrap_or(0)
}

impl SealedIndex {
    pub(super) fn marks(&self) -> &[Mark] {
        &self.marks
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.file.len()
    }

    /// What replaces the file, if that has become bad and the segment is whole.
    pub(super) fn to_write_again(&self) -> Option<Arc<MemoryIndex>> {
        self.rebuilt.get().filter(|rebuilt| rebuilt.damaged.is_none()).map(|rebuilt| rebuilt.index.clone())
    }

    /// What is missing in `(after, upto]`, as last before and first behind it, where the segment is damaged as well.
    pub(super) fn hole(&self, after: Seq, upto: Seq) -> Option<(Seq, Seq)> {
        self.rebuilt.get()?.hole(after, upto)
    }

    /// Where the segment was met damaged, when its index had become bad.
    pub(super) fn segment_damaged(&self) -> Option<u64> {
        self.rebuilt.get()?.damaged
    }

    /// A channel's places in the span.
    pub(super) fn find(&self, name: &str, first: Seq, span: Span) -> Vec<Entry> {
        self.ask(
            || self.find_in_file(name, first, span),
            |rebuilt| span.cut(rebuilt.entries(name), first).to_vec(),
        )
    }

    /// How many events of a channel stand behind a position.
    pub(super) fn count(&self, name: &str, first: Seq, after: Seq) -> u64 {
        let behind = |entries: &[Entry]| entries.len() - entries.partition_point(|e| e.seq(first) <= after);
        self.ask(|| self.count_in_file(name, first, after), |rebuilt| len64(behind(rebuilt.entries(name))))
    }

    /// Every channel of the segment.
    pub(super) fn holdings(&self, first: Seq) -> Vec<Holding> {
        self.ask(|| self.holdings_in_file(first), |rebuilt| rebuilt.holdings(first))
    }

    /// Asks the file, or what was made from the segment once the file had become bad.
    fn ask<T>(&self, file: impl FnOnce() -> io::Result<T>, rebuilt: impl FnOnce(&Rebuilt) -> T) -> T {
        if self.rebuilt.get().is_none() {
            match file() {
                Ok(found) => return found,
                Err(error) => {
                    let file = index_name(&self.segment.name);
                    tracing::warn!(file, %error, "an index has become bad: it is made again from its segment");
                }
            }
        }
        rebuilt(self.rebuilt.get_or_init(|| Rebuilt::of(&self.segment, self.data_end)))
    }

    fn find_in_file(&self, name: &str, first: Seq, span: Span) -> io::Result<Vec<Entry>> {
        let Some(listed) = self.listed(name)? else { return Ok(Vec::new()) };
        let from = self.search(&listed, first, span.after)?;
        let (from, to) = if span.newest {
            span.bounded(from, self.search(&listed, first, span.upto)?.max(from))
        } else {
            (from, from.saturating_add(span.max).min(to_usize(listed.count)))
        };
        let mut entries = self.entries(&listed, from, to)?;
        entries.truncate(entries.partition_point(|entry| entry.seq(first) <= span.upto));
        Ok(entries)
    }

    fn count_in_file(&self, name: &str, first: Seq, after: Seq) -> io::Result<u64> {
        let Some(listed) = self.listed(name)? else { return Ok(0) };
        Ok(len64(to_usize(listed.count) - self.search(&listed, first, after)?))
    }

    fn holdings_in_file(&self, first: Seq) -> io::Result<Vec<Holding>> {
        let bytes = self.file.read(self.directory, self.channels * DIRECTORY_BYTES)?;
        let names = self.file.read(self.names, self.names_len)?;
        let mut take = Take(&bytes);
        let mut holdings = Vec::with_capacity(self.channels);
        while let Some(listed) = Listed::decode(&mut take) {
            let start = to_usize(listed.name_offset);
            let name = names.get(start..start + usize::from(listed.name_len)).unwrap_or_default();
            holdings.push(Holding {
                name: String::from_utf8_lossy(name).into_owned(),
                first: Seq(first.0 + u64::from(listed.first)),
                last: Seq(first.0 + u64::from(listed.last)),
                bytes: listed.bytes,
            });
        }
        Ok(holdings)
    }

    fn listed(&self, name: &str) -> io::Result<Option<Listed>> {
        let hash = xxh3_64_with_seed(name.as_bytes(), self.seed);
        if !self.filter.may_hold(hash) {
            return Ok(None);
        }
        let bucket = bucket_of(hash, bucket_bits(self.channels));
        let (Some(&from), Some(&to)) = (self.table.get(bucket), self.table.get(bucket + 1)) else {
            return Ok(None);
        };
        let offset = self.directory + u64::from(from) * len64(DIRECTORY_BYTES);
        let bytes = self.file.read(offset, to_usize(to.saturating_sub(from)) * DIRECTORY_BYTES)?;
        let mut take = Take(&bytes);
        while let Some(listed) = Listed::decode(&mut take) {
            if listed.hash == hash {
                return Ok(Some(listed));
            }
        }
        Ok(None)
    }

    /// How many of a channel's entries stand at or before `seq`.
    fn search(&self, listed: &Listed, first: Seq, seq: Seq) -> io::Result<usize> {
        let (mut from, mut to) = (0, to_usize(listed.count));
        while to - from > BLOCK {
            let middle = from + (to - from) / 2;
            let before =
                self.entries(listed, middle, middle + 1)?.first().is_some_and(|e| e.seq(first) <= seq);
            if before { from = middle + 1 } else { to = middle }
        }
        Ok(from + self.entries(listed, from, to)?.partition_point(|entry| entry.seq(first) <= seq))
    }

    fn entries(&self, listed: &Listed, from: usize, to: usize) -> io::Result<Vec<Entry>> {
        let offset = self.lists + (u64::from(listed.list) + len64(from)) * len64(ENTRY_BYTES);
        let bytes = self.file.read(offset, to.saturating_sub(from) * ENTRY_BYTES)?;
        let mut take = Take(&bytes);
        let mut entry =
            || Some(Entry { delta: take.u32()?, offset: take.u32()?, len: take.u32()?, body: take.u32()? });
        Ok(std::iter::from_fn(&mut entry).collect())
    }
}

/// Tells most channels that a segment does not hold, with a byte per channel that it does.
#[derive(Debug)]
struct Filter {
    words: Vec<u64>,
}

impl Filter {
    fn new(hashes: &[u64]) -> Self {
        let mut filter = Self { words: vec![0; (hashes.len() / 8).next_power_of_two()] };
        for &hash in hashes {
            let (word, bits) = filter.place(hash);
            if let Some(word) = filter.words.get_mut(word) {
                *word |= bits;
            }
        }
        filter
    }

    fn may_hold(&self, hash: u64) -> bool {
        let (word, bits) = self.place(hash);
        self.words.get(word).is_some_and(|word| word & bits == bits)
    }

    fn place(&self, hash: u64) -> (usize, u64) {
        let bits = [0, 6, 12, 18].iter().fold(0, |bits, shift| bits | 1 << ((hash >> shift) & 63));
        let word = usize::try_from(hash >> 24).unwrap_or(0) & (self.words.len() - 1);
        (word, bits)
    }
}
