//! Who is known: what the binary refuses at the start, and its commands for tokens and keys.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::{folder, refusal, refused};

const SECRET: &str = "b5c0f1d27a9e4e63b4d08f2c6a71935ed84f0b6c1e2a97d3508c64f7e1b9a2d6";

fn write(folder: &Path, name: &str, text: &str, mode: u32) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn fixture(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/keys", name].iter().collect();
    path.to_str().unwrap().to_owned()
}

/// A server that is started like this is refused, and the sentence names these.
fn serve_refused(folder: &Path, flags: &[&str], names: &[&str]) {
    let arguments: Vec<&str> = ["serve", "--listen", "127.0.0.1:0"].iter().chain(flags).copied().collect();
    refused(&arguments, folder, names);
}

#[test]
fn a_key_file_that_others_can_read_or_that_cannot_be_read_is_refused() {
    let folder = folder();
    let folder = folder.path();
    let open = write(folder, "open", SECRET, 0o644);
    serve_refused(folder, &["--jwt-key", &format!("HS256={open}")], &[&open, "everybody", "chmod"]);
    let keys = write(folder, "keys", "", 0o604);
    serve_refused(folder, &["--api-key-file", &keys], &[&keys, "everybody", "chmod"]);
    let none = folder.join("none").to_str().unwrap().to_owned();
    serve_refused(folder, &["--api-key-file", &none], &[&none, "cannot read"]);
    serve_refused(folder, &["--jwt-key", &format!("ES256={none}")], &[&none, "cannot read"]);
    let broken = write(folder, "broken", "\n{\"id\":1}\n", 0o600);
    serve_refused(folder, &["--api-key-file", &broken], &[&broken, "line 2"]);
    assert!(!folder.join("tidings-data").exists(), "a refusal leaves nothing behind");
}

#[test]
fn a_weak_secret_is_refused_and_not_repeated() {
    let folder = folder();
    let folder = folder.path();
    let random = &SECRET[..32];
    for weak in
        ["secret", "!ChangeThisMercureHubJWTSecretKey!", "your-256-bit-secret-your-256-bit-secret", random]
    {
        let path = write(folder, "weak", weak, 0o600);
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--jwt-key", &format!("HS256={path}")];
        let said = refusal(&arguments, folder);
        assert!(
            said.contains(&path) && said.contains("weak") && said.contains("tidings token secret"),
            "{said}"
        );
        assert!(weak.len() < 10 || !said.contains(weak), "{said}");
    }
    let pem = std::fs::read_to_string(fixture("rs256.pub")).unwrap();
    let path = write(folder, "pem", &pem, 0o600);
    serve_refused(folder, &["--jwt-key", &format!("HS256={path}")], &[&path, "a PEM key, not a secret"]);
}

#[test]
fn an_algorithm_that_is_not_the_keys_is_refused() {
    let folder = folder();
    let (rsa, ec) = (fixture("rs256.pub"), fixture("es256.pub"));
    serve_refused(folder.path(), &["--jwt-key", &format!("ES256={rsa}")], &[&rsa, "ES256", "an RSA key"]);
    serve_refused(
        folder.path(),
        &["--jwt-key", &format!("RS256={ec}")],
        &[&ec, "RS256", "an elliptic-curve key"],
    );
    let said = refusal(&["serve", "--jwt-key", &format!("none={rsa}")], folder.path());
    assert!(said.contains("HS256, RS256, ES256 or EdDSA"), "{said}");
}

#[test]
fn dev_and_a_source_exclude_each_other() {
    let folder = folder();
    serve_refused(folder.path(), &["--dev", "--anonymous", "demo:*"], &["--dev", "--anonymous"]);
    serve_refused(
        folder.path(),
        &["--dev", "--forward-auth", "http://127.0.0.1:1/"],
        &["--dev", "--forward-auth"],
    );
}

#[test]
fn a_setting_that_is_not_known_is_refused_with_what_it_may_have_meant() {
    let folder = folder();
    let said = refusal(&["serve", "--api-key-fil", "x"], folder.path());
    assert!(said.contains("--api-key-file"), "{said}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0"]).env_clear().env("TIDINGS_LOG", "off");
    let output = command.env("TIDINGS_STREAM_MAX", "5").current_dir(folder.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("TIDINGS_STREAM_MAX") && said.contains("did you mean TIDINGS_STREAMS_MAX"),
        "{said}"
    );
}

/// Runs a command to its end, with a text on standard input.
fn run(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidings"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may be gone already.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn complained(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_token_is_minted_with_a_new_secret_and_inspected_with_and_without_it() {
    let folder = folder();
    let folder = folder.path();
    let made = run(folder, &["token", "secret", "jwt.secret"], "");
    assert_eq!(said(&made), "--jwt-key HS256=jwt.secret\n", "{}", complained(&made));
    let mode = std::fs::metadata(folder.join("jwt.secret")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(
        !run(folder, &["token", "secret", "jwt.secret"], "").status.success(),
        "it is never written over"
    );
    let mint = ["token", "mint", "--key", "HS256=jwt.secret", "--sub", "42", "--subscribe", "orders:*"];
    let token = said(&run(folder, &mint, ""));
    assert_eq!(token.split('.').count(), 3, "{token}");
    let shown = run(folder, &["token", "inspect"], &token);
    assert!(
        said(&shown).contains("\"sub\": \"42\"") && said(&shown).contains("not done"),
        "{}",
        said(&shown)
    );
    let checked = run(folder, &["token", "inspect", "--jwt-key", "HS256=jwt.secret"], &token);
    assert!(checked.status.success() && said(&checked).contains("check   good"), "{}", said(&checked));
    let other = write(folder, "other", SECRET, 0o600);
    let checked = run(folder, &["token", "inspect", "--jwt-key", &format!("HS256={other}")], &token);
    assert!(
        !checked.status.success() && said(&checked).contains("signature is not good"),
        "{}",
        said(&checked)
    );
}

#[test]
fn tokens_of_every_algorithm_can_be_minted() {
    let folder = folder();
    for (alg, name) in [("RS256", "rs256"), ("ES256", "es256"), ("EdDSA", "eddsa")] {
        let private = std::fs::read_to_string(fixture(&format!("{name}.key"))).unwrap();
        let key = write(folder.path(), name, &private, 0o600);
        let mint = ["token", "mint", "--key", &format!("{alg}:k1={key}"), "--sub", "42", "--expires", "2h"];
        let minted = run(folder.path(), &mint, "");
        let check = ["token", "inspect", "--jwt-key", &format!("{alg}={}", fixture(&format!("{name}.pub")))];
        let checked = run(folder.path(), &check, &said(&minted));
        assert!(checked.status.success(), "{alg}: {}{}", complained(&minted), said(&checked));
    }
    let none = run(folder.path(), &["token", "mint", "--sub", "42"], "");
    assert!(complained(&none).contains("nothing to sign with"), "{}", complained(&none));
}

#[test]
fn keys_are_made_listed_inspected_and_revoked() {
    let folder = folder();
    let folder = folder.path();
    let new =
        |name: &str| run(folder, &["key", "new", name, "--publish", "orders:*", "--expires", "90d"], "");
    let first = said(&new("shop")).trim().to_owned();
    let second = said(&new("shop")).trim().to_owned();
    assert!(first.starts_with("tk_") && first != second);
    let file = folder.join("tidings.keys");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let stored = std::fs::read_to_string(&file).unwrap();
    assert!(!stored.contains(&first) && !stored.contains(first.rsplit('_').next().unwrap()), "only hashes");
    let id = first.split('_').nth(1).unwrap().to_owned();
    let list = said(&run(folder, &["key", "list"], ""));
    assert_eq!(list.lines().count(), 2);
    assert!(list.contains(&id) && list.contains("publish orders:*") && list.contains(" days"), "{list}");
    let inspected = run(folder, &["key", "inspect"], &format!("{first}\n"));
    assert!(said(&inspected).contains(&id), "{}", complained(&inspected));
    assert!(run(folder, &["key", "revoke", &id], "").status.success());
    let gone = run(folder, &["key", "inspect"], &first);
    assert!(!gone.status.success() && !complained(&gone).contains(&first), "{}", complained(&gone));
    assert!(run(folder, &["key", "inspect"], &second).status.success());
    let useless = run(folder, &["key", "new", "shop"], "");
    assert!(complained(&useless).contains("may do nothing"), "{}", complained(&useless));
}
