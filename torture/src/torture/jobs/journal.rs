//! What a worker notes of its leases and writes, so that it is known after `kill -9`.
//!
//! Owns: the file of one worker process. Does not know: what is right.
//! Flow: in ← a lease, a write before it is sent, its answer · out → a line of the file.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::trace::Line;

/// Unix microseconds.
pub(super) fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[derive(Debug)]
pub(super) struct Journal {
    file: RefCell<File>,
    name: String,
    marks: Cell<u64>,
}

impl Journal {
    pub(super) fn open(folder: &Path, name: &str) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(folder.join(name))?;
        Ok(Self { file: RefCell::new(file), name: name.to_owned(), marks: Cell::new(0) })
    }

    /// One line in one write: it is there as a whole even if the process is killed behind it.
    pub(super) fn enter(&self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        Ok(self.file.borrow_mut().write_all(&text)?)
    }

    /// A text that no other write has.
    pub(super) fn mark(&self) -> String {
        self.marks.set(self.marks.get() + 1);
        format!("{}.{}", self.name, self.marks.get())
    }
}
