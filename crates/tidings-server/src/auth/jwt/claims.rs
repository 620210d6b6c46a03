//! What a token says.
//!
//! Owns: its parts, what its header and its claims may be, and the grant that they make. Does not know: keys, signatures.
//! Flow: text → parts → header → (somebody checks the signature) → claims → grant.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use tidings::auth::AuthError;
use tidings::core::Grant;
use tidings::core::grant::Object;

/// A token, in bytes: headers of 16 KiB have to have room for it twice.
pub(in crate::auth) const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How far ahead a clock may be that sets `nbf` and `iat`, in milliseconds.
const AHEAD_MS_MAX: u64 = 30_000;

/// The parts of a token.
pub(in crate::auth) struct Parts<'a> {
    /// What is signed: the first two parts as they came.
    pub(super) signed: &'a str,
    pub(super) signature: &'a str,
    pub(super) header: Header,
    payload: String,
}

/// A token's header. What is not named here has no meaning to us, and may be there.
#[derive(Debug, Deserialize)]
pub(in crate::auth) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
    #[serde(default, deserialize_with = "present")]
    jku: bool,
    #[serde(default, deserialize_with = "present")]
    jwk: bool,
    #[serde(default, deserialize_with = "present")]
    x5u: bool,
    #[serde(default, deserialize_with = "present")]
    x5c: bool,
    #[serde(default, deserialize_with = "present")]
    zip: bool,
}

/// Whether a field is there, whatever its value.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl<'a> Parts<'a> {
    /// Takes a token apart. `None` if it is none.
    pub(in crate::auth) fn of(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        if token.len() > TOKEN_BYTES_MAX || payload.contains('.') {
            return None;
        }
        let decode = |part| URL_SAFE_NO_PAD.decode(part).ok();
        // JSON is UTF-8, in what is not read too.
        let text = |part| String::from_utf8(decode(part)?).ok();
        let header = serde_json::from_str(&text(header)?).ok()?;
        Some(Self { signed, signature, header, payload: text(payload)? })
    }

    /// The header and the claims as they are, for people.
    pub(in crate::auth) fn shown(token: &str) -> Option<(serde_json::Value, serde_json::Value)> {
        let mut parts = token.split('.').map(|part| {
            URL_SAFE_NO_PAD.decode(part).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
        });
        Some((parts.next()??, parts.next()??))
    }

    /// What the token claims. Only to be believed once its signature was checked.
    pub(super) fn claims(&self) -> Result<Claims, AuthError> {
        serde_json::from_str(&self.payload)
            .map_err(|error| invalid(format!("its claims cannot be read: {error}")))
    }
}

impl Header {
    /// Refuses a header that asks for something which is never done.
    pub(super) fn check(&self) -> Result<(), AuthError> {
        let fields = [
            ("crit", self.crit),
            ("jku", self.jku),
            ("jwk", self.jwk),
            ("x5u", self.x5u),
            ("x5c", self.x5c),
            ("zip", self.zip),
        ];
        if let Some((name, _)) = fields.iter().find(|(_, is_there)| *is_there) {
            return Err(invalid(format!("its header has {name}")));
        }
        let typ = self.typ.as_deref().unwrap_or("JWT");
        let is_jwt = ["jwt", "at+jwt", "application/jwt", "application/at+jwt"]
            .iter()
            .any(|known| typ.eq_ignore_ascii_case(known));
        if is_jwt { Ok(()) } else { Err(invalid("its type is not JWT".into())) }
    }
}

/// What a token claims. Claims that are not named here are the application's own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Claims {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) aud: Option<Audience>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exp: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nbf: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) iat: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jti: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sid: Option<String>,
    #[serde(default)]
    pub(crate) tidings: Rights,
}

/// The claim `tidings`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rights {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) subscribe: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) publish: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) jobs: Vec<String>,
}

/// One audience, or several.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Several(several) => several.iter().any(|one| one == name),
        }
    }
}

/// A time as tokens have it: seconds since 1970, perhaps with a fraction, which is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Seconds(pub(crate) u64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        let text = number.to_string();
        let whole = text.split('.').next().and_then(|whole| whole.parse().ok());
        whole.map(Self).ok_or_else(|| serde::de::Error::custom("not a time in seconds since 1970"))
    }
}

impl Seconds {
    fn ms(self) -> u64 {
        self.0.saturating_mul(1_000)
    }
}

/// What a token has to say beside its times.
#[derive(Debug, Clone, Default)]
pub(in crate::auth) struct Expected {
    /// One of these, if there are any.
    pub(in crate::auth) issuers: Vec<String>,
    /// At least one of these, if there are any.
    pub(in crate::auth) audiences: Vec<String>,
}

impl Claims {
    /// The grant of a token whose signature is good.
    pub(super) fn grant(self, expected: &Expected, now_ms: u64) -> Result<Grant, AuthError> {
        let exp = self.exp.ok_or_else(|| invalid("it has no exp".into()))?;
        if exp.ms() <= now_ms {
            return Err(AuthError::Expired);
        }
        for (name, time) in [("nbf", self.nbf), ("iat", self.iat)] {
            if time.is_some_and(|time| time.ms() > now_ms.saturating_add(AHEAD_MS_MAX)) {
                return Err(invalid(format!("its {name} is in the future")));
            }
        }
        let is_ours =
            |name: &Option<String>| name.as_ref().is_some_and(|name| expected.issuers.contains(name));
        if !expected.issuers.is_empty() && !is_ours(&self.iss) {
            return Err(invalid("its iss is not the one that is expected".into()));
        }
        let is_meant = |aud: &Option<Audience>| {
            aud.as_ref().is_some_and(|aud| expected.audiences.iter().any(|name| aud.has(name)))
        };
        if !expected.audiences.is_empty() && !is_meant(&self.aud) {
            return Err(invalid("its aud is not the one that is expected".into()));
        }
        let object = Object {
            sub: Some(self.sub.ok_or_else(|| invalid("it has no sub".into()))?),
            exp: Some(exp.0),
            subscribe: self.tidings.subscribe,
            publish: self.tidings.publish,
            jobs: self.tidings.jobs,
            session: self.sid,
        };
        let grant = Grant::of(&object).map_err(|error| invalid(error.to_string()))?;
        let mut grant = match &self.jti {
            Some(id) => grant.with_token(id).map_err(|error| invalid(error.to_string()))?,
            None => grant,
        };
        grant.issued_at_ms = self.iat.map(Seconds::ms);
        Ok(grant)
    }
}

pub(super) fn invalid(why: String) -> AuthError {
    AuthError::Invalid(why)
}
