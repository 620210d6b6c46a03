//! Keys that check tokens, each for one algorithm.
//!
//! Owns: what a key file or a JSON web key has to be. Does not know: tokens, where keys come from.
//! Flow: bytes and an algorithm → a key, or one sentence on why not.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::Deserialize;

use crate::auth::secret::{self, Openness};

/// An RSA modulus below this can be factored by those who want to; NIST and RFC 7518 ask for it.
const RSA_BYTES_MIN: usize = 256;
/// The id of a key, in bytes.
const KID_BYTES_MAX: usize = 255;

/// A key, and the one algorithm that it is for.
#[derive(Clone)]
pub(in crate::auth) struct Key {
    /// Its id, if it has one: tokens may name it.
    pub(in crate::auth) kid: Option<String>,
    pub(in crate::auth) alg: Algorithm,
    pub(in crate::auth) key: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).field("alg", &self.alg).finish_non_exhaustive()
    }
}

/// `ALG=FILE` or `ALG:KID=FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyFile {
    pub(in crate::auth) alg: Algorithm,
    pub(in crate::auth) kid: Option<String>,
    pub(in crate::auth) path: PathBuf,
}

impl FromStr for KeyFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (what, path) =
            text.split_once('=').ok_or("write it as ALG=FILE, such as ES256=/etc/tidings/jwt.pub")?;
        let (alg, kid) = what.split_once(':').map_or((what, None), |(alg, kid)| (alg, Some(kid)));
        let alg = algorithm(alg).ok_or_else(|| format!("{alg} is not HS256, RS256, ES256 or EdDSA"))?;
        if path.is_empty() || kid.is_some_and(|kid| kid.is_empty() || kid.len() > KID_BYTES_MAX) {
            return Err("write it as ALG=FILE or ALG:KID=FILE".into());
        }
        Ok(Self { alg, kid: kid.map(str::to_owned), path: path.into() })
    }
}

/// The algorithms that are taken, and no others.
pub(in crate::auth) fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "HS256" => Some(Algorithm::HS256),
        "RS256" => Some(Algorithm::RS256),
        "ES256" => Some(Algorithm::ES256),
        "EdDSA" => Some(Algorithm::EdDSA),
        _ => None,
    }
}

impl Key {
    /// Reads the key of a file.
    pub(in crate::auth) fn read(file: &KeyFile) -> Result<Self> {
        let KeyFile { alg, kid, path } = file;
        let openness = if *alg == Algorithm::HS256 { Openness::Secret } else { Openness::Public };
        let bytes = secret::read(path, openness)?;
        let key = match alg {
            Algorithm::HS256 => hmac(&bytes),
            _ => public(*alg, &bytes),
        };
        let key = key.map_err(|error| anyhow!("{} cannot be used for {alg:?}: {error}", path.display()))?;
        Ok(Self { kid: kid.clone(), alg: *alg, key })
    }

    /// A secret that came by another way.
    pub(in crate::auth) fn secret(text: &str) -> Result<Self> {
        Ok(Self { kid: None, alg: Algorithm::HS256, key: hmac(text.as_bytes())? })
    }
}

/// The bytes of a secret: text has no line end.
fn secret_bytes(bytes: &[u8]) -> &[u8] {
    if std::str::from_utf8(bytes).is_ok() { secret::one_line(bytes) } else { bytes }
}

fn hmac(bytes: &[u8]) -> Result<DecodingKey> {
    let bytes = secret_bytes(bytes);
    if let Some(weakness) = secret::weakness(bytes) {
        bail!("the secret is weak: it is {weakness}; `tidings token secret` makes a good one");
    }
    Ok(DecodingKey::from_secret(bytes))
}

fn public(alg: Algorithm, bytes: &[u8]) -> Result<DecodingKey> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    if text.contains("PRIVATE KEY-----") {
        bail!("it is a private key, and checking needs only the public one: openssl pkey -pubout");
    }
    if text.contains("BEGIN CERTIFICATE-----") {
        bail!("it is a certificate: openssl x509 -pubkey -noout gives its key");
    }
    let kind = PublicKind::of(bytes).ok_or_else(|| anyhow!("it is no public key in PEM"))?;
    match (alg, kind) {
        (Algorithm::RS256, PublicKind::Rsa(key)) => {
            // The key has its modulus, and some 12 bytes more.
            let is_long = key.try_get_as_bytes().is_ok_and(|der| der.len() > RSA_BYTES_MIN);
            if is_long { Ok(key) } else { Err(anyhow!("RSA keys below 2048 bits can be broken")) }
        }
        (Algorithm::ES256, PublicKind::Ec(key)) => {
            // 04, x and y.
            let is_p256 = key.try_get_as_bytes().is_ok_and(|point| point.len() == 65);
            if is_p256 { Ok(key) } else { Err(anyhow!("its curve is not P-256")) }
        }
        (Algorithm::EdDSA, PublicKind::Ed(key)) => Ok(key),
        (_, kind) => Err(anyhow!("it is {} key", kind.name())),
    }
}

enum PublicKind {
    Rsa(DecodingKey),
    Ec(DecodingKey),
    Ed(DecodingKey),
}

impl PublicKind {
    fn of(pem: &[u8]) -> Option<Self> {
        let rsa = || DecodingKey::from_rsa_pem(pem).ok().map(Self::Rsa);
        let ec = || DecodingKey::from_ec_pem(pem).ok().map(Self::Ec);
        let ed = || DecodingKey::from_ed_pem(pem).ok().map(Self::Ed);
        ec().or_else(ed).or_else(rsa)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "an RSA",
            Self::Ec(_) => "an elliptic-curve",
            Self::Ed(_) => "an Ed25519",
        }
    }
}

/// The key that signs, for `tidings token mint`.
pub(in crate::auth) fn signing(file: &KeyFile) -> Result<EncodingKey> {
    let KeyFile { alg, path, .. } = file;
    let bytes = secret::read(path, Openness::Secret)?;
    if *alg == Algorithm::HS256 {
        hmac(&bytes).map_err(|error| anyhow!("{} cannot be used for {alg:?}: {error}", path.display()))?;
        return Ok(EncodingKey::from_secret(secret_bytes(&bytes)));
    }
    let key = match alg {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(&bytes),
        Algorithm::ES256 => EncodingKey::from_ec_pem(&bytes),
        _ => EncodingKey::from_ed_pem(&bytes),
    };
    key.map_err(|_| anyhow!("{} holds no private key for {alg:?} in PEM (PKCS#8)", path.display()))
}

/// A JSON web key, as far as it is read.
#[derive(Debug, Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Key {
    /// Reads a JSON web key. `None` for one that is for something else, such as encryption or another algorithm.
    pub(super) fn of_jwk(value: &serde_json::Value) -> Option<Self> {
        let jwk = Jwk::deserialize(value).ok()?;
        if jwk.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        if jwk.kid.as_ref().is_some_and(|kid| kid.is_empty() || kid.len() > KID_BYTES_MAX) {
            return None;
        }
        let (alg, key) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (bytes(jwk.n.as_deref())?, bytes(jwk.e.as_deref())?);
                let is_long = n.iter().skip_while(|b| **b == 0).count() >= RSA_BYTES_MIN;
                (Algorithm::RS256, is_long.then(|| DecodingKey::from_rsa_raw_components(&n, &e))?)
            }
            ("EC", Some("P-256")) => {
                let point: Vec<u8> = [vec![4], bytes(jwk.x.as_deref())?, bytes(jwk.y.as_deref())?].concat();
                (Algorithm::ES256, (point.len() == 65).then(|| DecodingKey::from_ec_der(&point))?)
            }
            ("OKP", Some("Ed25519")) => {
                let point = bytes(jwk.x.as_deref())?;
                (Algorithm::EdDSA, (point.len() == 32).then(|| DecodingKey::from_ed_der(&point))?)
            }
            // `oct` too: a secret that is published is none.
            _ => return None,
        };
        let fits = jwk.alg.as_deref().is_none_or(|named| algorithm(named) == Some(alg));
        fits.then_some(Self { kid: jwk.kid, alg, key })
    }
}

fn bytes(text: Option<&str>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}
