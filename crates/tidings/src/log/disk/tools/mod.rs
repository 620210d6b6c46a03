//! Looking at a log without opening it, and repairing one that does not open: for `tidings log`.
//!
//! Owns: reading every frame of every segment, past damage too. Does not know: what is retained.
//! Flow: in ← a folder, which may be damaged or in use · out → problems, lines for people, lines of JSON.
//!
//! But for [`repair`], nothing is written and no lock is taken, so a log that is in use may show its newest commit as
//! incomplete.

mod index;
mod repair;

use std::fmt;
use std::io::{self, Write};
use std::ops::Not;
use std::sync::Arc;

use serde_json::value::RawValue;
use tidings_core::{Epochs, Seq};

use super::format::{BadStart, Kind, RawRecord, SEGMENT_HEADER, SegmentHeader, len64};
use super::io::{Access, Disk, DiskFile};
use super::recover::inspect;
use super::scan::{self, Frame, Rest};
use super::segment::{SegmentFile, segment_first, segment_name};
use super::{Options, checkpoint, epochs};
use crate::log::OpenError;

pub use self::repair::{Repaired, repair};

/// A place that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which file.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: offset {}: {}", self.file, self.offset, self.what)
    }
}

/// What a look at every frame found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Segments that could be read.
    pub segments: u64,
    /// Whole frames.
    pub frames: u64,
    /// Events in them, those that retention has let go included.
    pub events: u64,
    /// The newest sequence.
    pub head: Seq,
    /// What is wrong, in the order of the log.
    pub problems: Vec<Problem>,
    /// A commit that was not completed when the last run ended, or is under way. The next start cuts it; no problem.
    pub incomplete: Option<Problem>,
    /// What the next frame of the segment starts with.
    expected: Option<Seq>,
}

/// What a running server does while somebody looks seems to be damage now and then, but not at the same place again.
const LOOKS_MAX: usize = 3;

/// Checks every byte that was ever written, the indexes against the segments, and what files say of each other.
///
/// In a log that is in use, files are written, replaced and removed meanwhile. So what is found is looked for again, and
/// only what is found each time is a problem.
///
/// # Errors
/// Those of the medium.
pub fn verify(disk: &dyn Disk) -> io::Result<Report> {
    let mut report = look(disk)?;
    for _ in 1..LOOKS_MAX {
        if report.problems.is_empty() {
            break;
        }
        let again = look(disk)?;
        report.problems.retain(|problem| again.problems.contains(problem));
        report = Report { problems: report.problems, ..again };
    }
    Ok(report)
}

fn look(disk: &dyn Disk) -> io::Result<Report> {
    let mut report = Report::default();
    walk(disk, &mut report, &mut index::Checked::new(disk))?;
    // What a start would refuse, and nothing of the above has found: a file that is older than the others, or missing.
    match inspect(disk, &Options::default()) {
        Err(OpenError::Damaged { path, offset, what }) => {
            let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if !report.problems.iter().any(|problem| problem.file == file && problem.offset == offset) {
                report.problems.push(Problem { file, offset, what });
            }
        }
        // It was removed or shortened meanwhile.
        Err(OpenError::Io { source, .. })
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {}
        Err(OpenError::Io { path, source }) => {
            return Err(io::Error::new(source.kind(), format!("{}: {source}", path.display())));
        }
        _ => {}
    }
    Ok(report)
}

/// Writes a line for every frame and every record.
///
/// # Errors
/// Those of the medium and of `out`.
pub fn dump(disk: &dyn Disk, out: &mut dyn Write) -> io::Result<Report> {
    let mut report = Report::default();
    let mut last = None;
    walk(disk, &mut report, &mut |name: &str, frame: &Frame<'_>, (offset, record): Placed<'_, '_>| {
        if last != Some((name.to_owned(), frame.offset)) {
            let header = frame.header;
            writeln!(out, "{name} {} commit of run {}: {} events", frame.offset, header.epoch, header.count)?;
            last = Some((name.to_owned(), frame.offset));
        }
        let RawRecord { kind, seq, prev, time_ms, channel, len, .. } = record;
        match kind {
            Kind::Event => {
                let pinned = if record.flags.is_pinned { " pinned" } else { "" };
                writeln!(
                    out,
                    "{name} {offset} {seq} prev {prev} {channel} time {time_ms} {len} bytes{pinned}"
                )
            }
            Kind::Deleted => writeln!(out, "{name} {offset} channel {channel} deleted up to {seq}"),
            Kind::LogFloor => writeln!(out, "{name} {offset} everything up to {seq} is gone"),
            Kind::Forgotten => {
                writeln!(out, "{name} {offset} channel {channel} forgotten, its head was {seq}")
            }
        }
    })?;
    report.problems.iter().try_for_each(|problem| writeln!(out, "PROBLEM {problem}"))?;
    Ok(report)
}

/// Writes every event as a line of JSON: `id`, `channel`, `event`, `time` and `data` or `text`.
///
/// # Errors
/// Those of the medium and of `out`.
pub fn export(disk: &dyn Disk, out: &mut dyn Write) -> io::Result<Report> {
    let mut report = Report::default();
    walk(disk, &mut report, &mut |_: &str, frame: &Frame<'_>, (_, record): Placed<'_, '_>| {
        if record.kind == Kind::Event {
            write_exported(out, frame, record)?;
        }
        Ok(())
    })?;
    Ok(report)
}

/// An event as a line of JSON. Its data is what the publisher sent, to the last digit: a number may not fit 64 bits.
#[derive(serde::Serialize)]
struct Exported<'a> {
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    event: &'a str,
    #[serde(rename = "final", skip_serializing_if = "Not::not")]
    is_final: bool,
    id: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    key: &'a str,
    #[serde(rename = "pinned", skip_serializing_if = "Not::not")]
    is_pinned: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    time: u64,
}

fn write_exported(out: &mut dyn Write, frame: &Frame<'_>, record: &RawRecord<'_>) -> io::Result<()> {
    let body = String::from_utf8_lossy(record.body);
    let field = |prefix: &'static str| body.lines().filter_map(move |line| line.strip_prefix(prefix));
    let text = field("data: ").collect::<Vec<_>>().join("\n");
    // A line end in JSON is only ever white space, and would end this line.
    let json = if record.flags.is_text { None } else { RawValue::from_string(text.replace('\n', " ")).ok() };
    let line = Exported {
        channel: record.channel,
        data: json.as_deref(),
        event: field("event: ").next().unwrap_or("message"),
        is_final: record.flags.is_final,
        id: format!("{}-{}", frame.header.epoch, record.seq),
        key: record.key,
        is_pinned: record.flags.is_pinned,
        text: if json.is_none() { Some(&text) } else { None },
        time: record.time_ms,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

type Placed<'f, 'r> = (usize, &'f RawRecord<'r>);

/// Who wants to see what a walk meets.
trait Visit {
    /// A record, in its frame.
    fn record(&mut self, segment: &str, frame: &Frame<'_>, record: Placed<'_, '_>) -> io::Result<()>;

    /// A segment that was gone through, and in which nothing is wrong.
    fn segment(&mut self, _: &Arc<SegmentFile>, _: &[u8], _: &mut Report) -> io::Result<()> {
        Ok(())
    }
}

impl<F: FnMut(&str, &Frame<'_>, Placed<'_, '_>) -> io::Result<()>> Visit for F {
    fn record(&mut self, segment: &str, frame: &Frame<'_>, record: Placed<'_, '_>) -> io::Result<()> {
        self(segment, frame, record)
    }
}

/// Goes through all segments in order, and on behind what is damaged.
fn walk(disk: &dyn Disk, report: &mut Report, visit: &mut dyn Visit) -> io::Result<()> {
    let epochs = whole_files(disk, report)?;
    let mut firsts: Vec<Seq> = disk.list()?.iter().filter_map(|name| segment_first(name)).collect();
    firsts.sort_unstable();
    for (index, &first) in firsts.iter().enumerate() {
        let name = segment_name(first);
        let file = match disk.open(&name, Access::Read) {
            // Retention of a log that is in use has freed it since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let bytes = read_all(&*file)?;
        match SegmentHeader::decode(&bytes) {
            Ok(header) => {
                let segment = Arc::new(SegmentFile { name, file, header });
                walk_segment(&segment, bytes, index + 1 == firsts.len(), report, epochs.as_ref(), visit)?;
            }
            Err(bad) => report.problem(&name, 0, &start_text(&bad)),
        }
    }
    Ok(())
}

fn walk_segment(
    segment: &Arc<SegmentFile>,
    mut bytes: Vec<u8>,
    is_newest: bool,
    report: &mut Report,
    epochs: Option<&Epochs>,
    visit: &mut dyn Visit,
) -> io::Result<()> {
    let SegmentFile { name, file, header } = &**segment;
    let problems = report.problems.len();
    report.segments += 1;
    report.expected = None;
    let (mut offset, mut read_again_at) = (SEGMENT_HEADER, None);
    loop {
        for frame in scan::frames_from(&bytes, offset, header.salt) {
            offset = frame.end();
            report.take_frame(name, &frame, header.covers.is_none(), epochs, visit)?;
        }
        match scan::rest(&bytes, offset, header.salt) {
            Rest::Zero => break,
            // Commits that came while the file was read may be there without those before them, which are there now.
            Rest::Damaged(_) if read_again_at != Some(offset) => {
                read_again_at = Some(offset);
                bytes = read_all(&**file)?;
            }
            Rest::Torn(_) if is_newest => {
                let what = "a commit that was not completed; the next start cuts it".to_owned();
                report.incomplete = Some(Problem { file: name.clone(), offset: len64(offset), what });
                break;
            }
            Rest::Torn(_) => {
                report.problem(name, offset, "expected a frame, as a later segment follows");
                break;
            }
            Rest::Damaged(next) => {
                let what = format!("expected a frame, as one follows at offset {next}");
                report.problem(name, offset, &what);
                offset = next;
                report.expected = None;
            }
        }
    }
    if report.problems.len() > problems {
        return Ok(());
    }
    visit.segment(segment, bytes.get(..offset).unwrap_or_default(), report)
}

/// All bytes of a file, which may be shortened meanwhile.
fn read_all(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
    let len = file.read_at(&mut bytes, 0)?;
    bytes.truncate(len);
    Ok(bytes)
}

/// Checks the files that are whole or nothing.
fn whole_files(disk: &dyn Disk, report: &mut Report) -> io::Result<Option<Epochs>> {
    let epochs = match epochs::read(disk)? {
        Some(Ok(epochs)) => Some(epochs),
        Some(Err(bad)) => {
            report.problem(epochs::NAME, 0, &start_text(&bad));
            None
        }
        // Whether there must be one is for `inspect` to say.
        None => None,
    };
    if let Some(Err(bad)) = checkpoint::read(disk)? {
        report.problem(checkpoint::NAME, 0, &start_text(&bad));
    }
    Ok(epochs)
}

fn start_text(bad: &BadStart) -> String {
    match bad {
        BadStart::Damaged => "it is not a whole file of a tidings log".to_owned(),
        BadStart::Version(found) => {
            format!("it has format version {found}, which is newer than this tidings")
        }
    }
}

impl Report {
    fn problem(&mut self, file: &str, offset: usize, what: &str) {
        self.problems.push(Problem { file: file.to_owned(), offset: len64(offset), what: what.to_owned() });
    }

    fn take_frame(
        &mut self,
        name: &str,
        frame: &Frame<'_>,
        is_whole: bool,
        epochs: Option<&Epochs>,
        visit: &mut dyn Visit,
    ) -> io::Result<()> {
        self.frames += 1;
        let header = frame.header;
        let listed = epochs.filter(|e| e.list().first().is_some_and(|&(_, oldest)| oldest <= header.first));
        if is_whole && header.count > 0 && listed.is_some_and(|e| e.id(header.first).epoch != header.epoch) {
            let what = format!("its run {} is not the one in the file epochs", header.epoch);
            self.problem(name, frame.offset, &what);
        }
        if let Some(expected) = self.expected.filter(|&expected| is_whole && expected != header.first) {
            let what = format!("expected sequence {expected}, found {}", header.first);
            self.problem(name, frame.offset, &what);
        }
        self.expected = Some(Seq(header.first.0.saturating_add(u64::from(header.count))));
        for record in frame.records() {
            let Some((offset, record)) = record else {
                self.problem(name, frame.offset, "a record is not readable");
                break;
            };
            if record.kind == Kind::Event {
                self.events += 1;
                self.head = self.head.max(record.seq);
            }
            visit.record(name, frame, (offset, &record))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
