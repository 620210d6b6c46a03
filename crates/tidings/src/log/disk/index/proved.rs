//! A file that never changes, and whose bytes are proved each time they are read.
//!
//! Owns: the checksums of its blocks, as they were when it was opened. Does not know: what the bytes mean.
//! Flow: in ← the file, once from its start to its end · out → parts of it, or an error where they are not what they were.

use std::io;
use std::sync::Arc;

use super::super::format::len64;
use super::super::io::{DiskFile, read_exact};

/// Bytes under one checksum: what a disk is asked for anyway. A checksum takes a thousandth of them in memory.
const BLOCK: usize = 4096;

/// A file that was read once, and can be read again in parts.
#[derive(Debug)]
pub(super) struct Proved {
    file: Arc<dyn DiskFile>,
    len: u64,
    sums: Vec<u32>,
}

/// A file while it is read for the first time.
#[derive(Debug)]
pub(super) struct FirstRead {
    proved: Proved,
    at: u64,
    /// The checksum of the block that is not full yet, and how much of it there is.
    open: (u32, usize),
}

impl FirstRead {
    pub(super) fn begin(file: Arc<dyn DiskFile>) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self { proved: Proved { file, len, sums: Vec::new() }, at: 0, open: (0, 0) })
    }

    pub(super) fn len(&self) -> u64 {
        self.proved.len
    }

    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn next(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let bytes = read_exact(&*self.proved.file, self.at, len)?;
        let mut rest = bytes.as_slice();
        while let Some((front, behind)) =
            rest.split_at_checked(rest.len().min(BLOCK - self.open.1)).filter(|(front, _)| !front.is_empty())
        {
            self.open = (crc32c::crc32c_append(self.open.0, front), self.open.1 + front.len());
            if self.open.1 == BLOCK {
                self.close_block();
            }
            rest = behind;
        }
        self.at += len64(len);
        Ok(bytes)
    }

    fn close_block(&mut self) {
        self.proved.sums.push(self.open.0);
        self.open = (0, 0);
    }

    /// What was read so far is what is proved from now on.
    pub(super) fn finish(mut self) -> Proved {
        if self.open.1 > 0 {
            self.close_block();
        }
        Proved { len: self.at, ..self.proved }
    }
}

impl Proved {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let block = len64(BLOCK);
        let start = offset / block * block;
        let end = (offset + len64(len)).next_multiple_of(block).min(self.len);
        let mut bytes = read_exact(&*self.file, start, to_len(end.saturating_sub(start))?)?;
        let first = to_len(start / block)?;
        let sums = self.sums.get(first..).unwrap_or_default();
        let is_as_it_was = |(block, &sum): (&[u8], &u32)| crc32c::crc32c(block) == sum;
        let skipped = to_len(offset - start)?;
        if !bytes.chunks(BLOCK).zip(sums).all(is_as_it_was) || bytes.len() < skipped.saturating_add(len) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("damaged near offset {offset}")));
        }
        bytes.drain(..skipped);
        bytes.truncate(len);
        Ok(bytes)
    }
}

fn to_len(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::super::super::io::sim::SimDisk;
    use super::super::super::io::{Access, Disk};
    use super::*;

    #[test]
    fn every_part_is_what_it_was_and_every_flipped_byte_is_found() {
        let disk = SimDisk::new();
        let whole: Vec<u8> = (0..3 * BLOCK + 100).map(|n| u8::try_from(n * n % 251).unwrap()).collect();
        disk.put("file", Some(whole.clone()));
        let mut first = FirstRead::begin(disk.open("file", Access::Read).unwrap()).unwrap();
        let mut read = Vec::new();
        for len in [1, 100, BLOCK, whole.len() - BLOCK - 101] {
            read.extend(first.next(len).unwrap());
        }
        assert_eq!(read, whole);
        let proved = first.finish();
        let parts = [(0, 0), (0, 1), (7, BLOCK), (BLOCK, BLOCK), (BLOCK - 1, 2), (5, whole.len() - 5)];
        for (from, len) in parts {
            assert_eq!(proved.read(len64(from), len).unwrap(), whole[from..from + len]);
        }
        assert!(proved.read(len64(whole.len()) - 1, 2).is_err(), "it ends there");
        for at in [0, BLOCK - 1, BLOCK, 2 * BLOCK + 17, whole.len() - 1] {
            disk.damage("file", at, |bytes| bytes[0] ^= 1);
            assert!(proved.read(len64(at), 1).is_err(), "{at}");
            disk.damage("file", at, |bytes| bytes[0] ^= 1);
            assert!(proved.read(len64(at), 1).is_ok(), "{at}");
        }
    }
}
