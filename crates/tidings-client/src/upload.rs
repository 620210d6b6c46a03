//! A file on its way to the server.
//!
//! Owns: reading it piece by piece, and noticing that nothing moves. Does not know: jobs, names.
//! Flow: in ← bytes, a path or a reader · out → a request body that is never in memory as a whole.

use std::fmt;
use std::io::Error;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, ReadBuf};

/// One piece of a file.
const PIECE_BYTES: usize = 64 * 1024;
/// When nothing was taken for this long, the server or the way to it is gone. It has to write the last piece durably too.
const STALL: Duration = Duration::from_secs(90);

type Reader = Pin<Box<dyn AsyncRead + Send>>;

/// What to store as a file of a job.
///
/// ```
/// use tidings_client::jobs::Upload;
/// let report = Upload::bytes("a,b\n1,2\n").content_type("text/csv");
/// let video = Upload::file("/tmp/video.mp4");
/// ```
#[derive(Debug)]
#[must_use]
pub struct Upload {
    source: Source,
    content_type: Option<String>,
}

enum Source {
    Bytes(Bytes),
    File(PathBuf),
    Reader(Option<Reader>),
}

impl Upload {
    /// Bytes in memory. Sent again after a failure that may pass.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self { source: Source::Bytes(bytes.into()), content_type: None }
    }

    /// A file of this machine, read while it is sent. Sent again after a failure that may pass.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self { source: Source::File(path.as_ref().to_owned()), content_type: None }
    }

    /// Whatever a reader gives, to its end. Sent once, since it can be read once.
    pub fn reader(reader: impl AsyncRead + Send + 'static) -> Self {
        Self { source: Source::Reader(Some(Box::pin(reader))), content_type: None }
    }

    /// Its media type; without, the server goes by the name.
    pub fn content_type(self, content_type: impl Into<String>) -> Self {
        Self { content_type: Some(content_type.into()), ..self }
    }

    pub(crate) fn media_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    pub(crate) fn is_repeatable(&self) -> bool {
        !matches!(self.source, Source::Reader(_))
    }

    /// The body of one attempt, and the counter of what was taken of it.
    pub(crate) async fn open(&mut self) -> Result<(UploadBody, Taken), Error> {
        let (reader, bytes): (Reader, Option<u64>) = match &mut self.source {
            Source::Bytes(bytes) => {
                let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                (Box::pin(std::io::Cursor::new(bytes.clone())), Some(size))
            }
            Source::File(path) => {
                let file = tokio::fs::File::open(path).await?;
                // A file that grows meanwhile is sent as it was: a body must not be longer than announced.
                let size = file.metadata().await?.len();
                (Box::pin(tokio::io::AsyncReadExt::take(file, size)), Some(size))
            }
            Source::Reader(reader) => {
                let reader = reader.take().ok_or_else(|| Error::other("the reader was used before"))?;
                (reader, None)
            }
        };
        let taken = Taken::default();
        Ok((UploadBody { reader, left: bytes, buffer: BytesMut::new(), taken: taken.clone() }, taken))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Reader(_) => f.write_str("reader"),
        }
    }
}

/// How much of a body was taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taken(Arc<AtomicU64>);

impl Taken {
    /// Waits until nothing was taken for a long time.
    pub(crate) async fn stalled(&self) {
        let mut before = self.0.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(STALL).await;
            let now = self.0.load(Ordering::Relaxed);
            if now == before {
                return;
            }
            before = now;
        }
    }
}

/// A request body that reads as it is sent.
pub(crate) struct UploadBody {
    reader: Reader,
    /// What was announced and not yet sent; `None` if the size is not known.
    left: Option<u64>,
    buffer: BytesMut,
    taken: Taken,
}

impl fmt::Debug for UploadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadBody").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        this.buffer.resize(PIECE_BYTES, 0);
        let mut buffer = ReadBuf::new(&mut this.buffer);
        ready!(this.reader.as_mut().poll_read(context, &mut buffer))?;
        let read = buffer.filled().len();
        if read == 0 {
            return Poll::Ready(match this.left {
                Some(left) if left > 0 => {
                    Some(Err(Error::other("the file became shorter while it was sent")))
                }
                _ => None,
            });
        }
        let read_u64 = u64::try_from(read).unwrap_or(u64::MAX);
        this.left = this.left.map(|left| left.saturating_sub(read_u64));
        this.taken.0.fetch_add(read_u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(this.buffer.split_to(read).freeze()))))
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
