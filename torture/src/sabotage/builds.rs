//! The sabotaged builds: one line of the product broken in each, and who has to notice.
//!
//! Owns: the list. Does not know: how builds are made and judged.
//! Flow: read by `sabotage`.

/// Who is asked, in this order, until one notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Catcher {
    /// Unit tests of a package whose names hold this.
    Unit(&'static str, &'static str),
    /// Its black-box tests.
    BlackBox(&'static str, &'static str),
    /// A run of torture, so many seconds long.
    Torture(u64),
    /// A run of torture with tokens, so many seconds long.
    Grants(u64),
    /// So many power cuts; where mounting is not allowed, it notices nothing.
    Power(u64),
}

/// One line of the product, broken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Build {
    pub(super) name: &'static str,
    pub(super) file: &'static str,
    /// Found exactly once, or the build is out of date.
    pub(super) find: &'static str,
    pub(super) replace: &'static str,
    pub(super) catchers: &'static [Catcher],
}

use Catcher::{BlackBox, Grants, Power, Torture, Unit};

/// All of them.
pub(super) const BUILDS: &[Build] = &[
    Build {
        name: "acknowledge before fsync",
        file: "crates/tidings/src/log/disk/writer.rs",
        find: "file.write_at(&writer.commit.buf, writer.offset).and_then(|()| file.sync_data());",
        replace: "file.write_at(&writer.commit.buf, writer.offset);",
        catchers: &[Unit("tidings", "power_that_fails_at_any_write_or_sync"), Power(3)],
    },
    Build {
        name: "go on after a failed fsync",
        file: "crates/tidings/src/log/disk/writer.rs",
        find: "        self.poisoned.get().map_or(Ok(()), |why| Err(AppendError::Poisoned(why.clone())))",
        replace: "        Ok(())",
        catchers: &[Unit("tidings", "on_a_lossy_disk::restart")],
    },
    Build {
        name: "a segment is still being filled when it is used",
        file: "crates/tidings/src/log/disk/spare.rs",
        find: "        match filling.go_on(self.options.fill_time) {",
        replace: "        let mut late = Filling { spare: Spare { file: Arc::clone(&filling.spare.file), len: filling.spare.len }, offset: 0 }; let time = self.options.fill_time; std::thread::spawn(move || { std::thread::sleep(Duration::from_millis(100)); late.go_on(time) }); filling.offset = filling.spare.len; match Ok::<_, io::Error>(true) {",
        catchers: &[Unit("tidings", "disk::tests::spare"), Torture(20)],
    },
    Build {
        name: ">= for > in replay from memory",
        file: "crates/tidings/src/tail.rs",
        find: "let start = queue.partition_point(|f| f.seq <= after);",
        replace: "let start = queue.partition_point(|f| f.seq < after);",
        catchers: &[Unit("tidings", "tail::"), Torture(10)],
    },
    Build {
        name: ">= for > in replay from disk",
        file: "crates/tidings/src/log/disk/segment.rs",
        find: "let from = entries.partition_point(|entry| entry.seq(first) <= self.after);",
        replace: "let from = entries.partition_point(|entry| entry.seq(first) < self.after);",
        catchers: &[Torture(10)],
    },
    Build {
        name: "read before register",
        file: "crates/tidings/src/shard/run.rs",
        find: "            place: Place::open(cursor),",
        replace: "            place: Place::open(cursor.max(self.parts.tail.head())),",
        catchers: &[Torture(10), BlackBox("tidings", "resume")],
    },
    Build {
        name: "drop on a full socket",
        file: "crates/tidings/src/shard/sink.rs",
        find: "Err(Errno::AGAIN) => return Taken::Part(sent),",
        replace: "Err(Errno::AGAIN) => return Taken::All,",
        catchers: &[Torture(10)],
    },
    Build {
        name: "drop what is pending of a slow connection",
        file: "crates/tidings/src/shard/deliver.rs",
        find: "let cursor = rest.reached.unwrap_or_else(|| self.stands_at(key));",
        replace: "let cursor = chunk.last().unwrap_or_else(|| self.stands_at(key));",
        catchers: &[Torture(10)],
    },
    Build {
        name: "forget keys after a restart",
        file: "crates/tidings/src/log/disk/recover/replay.rs",
        find: "            self.keys.remember(idempotency, record.seq, count);",
        replace: "            let _: (_, u32) = (idempotency, count);",
        catchers: &[Unit("tidings", "on_a_lossy_disk::restart"), Torture(20)],
    },
    Build {
        name: "no new epoch",
        file: "crates/tidings/src/log/disk/recover/mod.rs",
        find: "                epochs.open(epoch, self.head);",
        replace: "",
        catchers: &[Unit("tidings", "on_a_lossy_disk::restart")],
    },
    Build {
        name: "a seq reused after a crash",
        file: "crates/tidings/src/log/disk/recover/mod.rs",
        find: "            head: self.head,\n            keys",
        replace: "            head: Seq(self.head.0.saturating_sub(1)),\n            keys",
        catchers: &[Torture(10)],
    },
    Build {
        name: "half a batch",
        file: "crates/tidings/src/hub.rs",
        find: "            false => self.commit(groups).await?,",
        replace: "            false => { let mut all = groups; let rest = all.split_off(all.len() / 2); let mut a = self.commit(all).await?; a.extend(self.commit(rest).await?); a }",
        catchers: &[Torture(20)],
    },
    Build {
        name: "a refused group leaves something behind",
        file: "crates/tidings/src/log/disk/commit.rs",
        find: "        self.next = first;\n        while",
        replace: "        while",
        catchers: &[Unit("tidings", "a_refused_group_leaves_nothing_behind")],
    },
    Build {
        name: "trim under a live reader",
        file: "crates/tidings/src/tail.rs",
        find: "        let needed = self.lowest_shard();\n        let mut frames = self.frames.write().unwrap_or_else(PoisonError::into_inner);\n        for",
        replace: "        let needed = Seq(u64::MAX);\n        let mut frames = self.frames.write().unwrap_or_else(PoisonError::into_inner);\n        for",
        catchers: &[Unit("tidings", "tail::")],
    },
    Build {
        name: "retention overtakes a reader in silence",
        file: "crates/tidings/src/log/disk/read.rs",
        find: "        if let Some(floor) = reach.floor.filter(|&floor| want.after < floor) {",
        replace: "        if let Some(floor) = reach.floor.filter(|&floor| want.after < floor && false) {",
        catchers: &[Unit("tidings", "log::conformance"), BlackBox("tidings", "resume")],
    },
    Build {
        name: "an index is believed that is not as it was written",
        file: "crates/tidings/src/log/disk/index/proved.rs",
        find: "crc32c::crc32c(block) == sum;",
        replace: "crc32c::crc32c(block) == sum || true;",
        catchers: &[Unit("tidings", "an_index_that_becomes_bad")],
    },
    Build {
        name: "a rewritten segment goes by floors that the next start does not find",
        file: "crates/tidings/src/log/disk/compact.rs",
        find: "channel.saved_reach(state.log_floor).after",
        replace: "channel.reach(state.log_floor).after",
        catchers: &[Unit("tidings", "what_one_run_had_let_go")],
    },
    Build {
        name: "a channel is forgotten behind the back of who catches up",
        file: "crates/tidings/src/shard/catchup.rs",
        find: "        if horizon <= errand.cursor {",
        replace: "        if horizon <= errand.cursor || true {",
        catchers: &[Unit("tidings", "shard::catchup")],
    },
    Build {
        name: "a foreign channel",
        file: "crates/tidings/src/shard/pass.rs",
        find: "        let moved = subscription.channels.iter().filter_map(|c| self.by_channel.get(c).copied());",
        replace: "        let moved = subscription.channels.iter().flat_map(|_| self.by_channel.values().copied()).take(self.moved.len());",
        catchers: &[Torture(10)],
    },
    Build {
        name: "hello with the head on a resume",
        file: "crates/tidings-core/src/resume.rs",
        find: "    let mut start = Start { cursor: own, hello: Some(own), reset: None, replay: Replay::Events, end_after };",
        replace: "    let mut start = Start { cursor: own, hello: Some(request.head), reset: None, replay: Replay::Events, end_after };",
        catchers: &[Unit("tidings-core", "resume"), Torture(10)],
    },
    Build {
        name: "a newcomer joins in the middle of a pass",
        file: "crates/tidings/src/shard/deliver.rs",
        find: "        if cursor > position || (cursor == position && (in_pass || conn.end_after.is_some())) {",
        replace: "        if cursor > position || (cursor == position && conn.end_after.is_some()) {",
        catchers: &[Torture(20)],
    },
    Build {
        name: "a visited connection forgets its visit",
        file: "crates/tidings/src/shard/connection.rs",
        find: "        self.place.cursor(cohort).max(self.told)",
        replace: "        self.place.cursor(cohort)",
        catchers: &[Unit("tidings", "shard::run")],
    },
    Build {
        name: "a pass visits whoever has come to a place",
        file: "crates/tidings/src/shard/deliver.rs",
        find: "        let (key, unix) = (visit.key, self.unix_ms);\n        let Some(conn) = self.conn(key) else { return };",
        replace: "        let serial = self.conns.get(visit.key.place as usize).map_or(0, |conn| conn.serial);\n        let (key, unix) = (Key { serial, ..visit.key }, self.unix_ms);\n        let Some(conn) = self.conn(key) else { return };",
        catchers: &[Unit("tidings", "shard::run")],
    },
    Build {
        name: "what one cohort has got is kept from the others",
        file: "crates/tidings/src/shard/deliver.rs",
        find: "self.parts.tail.passed(self.index, self.cohorts.position());",
        replace: "self.parts.tail.passed(self.index, to);",
        catchers: &[Unit("tidings", "shard::run")],
    },
    Build {
        name: "a checksum that holds anyway",
        file: "crates/tidings/src/log/disk/scan.rs",
        find: "        header.holds(records, salt).then_some(Self { header, offset, records })",
        replace: "        (header.holds(records, salt) || true).then_some(Self { header, offset, records })",
        catchers: &[Unit("tidings", "on_a_lossy_disk::restart")],
    },
    Build {
        name: "conflation replaces across channels",
        file: "crates/tidings-core/src/conflate.rs",
        find: "!replaced.insert((event.channel, key))",
        replace: "!replaced.insert((\"\", key))",
        catchers: &[Unit("tidings-core", "conflate"), Torture(10)],
    },
    Build {
        name: "any lease will do",
        file: "crates/tidings-core/src/job/lease.rs",
        find: "            (Some(own), Some(hash)) if own.hash == hash => match claim.attempt {",
        replace: "            (Some(_), Some(_)) => match claim.attempt {",
        catchers: &[Unit("tidings-core", "job::"), BlackBox("tidings", "queue::")],
    },
    Build {
        name: "attempts without an end",
        file: "crates/tidings-core/src/job/lease.rs",
        find: "        if self.document.attempt >= self.document.max_attempts {",
        replace: "        if false {",
        catchers: &[Unit("tidings-core", "job::")],
    },
    Build {
        name: "a job's end does not finish its channel",
        file: "crates/tidings/src/jobs/record.rs",
        find: "flags: Flags { is_final: event.is_final, ..Flags::default() },",
        replace: "flags: Flags::default(),",
        catchers: &[BlackBox("tidings", "queue::")],
    },
    Build {
        name: "a lease is held by nobody",
        file: "crates/tidings/src/jobs/lease.rs",
        find: "        let (Some(leased), jobs) = (self.leased.take(), self.jobs.clone()) else { return };",
        replace: "        let (Some(leased), jobs) = (self.leased.take().filter(|_| false), self.jobs.clone()) else { return };",
        catchers: &[Unit("tidings", "jobs::tests")],
    },
    Build {
        name: "the state of a job is trimmed",
        file: "crates/tidings/src/jobs/record.rs",
        find: "        append.flags.is_pinned = *is_state && !event.is_final;",
        replace: "        append.flags.is_pinned = false;",
        catchers: &[BlackBox("tidings", "queue::")],
    },
    Build {
        name: "the state of a schedule is trimmed",
        file: "crates/tidings/src/jobs/schedule/mod.rs",
        find: "flags: Flags { is_pinned: true, ..Flags::default() },",
        replace: "flags: Flags::default(),",
        catchers: &[Unit("tidings", "jobs::schedule")],
    },
    Build {
        name: "a time that the clock repeats runs the second time",
        file: "crates/tidings/src/jobs/schedule/cron.rs",
        find: "LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at),",
        replace: "LocalResult::Single(at) => Some(at), LocalResult::Ambiguous(_, at) => Some(at),",
        catchers: &[Unit("tidings", "jobs::schedule")],
    },
    Build {
        name: "a grant is looked at only when a stream opens",
        file: "crates/tidings/src/shard/until.rs",
        find: "        conn.until_ms = until_ms.unwrap_or(NEVER);",
        replace: "        conn.until_ms = until_ms.map_or(NEVER, |_| NEVER);",
        catchers: &[Grants(20), BlackBox("tidings", "grants::live")],
    },
    Build {
        name: "a grant is over before its end and not behind it",
        file: "crates/tidings-core/src/grant.rs",
        find: "self.expires_at_ms.is_some_and(|at| at <= unix_ms)",
        replace: "self.expires_at_ms.is_some_and(|at| at > unix_ms)",
        catchers: &[BlackBox("tidings", "grants::live"), Grants(20)],
    },
    Build {
        name: "a revocation is forgotten at a restart",
        file: "crates/tidings/src/auth/enforce.rs",
        find: "        let outcome = self.commit(vec![group]).await?.into_iter().next();\n        if !matches!(outcome, Some(Outcome::Appended(_))) {",
        replace: "        drop(group);\n        if false {",
        catchers: &[Grants(30), BlackBox("tidings", "grants::live")],
    },
    Build {
        name: "a revocation forgets streams that are open",
        file: "crates/tidings/src/subscribe.rs",
        find: "                if let Some((inbox, key)) = &entry.place {\n                    inbox.push(Command::Refuse",
        replace: "                if let Some((inbox, key)) = entry.place.as_ref().filter(|_| false) {\n                    inbox.push(Command::Refuse",
        catchers: &[Grants(20), BlackBox("tidings", "grants::live")],
    },
    Build {
        name: "a stream is not looked at again once it is registered",
        file: "crates/tidings/src/http/stream.rs",
        find: "    if let Err(error) = hub.0.auth.check(caller.grant()) {",
        replace: "    if let Err(error) = hub.0.auth.check(caller.grant()).or(Ok::<(), AuthError>(())) {",
        catchers: &[BlackBox("tidings", "a_stream_whose_token_is_revoked_while_it_waits"), Grants(20)],
    },
    Build {
        name: "a pattern without a star covers what begins with it",
        file: "crates/tidings-core/src/grant.rs",
        find: "if self.is_prefix { name.starts_with(&*self.text) } else { *name == *self.text }",
        replace: "name.starts_with(&*self.text)",
        catchers: &[Grants(20), Unit("tidings-core", "grant")],
    },
    Build {
        name: "the mark of a refusal says nothing",
        file: "crates/tidings-core/src/resume.rs",
        find: "        Asked::Id { stopped: true, .. } => return Decision::Stop,",
        replace: "        Asked::Id { stopped: true, .. } if false => return Decision::Stop,",
        catchers: &[Grants(20), Unit("tidings-core", "resume")],
    },
    Build {
        name: "the mark of a refusal refuses whoever bears it",
        file: "crates/tidings-core/src/resume.rs",
        find: "    if request.refused {",
        replace: "    if request.refused || matches!(request.asked, Asked::Id { stopped: true, .. }) {",
        catchers: &[Grants(20), Unit("tidings-core", "resume")],
    },
    Build {
        name: "a ticket works as often as one likes",
        file: "crates/tidings/src/auth/ticket.rs",
        find: "unwrap_or_else(PoisonError::into_inner).remove(&hash(ticket));",
        replace: "unwrap_or_else(PoisonError::into_inner).get(&hash(ticket)).map(|w| Waiting { authorized: w.authorized.clone(), until_ms: w.until_ms });",
        catchers: &[Grants(20), Unit("tidings", "auth::ticket")],
    },
    Build {
        name: "open streams are not judged again",
        file: "crates/tidings/src/auth/live.rs",
        find: "        if connections.insert(connection) && connections.len() == 1 {",
        replace: "        if connections.insert(connection) && connections.is_empty() {",
        catchers: &[BlackBox("tidings", "whoever_judged_is_asked_again")],
    },
    Build {
        name: "keys that are read again do not count",
        file: "crates/tidings-server/src/auth/jwt/mod.rs",
        find: "        *own = Arc::new(Keys { list: keys, version: own.version + 1 });",
        replace: "        *own = Arc::new(Keys { list: own.list.clone(), version: own.version + u64::from(keys.is_empty()) });",
        catchers: &[BlackBox("tidings-server", "rotation"), Unit("tidings-server", "auth::jwt")],
    },
    Build {
        name: "a token that was checked is good for ever",
        file: "crates/tidings-server/src/auth/jwt/mod.rs",
        find: "            return Judged::Ours(if grant.is_over(now_ms) { Err(AuthError::Expired) } else { Ok(grant) });",
        replace: "            return Judged::Ours(Ok(grant));",
        catchers: &[Unit("tidings-server", "auth::jwt")],
    },
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_snippet_stands_exactly_once_in_its_file() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for build in BUILDS {
            let text = std::fs::read_to_string(root.join(build.file)).unwrap_or_default();
            assert_eq!(
                text.matches(build.find).count(),
                1,
                "{}: {} in {}",
                build.name,
                build.find,
                build.file
            );
        }
    }
}
