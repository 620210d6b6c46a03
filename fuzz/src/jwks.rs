//! A set of keys yields keys of its own only, each for the one algorithm that its kind and its `alg` allow, and no secrets.

use serde_json::Value;

/// `body`, as it comes from the URL.
pub fn run(data: &[u8]) {
    let Ok(keys) = tidings_server::testing::jwks(data) else { return };
    let set: Value = serde_json::from_slice(data).expect("it was read before");
    let set = set["keys"].as_array().expect("keys are a list");
    assert!((1..=set.len().min(50)).contains(&keys.len()), "{} of {}", keys.len(), set.len());
    let mut theirs = set.iter();
    for (kid, alg) in &keys {
        // In their order, so that two with one id are not taken for each other.
        let fits = |jwk: &Value| jwk.get("kid").and_then(Value::as_str) == kid.as_deref() && is_for(jwk, alg);
        assert!(theirs.any(fits), "{kid:?} for {alg} is not in the set");
    }
}

/// RFC 7518, 6: what a key is for, by its kind, its curve, and what it says itself.
fn is_for(jwk: &Value, alg: &str) -> bool {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let kind = match text("kty") {
        Some("RSA") => "RS256",
        Some("EC") if text("crv") == Some("P-256") => "ES256",
        Some("OKP") if text("crv") == Some("Ed25519") => "EdDSA",
        _ => return false,
    };
    kind == alg && text("alg").is_none_or(|own| own == alg) && text("use").is_none_or(|own| own == "sig")
}
