//! The file that lists the runs of the log.
//!
//! Owns: the bytes of `epochs`. Does not know: when a run is opened.
//! Flow: `Epochs` ↔ a small file that is replaced as a whole.

use std::io;

use tidings_core::Epochs;

use super::format::{self, BadStart, FileKind, Take, len32};
use super::io::{Disk, read_file, replace_file};

pub(super) const NAME: &str = "epochs";

pub(super) fn write(disk: &dyn Disk, epochs: &Epochs) -> io::Result<()> {
    let mut out = Vec::new();
    out.extend_from_slice(&len32(epochs.list().len()).to_le_bytes());
    for (epoch, first) in epochs.list() {
        format::put_epoch(&mut out, *epoch);
        out.extend_from_slice(&first.0.to_le_bytes());
    }
    replace_file(disk, NAME, &format::sealed_file(FileKind::Epochs, &out))
}

/// The runs; `Ok(None)` if there is no such file.
pub(super) fn read(disk: &dyn Disk) -> io::Result<Option<Result<Epochs, BadStart>>> {
    match read_file(disk, NAME) {
        Ok(bytes) => Ok(Some(decode(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn decode(bytes: &[u8]) -> Result<Epochs, BadStart> {
    let mut take = Take(format::open_sealed(bytes, FileKind::Epochs)?);
    let list = (|| {
        let count = take.u32()?;
        (0..count).map(|_| Some((take.epoch()?, take.seq()?))).collect::<Option<Vec<_>>>()
    })();
    list.and_then(Epochs::from_list).ok_or(BadStart::Damaged)
}
