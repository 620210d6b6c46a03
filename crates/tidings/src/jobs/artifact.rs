//! Files that jobs make, stored beside the log.
//!
//! Owns: safe names, sizes, making a file durable. Does not know: jobs' states, downloads over HTTP.
//! Flow: a reader → a part file → fsync → its name; expired with its job.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tidings_core::job::{Artifact, JobId};
use tidings_core::limits;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// Read and written at once.
const PIECE_BYTES: usize = 64 * 1024;
/// The file of an input that is too large to travel with events. No artifact's name starts with a dot.
const INPUT: &str = ".input.json";

/// Why a file was not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// A name with a separator, a control character or a leading dot, empty, or over 255 bytes.
    #[error("{0:?} cannot be the name of a file")]
    Name(String),
    /// More than 1 GiB.
    #[error("the file is larger than {max} bytes", max = limits::ARTIFACT_BYTES_MAX)]
    TooLarge,
    /// The job has its file already.
    #[error("the job has {0} files; no more are allowed")]
    TooMany(usize),
    /// The medium or the reader failed.
    #[error("the file could not be stored")]
    Io(#[from] std::io::Error),
}

impl ArtifactError {
    /// The stable code used in problem bodies.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name(_) | Self::TooMany(_) => "field_invalid",
            Self::TooLarge => "body_too_large",
            Self::Io(_) => "internal",
        }
    }
}

/// The folder of all files.
#[derive(Debug)]
pub(crate) struct Artifacts {
    root: PathBuf,
    /// Without a data folder the files go with the hub.
    is_temporary: bool,
}

/// A stored file, open for reading.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) file: File,
    pub(crate) bytes: u64,
    /// A strong entity tag, with its quotes.
    pub(crate) etag: String,
    pub(crate) modified: SystemTime,
}

impl Artifacts {
    pub(crate) fn beside(data: Option<&Path>) -> Self {
        match data {
            Some(data) => Self { root: data.join("artifacts"), is_temporary: false },
            None => {
                let name = format!("tidings-artifacts-{:016x}", crate::clock::random());
                Self { root: std::env::temp_dir().join(name), is_temporary: true }
            }
        }
    }

    /// Stores a file of a job; it is durable when this returns.
    pub(super) async fn store(
        &self,
        job: &JobId,
        name: &str,
        reader: impl AsyncRead + Send,
    ) -> Result<Artifact, ArtifactError> {
        let is_plain = !name.contains(['/', '\\']) && !name.chars().any(char::is_control);
        let fits = (1..=limits::ARTIFACT_NAME_BYTES_MAX - ".part".len()).contains(&name.len());
        if !is_plain || !fits || name.starts_with('.') {
            return Err(ArtifactError::Name(name.chars().take(64).collect()));
        }
        let size = self.write(job, name, reader).await?;
        let content_type = Some(content_type(name).to_owned());
        Ok(Artifact { name: name.to_owned(), content_type, size: Some(size), url: None })
    }

    /// Stores the input of a job.
    pub(super) async fn store_input(&self, job: &JobId, input: &str) -> Result<(), ArtifactError> {
        self.write(job, INPUT, input.as_bytes()).await.map(drop)
    }

    /// The input of a job, if it has a file.
    pub(super) async fn input(&self, job: &JobId) -> Option<String> {
        tokio::fs::read_to_string(self.folder(job).join(INPUT)).await.ok()
    }

    /// Opens a file that the job's document names.
    pub(crate) async fn open(&self, job: &JobId, name: &str) -> std::io::Result<Stored> {
        let file = File::open(self.folder(job).join(name)).await?;
        let metadata = file.metadata().await?;
        // A file is never changed in place: another one has another inode or another time.
        let state = format!("{} {}.{}", metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
        let (bytes, modified) = (metadata.len(), metadata.modified()?);
        let etag = format!("\"{bytes:x}-{:016x}\"", xxhash_rust::xxh3::xxh3_64(state.as_bytes()));
        Ok(Stored { file, bytes, etag, modified })
    }

    /// Removes the files of jobs that the log has forgotten. Returns how many.
    pub(crate) fn sweep(&self, is_known: impl Fn(&JobId) -> bool) -> std::io::Result<usize> {
        let mut removed = 0;
        let folders = match std::fs::read_dir(&self.root) {
            Ok(folders) => folders,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        for folder in folders {
            let folder = folder?;
            let name = folder.file_name();
            let id = name.to_str().and_then(|n| JobId::parse(n).ok());
            // A file may be stored a moment before its job is: young folders are left alone.
            let is_old = folder.metadata()?.modified()?.elapsed().is_ok_and(|age| age.as_secs() > 3_600);
            if is_old && id.is_some_and(|id| !is_known(&id)) {
                std::fs::remove_dir_all(folder.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes the files of a job.
    pub(super) async fn remove(&self, job: &JobId) -> Result<(), ArtifactError> {
        match tokio::fs::remove_dir_all(self.folder(job)).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn write(
        &self,
        job: &JobId,
        name: &str,
        reader: impl AsyncRead + Send,
    ) -> Result<u64, ArtifactError> {
        let folder = self.folder(job);
        tokio::fs::create_dir_all(&folder).await?;
        let part = folder.join(format!("{name}.part"));
        let size = match fill(&part, reader).await {
            Ok(size) => size,
            Err(error) => {
                // The part is useless; that it could not be removed either changes nothing.
                tokio::fs::remove_file(&part).await.unwrap_or_default();
                return Err(error);
            }
        };
        tokio::fs::rename(&part, folder.join(name)).await?;
        // The file's name, its folder's name and the root's are durable only with their folders.
        for dir in [Some(folder.as_path()), folder.parent(), self.root.parent()].into_iter().flatten() {
            File::open(dir).await?.sync_all().await?;
        }
        Ok(size)
    }

    fn folder(&self, job: &JobId) -> PathBuf {
        self.root.join(job.as_str())
    }
}

impl Drop for Artifacts {
    fn drop(&mut self) {
        if self.is_temporary {
            // There may be no file, and the system's own cleaning takes what is left.
            std::fs::remove_dir_all(&self.root).unwrap_or_default();
        }
    }
}

async fn fill(path: &Path, reader: impl AsyncRead + Send) -> Result<u64, ArtifactError> {
    let mut reader = std::pin::pin!(reader);
    let mut file = File::create(path).await?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut size = 0;
    loop {
        let count = reader.read(&mut piece).await?;
        if count == 0 {
            break;
        }
        size += count as u64;
        if size > limits::ARTIFACT_BYTES_MAX {
            return Err(ArtifactError::TooLarge);
        }
        file.write_all(piece.get(..count).unwrap_or_default()).await?;
    }
    file.flush().await?;
    file.sync_all().await?;
    Ok(size)
}

/// The media type of a file, by its name's ending.
fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
        Some("csv") => "text/csv; charset=utf-8",
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("json") => "application/json",
        Some("pdf") => "application/pdf",
        Some("txt" | "log" | "md") => "text/plain; charset=utf-8",
        Some("zip") => "application/zip",
        _ => "application/octet-stream",
    }
}
