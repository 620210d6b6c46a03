//! `tidings token secret | mint | inspect`.
//!
//! Owns: how a token is made by hand, and how one is shown. Does not know: files of API keys.
//! Flow: claims and a key → a token; a token → its parts, and whether it would count.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::{Args, Subcommand};
use jsonwebtoken::{EncodingKey, Header};
use tidings::core::Grant;
use tidings::core::grant::Object;

use super::super::api_key::{self, hex};
use super::super::jwt::{
    Audience, Claims, Expected, Judged, Jwt, Key, KeyFile, Rights, Seconds, TokenParts, signing,
};
use super::super::{SECRET_ENV, unix_ms};
use super::{create, ends, in_seconds, secret_text};
use crate::jobs::{clean, duration};

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a secret for HS256, in a file that only you can read
    Secret(SecretFlags),
    /// Make a token and print it
    Mint(MintFlags),
    /// Show what a token says, and with --jwt-key whether it would count; it is read from TIDINGS_TOKEN or standard input
    Inspect(InspectFlags),
}

/// Flags of `token secret`.
#[derive(Debug, Args)]
pub(crate) struct SecretFlags {
    /// The file; it must not be there yet
    file: PathBuf,
}

/// Flags of `token mint`.
#[derive(Debug, Args)]
pub(crate) struct MintFlags {
    /// Key that signs: a secret for HS256, or a private key in PEM; without it, the secret in TIDINGS_JWT_SECRET
    #[arg(long, value_name = "ALG[:KID]=FILE")]
    key: Option<KeyFile>,
    /// The subject: whose token it is
    #[arg(long, value_name = "SUBJECT")]
    sub: String,
    /// Channels that it may subscribe to, beside user:<SUBJECT>, such as 'orders:*'; repeat it for more
    #[arg(long, value_name = "PATTERN")]
    subscribe: Vec<String>,
    /// Channels that it may publish to; repeat it for more
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<String>,
    /// What it may do with jobs, such as 'create:report'; repeat it for more
    #[arg(long, value_name = "RIGHT")]
    jobs: Vec<String>,
    /// How long it holds, such as 15m, 1h or 30d
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = duration)]
    expires: Duration,
    /// Issuer
    #[arg(long, value_name = "NAME")]
    iss: Option<String>,
    /// Audience
    #[arg(long, value_name = "NAME")]
    aud: Option<String>,
    /// Its id, by which it can be revoked; one is made up
    #[arg(long, value_name = "ID")]
    jti: Option<String>,
    /// The session that it belongs to, by which it can be revoked
    #[arg(long, value_name = "SESSION")]
    sid: Option<String>,
}

/// Flags of `token inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectFlags {
    /// File that the token is in
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Key that checks it, as for `serve`; repeat it for more
    #[arg(long, env = "TIDINGS_JWT_KEY", value_delimiter = ',', value_name = "ALG[:KID]=FILE")]
    jwt_key: Vec<KeyFile>,
    /// Issuer that it has to have
    #[arg(long, env = "TIDINGS_JWT_ISSUER", value_delimiter = ',', value_name = "NAME")]
    jwt_issuer: Vec<String>,
    /// Audience that it has to have
    #[arg(long, env = "TIDINGS_JWT_AUDIENCE", value_delimiter = ',', value_name = "NAME")]
    jwt_audience: Vec<String>,
}

/// Runs one of the commands.
pub(crate) async fn run(command: TokenCommand) -> Result<ExitCode> {
    match command {
        TokenCommand::Secret(flags) => new_secret(&flags),
        TokenCommand::Mint(flags) => mint(flags),
        TokenCommand::Inspect(flags) => inspect(flags).await,
    }
}

fn new_secret(flags: &SecretFlags) -> Result<ExitCode> {
    create(&flags.file, &format!("{}\n", random(32)?))?;
    writeln!(std::io::stdout(), "--jwt-key HS256={}", flags.file.display())?;
    Ok(ExitCode::SUCCESS)
}

fn random(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).map_err(|error| anyhow!("there are no random numbers: {error}"))?;
    Ok(hex(&random))
}

fn mint(flags: MintFlags) -> Result<ExitCode> {
    let (alg, kid, key) = match (&flags.key, std::env::var(SECRET_ENV)) {
        (Some(file), _) => (file.alg, file.kid.clone(), signing(file)?),
        (None, Ok(secret)) => {
            Key::secret(&secret)?;
            (jsonwebtoken::Algorithm::HS256, None, EncodingKey::from_secret(secret.as_bytes()))
        }
        (None, Err(_)) => bail!("there is nothing to sign with: give --key, such as --key HS256=jwt.secret"),
    };
    let (sub, exp) = (Some(flags.sub), in_seconds(flags.expires));
    let rights = Rights { subscribe: flags.subscribe, publish: flags.publish, jobs: flags.jobs };
    // What the server would refuse is refused here.
    Grant::of(&Object {
        sub: sub.clone(),
        subscribe: rights.subscribe.clone(),
        publish: rights.publish.clone(),
        jobs: rights.jobs.clone(),
        session: flags.sid.clone(),
        exp: Some(exp),
    })?;
    let claims = Claims {
        iss: flags.iss,
        aud: flags.aud.map(Audience::One),
        sub,
        exp: Some(Seconds(exp)),
        nbf: None,
        iat: Some(Seconds(in_seconds(Duration::ZERO))),
        jti: Some(flags.jti.map_or_else(|| random(16), Ok)?),
        sid: flags.sid,
        tidings: rights,
    };
    let header = Header { kid, ..Header::new(alg) };
    let token = jsonwebtoken::encode(&header, &claims, &key)
        .map_err(|_| anyhow!("the key cannot sign for {alg:?}"))?;
    writeln!(std::io::stdout(), "{token}")?;
    Ok(ExitCode::SUCCESS)
}

async fn inspect(flags: InspectFlags) -> Result<ExitCode> {
    let text = secret_text(flags.token_file.as_deref(), true)?.unwrap_or_default();
    if text.starts_with(api_key::PREFIX) {
        bail!("this is an API key: tidings key inspect shows it");
    }
    let Some((header, claims)) = TokenParts::shown(&text) else { bail!("this is no JSON web token") };
    let mut out = std::io::stdout().lock();
    writeln!(out, "header  {}", clean(&header.to_string()))?;
    writeln!(out, "claims  {}", clean(&serde_json::to_string_pretty(&claims)?.replace('\n', "\n        ")))?;
    let exp = claims.get("exp").and_then(serde_json::Value::as_u64);
    writeln!(out, "time    {}", ends(exp, unix_ms()))?;
    let mut keys = flags.jwt_key.iter().map(Key::read).collect::<Result<Vec<_>>>()?;
    if let Ok(secret) = std::env::var(SECRET_ENV) {
        keys.push(Key::secret(&secret)?);
    }
    if keys.is_empty() {
        writeln!(out, "check   not done: with --jwt-key its signature is checked")?;
        return Ok(ExitCode::SUCCESS);
    }
    let expected = Expected { issuers: flags.jwt_issuer, audiences: flags.jwt_audience };
    let refused = match Jwt::new(keys, None, expected).judge(&text, unix_ms()).await {
        Judged::Ours(Ok(_)) => None,
        Judged::Ours(Err(error)) => Some(error.to_string()),
        Judged::Foreign(why) => Some(why),
    };
    writeln!(out, "check   {}", refused.as_deref().unwrap_or("good"))?;
    Ok(if refused.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
