//! Sequences, epochs and event ids.
//!
//! Owns: the text of an id and what it stands for. Does not know: where epochs are stored.
//! Flow: `Last-Event-ID` → `EventId` → `Epochs::standing` → the resume decision.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::limits;

/// A position in the log. The first event has 1; 0 stands before everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first event.
    pub const ZERO: Self = Self(0);

    /// The position right behind this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The random name of one run of the log: 1–12 bytes of `[a-z0-9]`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    bytes: [u8; limits::EPOCH_BYTES_MAX],
    len: u8,
}

impl Epoch {
    /// An epoch of eight characters (40 bits) made from random bits.
    #[must_use]
    pub fn from_random(bits: u64) -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let mut bytes = [0; limits::EPOCH_BYTES_MAX];
        for (i, byte) in bytes.iter_mut().take(8).enumerate() {
            let index = (bits >> (5 * i)) & 31;
            *byte = ALPHABET.get(usize::try_from(index).unwrap_or(0)).copied().unwrap_or(b'a');
        }
        Self { bytes, len: 8 }
    }

    /// Reads an epoch's name; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=limits::EPOCH_BYTES_MAX).contains(&text.len());
        if !fits || !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return None;
        }
        let mut bytes = [0; limits::EPOCH_BYTES_MAX];
        bytes.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        Some(Self { bytes, len: u8::try_from(text.len()).ok()? })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|b| core::str::from_utf8(b).ok()).unwrap_or("")
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a client sees as `id:`: `<epoch>-<seq>`, and `~s` behind it where a refused stream was told to stop.
///
/// ```
/// use tidings_core::EventId;
/// let id = EventId::parse("k3f9x2-18270").unwrap();
/// assert_eq!(id.seq.0, 18270);
/// assert_eq!(id.to_string(), "k3f9x2-18270");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId {
    /// The run in which the event at `seq` was written.
    pub epoch: Epoch,
    /// The position.
    pub seq: Seq,
    /// The stream that got this id was refused (`~s`).
    pub stopped: bool,
}

impl EventId {
    /// The id of a position.
    #[must_use]
    pub fn new(epoch: Epoch, seq: Seq) -> Self {
        Self { epoch, seq, stopped: false }
    }

    /// Reads an id; `None` if it is not one of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > limits::EVENT_ID_BYTES_MAX {
            return None;
        }
        let (text, stopped) = match text.strip_suffix("~s") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (epoch, seq) = text.split_once('-')?;
        // Only the canonical spelling, so that equal ids are equal text.
        let canonical = seq == "0" || (!seq.starts_with('0') && seq.bytes().all(|b| b.is_ascii_digit()));
        let seq = seq.parse().ok().filter(|_| canonical)?;
        Some(Self { epoch: Epoch::parse(epoch)?, seq: Seq(seq), stopped })
    }

    /// The same position with the mark of a refused stream.
    #[must_use]
    pub fn stopped(self) -> Self {
        Self { stopped: true, ..self }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}{}", self.epoch, self.seq, if self.stopped { "~s" } else { "" })
    }
}

/// How an id stands to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The log wrote it, or stood there.
    Known(Seq),
    /// Its epoch is the newest, but its position lies behind the head.
    Ahead,
    /// Its epoch is not listed, or ended before its position: it saw what is gone.
    Foreign,
}

/// The runs of a log, oldest first: each with the first sequence it may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epochs(Vec<(Epoch, Seq)>);

impl Epochs {
    /// A list with its first run, which starts at 1.
    #[must_use]
    pub fn first(epoch: Epoch) -> Self {
        Self(alloc::vec![(epoch, Seq(1))])
    }

    /// A list as it was stored; `None` unless it has a run and its sequences never fall.
    #[must_use]
    pub fn from_list(list: Vec<(Epoch, Seq)>) -> Option<Self> {
        let ordered = list.windows(2).all(|w| matches!(w, [(_, a), (_, b)] if a <= b));
        (!list.is_empty() && ordered).then_some(Self(list))
    }

    /// Opens a new run whose first event follows `head`.
    ///
    /// A run that wrote nothing is replaced: no id ever named it. The very first stays, since ids of an empty log do.
    pub fn open(&mut self, epoch: Epoch, head: Seq) {
        let first = head.next();
        if self.0.len() > 1 && self.0.last().is_some_and(|&(_, last)| last == first) {
            self.0.pop();
        }
        self.0.push((epoch, first));
        if self.0.len() > limits::EPOCHS_MAX {
            self.0.remove(0);
        }
    }

    /// The runs, oldest first.
    #[must_use]
    pub fn list(&self) -> &[(Epoch, Seq)] {
        &self.0
    }

    /// The newest run.
    #[must_use]
    pub fn newest(&self) -> Epoch {
        self.0.last().map_or(Epoch::from_random(0), |&(epoch, _)| epoch)
    }

    /// The id of the event, or of the position, at `seq`: an event always carries the epoch in which it was written.
    #[must_use]
    pub fn id(&self, seq: Seq) -> EventId {
        let index = self.0.partition_point(|&(_, first)| first <= seq).saturating_sub(1);
        let epoch = self.0.get(index).map_or_else(|| self.newest(), |&(epoch, _)| epoch);
        EventId::new(epoch, seq)
    }

    /// How `id` stands to a log with these runs and this head.
    #[must_use]
    pub fn standing(&self, id: EventId, head: Seq) -> Standing {
        let Some(index) = self.0.iter().rposition(|&(epoch, _)| epoch == id.epoch) else {
            return Standing::Foreign;
        };
        match self.0.get(index + 1) {
            Some(&(_, next)) if id.seq >= next => Standing::Foreign,
            Some(_) => Standing::Known(id.seq),
            None if id.seq > head => Standing::Ahead,
            None => Standing::Known(id.seq),
        }
    }
}

impl fmt::Display for Epochs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs: Vec<String> = self.0.iter().map(|(e, s)| alloc::format!("{e}@{s}")).collect();
        f.write_str(&runs.join(" ").to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(text: &str) -> Epoch {
        Epoch::parse(text).unwrap()
    }

    #[test]
    fn ids_have_one_spelling() {
        for bad in [
            "",
            "-",
            "a-",
            "-1",
            "a-01",
            "a-+1",
            "a-1 ",
            "A-1",
            "a-1~",
            "a-1~x",
            "a_1",
            "a-18446744073709551616",
        ] {
            assert_eq!(EventId::parse(bad), None, "{bad:?}");
        }
        for good in ["a-0", "k3f9x2-18270", "k3f9x2-18270~s", "a-18446744073709551615"] {
            assert_eq!(EventId::parse(good).unwrap().to_string(), good);
        }
    }

    #[test]
    fn an_ordinary_restart_resets_nobody() {
        let mut epochs = Epochs::first(epoch("a"));
        let seen = epochs.id(Seq(7));
        epochs.open(epoch("b"), Seq(9));
        assert_eq!(epochs.standing(seen, Seq(9)), Standing::Known(Seq(7)));
        assert_eq!(epochs.id(Seq(9)).to_string(), "a-9");
        assert_eq!(epochs.id(Seq(10)).to_string(), "b-10");
    }

    #[test]
    fn a_cut_log_resets_exactly_those_who_saw_what_is_gone() {
        let mut epochs = Epochs::first(epoch("a"));
        epochs.open(epoch("b"), Seq(5));
        assert_eq!(epochs.standing(EventId::new(epoch("a"), Seq(5)), Seq(5)), Standing::Known(Seq(5)));
        assert_eq!(epochs.standing(EventId::new(epoch("a"), Seq(6)), Seq(8)), Standing::Foreign);
        assert_eq!(epochs.standing(EventId::new(epoch("b"), Seq(9)), Seq(8)), Standing::Ahead);
        assert_eq!(epochs.standing(EventId::new(epoch("c"), Seq(1)), Seq(8)), Standing::Foreign);
    }

    #[test]
    fn a_run_that_wrote_nothing_leaves_no_trace_but_the_first_stays() {
        let mut epochs = Epochs::first(epoch("a"));
        epochs.open(epoch("b"), Seq(0));
        epochs.open(epoch("c"), Seq(0));
        assert_eq!(epochs.to_string(), "a@1 c@1");
        assert_eq!(epochs.standing(EventId::new(epoch("a"), Seq(0)), Seq(0)), Standing::Known(Seq(0)));
    }
}
