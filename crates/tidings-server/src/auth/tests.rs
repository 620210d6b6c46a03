use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use http::Request;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tidings::core::ChannelName;

use super::*;

/// Files for `--jwt-key` and `--api-key-file`, and a token and a key for them.
struct Folder {
    folder: tempfile::TempDir,
    key: String,
}

const SECRET: &str = "b5c0f1d27a9e4e63b4d08f2c6a71935ed84f0b6c1e2a97d3508c64f7e1b9a2d6";

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (key, line) = api_key::make(api_key::Line {
            id: String::new(),
            name: "shop".into(),
            sha256: String::new(),
            subscribe: vec![],
            publish: vec!["*".into()],
            jobs: vec![],
            admin: false,
            exp: None,
        })
        .unwrap();
        let made = Self { folder, key };
        made.write("secret", SECRET);
        made.write("keys", &serde_json::to_string(&line).unwrap());
        made
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        let file = std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path);
        write!(file.unwrap(), "{text}").unwrap();
    }

    fn flags(&self) -> AuthFlags {
        let key = format!("HS256={}", self.folder.path().join("secret").display());
        AuthFlags {
            jwt_key: vec![key.parse().unwrap()],
            cookie: "tidings".into(),
            api_key_file: Some(self.folder.path().join("keys")),
            ..AuthFlags::default()
        }
    }

    fn sources(&self, anonymous: &[&str]) -> Arc<Sources> {
        let anonymous = anonymous.iter().map(|&pattern| pattern.to_owned()).collect();
        Sources::open(&AuthFlags { anonymous, ..self.flags() }, &[]).unwrap().unwrap()
    }
}

fn token(sub: &str, exp: u64) -> String {
    let claims = json!({"sub": sub, "exp": exp});
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn good(sub: &str) -> String {
    token(sub, unix_ms() / 1_000 + 60)
}

/// Who it is, and whether browsers add the credentials by themselves; or the code of the refusal.
async fn judge(sources: &Sources, headers: &[(&str, String)]) -> String {
    let mut request = Request::get("/events");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    match sources.authorize(&parts).await {
        Ok(authorized) if authorized.is_ambient => format!("{}, ambient", authorized.grant.principal()),
        Ok(authorized) => authorized.grant.principal(),
        Err(error) => error.code().to_owned(),
    }
}

#[tokio::test]
async fn the_first_credentials_of_a_request_count_and_no_others() {
    let folder = Folder::new();
    let key = folder.key.clone();
    let sources = folder.sources(&["demo:*"]);
    let bearer = |text: &str| ("authorization", format!("Bearer {text}"));
    let cookie = |text: &str| ("cookie", format!("a=b; tidings={text}"));
    let old = token("42", 1);
    let cases: [(&str, Vec<(&str, String)>); 12] = [
        ("anonymous", vec![]),
        ("sub:42, ambient", vec![cookie(&good("42"))]),
        ("sub:43", vec![bearer(&good("43")), cookie(&good("42"))]),
        ("key:shop", vec![bearer(&key), cookie(&good("42"))]),
        ("token_expired", vec![bearer(&old), cookie(&good("42"))]),
        ("token_invalid", vec![bearer("x"), cookie(&good("42"))]),
        ("key_unknown", vec![bearer("tk_00000000_00"), cookie(&good("42"))]),
        ("token_invalid", vec![("authorization", "Bearer ".to_owned())]),
        ("anonymous", vec![cookie(&old)]),
        ("anonymous", vec![cookie("x")]),
        ("anonymous", vec![cookie(&key)]),
        ("sub:42, ambient", vec![("authorization", "Basic eDp5".to_owned()), cookie(&good("42"))]),
    ];
    for (expected, headers) in &cases {
        assert_eq!(judge(&sources, headers).await, *expected, "{headers:?}");
    }
}

#[tokio::test]
async fn without_anonymous_channels_a_bad_cookie_is_as_none() {
    let sources = Folder::new().sources(&[]);
    assert_eq!(judge(&sources, &[]).await, "unauthorized");
    assert_eq!(judge(&sources, &[("cookie", format!("tidings={}", token("42", 1)))]).await, "unauthorized");
}

#[tokio::test]
async fn everybody_may_only_subscribe_and_only_where_it_says_so() {
    let sources = Folder::new().sources(&["demo:*"]);
    let (parts, ()) = Request::get("/events").body(()).unwrap().into_parts();
    let grant = sources.authorize(&parts).await.unwrap().grant;
    let channel = |name: &str| ChannelName::parse(name).unwrap();
    assert!(grant.may_subscribe(&channel("demo:1")));
    assert!(!grant.may_subscribe(&channel("orders")) && !grant.may_publish(&channel("demo:1")));
    assert!(!grant.may_create_job("report") && !grant.admin);
}

#[tokio::test]
async fn reading_again_takes_all_files_or_none() {
    let folder = Folder::new();
    let sources = folder.sources(&[]);
    let bearer = |text: &str| [("authorization", format!("Bearer {text}"))];
    let old = good("42");
    assert_eq!(judge(&sources, &bearer(&old)).await, "sub:42");
    let other = "c3".repeat(4) + &SECRET[8..];
    folder.write("secret", &other);
    folder.write("keys", "{}");
    assert!(sources.reload().is_err());
    assert_eq!(judge(&sources, &bearer(&old)).await, "sub:42", "one bad file changes nothing");
    assert_eq!(judge(&sources, &bearer(&folder.key)).await, "key:shop");
    folder.write("keys", "");
    sources.reload().unwrap();
    assert_eq!(judge(&sources, &bearer(&old)).await, "token_invalid");
    assert_eq!(judge(&sources, &bearer(&folder.key)).await, "key_unknown");
}

#[test]
fn settings_that_are_not_safe_are_refused_in_one_sentence() {
    let folder = Folder::new();
    let refused = |change: fn(&mut AuthFlags), says: &str| {
        let mut flags = folder.flags();
        change(&mut flags);
        let error = format!("{:#}", Sources::open(&flags, &[]).unwrap_err());
        assert!(error.contains(says), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    };
    refused(|f| f.jwks_url = Some("http://keys.example/jwks".into()), "https");
    refused(|f| f.jwks_url = Some("ftp://keys.example/jwks".into()), "--jwks-url");
    refused(|f| f.jwks_url = Some("https://u:hunter2@keys.example/jwks".into()), "password");
    refused(|f| f.forward_auth = Some("/auth".into()), "--forward-auth");
    refused(|f| f.forward_auth = Some("http://u:hunter2@app/auth".into()), "password");
    refused(|f| f.anonymous = vec!["a*b".into()], "--anonymous");
    refused(|f| f.cookie = "a b".into(), "--cookie");
    refused(
        |f| {
            f.jwt_key.clear();
            f.jwt_issuer = vec!["x".into()];
        },
        "--jwt-issuer",
    );
}
