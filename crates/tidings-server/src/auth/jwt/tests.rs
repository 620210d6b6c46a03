use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tidings::core::ChannelName;

use super::*;

/// 2026-11-29 15:00:00 UTC.
const NOW_S: u64 = 1_795_964_400;
const NOW_MS: u64 = NOW_S * 1_000;
const SECRET: &[u8] = b"Zk0pQm4tV2xYcDl1S3JUN2VHaEoxYU5iRXdJOHNPZEM";

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(file(name)).unwrap()
}

fn public(alg: Algorithm, name: &str) -> anyhow::Result<Key> {
    Key::read(&KeyFile { alg, kid: None, path: file(name) })
}

fn hs256() -> Key {
    Key::secret(std::str::from_utf8(SECRET).unwrap()).unwrap()
}

fn with_kid(kid: &str, key: Key) -> Key {
    Key { kid: Some(kid.into()), ..key }
}

fn all_keys() -> Vec<Key> {
    vec![
        hs256(),
        public(Algorithm::RS256, "rs256.pub").unwrap(),
        public(Algorithm::ES256, "es256.pub").unwrap(),
        public(Algorithm::EdDSA, "eddsa.pub").unwrap(),
    ]
}

fn signer(alg: Algorithm) -> EncodingKey {
    match alg {
        Algorithm::HS256 => EncodingKey::from_secret(SECRET),
        Algorithm::RS256 => EncodingKey::from_rsa_pem(&bytes("rs256.key")).unwrap(),
        Algorithm::ES256 => EncodingKey::from_ec_pem(&bytes("es256.key")).unwrap(),
        _ => EncodingKey::from_ed_pem(&bytes("eddsa.key")).unwrap(),
    }
}

fn good_claims() -> Value {
    json!({"sub": "42", "exp": NOW_S + 60, "iat": NOW_S, "jti": "t-1", "sid": "s-1",
           "tidings": {"subscribe": ["orders:*"], "publish": ["chat:7"], "jobs": ["create:report"]}})
}

fn token(alg: Algorithm, claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(alg), claims, &signer(alg)).unwrap()
}

/// A token with this header text, signed with the secret.
fn with_header(header: &str, claims: &Value) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", encode(header), encode(&claims.to_string()));
    let signature =
        jsonwebtoken::crypto::sign(signed.as_bytes(), &signer(Algorithm::HS256), Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

async fn judge(jwt: &Jwt, token: &str) -> Result<Arc<Grant>, String> {
    match jwt.judge(token, NOW_MS).await {
        Judged::Ours(judged) => judged.map_err(|error| format!("{}: {error}", error.code())),
        Judged::Foreign(why) => Err(format!("foreign: {why}")),
    }
}

fn jwt() -> Jwt {
    Jwt::new(all_keys(), None, Expected::default())
}

#[tokio::test]
async fn a_good_token_of_every_algorithm_is_a_grant() {
    for alg in [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let jwt = jwt();
        let text = token(alg, &good_claims());
        for _ in 0..2 {
            let grant = judge(&jwt, &text).await.unwrap();
            assert_eq!(grant.subject().unwrap().as_str(), "42", "{alg:?}");
            assert!(grant.may_subscribe(&ChannelName::parse("orders:1").unwrap()));
            assert!(grant.may_publish(&ChannelName::parse("chat:7").unwrap()));
            assert!(grant.may_create_job("report"));
            assert_eq!(grant.expires_at_ms, Some((NOW_S + 60) * 1_000));
            assert_eq!((grant.token.as_deref(), grant.session.as_deref()), (Some("t-1"), Some("s-1")));
            assert_eq!(grant.issued_at_ms, Some(NOW_MS));
        }
    }
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn every_hostile_token_is_refused() {
    let with = |change: Value| {
        let mut claims = good_claims();
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        token(Algorithm::HS256, &claims)
    };
    let without = |name: &str| {
        let mut claims = good_claims();
        claims.as_object_mut().unwrap().remove(name);
        token(Algorithm::HS256, &claims)
    };
    let good = token(Algorithm::HS256, &good_claims());
    let (head, signature) = good.rsplit_once('.').unwrap();
    let unsigned = |header: &str| {
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(good_claims().to_string()))
    };
    let header = |extra: &str| with_header(&format!(r#"{{"alg":"HS256"{extra}}}"#), &good_claims());
    // Signed with the public key of RS256 as if it were a secret, in the spellings that libraries have mixed up.
    let confused = |secret: &[u8]| {
        jsonwebtoken::encode(
            &Header::new(Algorithm::HS256),
            &good_claims(),
            &EncodingKey::from_secret(secret),
        )
        .unwrap()
    };
    let pem = bytes("rs256.pub");
    let twice = format!(r#"{{"sub":"42","sub":"1","exp":{}}}"#, NOW_S + 60);
    let cases = [
        ("alg none", unsigned(r#"{"alg":"none"}"#), "foreign"),
        ("alg NONE", unsigned(r#"{"alg":"NONE"}"#), "foreign"),
        (
            "alg none, signature of another",
            format!("{}{signature}", unsigned(r#"{"alg":"none"}"#)),
            "foreign",
        ),
        ("alg empty", unsigned(r#"{"alg":""}"#), "foreign"),
        ("no alg", unsigned(r"{}"), "foreign"),
        ("alg hs256", unsigned(r#"{"alg":"hs256"}"#), "foreign"),
        (
            "alg HS512",
            jsonwebtoken::encode(&Header::new(Algorithm::HS512), &good_claims(), &signer(Algorithm::HS256))
                .unwrap(),
            "foreign",
        ),
        (
            "PS256 with the key of RS256",
            jsonwebtoken::encode(&Header::new(Algorithm::PS256), &good_claims(), &signer(Algorithm::RS256))
                .unwrap(),
            "foreign",
        ),
        ("HS256 with the public key as secret", confused(&pem), "token_invalid"),
        ("HS256 with the public key, no line end", confused(pem.trim_ascii_end()), "token_invalid"),
        ("no signature", format!("{head}."), "token_invalid"),
        ("signature cut", good[..good.len() - 2].to_owned(), "token_invalid"),
        (
            "signature of another token",
            format!("{head}.{}", token(Algorithm::HS256, &json!({"sub": "1"})).rsplit_once('.').unwrap().1),
            "token_invalid",
        ),
        ("padding", format!("{good}="), "token_invalid"),
        ("four parts", format!("{good}.x"), "foreign"),
        ("two parts", head.to_owned(), "foreign"),
        ("not base64", "ä.ö.ü".to_owned(), "foreign"),
        ("header twice the alg", with_header(r#"{"alg":"HS256","alg":"none"}"#, &good_claims()), "foreign"),
        ("crit", header(r#","crit":["exp"]"#), "token_invalid"),
        ("crit null", header(r#","crit":null"#), "token_invalid"),
        ("jwk", header(r#","jwk":{"kty":"oct","k":"AA"}"#), "token_invalid"),
        ("jku", header(r#","jku":"https://evil.example/jwks""#), "token_invalid"),
        ("x5u", header(r#","x5u":"https://evil.example/x""#), "token_invalid"),
        ("x5c", header(r#","x5c":["MII"]"#), "token_invalid"),
        ("zip", header(r#","zip":"DEF""#), "token_invalid"),
        ("typ of something else", header(r#","typ":"secevent+jwt""#), "token_invalid"),
        ("no exp", without("exp"), "token_invalid"),
        ("exp null", with(json!({"exp": null})), "token_invalid"),
        ("exp a text", with(json!({"exp": "9999999999"})), "token_invalid"),
        ("exp negative", with(json!({"exp": -1})), "token_invalid"),
        ("exp now", with(json!({"exp": NOW_S})), "token_expired"),
        ("exp a second ago", with(json!({"exp": NOW_S - 1})), "token_expired"),
        ("nbf 31 s ahead", with(json!({"nbf": NOW_S + 31})), "token_invalid"),
        ("iat 31 s ahead", with(json!({"iat": NOW_S + 31})), "token_invalid"),
        ("no sub", without("sub"), "token_invalid"),
        ("sub empty", with(json!({"sub": ""})), "token_invalid"),
        ("sub a number", with(json!({"sub": 42})), "token_invalid"),
        ("sub that is no part of a channel", with(json!({"sub": "4 2"})), "token_invalid"),
        ("sub with a line end", with(json!({"sub": "42\n"})), "token_invalid"),
        ("pattern with * inside", with(json!({"tidings": {"subscribe": ["a*b"]}})), "token_invalid"),
        ("pattern **", with(json!({"tidings": {"subscribe": ["a**"]}})), "token_invalid"),
        (
            "unknown field in tidings",
            with(json!({"tidings": {"subscribe": [], "admin": true}})),
            "token_invalid",
        ),
        ("101 patterns", with(json!({"tidings": {"subscribe": vec!["a"; 101]}})), "token_invalid"),
        ("unknown right", with(json!({"tidings": {"jobs": ["own:*"]}})), "token_invalid"),
        ("jti of 256 bytes", with(json!({"jti": "x".repeat(256)})), "token_invalid"),
        ("longer than 8 KiB", with(json!({"x": "x".repeat(8_192)})), "token_invalid"),
    ];
    let jwt = jwt();
    for (what, text, code) in &cases {
        let judged = judge(&jwt, text).await;
        let refused = judged.expect_err(what);
        assert!(refused.starts_with(code), "{what}: {refused}");
        assert!(!refused.contains(signature), "{what}: a refusal repeats no part of a token");
    }
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", encode(r#"{"alg":"HS256"}"#), encode(&twice));
    let sign =
        jsonwebtoken::crypto::sign(signed.as_bytes(), &signer(Algorithm::HS256), Algorithm::HS256).unwrap();
    let refused = judge(&jwt, &format!("{signed}.{sign}")).await.unwrap_err();
    assert!(refused.contains("duplicate field"), "{refused}");
}

#[tokio::test]
async fn what_is_no_utf8_is_no_token_even_where_nobody_reads_it() {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let claims = good_claims().to_string();
    for (own, is_good) in [(&b",\"own\":\"\xc3\xa4\"}"[..], true), (b",\"own\":\"\xe4\"}", false)] {
        let claims = [&claims.as_bytes()[..claims.len() - 1], own].concat();
        let signed = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(&claims));
        let key = signer(Algorithm::HS256);
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
        assert_eq!(judge(&jwt(), &format!("{signed}.{signature}")).await.is_ok(), is_good);
    }
}

#[tokio::test]
async fn clocks_may_be_a_little_ahead_and_times_may_have_fractions() {
    for (name, value) in
        [("nbf", json!(NOW_S + 30)), ("iat", json!(NOW_S + 30)), ("exp", json!(NOW_S as f64 + 1.5))]
    {
        let mut claims = good_claims();
        claims[name] = value;
        assert!(judge(&jwt(), &token(Algorithm::HS256, &claims)).await.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn issuer_and_audience_count_when_they_are_expected() {
    let expected = Expected { issuers: vec!["app".into()], audiences: vec!["tidings".into()] };
    let jwt = Jwt::new(all_keys(), None, expected);
    for (iss, aud, is_good) in [
        (json!("app"), json!("tidings"), true),
        (json!("app"), json!(["x", "tidings"]), true),
        (json!("App"), json!("tidings"), false),
        (json!("app"), json!("tidings2"), false),
        (json!("app"), json!([]), false),
        (json!(null), json!("tidings"), false),
        (json!("app"), json!(null), false),
    ] {
        let mut claims = good_claims();
        (claims["iss"], claims["aud"]) = (iss.clone(), aud.clone());
        let judged = judge(&jwt, &token(Algorithm::HS256, &claims)).await;
        assert_eq!(judged.is_ok(), is_good, "{iss} {aud}: {judged:?}");
    }
}

#[tokio::test]
async fn a_checked_token_still_ends_and_its_key_can_be_taken_back() {
    let jwt = jwt();
    let text = token(Algorithm::HS256, &good_claims());
    assert!(judge(&jwt, &text).await.is_ok());
    let later = jwt.judge(&text, (NOW_S + 60) * 1_000).await;
    assert!(matches!(later, Judged::Ours(Err(AuthError::Expired))), "{later:?}");
    jwt.replace_keys(vec![public(Algorithm::ES256, "es256.pub").unwrap()]);
    assert!(judge(&jwt, &text).await.unwrap_err().starts_with("foreign"));
}

#[tokio::test]
async fn a_key_with_an_id_is_for_tokens_that_name_it_or_none() {
    let old = with_kid("old", public(Algorithm::ES256, "es256.pub").unwrap());
    let jwt = Jwt::new(vec![old, with_kid("new", hs256())], None, Expected::default());
    let named = |kid: Option<&str>| {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &good_claims(), &signer(Algorithm::HS256)).unwrap()
    };
    assert!(judge(&jwt, &named(Some("new"))).await.is_ok());
    assert!(judge(&jwt, &named(None)).await.is_ok());
    assert!(judge(&jwt, &named(Some("old"))).await.unwrap_err().starts_with("foreign"), "its alg is another");
    assert!(judge(&jwt, &named(Some("../new"))).await.unwrap_err().starts_with("foreign"));
}

#[test]
fn a_key_that_does_not_fit_its_algorithm_is_named_with_its_kind() {
    let error = |alg, name| format!("{:#}", public(alg, name).unwrap_err());
    for (alg, name, says) in [
        (Algorithm::RS256, "es256.pub", "an elliptic-curve key"),
        (Algorithm::ES256, "rs256.pub", "an RSA key"),
        (Algorithm::EdDSA, "rs256.pub", "an RSA key"),
        (Algorithm::ES256, "eddsa.pub", "an Ed25519 key"),
        (Algorithm::ES256, "p384.pub", "not P-256"),
        (Algorithm::RS256, "rsa1024.pub", "below 2048 bits"),
        (Algorithm::RS256, "rs256.key", "private key"),
        (Algorithm::EdDSA, "README.md", "no public key"),
    ] {
        let said = error(alg, name);
        assert!(said.contains(says) && said.contains(name), "{said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    for content in [bytes("rs256.pub"), b"secret\n".to_vec(), bytes("es256.key")] {
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let said = format!(
            "{:#}",
            Key::read(&KeyFile { alg: Algorithm::HS256, kid: None, path: path.clone() }).unwrap_err()
        );
        assert!(said.contains("the secret is weak"), "{said}");
    }
}

#[test]
fn keys_are_written_as_algorithm_and_file() {
    let read = |text: &str| text.parse::<KeyFile>();
    let key = read("ES256:2026-11=/etc/a=b.pub").unwrap();
    assert_eq!((key.kid.as_deref(), key.path.to_str()), (Some("2026-11"), Some("/etc/a=b.pub")));
    for bad in ["", "ES256", "ES256=", "none=/x", "HS512=/x", "ES256:=/x", "es256=/x"] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

mod fetched {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::auth::fetch::Fetch;

    /// Publishes keys, and counts who asks.
    struct Publisher {
        url: http::Uri,
        asked: Arc<AtomicUsize>,
        answer: Arc<Mutex<String>>,
    }

    async fn publisher() -> Publisher {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap()).parse().unwrap();
        let (asked, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(String::new())));
        let (count, text) = (Arc::clone(&asked), Arc::clone(&answer));
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let (count, text) = (Arc::clone(&count), Arc::clone(&text));
                tokio::spawn(async move {
                    let mut request = [0; 4_096];
                    while socket.read(&mut request).await.is_ok_and(|n| n > 0) {
                        count.fetch_add(1, Ordering::SeqCst);
                        let answer = text.lock().unwrap().clone();
                        socket.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        Publisher { url, asked, answer }
    }

    impl Publisher {
        fn says(&self, head: &str, body: &str) {
            *self.answer.lock().unwrap() =
                format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        }

        fn publishes(&self, keys: &[Value]) {
            self.says("200 OK", &json!({ "keys": keys }).to_string());
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }

        fn jwt(&self, periods: Periods) -> (Jwt, Arc<Jwks>) {
            let fetch = Fetch::new(&self.url, 1, Duration::from_secs(5)).unwrap();
            let jwks = Arc::new(Jwks::new(self.url.clone(), fetch, periods));
            (Jwt::new(Vec::new(), Some(Arc::clone(&jwks)), Expected::default()), jwks)
        }
    }

    fn jwk(kid: &str, alg: Algorithm) -> Value {
        let mut jwk =
            serde_json::to_value(jsonwebtoken::jwk::Jwk::from_encoding_key(&signer(alg), alg).unwrap())
                .unwrap();
        jwk["kid"] = json!(kid);
        jwk
    }

    fn named(kid: &str, alg: Algorithm) -> String {
        let header = Header { kid: Some(kid.into()), ..Header::new(alg) };
        jsonwebtoken::encode(&header, &good_claims(), &signer(alg)).unwrap()
    }

    #[tokio::test]
    async fn keys_are_fetched_once_however_many_tokens_come() {
        let publisher = publisher().await;
        publisher.publishes(&[
            jwk("a", Algorithm::ES256),
            jwk("b", Algorithm::RS256),
            jwk("c", Algorithm::EdDSA),
        ]);
        let (jwt, _) = publisher.jwt(Periods::default());
        let jwt = Arc::new(jwt);
        let tokens =
            [named("a", Algorithm::ES256), named("b", Algorithm::RS256), named("c", Algorithm::EdDSA)];
        let tasks: Vec<_> = (0..60)
            .map(|n| {
                let (jwt, token) = (Arc::clone(&jwt), tokens[n % 3].clone());
                tokio::spawn(async move { judge(&jwt, &token).await.map(drop) })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert_eq!(publisher.asked(), 1);
        // And a thousand tokens that name keys which are not there change nothing.
        for n in 0..1_000 {
            let refused = judge(&jwt, &named(&format!("k{n}"), Algorithm::ES256)).await.unwrap_err();
            assert!(refused.starts_with("foreign"), "{refused}");
        }
        assert_eq!(publisher.asked(), 1, "the last fetch was a moment ago");
    }

    #[tokio::test]
    async fn a_new_key_is_found_and_one_that_is_gone_counts_no_longer() {
        let publisher = publisher().await;
        publisher.publishes(&[jwk("old", Algorithm::ES256)]);
        let (jwt, _) = publisher.jwt(Periods { pause: Duration::ZERO, ..Periods::default() });
        let old = named("old", Algorithm::ES256);
        judge(&jwt, &old).await.unwrap();
        publisher.publishes(&[jwk("new", Algorithm::EdDSA)]);
        judge(&jwt, &old).await.unwrap();
        judge(&jwt, &named("new", Algorithm::EdDSA)).await.unwrap();
        assert!(judge(&jwt, &old).await.unwrap_err().starts_with("foreign"));
    }

    #[tokio::test]
    async fn when_the_publisher_is_gone_its_keys_last_for_a_while_and_then_nobody_knows() {
        let publisher = publisher().await;
        publisher.publishes(&[jwk("a", Algorithm::ES256)]);
        let short = Duration::from_millis(300);
        let periods = Periods {
            fresh: short / 2,
            pause: Duration::ZERO,
            pause_without: Duration::ZERO,
            stale: short / 2,
        };
        let (jwt, jwks) = publisher.jwt(periods);
        let token = named("a", Algorithm::ES256);
        judge(&jwt, &token).await.unwrap();
        publisher.says("500 Oh", "");
        assert!(judge(&jwt, &token).await.is_ok());
        assert!(judge(&jwt, &named("b", Algorithm::ES256)).await.unwrap_err().starts_with("foreign"));
        while jwks.version().is_some() {
            tokio::time::sleep(short / 10).await;
        }
        assert!(judge(&jwt, &token).await.unwrap_err().starts_with("auth_unavailable"));
        publisher.publishes(&[jwk("a", Algorithm::ES256)]);
        judge(&jwt, &token).await.unwrap();
    }

    #[tokio::test]
    async fn a_key_of_a_file_and_fetched_ones_count_side_by_side() {
        let publisher = publisher().await;
        publisher.publishes(&[jwk("a", Algorithm::ES256)]);
        let (_, jwks) = publisher.jwt(Periods::default());
        // A key of the same algorithm that signed nothing here.
        let mut other = jwk("x", Algorithm::ES256);
        (other["x"], other["y"]) = (other["y"].clone(), other["x"].clone());
        let own = Key { kid: None, ..Key::of_jwk(&other).unwrap() };
        let jwt = Jwt::new(vec![own, hs256()], Some(jwks), Expected::default());
        judge(&jwt, &named("a", Algorithm::ES256)).await.unwrap();
        judge(&jwt, &token(Algorithm::HS256, &good_claims())).await.unwrap();
        publisher.says("500 Oh", "");
        let refused = judge(&jwt, &named("b", Algorithm::ES256)).await.unwrap_err();
        assert!(refused.starts_with("token_invalid"), "{refused}");
    }

    #[tokio::test]
    async fn a_set_that_is_no_good_is_not_taken() {
        let publisher = publisher().await;
        let mut weak = jwk("a", Algorithm::RS256);
        weak["n"] = json!(URL_SAFE_NO_PAD.encode([0xff; 128]));
        let mut encrypts = jwk("a", Algorithm::ES256);
        encrypts["use"] = json!("enc");
        let mut other_alg = jwk("a", Algorithm::RS256);
        other_alg["alg"] = json!("RS512");
        let secret = json!({"kty": "oct", "kid": "a", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(SECRET)});
        let many = vec![jwk("a", Algorithm::ES256); 51];
        let long = vec![json!({"kty": "x", "x": "x".repeat(70_000)}), jwk("a", Algorithm::ES256)];
        for keys in [vec![weak], vec![encrypts], vec![other_alg], vec![secret], many, long, vec![]] {
            publisher.publishes(&keys);
            let (jwt, _) = publisher.jwt(Periods::default());
            for alg in [Algorithm::ES256, Algorithm::RS256] {
                let refused = judge(&jwt, &named("a", alg)).await.unwrap_err();
                assert!(refused.starts_with("auth_unavailable"), "{refused}");
            }
            // A secret that is published signs nothing.
            let refused = judge(&jwt, &named("a", Algorithm::HS256)).await.unwrap_err();
            assert!(refused.starts_with("foreign"), "{refused}");
        }
        publisher.says("302 Found\r\nlocation: /elsewhere", "");
        let (jwt, _) = publisher.jwt(Periods::default());
        assert!(
            judge(&jwt, &named("a", Algorithm::ES256)).await.unwrap_err().starts_with("auth_unavailable")
        );
    }
}
