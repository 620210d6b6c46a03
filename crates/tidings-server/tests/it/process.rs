//! A server as a process of its own.
//!
//! Owns: its life, and its addresses as its log tells them. Does not know: what is asked of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

/// How long anything may take before a test says that it does not come.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Process {
    child: Child,
    /// Addresses in the order of the log: the public one first.
    pub addresses: Vec<SocketAddr>,
    said: Arc<Mutex<Vec<String>>>,
    _folder: TempDir,
}

impl Process {
    /// Starts `tidings serve` and waits for so many listeners; `shell` runs before it in the same shell.
    pub fn serve(shell: &str, arguments: &[&str], listeners: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("{shell}\nexec \"$0\" serve \"$@\""), env!("CARGO_BIN_EXE_tidings")])
            .args(arguments)
            .current_dir(folder.path())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut addresses = Vec::new();
        while addresses.len() < listeners {
            let line = lines.next().expect("it serves").unwrap();
            if let Some((_, rest)) = line.split_once("url=http://") {
                addresses.push(rest.split(' ').next().unwrap().parse().unwrap());
            }
        }
        let said = Arc::<Mutex<Vec<String>>>::default();
        let says = Arc::clone(&said);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| says.lock().unwrap().push(line))
        });
        Self { child, addresses, said, _folder: folder }
    }

    /// Lines of the log, since it serves, that have this in them.
    pub fn said(&self, text: &str) -> usize {
        self.said.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

/// A connection that waits no longer than a test should.
pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends a request and reads to the end: status and body.
pub fn ask(address: SocketAddr, method: &str, target: &str, body: &str) -> (u16, String) {
    ask_as(address, "", method, target, body)
}

/// The same with these lines in its head.
pub fn ask_as(address: SocketAddr, lines: &str, method: &str, target: &str, body: &str) -> (u16, String) {
    let mut socket = connect(address);
    let text = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{lines}\r\n{body}",
        body.len()
    );
    socket.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Reads until a text has come; all that came.
pub fn read_until(socket: &mut TcpStream, text: &str) -> String {
    let mut got = Vec::new();
    let mut piece = [0; 65_536];
    let mut looked_at = 0;
    while !got[looked_at..].windows(text.len()).any(|part| part == text.as_bytes()) {
        // What comes may be long, and what is looked for is short: it may have begun in what was looked at.
        looked_at = got.len().saturating_sub(text.len());
        let count = socket.read(&mut piece).unwrap();
        assert_ne!(count, 0, "it ends behind {:?}", String::from_utf8_lossy(&got[looked_at..]));
        got.extend_from_slice(&piece[..count]);
    }
    String::from_utf8_lossy(&got).into_owned()
}
