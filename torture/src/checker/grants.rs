//! What every client got against what it might hear at that moment.
//!
//! Owns: nothing outside a grant, no stream with a grant that is over, no refusal of one that is good. Does not know: loss
//! and order (`client` does), servers, tokens as text.
//! Flow: in ← tokens, revocations, and when each was shown and answered · out → violations.
//!
//! Nobody outside sees when a byte is written. What can be known: an event is written after its publish was sent, a
//! revocation counts once it was answered, and client, publisher and server read one clock.

use std::collections::HashMap;

use super::{Answer, Client, Grants, Kind, Report, Revoked, Seen, Session, Shown, Token, Trace};

/// How far apart two readings of one clock may be, in microseconds.
const TOLERANCE: u64 = 50_000;
/// A request that was not answered may still be carried out for so long, in microseconds.
const LATE: u64 = 30_000_000;

/// What is certain of a token.
#[derive(Debug, Clone, Copy)]
struct Life {
    /// Until then it held.
    good_until: u64,
    /// From then on it did not.
    dead_from: u64,
}

pub(super) fn check(trace: &Trace, report: &mut Report) {
    let judge = Judge::new(trace);
    for client in &trace.clients {
        for session in client.sessions.iter().filter(|session| !session.shown.is_empty()) {
            judge.events(client, session, report);
            judge.answers(client, session, report);
            judge.end(client, session, report);
        }
    }
    for probe in &trace.grants.probes {
        let uncovered = judge.uncovered(&probe.channels, probe.shown);
        judge.opened("a probe", uncovered, probe.shown, report);
    }
}

struct Judge<'a> {
    grants: &'a Grants,
    lives: Vec<Life>,
    /// When the publish of a value to a channel was first sent.
    sent: HashMap<(u64, u16), u64>,
}

impl<'a> Judge<'a> {
    fn new(trace: &'a Trace) -> Self {
        let grants = &trace.grants;
        let lives = grants.tokens.iter().enumerate().map(|(number, token)| life(grants, number, token));
        let publishes = trace.publishes.iter();
        let sent = publishes.flat_map(|p| p.items.iter().map(|item| ((item.value, item.channel), p.sent)));
        Self { grants, lives: lives.collect(), sent: sent.collect() }
    }

    fn life(&self, shown: Shown) -> Life {
        // A token that nobody made was never good.
        self.lives.get(shown.token).copied().unwrap_or(Life { good_until: 0, dead_from: 0 })
    }

    fn covers(&self, shown: Shown, channel: u16) -> bool {
        self.grants.tokens.get(shown.token).is_some_and(|token| token.channels.contains(&channel))
    }

    fn uncovered(&self, channels: &[u16], shown: Shown) -> Option<u16> {
        channels.iter().copied().find(|channel| !self.covers(shown, *channel))
    }

    /// An event may come if one of the tokens that were shown for the connection may have held when it was written.
    fn events(&self, client: &Client, session: &Session, report: &mut Report) {
        for seen in &session.seen {
            let Seen::Event(event) = seen else { continue };
            let Some(sent) = event.value.and_then(|value| self.sent.get(&(value, event.channel))) else {
                // Nobody published it, which others say.
                continue;
            };
            let may = session.shown.iter().enumerate().any(|(index, shown)| {
                matches!(shown.answer, Answer::Granted | Answer::None)
                    && self.covers(*shown, event.channel)
                    && *sent < self.life(*shown).dead_from
                    && *sent < replaced(session, index)
            });
            if !may {
                let name = &client.name;
                report.add(Kind::Outside, || {
                    let tokens: Vec<usize> = session.shown.iter().map(|shown| shown.token).collect();
                    format!("{name} got {event:?}, sent at {sent}, with tokens {tokens:?}")
                });
            }
        }
    }

    /// Every answer to a token that was shown, for a new stream or an open one.
    fn answers(&self, client: &Client, session: &Session, report: &mut Report) {
        let name = &client.name;
        for (index, &shown) in session.shown.iter().enumerate() {
            let uncovered = self.uncovered(&session.channels, shown);
            self.opened(name, uncovered, shown, report);
            let is_good =
                uncovered.is_none() && !shown.is_spent && shown.answered < self.life(shown).good_until;
            let is_refusal = matches!(shown.answer, Answer::Refused | Answer::Rejected | Answer::Stopped);
            if is_good && is_refusal {
                report.add(Kind::Denied, || format!("{name}: {shown:?} is good for all it asks for"));
            }
            let is_opening = index == 0;
            if is_opening && shown.answer == Answer::Stopped && !session.is_marked {
                report.add(Kind::Protocol, || format!("{name} was told to stop before it was told why"));
            }
            if is_opening && shown.answer == Answer::Refused && session.is_marked {
                report.add(Kind::Protocol, || format!("{name} was refused again and not told to stop"));
            }
        }
    }

    fn opened(&self, name: &str, uncovered: Option<u16>, shown: Shown, report: &mut Report) {
        let why = match uncovered {
            Some(channel) => format!("does not cover channel {channel}"),
            None if shown.is_spent => "was used before".to_owned(),
            None if shown.sent >= self.life(shown).dead_from => "was over".to_owned(),
            None => return,
        };
        if shown.answer == Answer::Granted {
            report.add(Kind::Opened, || format!("{name}: {shown:?} {why}"));
        }
    }

    /// An open stream is refused only if one of its tokens may have been over before another took its place.
    fn end(&self, client: &Client, session: &Session, report: &mut Report) {
        let refused = session.seen.iter().find_map(|seen| match seen {
            Seen::Unauthorized(_, at) => Some(*at),
            Seen::Hello(_) | Seen::Event(_) | Seen::Reset(_) => None,
        });
        let Some(at) = refused.filter(|_| session.shown.first().is_some_and(|s| s.answer == Answer::Granted))
        else {
            return;
        };
        let may = session.shown.iter().enumerate().any(|(index, shown)| {
            let held_until = at.min(replaced(session, index));
            self.life(*shown).good_until <= held_until || self.uncovered(&session.channels, *shown).is_some()
        });
        if !may {
            report.add(Kind::Denied, || format!("{}: a stream with a good grant ended at {at}", client.name));
        }
    }
}

/// When another token had surely taken the place of this one, or the stream was refused.
fn replaced(session: &Session, index: usize) -> u64 {
    let later = session.shown.iter().skip(index + 1);
    let settled = later.filter(|shown| matches!(shown.answer, Answer::Granted | Answer::Refused));
    settled.map(|shown| shown.answered).min().unwrap_or(u64::MAX)
}

fn life(grants: &Grants, number: usize, token: &Token) -> Life {
    let mut life = Life {
        good_until: token.expires.saturating_sub(TOLERANCE),
        dead_from: token.expires.saturating_add(TOLERANCE),
    };
    for revocation in &grants.revocations {
        let is_named = match revocation.what {
            Revoked::Token(named) => named == number,
            Revoked::Session(session) => session == token.session,
            Revoked::Subject(subject) => subject == token.subject,
        };
        if !is_named {
            continue;
        }
        let by_id = matches!(revocation.what, Revoked::Token(_));
        // Of sessions and subjects, what was issued until the revocation is over, and that came between these two.
        let latest = revocation.answered.unwrap_or(revocation.sent.saturating_add(LATE));
        if by_id || token.issued <= latest {
            life.good_until = life.good_until.min(revocation.sent);
        }
        if let Some(answered) = revocation.answered
            && (by_id || token.issued <= revocation.sent)
        {
            life.dead_from = life.dead_from.min(answered);
        }
    }
    life
}

#[cfg(test)]
mod tests;
