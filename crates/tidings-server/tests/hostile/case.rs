//! A row of the table, and the servers that rows are put to.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use tidings::core::wire::sse::parse::{Event, Item, Parser};

use crate::server::{Answer, PATIENCE, Server, bytes};

/// What came, or what came instead of what must.
pub type Outcome = Result<String, String>;

pub struct Case {
    pub group: &'static str,
    pub name: String,
    pub must: String,
    pub run: Box<dyn Fn(&World) -> Outcome>,
}

impl Case {
    /// A scenario, whose outcome is told in words.
    pub fn new(
        group: &'static str,
        name: impl Into<String>,
        must: impl Into<String>,
        run: impl Fn(&World) -> Outcome + 'static,
    ) -> Self {
        Self { group, name: name.into(), must: must.into(), run: Box::new(run) }
    }

    /// Bytes to the development server, and the status and code of the answer. On HTTP/1 the connection is closed behind
    /// what was refused unread, and a refusal is never stored.
    pub fn refused(group: &'static str, name: &str, bytes: impl Into<Vec<u8>>, must: &'static str) -> Self {
        let bytes = bytes.into();
        Self::new(group, name, must, move |world| answered(&world.dev, &bytes, must))
    }
}

/// The answer to bytes is as it must be: `400 some_code`, or only a status.
pub fn answered(server: &Server, bytes: &[u8], must: &str) -> Outcome {
    let Some(answer) = server.ask(bytes) else {
        return if must == "closed" { Ok("closed".into()) } else { Err("closed without an answer".into()) };
    };
    let shown = answer.shown();
    if shown != must {
        return Err(shown);
    }
    proper(&answer).map(|()| shown)
}

/// What holds for every answer.
pub fn proper(answer: &Answer) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{} {what}: {:?}", answer.status, answer.headers));
    if answer.header("x-content-type-options") != Some("nosniff") {
        return wrong("without nosniff");
    }
    if answer.header("vary") != Some("origin, cookie, authorization") {
        return wrong("without vary");
    }
    if !answer.header("cache-control").is_some_and(|value| value.contains("no-store")) {
        return wrong("may be stored");
    }
    if answer.status >= 400 && answer.header("content-type") != Some("application/problem+json") {
        return wrong("is no problem");
    }
    if answer.header("server").is_some() || answer.body.len() > 4096 && answer.status >= 400 {
        return wrong("tells too much");
    }
    Ok(())
}

/// `wanted` is what came, or it is wrong.
pub fn is(came: impl Into<String>, wanted: bool) -> Outcome {
    if wanted { Ok(came.into()) } else { Err(came.into()) }
}

/// The servers, each with a witness whose stream has to go on whatever happens elsewhere.
pub struct World {
    /// `--dev`.
    pub dev: Server,
    /// `--dev` with short times.
    pub quick: Server,
    /// With tokens, keys, cookies and listed origins.
    pub auth: Server,
    witness: RefCell<Stream>,
    told: RefCell<u64>,
}

impl World {
    pub fn start() -> Self {
        let dev = Server::start(&["--dev"]);
        let quick = Server::start(&["--dev", "--head-s", "1", "--idle-s", "1", "--write-s", "1"]);
        let witness = Stream::open(&dev, "channel=witness&as=witness", &[]);
        let auth = Server::with_auth(crate::tokens::SECRET, crate::tokens::ISSUER);
        Self { dev, quick, auth, witness: RefCell::new(witness), told: RefCell::new(0) }
    }

    /// The witness hears the next number, and nothing but it.
    pub fn goes_on(&self) -> Result<(), String> {
        let number = *self.told.borrow() + 1;
        *self.told.borrow_mut() = number;
        let answer = self.dev.publish(&format!(r#"{{"channel":"witness","data":{number}}}"#));
        if answer.status != 201 {
            return Err(format!("the server does not go on: {}", answer.shown()));
        }
        match self.witness.borrow_mut().next() {
            Some(event) if event.data == number.to_string() => Ok(()),
            other => Err(format!("the witness hears {other:?} and not {number}")),
        }
    }

    /// The servers served until now, and panicked nowhere.
    pub fn end(self) -> Result<(), String> {
        let health = self.quick.get("/healthz");
        if health.status != 200 {
            return Err(format!("the quick one is not well: {}", health.shown()));
        }
        self.dev.end().and_then(|()| self.quick.end()).and_then(|()| self.auth.end())
    }
}

/// An open stream.
pub struct Stream {
    pub head: Answer,
    socket: BufReader<TcpStream>,
    parser: Parser,
    unread: Vec<u8>,
}

impl Stream {
    pub fn open(server: &Server, query: &str, headers: &[(&str, &str)]) -> Self {
        Self::try_open(server, query, headers).expect("a stream opens")
    }

    /// None if the connection is closed without an answer.
    pub fn try_open(server: &Server, query: &str, headers: &[(&str, &str)]) -> Option<Self> {
        let mut socket = server.connect();
        let headers = [&[("accept", "text/event-stream")], headers].concat();
        socket.write_all(&bytes("GET", &format!("/events?{query}"), &headers, b"")).ok()?;
        let mut socket = BufReader::new(socket);
        let head = Answer::read(&mut socket)?;
        let unread = head.body.clone();
        Some(Self { head, socket, parser: Parser::new("", 4 << 20), unread })
    }

    /// The next event that is not `tidings.hello`; none at the end, or when nothing comes in time.
    pub fn next(&mut self) -> Option<Event> {
        loop {
            let event = self.any()?;
            if event.event != "tidings.hello" {
                return Some(event);
            }
        }
    }

    /// The next event of any type.
    pub fn any(&mut self) -> Option<Event> {
        loop {
            let mut input = self.unread.as_slice();
            let item = self.parser.next(&mut input).unwrap();
            self.unread = input.to_vec();
            if let Some(Item::Event(event)) = item {
                return Some(event);
            }
            if item.is_some() {
                continue;
            }
            let piece = self.socket.fill_buf().ok()?.to_vec();
            if piece.is_empty() {
                return None;
            }
            self.socket.consume(piece.len());
            self.unread = piece;
        }
    }

    /// Whether the response ends, rather than stay open.
    pub fn ends(&mut self) -> bool {
        let begun = std::time::Instant::now();
        while self.any().is_some() {}
        begun.elapsed() < PATIENCE
    }
}
