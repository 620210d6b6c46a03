//! What one client got against the log.
//!
//! Owns: once, in order, no holes, nothing foreign; what a reset and conflation may leave out. Does not know: publishers.
//! Flow: in ← a client's connections, the log · out → violations.

use std::collections::{HashMap, HashSet};

use super::{Client, Event, Id, Kind, Logged, Report, Reset, Seen, Session, Sources, Start};

/// Conflation happens within one slice of catching up, which holds so many events (`limits::SLICE_EVENTS_MAX`).
const SLICE_EVENTS: usize = tidings_core::limits::SLICE_EVENTS_MAX;

pub(super) fn check(
    client: &Client,
    log: &[Logged],
    sources: &Sources,
    may_reset: bool,
    report: &mut Report,
) {
    let expected: Vec<&Logged> = log.iter().filter(|l| client.channels.contains(&l.channel)).collect();
    let fates = vec![Fate::Owed; expected.len()];
    let position = (client.start == Start::Oldest).then_some(0);
    let mut reader = Reader {
        client,
        channels: &[],
        expected,
        fates,
        slices: HashMap::new(),
        next: 0,
        position,
        gaps: HashSet::new(),
        log,
        sources,
        report,
    };
    for session in &client.sessions {
        reader.session(session, may_reset);
    }
    reader.end();
}

/// What became of an event that the client is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Owed,
    Got,
    PassedOver,
    Forgiven,
}

struct Reader<'a> {
    client: &'a Client,
    /// What the connection of now listens to; empty: all channels of the client.
    channels: &'a [u16],
    /// What the log holds of the client's channels.
    expected: Vec<&'a Logged>,
    fates: Vec<Fate>,
    /// The last index that can be in one slice with an event that was passed over, where that depends on the connection.
    slices: HashMap<usize, usize>,
    /// Everything before this index has its fate.
    next: usize,
    /// Everything up to here is behind the client; unknown until the first hello or event.
    position: Option<u64>,
    /// Channels of which a reset said that something is gone, until their next event.
    gaps: HashSet<u16>,
    log: &'a [Logged],
    sources: &'a Sources,
    report: &'a mut Report,
}

impl<'a> Reader<'a> {
    fn session(&mut self, session: &'a Session, may_reset: bool) {
        self.report.figures.sessions += 1;
        self.turn_to(session);
        let name = &self.client.name;
        let mut seen = session.seen.iter().peekable();
        match seen.next() {
            None => return,
            Some(Seen::Unauthorized(id, _)) => return self.refused(session, *id, seen.count()),
            Some(Seen::Hello(id)) => {
                let is_reset = matches!(seen.peek(), Some(Seen::Reset(_)));
                if session.asked.is_some() && *id != session.asked && !is_reset {
                    let asked = session.asked;
                    self.report
                        .add(Kind::Protocol, || format!("{name} asked for {asked:?}, hello has {id:?}"));
                }
                if self.position.is_none() && self.client.start == Start::Now {
                    self.start_at(id.map(|id| id.seq));
                }
            }
            Some(_) => self.report.add(Kind::Protocol, || format!("{name}: a stream without hello")),
        }
        while let Some(next) = seen.next() {
            match next {
                Seen::Hello(_) => self.report.add(Kind::Protocol, || format!("{name}: hello again")),
                Seen::Event(event) => self.event(*event),
                Seen::Reset(reset) => self.reset(reset, may_reset),
                Seen::Unauthorized(id, _) => return self.refused(session, *id, seen.count()),
            }
        }
    }

    /// Another connection. What the one before went past, up to the id that it left behind, it went past for its own
    /// channels: of a channel that comes back later, nothing up to there is owed.
    fn turn_to(&mut self, session: &'a Session) {
        if session.channels.is_empty() {
            return;
        }
        if let Some(asked) = session.asked {
            let upto = self.expected.partition_point(|l| l.id.seq <= asked.seq);
            self.pass_over(upto);
            self.next = self.next.max(upto);
            self.position = self.position.max(Some(asked.seq));
        }
        self.channels = &session.channels;
    }

    /// Nothing comes behind a refusal, which leaves a position. Whether it was right is for others to say.
    fn refused(&mut self, session: &Session, id: Option<Id>, behind: usize) {
        let name = &self.client.name;
        if session.shown.is_empty() {
            self.report.add(Kind::Denied, || format!("{name} was refused, who needs no credentials"));
        }
        if behind > 0 {
            self.report.add(Kind::Outside, || format!("{name} got {behind} more behind a refusal"));
        }
        match id {
            None => self.report.add(Kind::Protocol, || format!("{name}: a refusal without an id")),
            Some(id) if self.position.is_none() && self.client.start == Start::Now => {
                self.start_at(Some(id.seq));
            }
            Some(_) => {}
        }
    }

    fn listens_to(&self, channel: u16) -> bool {
        self.channels.is_empty() || self.channels.contains(&channel)
    }

    fn start_at(&mut self, position: Option<u64>) {
        let name = &self.client.name;
        match position {
            None => self.report.add(Kind::Protocol, || format!("{name}: hello without an id")),
            Some(position) => {
                self.position = Some(position);
                self.next = self.expected.partition_point(|l| l.id.seq <= position);
            }
        }
    }

    fn event(&mut self, event: Event) {
        self.report.figures.delivered += 1;
        let name = &self.client.name;
        if !self.client.channels.contains(&event.channel) || !self.listens_to(event.channel) {
            return self.report.add(Kind::Foreign, || format!("{name} got {event:?}"));
        }
        let Some(id) = event.id else {
            return self.report.add(Kind::Phantom, || format!("{name} got {event:?}"));
        };
        let found = self.log.binary_search_by_key(&id.seq, |l| l.id.seq).ok().and_then(|i| self.log.get(i));
        let Some(logged) = found else {
            return self
                .report
                .add(Kind::Phantom, || format!("{name} got {event:?}, which the log does not hold"));
        };
        if (logged.id, logged.channel, logged.value) != (id, event.channel, event.value) {
            return self
                .report
                .add(Kind::IdReused, || format!("{name} got {event:?}, the log holds {logged:?}"));
        }
        let at = self.expected.partition_point(|l| l.id.seq < id.seq);
        if self.position.is_none() {
            // `last:N` begins with whatever comes first.
            self.position = Some(id.seq - 1);
            self.next = at;
        }
        if self.position.is_some_and(|position| id.seq <= position) {
            let is_got = self.fates.get(at) != Some(&Fate::PassedOver);
            let kind = if is_got { Kind::Repeat } else { Kind::Reorder };
            let position = self.position;
            return self.report.add(kind, || format!("{name} got {event:?} behind {position:?}"));
        }
        self.pass_over(at);
        if let Some(fate) = self.fates.get_mut(at) {
            *fate = Fate::Got;
        }
        self.gaps.remove(&event.channel);
        (self.next, self.position) = (at + 1, Some(id.seq));
    }

    /// The client goes on behind these.
    fn pass_over(&mut self, upto: usize) {
        for index in self.next..upto {
            let Some(channel) = self.expected.get(index).map(|l| l.channel) else { continue };
            let forgiven = self.gaps.contains(&channel) || !self.listens_to(channel);
            if !forgiven && !self.channels.is_empty() {
                self.slices.insert(index, self.slice_end(index));
            }
            if let Some(fate) = self.fates.get_mut(index) {
                *fate = if forgiven { Fate::Forgiven } else { Fate::PassedOver };
            }
        }
    }

    /// A slice holds so many events of the channels that its connection listens to.
    fn slice_end(&self, index: usize) -> usize {
        let rest = self.expected.iter().enumerate().skip(index);
        rest.filter(|(_, l)| self.listens_to(l.channel)).take(SLICE_EVENTS).last().map_or(index, |(at, _)| at)
    }

    /// A reset forgives what it names: up to its id, or up to the next event of the channels it names.
    fn reset(&mut self, reset: &Reset, may_reset: bool) {
        self.report.figures.resets += 1;
        let name = &self.client.name;
        if !may_reset {
            return self.report.add(Kind::Reset, || format!("{name}: {reset:?}"));
        }
        let named = if reset.channels.is_empty() { &self.client.channels } else { &reset.channels };
        let Some(id) = reset.id else {
            return self.report.add(Kind::Protocol, || format!("{name}: {reset:?}"));
        };
        if matches!(reset.reason.as_str(), "expired" | "deleted") {
            self.gaps.extend(named);
            return;
        }
        let upto = self.expected.partition_point(|l| l.id.seq <= id.seq);
        for index in self.next..upto {
            let forgiven = self.expected.get(index).is_some_and(|l| named.contains(&l.channel));
            if let Some(fate) = self.fates.get_mut(index) {
                *fate = if forgiven { Fate::Forgiven } else { Fate::PassedOver };
            }
        }
        // A restored log stands before what the client saw of the old one.
        (self.next, self.position) = (upto, Some(id.seq));
    }

    fn end(&mut self) {
        let name = &self.client.name;
        if self.client.ended != self.client.must_end {
            let ended = self.client.ended;
            self.report.add(Kind::Protocol, || format!("{name}: ended for good: {ended}"));
        }
        if self.position.is_none() && self.client.start == Start::Now {
            return self.report.add(Kind::Protocol, || format!("{name}: never got a hello"));
        }
        // From the newest back: whether the replacement of a keyed event was got, or left out rightly itself.
        let mut replacements: HashMap<(u16, u8), usize> = HashMap::new();
        for (index, (logged, fate)) in self.expected.iter().zip(&self.fates).enumerate().rev() {
            let kin = self.kin(logged);
            let end = self.slices.get(&index).copied().unwrap_or(index + SLICE_EVENTS - 1);
            let near = |at: &usize| *at <= end;
            let is_replaced = kin.and_then(|kin| replacements.get(&kin)).is_some_and(near);
            match fate {
                Fate::PassedOver if is_replaced => self.report.figures.conflated += 1,
                Fate::PassedOver => {
                    self.report.add(Kind::Gap, || format!("{name} did not get {logged:?} ({kin:?})"));
                    continue;
                }
                Fate::Owed if index >= self.next && self.listens_to(logged.channel) => {
                    self.report.add(Kind::UnseenTail, || format!("{name} has yet to get {logged:?}"));
                    continue;
                }
                Fate::Owed | Fate::Got | Fate::Forgiven => {}
            }
            if let Some(kin) = kin {
                replacements.insert(kin, index);
            }
        }
    }

    /// Events of one kin replace each other: the same channel and conflation key.
    ///
    /// One may be left out if its replacement came out of the same slice. The client may be cut between the two and find the
    /// replacement replaced in its turn when it comes back, so a chain counts, but not a hole in it.
    fn kin(&self, logged: &Logged) -> Option<(u16, u8)> {
        let key = *self.sources.get(&(logged.value?, logged.channel))?;
        Some((logged.channel, key?))
    }
}
