//! Tokens and keys that were not meant to be taken, and grants that do not cover what is asked.

use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use crate::case::{Case, Outcome, World, answered, is};
use crate::server::{Server, bytes};

const GROUP: &str = "token";

/// The secret of the server's HS256 key.
pub const SECRET: &str = "5f1c0e8a9d7b43c6a2e10f4b8d6c97e35ab0f21d84c7690e3f5b8a1d2c4e6f70";
pub const ISSUER: &str = "https://issuer.example";

pub fn encoded(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// A token with any header and claims, signed with a secret.
pub fn signed(header: &Value, claims: &Value, secret: &[u8], alg: Algorithm) -> String {
    signed_text(&header.to_string(), &claims.to_string(), secret, alg)
}

fn signed_text(header: &str, claims: &str, secret: &[u8], alg: Algorithm) -> String {
    let text = format!("{}.{}", encoded(header.as_bytes()), encoded(claims.as_bytes()));
    let signature = crypto::sign(text.as_bytes(), &EncodingKey::from_secret(secret), alg).unwrap();
    format!("{text}.{signature}")
}

/// Claims that are good for an hour, and others in their place or beside them.
pub fn claims(more: &Value) -> Value {
    let mut all = json!({"sub": "42", "exp": now() + 3_600, "iat": now(), "iss": ISSUER, "aud": "tidings"});
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => all.as_object_mut().unwrap().remove(name),
            value => all.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    all
}

/// A good token, but for these claims.
pub fn token(more: &Value) -> String {
    signed(&json!({"alg": "HS256", "typ": "JWT"}), &claims(more), SECRET.as_bytes(), Algorithm::HS256)
}

fn with_header(header: &Value) -> String {
    signed(header, &claims(&json!({})), SECRET.as_bytes(), Algorithm::HS256)
}

/// A request for the history of a channel with a token in its head.
pub fn reads(token: &str, channel: &str) -> Vec<u8> {
    let target = format!("/v1/history?channel={channel}");
    bytes("GET", &target, &[("authorization", &format!("Bearer {token}"))], b"")
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![Case::new(GROUP, "a good one, so that the others show something", "200", |world| {
        answered(&world.auth, &reads(&token(&json!({})), "user:42"), "200")
    })];
    let rows = [algorithms(), headers(), times_and_names(), forms(), grants_within()].concat();
    cases.extend(rows.into_iter().map(|(name, token, must)| {
        Case::new(GROUP, name, must, move |world| answered(&world.auth, &reads(&token, "user:42"), must))
    }));
    cases.extend(with_files());
    cases.extend(by_chance());
    cases.extend(elsewhere());
    cases.extend(keys());
    cases.extend(forbidden());
    cases
}

type Row = (&'static str, String, &'static str);
const INVALID: &str = "401 token_invalid";

fn algorithms() -> Vec<Row> {
    let none = |alg: &str| {
        let header = encoded(json!({"alg": alg, "typ": "JWT"}).to_string().as_bytes());
        format!("{header}.{}.", encoded(claims(&json!({})).to_string().as_bytes()))
    };
    let with_signature = |alg: &str, bytes: &[u8]| format!("{}{}", none(alg), encoded(bytes));
    let of = |alg: Algorithm, name: &str| {
        signed(&json!({"alg": name}), &claims(&json!({})), SECRET.as_bytes(), alg)
    };
    let by = |secret: &[u8]| signed(&json!({"alg": "HS256"}), &claims(&json!({})), secret, Algorithm::HS256);
    vec![
        ("alg none", none("none"), INVALID),
        ("alg None", none("None"), INVALID),
        ("alg NONE", none("NONE"), INVALID),
        ("alg nOnE", none("nOnE"), INVALID),
        ("an empty alg", none(""), INVALID),
        ("alg none with a signature", with_signature("none", &[7; 32]), INVALID),
        ("HS256 without a signature", none("HS256"), INVALID),
        ("RS256 without a signature", none("RS256"), INVALID),
        ("ES256 with a signature of zeros", with_signature("ES256", &[0; 64]), INVALID),
        ("EdDSA with a signature of zeros", with_signature("EdDSA", &[0; 64]), INVALID),
        ("HS512, with our secret", of(Algorithm::HS512, "HS512"), INVALID),
        ("HS384, with our secret", of(Algorithm::HS384, "HS384"), INVALID),
        ("HS512 that says it is HS256", of(Algorithm::HS512, "HS256"), INVALID),
        ("RS256 that is signed with our secret", of(Algorithm::HS256, "RS256"), INVALID),
        ("hs256 in small letters", of(Algorithm::HS256, "hs256"), INVALID),
        ("HS256 by another secret", by(&[7; 64]), INVALID),
        ("HS256 by an empty secret", by(b""), INVALID),
        ("HS256 by the beginning of the secret", by(&SECRET.as_bytes()[..32]), INVALID),
        ("PS256", none("PS256") + "AAAA", INVALID),
    ]
}

fn headers() -> Vec<Row> {
    let jwk = json!({"kty": "oct", "k": encoded(SECRET.as_bytes())});
    let of = |more: Value| {
        let mut header = json!({"alg": "HS256", "typ": "JWT"});
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with_header(&header)
    };
    vec![
        ("a header with its own key (jwk)", of(json!({"jwk": jwk})), INVALID),
        (
            "a header that says where its keys are (jku)",
            of(json!({"jku": "https://evil.example/keys"})),
            INVALID,
        ),
        (
            "a header with an address of certificates (x5u)",
            of(json!({"x5u": "https://evil.example/c"})),
            INVALID,
        ),
        ("a header with certificates (x5c)", of(json!({"x5c": ["MIIB"]})), INVALID),
        ("a header with crit", of(json!({"crit": ["exp"]})), INVALID),
        ("a header with crit and b64", of(json!({"crit": ["b64"], "b64": false})), INVALID),
        ("a compressed token (zip)", of(json!({"zip": "DEF"})), INVALID),
        ("a token of another type", of(json!({"typ": "dpop+jwt"})), INVALID),
        ("a key id that is a path", of(json!({"kid": "../../../dev/null"})), INVALID),
        ("a key id that is a command of SQL", of(json!({"kid": "x' OR 1=1 --"})), INVALID),
        ("a key id of another algorithm", of(json!({"kid": "rs"})), INVALID),
        (
            "alg twice in the header",
            signed_text(
                r#"{"alg":"none","alg":"HS256"}"#,
                &claims(&json!({})).to_string(),
                SECRET.as_bytes(),
                Algorithm::HS256,
            ),
            INVALID,
        ),
    ]
}

fn times_and_names() -> Vec<Row> {
    let of = |more: Value| token(&more);
    let text = |claims: &str| signed_text(r#"{"alg":"HS256"}"#, claims, SECRET.as_bytes(), Algorithm::HS256);
    let later = now() + 3_600;
    vec![
        ("expired an hour ago", of(json!({"exp": now() - 3_600})), "401 token_expired"),
        ("expired a second ago", of(json!({"exp": now() - 1})), "401 token_expired"),
        ("no exp", of(json!({"exp": null})), INVALID),
        ("exp as a text", of(json!({"exp": later.to_string()})), INVALID),
        ("exp below zero", of(json!({"exp": -1})), INVALID),
        (
            "exp beyond all numbers",
            text(&format!(r#"{{"sub":"42","exp":1e400,"iss":"{ISSUER}","aud":"tidings"}}"#)),
            INVALID,
        ),
        (
            "exp twice",
            text(&format!(r#"{{"sub":"42","exp":1,"exp":{later},"iss":"{ISSUER}","aud":"tidings"}}"#)),
            INVALID,
        ),
        ("not yet (nbf)", of(json!({"nbf": later})), INVALID),
        ("issued in the future (iat)", of(json!({"iat": later})), INVALID),
        ("another issuer", of(json!({"iss": "https://evil.example"})), INVALID),
        ("an issuer that begins like ours", of(json!({"iss": format!("{ISSUER}.evil.example")})), INVALID),
        ("no issuer", of(json!({"iss": null})), INVALID),
        ("another audience", of(json!({"aud": "other"})), INVALID),
        ("a list of other audiences", of(json!({"aud": ["other", "tidings2"]})), INVALID),
        ("no audience", of(json!({"aud": null})), INVALID),
        ("no subject", of(json!({"sub": null})), INVALID),
        ("an empty subject", of(json!({"sub": ""})), INVALID),
        ("a subject that is a number", of(json!({"sub": 42})), INVALID),
        ("a subject with a line feed", of(json!({"sub": "4\n2"})), INVALID),
        ("a subject that is a star", of(json!({"sub": "*"})), INVALID),
        ("a subject with a full-width digit", of(json!({"sub": "4\u{ff12}"})), INVALID),
        (
            "two subjects",
            text(&format!(r#"{{"sub":"43","sub":"42","exp":{later},"iss":"{ISSUER}","aud":"tidings"}}"#)),
            INVALID,
        ),
        ("claims that are a list", text("[]"), INVALID),
        ("claims that are not JSON", text("{"), INVALID),
    ]
}

fn forms() -> Vec<Row> {
    let good = token(&json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let last = |change: fn(&str) -> String| format!("{}.{}.{}", parts[0], parts[1], change(parts[2]));
    vec![
        (
            "a changed claim under an old signature",
            format!(
                "{}.{}.{}",
                parts[0],
                encoded(claims(&json!({"sub": "43"})).to_string().as_bytes()),
                parts[2]
            ),
            INVALID,
        ),
        ("half of a signature", last(|s| s[..20].into()), INVALID),
        ("a signature with padding", last(|s| format!("{s}=")), INVALID),
        ("a signature in another alphabet", last(|s| format!("{}+/", &s[..41])), INVALID),
        ("a signature and more", last(|s| format!("{s}AA")), INVALID),
        ("a line behind it", format!("{good} x"), INVALID),
        ("four parts", format!("{good}.x"), INVALID),
        ("two parts", format!("{}.{}", parts[0], parts[1]), INVALID),
        ("five parts, as if encrypted", format!("{good}.x.y"), INVALID),
        ("dots alone", "..".into(), INVALID),
        ("two tokens", format!("{good}, Bearer {good}"), INVALID),
        ("no token", String::new(), "401 unauthorized"),
        ("more than 8 KiB", token(&json!({"x": "y".repeat(8_000)})), INVALID),
        ("more than a head", "x".repeat(20_000), "431 headers_too_large"),
    ]
}

fn grants_within() -> Vec<Row> {
    let of = |rights: Value| token(&json!({"tidings": rights}));
    let many: Vec<String> = (0..101).map(|n| format!("c{n}")).collect();
    vec![
        ("a star in the middle of a pattern", of(json!({"subscribe": ["a*b"]})), INVALID),
        ("two stars", of(json!({"subscribe": ["user:**"]})), INVALID),
        ("a star in front", of(json!({"publish": ["*:42"]})), INVALID),
        ("a full-width star", of(json!({"subscribe": ["user:\u{ff0a}"]})), INVALID),
        ("two patterns in one", of(json!({"subscribe": ["a,b"]})), INVALID),
        ("an empty pattern", of(json!({"subscribe": [""]})), INVALID),
        ("a pattern with a line feed", of(json!({"subscribe": ["a\nb"]})), INVALID),
        ("101 patterns", of(json!({"subscribe": many})), INVALID),
        ("a text in place of patterns", of(json!({"subscribe": "*"})), INVALID),
        ("administration, which no token has", of(json!({"admin": true})), INVALID),
        ("an unknown right over jobs", of(json!({"jobs": ["own:*"]})), INVALID),
    ]
}

/// Public keys as secrets: whoever signs needs no more than everybody may know.
fn with_files() -> Vec<Case> {
    let public = std::fs::read_to_string(Server::fixture("rs256.pub")).unwrap();
    let stripped = public.trim_end().to_owned();
    let body: String = public.lines().filter(|line| !line.starts_with('-')).collect();
    let ec = std::fs::read_to_string(Server::fixture("es256.pub")).unwrap();
    let confused = [
        ("HS256, with the public RSA key as the secret", public),
        ("the same without its last line end", stripped),
        ("the same without its lines", body),
        ("HS256, with the public elliptic key as the secret", ec),
    ];
    let mut cases = Vec::new();
    for (name, secret) in confused {
        for (how, kid) in [("", None), (", and its kid", Some("rs"))] {
            let mut header = json!({"alg": "HS256"});
            if let Some(kid) = kid {
                header["kid"] = kid.into();
            }
            let token = signed(&header, &claims(&json!({})), secret.as_bytes(), Algorithm::HS256);
            cases.push(Case::new(GROUP, format!("{name}{how}"), INVALID, move |world| {
                answered(&world.auth, &reads(&token, "user:42"), INVALID)
            }));
        }
    }
    cases.push(Case::new(GROUP, "a good RS256 token, whose header then says HS256", INVALID, |world| {
        let good = world.auth.mint("RS256:rs", "rs256.key");
        let control = answered(&world.auth, &reads(&good, "user:42"), "200")?;
        let rest = good.split_once('.').ok_or("no token")?.1;
        let changed = format!("{}.{rest}", encoded(br#"{"alg":"HS256"}"#));
        answered(&world.auth, &reads(&changed, "user:42"), INVALID)
            .map(|came| format!("{control}, then {came}"))
    }));
    cases.push(Case::new(GROUP, "a good RS256 token, whose header then says ES256", INVALID, |world| {
        let good = world.auth.mint("RS256:rs", "rs256.key");
        let rest = good.split_once('.').ok_or("no token")?.1;
        let changed = format!("{}.{rest}", encoded(br#"{"alg":"ES256","kid":"es"}"#));
        answered(&world.auth, &reads(&changed, "user:42"), INVALID)
    }));
    cases
}

/// Thousands of tokens that nobody thought of, on one connection.
fn by_chance() -> Vec<Case> {
    vec![
        Case::new(GROUP, "3,000 changes to a good one, anywhere in it", "none is taken", |world| {
            let good = token(&json!({}));
            let mut random = Random(7);
            let tokens = (0..3_000).map(|_| random.changed(&good)).filter(|changed| *changed != good);
            let mut statuses = std::collections::BTreeSet::new();
            each(world, tokens, |status, token| match status {
                401 => Ok(statuses.insert(status)),
                other => Err(format!("{other} for {token}")),
            })?;
            is(format!("{statuses:?}"), statuses.contains(&401)).map(|_| "none is taken".into())
        }),
        Case::new(
            GROUP,
            "2,000 signed ones whose claims and header are anything",
            "200, 401 or 403, and nothing else",
            |world| {
                let mut random = Random(11);
                let good = claims(
                    &json!({"nbf": 1, "jti": "j", "sid": "s", "tidings": {"subscribe": ["a*"], "jobs": ["*"]}}),
                );
                let tokens = (0..2_000).map(|_| {
                    let header = random.filled(&json!({"alg": "HS256", "kid": "hs", "typ": "JWT"}));
                    let mut header: Value = header;
                    header["alg"] = "HS256".into();
                    signed(&header, &random.filled(&good), SECRET.as_bytes(), Algorithm::HS256)
                });
                let mut statuses = std::collections::BTreeMap::<u16, u32>::new();
                each(world, tokens, |status, token| {
                    *statuses.entry(status).or_default() += 1;
                    if matches!(status, 200 | 401 | 403) {
                        Ok(true)
                    } else {
                        Err(format!("{status} for {token}"))
                    }
                })?;
                is(format!("{statuses:?}"), statuses.contains_key(&401) && statuses.contains_key(&200))
            },
        ),
    ]
}

/// Asks with each token in turn.
fn each(
    world: &World,
    tokens: impl Iterator<Item = String>,
    mut judge: impl FnMut(u16, &str) -> Result<bool, String>,
) -> Result<(), String> {
    let mut socket = world.auth.connect();
    let mut answers = std::io::BufReader::new(socket.try_clone().unwrap());
    for token in tokens {
        std::io::Write::write_all(&mut socket, &reads(&token, "user:42")).map_err(|e| e.to_string())?;
        let answer = crate::server::Answer::read(&mut answers).ok_or("closed")?;
        judge(answer.status, &token)?;
    }
    Ok(())
}

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most
    }

    /// One to three changes to a text of letters that tokens are made of.
    fn changed(&mut self, text: &str) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=";
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..=self.below(3) {
            let (at, letter) = (self.below(bytes.len()), LETTERS[self.below(LETTERS.len())]);
            match self.below(5) {
                0 => bytes[at] = letter,
                1 => bytes.insert(at, letter),
                2 if bytes.len() > 2 => drop(bytes.remove(at)),
                3 => bytes.truncate(at.max(1)),
                _ => {
                    let other = self.below(bytes.len());
                    bytes.swap(at, other);
                }
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    /// An object in which some fields are gone and others hold something else.
    fn filled(&mut self, object: &Value) -> Value {
        let mut filled = object.clone();
        let names: Vec<String> = object.as_object().unwrap().keys().cloned().collect();
        for name in names {
            let value = match self.below(72) {
                0 => json!(null),
                1 => json!(-1),
                2 => json!(1e300),
                3 => json!(""),
                4 => json!([]),
                5 => json!({"a": [1, {}]}),
                6 => json!("\u{0}\r\n*"),
                7 => json!(true),
                8 => json!(u64::MAX),
                9 => json!(["tidings", 7, null]),
                10 => {
                    filled.as_object_mut().unwrap().remove(&name);
                    continue;
                }
                _ => continue,
            };
            filled[&name] = value;
        }
        filled
    }
}

/// Places where a token is not looked for, and others who say who it is.
fn elsewhere() -> Vec<Case> {
    let none = "401 unauthorized";
    let mut cases = Vec::new();
    for name in ["access_token", "token", "authorization", "jwt", "tidings", "apikey"] {
        cases.push(Case::new(GROUP, format!("a good one as ?{name}="), none, move |world| {
            let target = format!("/v1/history?channel=user:42&{name}={}", token(&json!({})));
            answered(&world.auth, &bytes("GET", &target, &[], b""), none)
        }));
    }
    for header in
        ["x-forwarded-user", "x-auth-request-user", "x-tidings-subject", "x-real-user", "proxy-authorization"]
    {
        cases.push(Case::new(GROUP, format!("somebody's word in {header}"), none, move |world| {
            answered(&world.auth, &bytes("GET", "/v1/history?channel=user:42", &[(header, "42")], b""), none)
        }));
    }
    cases.push(Case::new(GROUP, "Basic, with a name and a password", none, |world| {
        let headers = [("authorization", "Basic NDI6NDI=")];
        answered(&world.auth, &bytes("GET", "/v1/history?channel=user:42", &headers, b""), none)
    }));
    cases.push(Case::new(
        GROUP,
        "a subject in the query (?as=), as with --dev",
        "its own channel, and no other",
        |world| {
            let headers = [("authorization", &*format!("Bearer {}", token(&json!({}))))];
            let mut stream = crate::case::Stream::open(&world.auth, "as=43", &headers);
            world.auth.as_admin("POST", "/v1/publish", r#"{"channel":"user:43","data":"theirs"}"#);
            world.auth.as_admin("POST", "/v1/publish", r#"{"channel":"user:42","data":"own"}"#);
            let heard = stream.next().ok_or("nothing")?;
            is(heard.data.clone(), heard.data == "\"own\"").map(|_| "its own channel, and no other".into())
        },
    ));
    cases
}

fn keys() -> Vec<Case> {
    let unknown = "401 key_unknown";
    let change = |change: fn(&str) -> String, world: &World, must: &str| {
        answered(&world.auth, &reads(&change(world.auth.key()), "user:42"), must)
    };
    let mut cases =
        vec![Case::new("key", "a good one, so that the others show something", "200", move |world| {
            change(str::to_owned, world, "200")
        })];
    let rows: [(&str, fn(&str) -> String); 6] = [
        ("another secret behind its id", |key| format!("{}{}", &key[..key.len() - 8], "AAAAAAAA")),
        ("its secret is cut", |key| key[..key.len() - 4].to_owned()),
        ("more behind it", |key| format!("{key}x")),
        ("its id alone", |key| key.rsplit_once('_').map_or(String::new(), |(id, _)| format!("{id}_"))),
        ("a key that was never made", |_| format!("tk_aaaaaaaaaaaa_{}", "a".repeat(43))),
        ("nothing but how keys begin", |_| "tk_".to_owned()),
    ];
    for (name, how) in rows {
        cases.push(Case::new("key", name, unknown, move |world| change(how, world, unknown)));
    }
    cases.push(Case::new("key", "in the cookie", "401 unauthorized", |world| {
        let cookie = format!("tidings={}", world.auth.key());
        answered(
            &world.auth,
            &bytes("GET", "/v1/history?channel=user:42", &[("cookie", &cookie)], b""),
            "401 unauthorized",
        )
    }));
    cases.push(Case::new("key", "its hash from the file, in its place", unknown, |world| {
        let hash = world.auth.key_hash();
        let id = world.auth.key().rsplit_once('_').map(|(id, _)| id.to_owned()).ok_or("no id")?;
        answered(&world.auth, &reads(&format!("{id}_{hash}"), "user:42"), unknown)
    }));
    cases.push(Case::new(
        "key",
        "the 11th guess of an address within a minute",
        "429 auth_failures_too_many",
        |world| {
            let headers =
                [("authorization", "Bearer tk_aaaaaaaaaaaa_guess"), ("x-forwarded-for", "203.0.113.77")];
            let guess = bytes("GET", "/v1/history?channel=user:42", &headers, b"");
            for _ in 0..10 {
                answered(&world.auth, &guess, unknown)?;
            }
            let must = "429 auth_failures_too_many";
            answered(&world.auth, &guess, must)?;
            // The real key from there is not even looked at; from elsewhere it is.
            let key = format!("Bearer {}", world.auth.key());
            let from = |address: &str| {
                let headers = [("authorization", &*key), ("x-forwarded-for", address)];
                bytes("GET", "/v1/history?channel=user:42", &headers, b"")
            };
            answered(&world.auth, &from("203.0.113.78"), "200")?;
            answered(&world.auth, &from("203.0.113.77"), must)
        },
    ));
    cases
}

/// The token of somebody who may do a little.
fn rights() -> String {
    token(
        &json!({"tidings": {"subscribe": ["orders:*", "job*", "exact"], "publish": ["chat"], "jobs": ["create:report"]}}),
    )
}

/// Grants do not cover what is only spelt like what they name.
fn forbidden() -> Vec<Case> {
    let must = "403 forbidden";
    let mut cases = Vec::new();
    for (name, channel) in [
        ("another user's channel", "user:43"),
        ("a user whose name begins with theirs", "user:420"),
        ("a user whose name theirs begins with", "user:4"),
        ("a channel below their own", "user:42:x"),
        ("their own in capitals", "USER:42"),
        ("another user's, with a letter encoded", "%75ser:43"),
        ("their own, encoded twice", "%2575ser:42"),
        ("a prefix without its end", "orders"),
        ("the prefix in capitals", "Orders:7"),
        ("an exact channel and more", "exact2"),
        ("a job, by a prefix that only leads up to it", "job:7"),
        ("the server's own channels", "tidings:x"),
        ("a channel that they may only publish to", "chat"),
        ("one of theirs and one that is not", "user:42&channel=user:43"),
    ] {
        cases.push(Case::new("grant", name, must, move |world| {
            answered(&world.auth, &reads(&rights(), channel), must)
        }));
    }
    for (name, method, target, body) in [
        ("publish to another's channel", "POST", "/v1/publish", r#"{"channel":"user:43","data":1}"#),
        ("publish to one's own channel", "POST", "/v1/publish", r#"{"channel":"user:42","data":1}"#),
        (
            "publish to one that one may and one that one may not",
            "POST",
            "/v1/publish",
            r#"{"channels":["chat","exact"],"data":1}"#,
        ),
        ("delete a channel", "DELETE", "/v1/channels?channel=user:42", ""),
        ("list connections", "GET", "/v1/connections", ""),
        ("close another's connections", "DELETE", "/v1/connections?subject=43", ""),
        ("revoke another's tokens", "POST", "/v1/revocations", r#"{"subject":"43"}"#),
        ("read the metrics", "GET", "/metrics", ""),
        ("make a job of another type", "POST", "/v1/jobs", r#"{"type":"backup"}"#),
        ("lease jobs", "POST", "/v1/queues/default/lease", r#"{"worker_id":"w"}"#),
        ("make a schedule", "PUT", "/v1/schedules/s", r#"{"every_ms":60000,"job":{"type":"report"}}"#),
        ("a ticket for another's channel", "POST", "/v1/tickets", r#"{"channels":["user:43"]}"#),
    ] {
        cases.push(Case::new("grant", name, must, move |world| {
            let token = format!("Bearer {}", rights());
            let headers = [("authorization", &*token), ("content-type", "application/json")];
            answered(&world.auth, &bytes(method, target, &headers, body.as_bytes()), must)
        }));
    }
    cases.push(Case::new(
        "grant",
        "who an event is from, written by its publisher",
        "400 field_unknown",
        |world| {
            let token = format!("Bearer {}", rights());
            let headers = [("authorization", &*token), ("content-type", "application/json")];
            let body = br#"{"channel":"chat","data":1,"from":"admin"}"#;
            answered(&world.auth, &bytes("POST", "/v1/publish", &headers, body), "400 field_unknown")
        },
    ));
    cases.push(Case::new(
        "grant",
        "a channel that is there, and one that is not",
        "the same answer",
        |world| {
            world.auth.as_admin("POST", "/v1/publish", r#"{"channel":"is-there","data":1}"#);
            let ask = |channel| world.auth.ask(&reads(&rights(), channel)).ok_or("closed");
            let (there, gone) = (ask("is-there")?, ask("not-here")?);
            let text = |answer: &crate::server::Answer| {
                String::from_utf8_lossy(&answer.body).replace("is-there", "not-here")
            };
            is(there.shown(), there.status == 403 && text(&there) == text(&gone))
                .map(|_| "the same answer".into())
        },
    ));
    cases.push(Case::new("grant", "another's job, and one that is not there", "the same answer", |world| {
        world.auth.as_admin("POST", "/v1/jobs", r#"{"id":"theirs","type":"t"}"#);
        let token = format!("Bearer {}", rights());
        let ask = |id: &str| {
            world
                .auth
                .ask(&bytes("GET", &format!("/v1/jobs/{id}"), &[("authorization", &token)], b""))
                .ok_or("closed")
        };
        let (there, gone) = (ask("theirs")?, ask("nobody")?);
        let text = |answer: &crate::server::Answer| {
            String::from_utf8_lossy(&answer.body).replace("theirs", "nobody")
        };
        is(there.shown(), there.shown() == "404 job_not_found" && text(&there) == text(&gone))
            .map(|_| "the same answer".into())
    }));
    cases
}

/// No secret that was sent stands in what the server said.
pub fn told_nothing(server: &Server, secrets: &[String]) -> Outcome {
    let said = server.said();
    let found = secrets.iter().find(|secret| secret.len() > 8 && said.contains(secret.as_str()));
    is(found.map_or("no secret", |secret| &**secret), found.is_none()).map(|_| "no secret".into())
}
