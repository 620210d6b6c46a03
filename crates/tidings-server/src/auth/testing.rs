//! The doors of `crate::testing` to what judges tokens.
//!
//! Owns: nothing. Does not know: who uses them.
//! Flow: text → keys and tokens → plain values.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use tidings::core::Grant;

use super::jwt::{self, Expected, Judged, Key, KeyFile};

pub(crate) use super::jwt::Jwt;

/// Keys as `--jwt-key` takes them.
pub(crate) fn jwt(keys: &[&str], issuers: &[&str], audiences: &[&str]) -> Result<Jwt> {
    let read = |text: &&str| Key::read(&text.parse::<KeyFile>().map_err(|why| anyhow!(why))?);
    let keys = keys.iter().map(read).collect::<Result<Vec<_>>>()?;
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Ok(Jwt::new(keys, None, Expected { issuers: owned(issuers), audiences: owned(audiences) }))
}

pub(crate) async fn judge(jwt: &Jwt, token: &str, now_ms: u64) -> Result<Arc<Grant>, String> {
    match jwt.judge(token, now_ms).await {
        Judged::Ours(judged) => judged.map_err(|error| error.to_string()),
        Judged::Foreign(why) => Err(why),
    }
}

/// The keys of a set, each with its algorithm.
pub(crate) fn jwks(body: &[u8]) -> Result<Vec<(Option<String>, String)>> {
    let keys = jwt::read_jwks(body)?;
    Ok(keys.into_iter().map(|key| (key.kid, format!("{:?}", key.alg))).collect())
}
