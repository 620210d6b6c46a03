//! What the disk engine asks of a disk.
//!
//! Owns: the seam between the engine and the file system. Does not know: segments, frames, records.
//! Flow: in ← names inside one folder, bytes at offsets · out → bytes, and when they are durable.
//!
//! Small on purpose: the fault-injecting disk of the tests implements the same few verbs.

mod real;
#[cfg(any(test, feature = "testing"))]
pub mod sim;

use std::any::Any;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use real::RealDisk;

/// One folder of files. Names are plain file names in it.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Where the folder is, for messages.
    fn path(&self) -> &Path;

    /// Makes the folder, readable by its owner only, if it is not there.
    ///
    /// # Errors
    /// Those of the medium.
    fn create_folder(&self) -> io::Result<()>;

    /// A folder inside this one, made if it is not there; [`Disk::list`] of this one leaves it out or names it.
    ///
    /// # Errors
    /// Those of the medium, and `Unsupported` if the disk has no folders.
    fn folder(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, format!("no room for a folder {name}")))
    }

    /// Takes the folder for this process until the guard is dropped; `None` if another one has it.
    ///
    /// # Errors
    /// Those of the medium.
    fn lock(&self) -> io::Result<Option<Box<dyn Any + Send + Sync>>>;

    /// The names in the folder, in no order.
    ///
    /// # Errors
    /// Those of the medium.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file that exists.
    ///
    /// # Errors
    /// `NotFound`, and those of the medium.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes an empty file, in place of one of this name.
    ///
    /// # Errors
    /// Those of the medium.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, in place of the file that has it. Durable after [`Disk::sync_folder`].
    ///
    /// # Errors
    /// Those of the medium.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name; open files stay readable.
    ///
    /// # Errors
    /// Those of the medium.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable.
    ///
    /// # Errors
    /// Those of the medium.
    fn sync_folder(&self) -> io::Result<()>;

    /// Bytes that could still be written.
    ///
    /// # Errors
    /// Those of the medium.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
}

/// An open file, shared by its writer and its readers.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Reads at an offset; fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    /// Those of the medium.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of it at an offset.
    ///
    /// # Errors
    /// Those of the medium; then any part of it may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the contents durable, and the length where it grew.
    ///
    /// # Errors
    /// Those of the medium; then nothing is known of what was written since the last success.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes contents and metadata durable.
    ///
    /// # Errors
    /// As [`DiskFile::sync_data`].
    fn sync_all(&self) -> io::Result<()>;

    /// Makes the file this long and reserves the space, so that writing inside it cannot run out of space.
    ///
    /// # Errors
    /// `StorageFull`, and those of the medium.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Cuts or extends the file.
    ///
    /// # Errors
    /// Those of the medium.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// How long the file is.
    ///
    /// # Errors
    /// Those of the medium.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// Those of the medium.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Reads exactly this many bytes.
pub(super) fn read_exact(file: &dyn DiskFile, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    if file.read_at(&mut bytes, offset)? < len {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends early"));
    }
    Ok(bytes)
}

/// Reads a whole small file.
pub(super) fn read_file(disk: &dyn Disk, name: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(name, Access::Read)?;
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    read_exact(&*file, 0, len)
}

/// Replaces a small file so that after a crash there is the old one or the new one, whole.
pub(super) fn replace_file(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.tmp");
    let file = disk.create(&temporary)?;
    file.write_at(bytes, 0)?;
    file.sync_all()?;
    disk.rename(&temporary, name)?;
    disk.sync_folder()
}

/// Whether an error means that there is no space, which passes, rather than that the medium failed, which does not.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
