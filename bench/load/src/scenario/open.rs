//! Streams that are opened with credentials: what judging them costs.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::{SUBSCRIBERS, Server};
use crate::clock;
use crate::connect::Target;
use crate::fleet::Spec;
use crate::process::Cpu;
use crate::rig::Rig;
use crate::traffic::channel;

/// The shape of the run.
#[derive(Debug, Args)]
pub(crate) struct Open {
    #[command(flatten)]
    server: Server,
    /// Streams
    #[arg(long, default_value_t = 10_000)]
    subscribers: usize,
    /// Subjects that they are of
    #[arg(long, default_value_t = 10_000)]
    subjects: usize,
    /// A token for each subject, signed with this key, such as HS256=secret or ES256=key.pem
    #[arg(long, value_name = "ALG=FILE")]
    jwt: Option<String>,
    /// The same token for all, such as an API key
    #[arg(long)]
    bearer: Option<String>,
    /// A cookie `session=N` for each subject
    #[arg(long)]
    session: bool,
    /// Seconds that the streams are held
    #[arg(long, default_value_t = 0.0)]
    seconds: f64,
}

/// Runs it.
pub(crate) fn run(args: &Open) -> Result<Value> {
    let target = Target::parse(&args.server.url)?;
    let mut rig = Rig::new(&target, 1, 0)?;
    // Signing is not what is measured.
    let credentials = args.credentials()?;
    let spec = |index: usize| {
        let query = format!("channel={}", channel(&args.server.prefix, 0));
        let mut request = target.stream_request(&query, None);
        if let Some(line) = credentials.get(index % args.subjects) {
            request.truncate(request.len() - 2);
            request.extend_from_slice(line.as_bytes());
            request.extend_from_slice(b"\r\n\r\n");
        }
        Spec { request, network: SUBSCRIBERS, channel: 0, first: 1, counts: true }
    };
    let start = clock::micros();
    let cpu = Cpu::of(args.server.pid)?;
    rig.subscribe(args.subscribers, spec)?;
    let open_s = (clock::micros() - start) as f64 / 1e6;
    let open_cpu = cpu.until(Cpu::of(args.server.pid)?);
    rig.run_for(Duration::from_secs_f64(args.seconds))?;
    Ok(json!({
        "scenario": "open",
        "subscribers": args.subscribers,
        "open": rig.fleet.open,
        "open_s": open_s,
        "open_cpu_us": open_cpu.process_s * 1e6 / args.subscribers as f64,
        "all_s": (clock::micros() - start) as f64 / 1e6,
    }))
}

impl Open {
    /// A header line for each subject; none for nobody.
    fn credentials(&self) -> Result<Vec<String>> {
        if let Some(token) = &self.bearer {
            return Ok(vec![format!("Authorization: Bearer {token}"); self.subjects]);
        }
        if self.session {
            return Ok((0..self.subjects).map(|n| format!("Cookie: session={n}")).collect());
        }
        let Some(jwt) = &self.jwt else { return Ok(Vec::new()) };
        let (alg, key) = key(jwt)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let token = |n: usize| {
            let claims = json!({
                "sub": n.to_string(), "iat": now, "exp": now + 3_600, "jti": format!("{:x}", now + n as u64),
                "tidings": { "subscribe": [format!("{}:*", self.server.prefix)] },
            });
            Ok(format!("Cookie: tidings={}", jsonwebtoken::encode(&Header::new(alg), &claims, &key)?))
        };
        (0..self.subjects).map(token).collect()
    }
}

fn key(text: &str) -> Result<(Algorithm, EncodingKey)> {
    let (alg, path) = text.split_once('=').context("--jwt is ALG=FILE")?;
    let bytes = std::fs::read(PathBuf::from(path)).with_context(|| format!("cannot read {path}"))?;
    Ok(match alg {
        "HS256" => (Algorithm::HS256, EncodingKey::from_secret(bytes.trim_ascii_end())),
        "RS256" => (Algorithm::RS256, EncodingKey::from_rsa_pem(&bytes)?),
        "ES256" => (Algorithm::ES256, EncodingKey::from_ec_pem(&bytes)?),
        "EdDSA" => (Algorithm::EdDSA, EncodingKey::from_ed_pem(&bytes)?),
        _ => bail!("{alg} is no algorithm"),
    })
}
