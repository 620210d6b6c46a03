//! Settings in the environment that nobody reads.
//!
//! Owns: which names there are, and what a wrong one might have meant. Does not know: values.
//! Flow: the names of the environment → nothing, or one sentence on the first that is not known.

use anyhow::{Result, bail};
use clap::CommandFactory;

use crate::auth::SECRET_ENV;
use crate::cli::Cli;

/// Names that are read without a flag.
const OTHERS: [&str; 2] = [SECRET_ENV, "TIDINGS_TOKEN"];

/// Refuses `TIDINGS_…` that is not a setting: a server that ignores half of its settings looks as if it obeyed.
pub(crate) fn check() -> Result<()> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    match unknown(names) {
        None => Ok(()),
        Some((name, Some(near))) => {
            bail!("the environment has {name}, which is no setting: did you mean {near}?")
        }
        Some((name, None)) => {
            bail!("the environment has {name}, which is no setting: `tidings serve --help` lists them")
        }
    }
}

/// The first name that is not known, and the one that is most like it.
pub(crate) fn unknown(names: impl Iterator<Item = String>) -> Option<(String, Option<String>)> {
    let mut known: Vec<String> = OTHERS.map(str::to_owned).to_vec();
    collect(&Cli::command(), &mut known);
    let mut ours: Vec<String> = names.filter(|name| name.starts_with("TIDINGS_")).collect();
    ours.sort();
    let name = ours.into_iter().find(|name| !known.contains(name))?;
    let likeness = |other: &String| strsim::jaro_winkler(&name, other);
    let near = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let near = near.filter(|near| likeness(near) > 0.85).cloned();
    Some((name, near))
}

fn collect(command: &clap::Command, known: &mut Vec<String>) {
    let names = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str());
    known.extend(names.map(str::to_owned));
    for command in command.get_subcommands() {
        collect(command, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Option<(String, Option<String>)> {
        unknown(names.iter().map(|&name| name.to_owned()))
    }

    #[test]
    fn a_setting_that_is_misspelt_is_named_with_the_one_it_is_like() {
        assert_eq!(of(&["PATH", "TIDINGS_LISTEN", "TIDINGS_JWT_SECRET", "TIDINGS_URL", "XTIDINGS_A"]), None);
        let like = |name: &str| of(&["TIDINGS_LISTEN", name]).unwrap().1.unwrap_or_default();
        assert_eq!(like("TIDINGS_LISTN"), "TIDINGS_LISTEN");
        assert_eq!(like("TIDINGS_JWT_KEYS"), "TIDINGS_JWT_KEY");
        assert_eq!(like("TIDINGS_FORWARD_AUTH_CACHE"), "TIDINGS_FORWARD_AUTH_CACHE_S");
        assert_eq!(of(&["TIDINGS_"]).unwrap().0, "TIDINGS_");
    }
}
