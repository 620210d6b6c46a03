//! The binary as a process, and bytes to and from it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server {
    pub addr: SocketAddr,
    child: Child,
    said: Arc<Mutex<String>>,
    listener: Option<JoinHandle<()>>,
    folder: TempDir,
    /// An API key that may do everything, where there is one.
    key: String,
}

impl Server {
    /// Starts `tidings serve` on a free port with further flags.
    pub fn start(flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), flags)
    }

    /// With tokens of three algorithms, an API key, a listed origin, and channels for everybody.
    pub fn with_auth(secret: &str, issuer: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = write(&folder, "secret", secret);
        let keys = folder.path().join("keys").to_str().unwrap().to_owned();
        let new = [
            "key",
            "new",
            "back-end",
            "--file",
            &keys,
            "--subscribe",
            "*",
            "--publish",
            "*",
            "--jobs",
            "*",
            "--admin",
        ];
        let key = run(&new).trim().to_owned();
        let jwt = [
            format!("HS256:hs={secret}"),
            format!("RS256:rs={}", Self::fixture("rs256.pub")),
            format!("ES256:es={}", Self::fixture("es256.pub")),
            format!("EdDSA:ed={}", Self::fixture("eddsa.pub")),
        ];
        let mut flags: Vec<&str> = jwt.iter().flat_map(|key| ["--jwt-key", key]).collect();
        flags.extend(["--jwt-issuer", issuer, "--jwt-audience", "tidings", "--api-key-file", &keys]);
        flags.extend(["--anonymous", "demo:*", "--allow-origin", "https://app.example"]);
        flags.extend(["--public-url", "https://own.example"]);
        let mut server = Self::start_in(folder, &flags);
        server.key = key;
        server
    }

    fn start_in(folder: TempDir, flags: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidings"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--disk-reserve-mib", "0"])
            .args(["--data", folder.path().join("data").to_str().unwrap(), "--drain-s", "1"])
            .args(flags)
            .env_clear()
            .env("TIDINGS_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (heard, lines) = (Arc::clone(&said), BufReader::new(child.stderr.take().unwrap()).lines());
        let listener = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut said = heard.lock().unwrap();
                said.push_str(&line);
                said.push('\n');
            }
        });
        let begun = Instant::now();
        let addr = loop {
            let text = said.lock().unwrap().clone();
            let at = text.find("http://127.0.0.1:").map(|at| &text[at + 7..]);
            if let Some(addr) = at.and_then(|rest| rest.split(['"', '\\', ' ']).next()?.parse().ok()) {
                break addr;
            }
            assert!(
                begun.elapsed() < PATIENCE && child.try_wait().unwrap().is_none(),
                "it does not serve: {text}"
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        Self { addr, child, said, listener: Some(listener), folder, key: String::new() }
    }

    /// A key file of the repository.
    pub fn fixture(name: &str) -> String {
        format!("{}/tests/keys/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    /// The API key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What stands in the file of keys in place of the key.
    pub fn key_hash(&self) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("keys")).unwrap();
        let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        line["sha256"].as_str().unwrap().to_owned()
    }

    /// A good token of subject 42 by a private key of the repository.
    pub fn mint(&self, alg: &str, key: &str) -> String {
        let path = write(&self.folder, key, &std::fs::read_to_string(Self::fixture(key)).unwrap());
        let key = format!("{alg}={path}");
        let mint = [
            "token",
            "mint",
            "--key",
            &key,
            "--sub",
            "42",
            "--iss",
            "https://issuer.example",
            "--aud",
            "tidings",
        ];
        run(&mint).trim().to_owned()
    }

    /// A request with the API key; it has to succeed.
    pub fn as_admin(&self, method: &str, target: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {}", self.key);
        let headers = [("authorization", &*bearer), ("content-type", "application/json")];
        let answer = self.request(method, target, &headers, body.as_bytes());
        assert!(answer.status < 300, "{method} {target}: {}", answer.shown());
        answer
    }

    pub fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.addr).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Sends bytes on a connection of their own, and reads the first answer.
    pub fn ask(&self, bytes: &[u8]) -> Option<Answer> {
        let mut socket = self.connect();
        // It may answer and close before all was sent.
        let _ = socket.write_all(bytes);
        Answer::read(&mut BufReader::new(&mut socket))
    }

    /// A well-formed request, with `Host` and the length of the body.
    pub fn request(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.ask(&bytes(method, target, headers, body)).expect("an answer comes")
    }

    pub fn get(&self, target: &str) -> Answer {
        self.request("GET", target, &[], b"")
    }

    pub fn post(&self, target: &str, body: &str) -> Answer {
        self.request("POST", target, &[("content-type", "application/json")], body.as_bytes())
    }

    pub fn publish(&self, body: &str) -> Answer {
        self.post("/v1/publish", body)
    }

    /// The newest event's data on a channel, if it has one.
    pub fn newest(&self, channel: &str) -> Option<Value> {
        let page = self.get(&format!("/v1/history?channel={channel}&limit=1000")).json();
        page["events"].as_array().and_then(|events| events.last()).map(|event| event["data"].clone())
    }

    /// What it said so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Ends it; it must have run until now, and have panicked nowhere.
    pub fn end(mut self) -> Result<(), String> {
        if let Some(status) = self.child.try_wait().unwrap() {
            return Err(format!("ended by itself with {status}: {}", self.said()));
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.listener.take().unwrap().join().unwrap();
        if self.said().contains("panicked") { Err(self.said()) } else { Ok(()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file that only its owner can read.
fn write(folder: &TempDir, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What a command of the binary prints; it has to succeed.
fn run(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tidings")).args(arguments).env_clear().output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A well-formed request as bytes.
pub fn bytes(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    if headers.iter().all(|(name, _)| !name.eq_ignore_ascii_case("host")) {
        head.push_str("Host: localhost\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || matches!(method, "POST" | "PUT") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads one answer; of a stream only the head. None if the connection ends without one.
    pub fn read(socket: &mut impl BufRead) -> Option<Self> {
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            if socket.read_until(b'\n', &mut line).ok()? == 0 {
                return None;
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let status = lines.first()?.split(' ').nth(1)?.parse().ok()?;
        let headers: BTreeMap<String, String> = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut body = Vec::new();
        if let Some(length) = headers.get("content-length").and_then(|length| length.parse::<u64>().ok()) {
            socket.take(length).read_to_end(&mut body).ok()?;
        }
        Some(Self { status, headers, body })
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Status and code, as the table shows them.
    pub fn shown(&self) -> String {
        match self.json()["code"].as_str() {
            Some(code) => format!("{} {code}", self.status),
            None => self.status.to_string(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}
