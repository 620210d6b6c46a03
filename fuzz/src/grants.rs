//! What a grant covers is what a naive reading of its patterns says, and reserved channels are never covered by chance.

use tidings_core::ChannelName;
use tidings_core::grant::{Grant, Holder, JobFacts, Object, Pattern, Subject};

use crate::input::Input;

/// `flags, subject\n, channel\n, patterns, one a line`.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let subject = input.text_line().into_owned();
    let name = input.text_line().into_owned();
    let mut patterns = Vec::new();
    while !input.is_empty() && patterns.len() < 120 {
        patterns.push(input.text_line().into_owned());
    }
    for pattern in &patterns {
        let parsed = Pattern::parse(pattern);
        assert_eq!(parsed.is_ok(), is_pattern(pattern), "{pattern:?}");
        if let Ok(parsed) = parsed {
            assert_eq!(parsed.to_string(), *pattern);
            assert_eq!(parsed.covers(&name), covers(pattern, &name), "{pattern:?} and {name:?}");
        }
    }
    let sub = (flags & 1 != 0).then(|| subject.clone());
    let object = Object { sub, subscribe: patterns.clone(), publish: patterns.clone(), ..Object::default() };
    let grant = Grant::of(&object);
    let is_subject = flags & 1 == 0 || Subject::parse(&subject).is_ok();
    let is_valid = patterns.len() <= 100 && patterns.iter().all(|pattern| is_pattern(pattern)) && is_subject;
    assert_eq!(grant.is_ok(), is_valid);
    let (Ok(mut grant), Ok(channel)) = (grant, ChannelName::parse(&name)) else { return };
    let is_own = flags & 1 != 0 && name == format!("user:{subject}");
    let reserved = ["job:", "tidings:"].into_iter().find(|reserved| name.starts_with(reserved));
    let covered = patterns.iter().any(|pattern| {
        covers(pattern, &name) && reserved.is_none_or(|reserved| pattern.starts_with(reserved))
    });
    assert_eq!(grant.may_subscribe(&channel), is_own || covered, "{object:?} and {name}");
    assert_eq!(grant.may_publish(&channel), patterns.iter().any(|pattern| covers(pattern, &name)));
    let job = JobFacts { id: "7", job_type: "t", queue: "q", subject: (flags & 2 != 0).then_some("x") };
    assert!(!grant.may_manage_jobs("t") && !grant.may_work("q") && !grant.may_create_job("t"));
    assert_eq!(grant.may_read_job(job), flags & 3 == 3 && subject == "x");
    if flags & 1 == 0 {
        // An API key's star covers what the server keeps to itself; nothing else about it differs.
        grant.holder = Holder::Key("k".into());
        assert_eq!(grant.may_subscribe(&channel), patterns.iter().any(|pattern| covers(pattern, &name)));
    }
}

fn is_pattern(text: &str) -> bool {
    let begin = text.strip_suffix('*').unwrap_or(text);
    let is_plain = |c: char| ('!'..='~').contains(&c) && !"\"*,\\".contains(c);
    begin.len() <= 255 && begin.chars().all(is_plain) && !text.is_empty()
}

fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => name.len() >= begin.len() && name.as_bytes()[..begin.len()] == *begin.as_bytes(),
        None => name == pattern,
    }
}
