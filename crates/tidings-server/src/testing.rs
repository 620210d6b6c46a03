//! What reads tokens, sets of keys and settings, by itself: for those who fuzz it.
//!
//! Owns: nothing that the server does not have; it opens doors. Does not know: what is tried on them.
//! Flow: bytes or words → the code of the server → what it makes of them, as plain values.
#![allow(clippy::missing_errors_doc, reason = "every error is the server's own, as text")]

use std::sync::Arc;

use clap::{CommandFactory, Parser};
use tidings::core::Grant;

use crate::auth::testing as auth;
use crate::cli::{Cli, Command};
use crate::limits::Allowed;
use crate::{environment, settings};

/// Judges tokens with the keys of files.
#[derive(Debug)]
pub struct Tokens(auth::Jwt);

impl Tokens {
    /// Keys as `--jwt-key` takes them, and what tokens have to say of who issued them and whom they are for.
    pub fn new(keys: &[&str], issuers: &[&str], audiences: &[&str]) -> Result<Self, String> {
        auth::jwt(keys, issuers, audiences).map(Self).map_err(|error| format!("{error:#}"))
    }

    /// The grant of a token at a time, Unix milliseconds.
    pub async fn judge(&self, token: &str, now_ms: u64) -> Result<Arc<Grant>, String> {
        auth::judge(&self.0, token, now_ms).await
    }
}

/// The keys of a set that are used: the id of each, and the only algorithm that it is for.
pub fn jwks(body: &[u8]) -> Result<Vec<(Option<String>, String)>, String> {
    auth::jwks(body).map_err(|error| format!("{error:#}"))
}

/// An argument of `serve`.
#[derive(Debug, Clone)]
pub struct Setting {
    /// `--listen`, say.
    pub flag: String,
    /// Its name in the environment.
    pub variable: String,
    /// Whether it has a value.
    pub is_valued: bool,
    /// Whether it may have several.
    pub is_list: bool,
}

/// Every setting of `serve`.
#[must_use]
pub fn settings() -> Vec<Setting> {
    let command = Cli::command();
    let serve = command.find_subcommand("serve");
    let arguments = serve.into_iter().flat_map(clap::Command::get_arguments);
    let setting = |argument: &clap::Arg| {
        Some(Setting {
            flag: format!("--{}", argument.get_long()?),
            variable: argument.get_env()?.to_str()?.to_owned(),
            is_valued: argument.get_action().takes_values(),
            is_list: matches!(argument.get_action(), clap::ArgAction::Append),
        })
    };
    arguments.filter_map(setting).collect()
}

/// What a server was told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Every flag with its value.
    pub flags: String,
    /// Whether it serves without authentication.
    pub is_dev: bool,
    /// Who is known, by the first flag that says so.
    pub source: Option<&'static str>,
    /// Whether every listener is on a loopback address.
    pub is_loopback: bool,
}

/// Reads the words of a command line behind `tidings serve`, and the environment of the process. All refusals of the
/// command line are alike, as it names the first of several; one of the settings is a sentence.
pub fn serve(words: &[String]) -> Result<Told, String> {
    let all = ["tidings", "serve"].into_iter().map(str::to_owned).chain(words.iter().cloned());
    let cli = Cli::try_parse_from(all).map_err(|_| "no command line".to_owned())?;
    let Command::Serve(flags) = cli.command else { return Err("it is another command".to_owned()) };
    settings::settings(&flags, Allowed::ALL).map_err(|error| format!("{error:#}"))?;
    let places = flags.door.places(flags.listen, flags.dev).map_err(|error| format!("{error:#}"))?;
    Ok(Told {
        flags: format!("{flags:?}"),
        is_dev: flags.dev,
        source: flags.auth.source(),
        is_loopback: places.iter().all(|place| place.address.ip().is_loopback()),
    })
}

/// The first of these names of an environment that is no setting, and the setting that it is most like.
#[must_use]
pub fn unknown(names: Vec<String>) -> Option<(String, Option<String>)> {
    environment::unknown(names.into_iter())
}
