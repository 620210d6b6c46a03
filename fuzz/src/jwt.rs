//! A token is taken only if somebody who has the key signed these very bytes, and if what they say holds.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tidings_core::grant::Grant;
use tidings_server::testing::Tokens;

use crate::hub::RUNTIME;
use crate::input::Input;

/// 2026-11-29 15:00:00 UTC.
const NOW_S: u64 = 1_795_964_400;
const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/tidings-server/tests/keys");

/// What is known, and tokens that were made with it.
struct World {
    tokens: Tokens,
    secret: EncodingKey,
    /// Everybody has this, so it must not work as a secret.
    public: EncodingKey,
    minted: Vec<String>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let file = |name: &str| format!("{KEYS}/{name}");
    let bytes = |name: &str| std::fs::read(file(name)).unwrap();
    // Files with secrets have to be closed to others, so it is not among the keys of the repository.
    let secret = b"Zk0pQm4tV2xYcDl1S3JUN2VHaEoxYU5iRXdJOHNPZEM";
    let path = std::env::temp_dir().join(format!("tidings-fuzz-{}.secret", std::process::id()));
    std::fs::write(&path, secret).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let keys = [
        format!("HS256={}", path.display()),
        format!("RS256:r={}", file("rs256.pub")),
        format!("ES256={}", file("es256.pub")),
        format!("EdDSA:e={}", file("eddsa.pub")),
    ];
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let tokens = Tokens::new(&keys, &["us"], &["here"]).unwrap();
    std::fs::remove_file(&path).unwrap();
    let signers = [
        (Algorithm::HS256, EncodingKey::from_secret(secret)),
        (Algorithm::RS256, EncodingKey::from_rsa_pem(&bytes("rs256.key")).unwrap()),
        (Algorithm::ES256, EncodingKey::from_ec_pem(&bytes("es256.key")).unwrap()),
        (Algorithm::EdDSA, EncodingKey::from_ed_pem(&bytes("eddsa.key")).unwrap()),
    ];
    let claims = json!({"sub": "42", "iss": "us", "aud": ["there", "here"], "exp": NOW_S + 60, "jti": "t",
        "tidings": {"subscribe": ["orders:*"], "publish": ["chat:7"]}});
    let mint = |(alg, key): &(Algorithm, EncodingKey)| {
        jsonwebtoken::encode(&Header::new(*alg), &claims, key).unwrap()
    };
    let minted: Vec<String> = signers.iter().map(mint).collect();
    let world = World {
        tokens,
        secret: EncodingKey::from_secret(secret),
        public: EncodingKey::from_secret(&bytes("rs256.pub")),
        minted,
    };
    world.minted.iter().for_each(|token| assert!(world.judge(token).is_ok(), "{token}"));
    world
});

impl World {
    fn judge(&self, token: &str) -> Result<Arc<Grant>, String> {
        RUNTIME.block_on(self.tokens.judge(token, NOW_S * 1_000))
    }
}

/// With an even first byte: changes to a token that was minted, 3 bytes each. With an odd one: `who signs, header\n, claims`.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.byte() & 1 == 0 { mutated(&mut input) } else { signed(&mut input) }
}

fn mutated(input: &mut Input<'_>) {
    let world = &*WORLD;
    let index = |byte: u8, length: usize| usize::from(byte) % length.max(1);
    let mut token = world.minted[index(input.byte(), world.minted.len())].clone().into_bytes();
    while !input.is_empty() && token.len() < 16_384 {
        let kind = input.byte();
        let at = usize::try_from(input.number(2)).unwrap() % (token.len() + 1);
        match kind % 6 {
            0 => token.splice(at..(at + 1).min(token.len()), [input.byte()]).for_each(drop),
            1 => token.insert(at, input.byte()),
            2 => token.truncate(at),
            3 => drop(token.drain(at..(at + usize::from(input.byte())).min(token.len()))),
            // A part of another token in the place of this one's.
            4 => {
                let other = &world.minted[index(input.byte(), world.minted.len())];
                let part = index(kind / 6, 3);
                let mut parts: Vec<&[u8]> = token.split(|byte| *byte == b'.').collect();
                if let (Some(mine), Some(other)) = (parts.get_mut(part), other.split('.').nth(part)) {
                    *mine = other.as_bytes();
                    token = parts.join(&b'.');
                }
            }
            _ => token.extend_from_slice(input.take(usize::from(kind))),
        }
    }
    let token = String::from_utf8_lossy(&token);
    if world.judge(&token).is_ok() {
        let bytes = |token: &str| token.rsplit_once('.').map(|(signed, _)| signed.to_owned());
        assert!(world.minted.iter().any(|minted| bytes(minted) == bytes(&token)), "nobody signed {token}");
    }
}

fn signed(input: &mut Input<'_>) {
    let world = &*WORLD;
    let is_public = input.byte() & 1 == 1;
    let (header, claims) = (input.line(), input.rest());
    let part = |bytes| URL_SAFE_NO_PAD.encode(bytes);
    let text = format!("{}.{}", part(header), part(claims));
    let key = if is_public { &world.public } else { &world.secret };
    let signature = jsonwebtoken::crypto::sign(text.as_bytes(), key, Algorithm::HS256).unwrap();
    let Ok(grant) = world.judge(&format!("{text}.{signature}")) else { return };
    let shown = format!("{} {}", String::from_utf8_lossy(header), String::from_utf8_lossy(claims));
    assert!(!is_public, "everybody can sign with a public key: {shown}");
    let read = |bytes| serde_json::from_slice::<Value>(bytes).expect("it was read before");
    let (header, claims) = (read(header), read(claims));
    assert_eq!(header["alg"], "HS256", "{shown}");
    for asks in ["crit", "jku", "jwk", "x5u", "x5c", "zip"] {
        assert!(header.get(asks).is_none(), "{shown}");
    }
    let time =
        |name: &str| claims.get(name).filter(|time| !time.is_null()).map(|time| time.as_f64().unwrap());
    #[allow(clippy::cast_precision_loss, reason = "a time of this century")]
    let now = NOW_S as f64;
    assert!(time("exp").is_some_and(|exp| exp > now), "{shown}");
    assert!(time("nbf").is_none_or(|nbf| nbf < now + 31.0), "{shown}");
    assert!(time("iat").is_none_or(|iat| iat < now + 31.0), "{shown}");
    assert_eq!(claims["iss"], "us", "{shown}");
    let audiences = claims["aud"].as_array().cloned().unwrap_or_else(|| vec![claims["aud"].clone()]);
    assert!(audiences.contains(&json!("here")), "{shown}");
    assert_eq!(claims["sub"].as_str(), grant.subject().map(|subject| subject.as_str()), "{shown}");
    assert!(!grant.admin, "{shown}");
}
