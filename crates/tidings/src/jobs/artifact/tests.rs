//! A small store.

use std::time::Duration;

use super::*;

const BOUNDS: Bounds = Bounds { file_bytes: 100, total_bytes: 250, reserve_bytes: 0 };

struct Store {
    artifacts: Arc<Artifacts>,
    folder: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        Self::with(BOUNDS)
    }

    fn with(bounds: Bounds) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Self::on(folder, bounds);
        store.artifacts.count(|| false);
        store
    }

    /// Before anything was counted.
    fn on(folder: tempfile::TempDir, bounds: Bounds) -> Self {
        Self { artifacts: Arc::new(Artifacts::beside(Some(folder.path()), bounds)), folder }
    }

    /// The same folder after a crash.
    fn again(self) -> Self {
        let Self { artifacts, folder } = self;
        // Parts whose uploads were forgotten in mid-way are there still.
        drop(artifacts);
        Self::on(folder, BOUNDS)
    }

    async fn put(&self, job: &str, name: &str, bytes: usize) -> Result<(), ArtifactError> {
        let mut upload = self.artifacts.begin(&id(job), name, Some(bytes as u64)).await?;
        upload.write(&vec![b'x'; bytes]).await?;
        upload.finish().await?.publish(self.files()).await
    }

    /// A file whose size is not known before it is read.
    async fn store(&self, job: &str, name: &str, bytes: &[u8]) -> Result<(), ArtifactError> {
        let mut upload = self.artifacts.begin_in_turn(&id(job), name).await?;
        upload.fill(bytes, None).await?;
        upload.finish().await?.publish(self.files()).await
    }

    async fn read(&self, job: &str, name: &str) -> io::Result<String> {
        let mut stored = self.artifacts.open(&id(job), name).await?;
        let mut text = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stored.file, &mut text).await?;
        Ok(text)
    }

    /// All files of all jobs, parts included.
    fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        each_folder(&self.folder.path().join("artifacts"), |folder| {
            for file in fs::read_dir(folder)? {
                files.push(file?.file_name().into_string().unwrap());
            }
            Ok(true)
        })
        .unwrap();
        files.sort();
        files
    }

    /// Waits until the parts that were dropped are gone, and their room with them.
    async fn settled(&self, used_bytes: u64, files: &[&str]) {
        for _ in 0..500 {
            if self.files() == files && self.artifacts.used_bytes() == used_bytes {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?} take {} bytes", self.files(), self.artifacts.used_bytes());
    }
}

fn id(text: &str) -> JobId {
    JobId::parse(text).unwrap()
}

fn code<T>(result: Result<T, ArtifactError>) -> &'static str {
    result.map_or_else(|error| error.code(), |_| "stored")
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused_before_anything_is_made() {
    let store = Store::new();
    let long = "x".repeat(251);
    let cases = [
        "",
        ".",
        "..",
        "..a",
        "../a",
        "a/../b",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "a\0",
        "a\nb",
        "\u{7f}",
        ".hidden",
        ".input.json",
        long.as_str(),
    ];
    for name in cases {
        assert_eq!(
            code(store.artifacts.begin(&id("7"), name, None).await),
            "artifact_name_invalid",
            "{name:?}"
        );
    }
    assert_eq!(fs::read_dir(store.folder.path()).unwrap().count(), 0, "no folder either");
    let longest = "x".repeat(250);
    for name in ["%2e%2e", "a b", "a..", "ü.csv", longest.as_str()] {
        assert_eq!(code(store.put("7", name, 1).await), "stored", "{name:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_too_large_leaves_nothing() {
    let store = Store::new();
    assert_eq!(code(store.artifacts.begin(&id("7"), "a", Some(101)).await), "body_too_large");
    assert_eq!(code(store.store("7", "a", &[b'x'; 101]).await), "body_too_large");
    store.settled(0, &[]).await;
    // More, and less, than was declared.
    let mut upload = store.artifacts.begin(&id("7"), "a", Some(3)).await.unwrap();
    upload.write(b"xxxx").await.unwrap();
    assert_eq!(code(upload.finish().await), "request_timeout");
    let mut upload = store.artifacts.begin(&id("7"), "a", Some(3)).await.unwrap();
    upload.write(b"xx").await.unwrap();
    assert_eq!(code(upload.finish().await), "request_timeout");
    store.settled(0, &[]).await;
    assert_eq!(code(store.put("7", "a", 100).await), "stored");
    store.settled(100, &["a"]).await;
}

#[tokio::test]
async fn all_files_together_have_a_bound_and_give_room_back() {
    let store = Store::new();
    for job in ["1", "2"] {
        assert_eq!(code(store.put(job, "a", 100).await), "stored");
    }
    let refused = store.put("3", "a", 51).await;
    assert_eq!(code(refused), "artifacts_full");
    assert_eq!(code(store.store("3", "a", &[b'x'; 51]).await), "artifacts_full");
    store.settled(200, &["a", "a"]).await;
    // What is only on its way counts too.
    let upload = store.artifacts.begin(&id("3"), "a", Some(50)).await.unwrap();
    assert_eq!(code(store.put("4", "a", 1).await), "artifacts_full");
    drop(upload);
    store.settled(200, &["a", "a"]).await;
    // A replaced file and those that are removed count no more.
    assert_eq!(code(store.put("2", "a", 10).await), "stored");
    store.settled(110, &["a", "a"]).await;
    store.artifacts.store_input(&id("1"), "{}").await.unwrap();
    store.artifacts.remove(&id("1")).await.unwrap();
    store.artifacts.remove(&id("2")).await.unwrap();
    store.artifacts.remove(&id("never")).await.unwrap();
    store.settled(0, &[]).await;
    assert_eq!(code(store.put("5", "a", 100).await), "stored");
}

#[tokio::test]
async fn two_uploads_of_one_name_never_mix_and_the_last_to_end_wins() {
    let store = Store::new();
    let (first, second) = (id("7"), id("7"));
    let mut first = store.artifacts.begin(&first, "a", None).await.unwrap();
    let mut second = store.artifacts.begin(&second, "a", None).await.unwrap();
    for _ in 0..3 {
        first.write(b"1").await.unwrap();
        second.write(b"22").await.unwrap();
    }
    let (first, second) = (first.finish().await.unwrap(), second.finish().await.unwrap());
    assert!(store.read("7", "a").await.is_err(), "whole, but without a name");
    second.publish(Vec::new()).await.unwrap();
    assert_eq!(store.read("7", "a").await.unwrap(), "222222");
    let before = store.artifacts.open(&id("7"), "a").await.unwrap().etag;
    first.publish(Vec::new()).await.unwrap();
    assert_eq!(store.read("7", "a").await.unwrap(), "111");
    assert_ne!(store.artifacts.open(&id("7"), "a").await.unwrap().etag, before);
    store.settled(3, &["a"]).await;
}

#[tokio::test]
async fn files_that_the_document_does_not_name_go_with_the_next_one() {
    let store = Store::new();
    for name in ["a", "b", "c"] {
        store.put("7", name, 10).await.unwrap();
    }
    store.put("8", "a", 10).await.unwrap();
    store.artifacts.store_input(&id("7"), "{}").await.unwrap();
    let on_its_way = store.artifacts.begin(&id("7"), "e", None).await.unwrap();
    let staged = store.artifacts.begin(&id("7"), "d", None).await.unwrap().finish().await.unwrap();
    staged.publish(vec!["b".into(), "d".into()]).await.unwrap();
    drop(on_its_way);
    store.settled(20, &[".input.json", "a", "b", "d"]).await;
    assert!(store.read("8", "a").await.is_ok());
}

#[tokio::test]
async fn a_job_that_is_deleted_before_all_is_counted_takes_its_files_along() {
    let store = Store::new();
    store.put("7", "a", 40).await.unwrap();
    store.put("8", "b", 30).await.unwrap();
    store.artifacts.store_input(&id("7"), "{}").await.unwrap();
    let store = store.again();
    store.artifacts.remove(&id("7")).await.unwrap();
    assert!(store.artifacts.input(&id("7")).await.is_err());
    store.artifacts.store_input(&id("7"), "[]").await.unwrap();
    store.artifacts.count(|| false);
    store.settled(30, &[".input.json", "b"]).await;
    assert_eq!(store.artifacts.input(&id("7")).await.unwrap(), "[]", "of a new job with the same id");
}

#[tokio::test]
async fn what_a_crash_leaves_goes_at_the_next_start_and_the_rest_is_counted() {
    let store = Store::new();
    store.put("7", "a", 40).await.unwrap();
    store.artifacts.store_input(&id("7"), "{}").await.unwrap();
    let mut upload = store.artifacts.begin(&id("7"), "b", Some(60)).await.unwrap();
    upload.write(b"half").await.unwrap();
    let staged = store.artifacts.begin(&id("8"), "c", None).await.unwrap().finish().await.unwrap();
    // As a crash would, this runs no destructor of theirs.
    #[allow(clippy::mem_forget, reason = "it is what the test is about")]
    std::mem::forget((upload, staged));
    assert_eq!(store.files().len(), 4);
    let store = store.again();
    let waiting = Arc::clone(&store.artifacts);
    let waiting = tokio::spawn(async move { waiting.begin(&id("9"), "d", Some(100)).await.map(drop) });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "until it is known how much room there is");
    assert_eq!(store.artifacts.sweep(|_| false).unwrap(), 0);
    store.artifacts.count(|| false);
    assert_eq!(code(waiting.await.unwrap()), "stored");
    store.settled(40, &[".input.json", "a"]).await;
    assert_eq!(store.artifacts.input(&id("7")).await.unwrap(), "{}");
}

#[tokio::test]
async fn counting_spares_what_this_run_writes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::on(folder, BOUNDS);
    let part = store.artifacts.part(&store.artifacts.folder(&id("7")));
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, "input").unwrap();
    store.artifacts.count(|| false);
    assert!(part.exists());
    store.artifacts.count(|| true);
}

#[tokio::test]
async fn files_leave_the_log_its_reserve() {
    let store = Store::with(Bounds { reserve_bytes: u64::MAX, ..BOUNDS });
    let refused = store.put("7", "a", 1).await;
    assert!(matches!(refused, Err(ArtifactError::DiskFull)), "{refused:?}");
    assert_eq!(code(refused), "artifacts_full");
    store.settled(0, &[]).await;
}

#[tokio::test]
async fn only_so_many_files_are_stored_at_once() {
    let store = Store::new();
    let mut uploads = Vec::new();
    for n in 0..limits::UPLOADS_MAX {
        uploads.push(store.artifacts.begin(&id(&format!("{n}")), "a", None).await.unwrap());
    }
    assert_eq!(code(store.artifacts.begin(&id("x"), "a", None).await), "overloaded");
    uploads.pop();
    assert_eq!(code(store.put("x", "a", 1).await), "stored");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_says_nothing_is_given_up() {
    let store = Store::new();
    let (mut here, there) = tokio::io::duplex(8);
    let mut upload = store.artifacts.begin(&id("7"), "a", None).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut here, b"abc").await.unwrap();
    let stalled = upload.fill(there, Some(Duration::from_secs(30))).await;
    assert!(matches!(stalled, Err(ArtifactError::Stalled(30))), "{stalled:?}");
    assert_eq!(code(stalled), "request_timeout");
}

#[tokio::test]
async fn the_sweep_takes_old_files_of_jobs_that_are_forgotten() {
    let store = Store::new();
    for job in ["old", "known", "young"] {
        store.put(job, "a", 10).await.unwrap();
    }
    let long_ago = SystemTime::now() - Duration::from_secs(2 * 3_600);
    for job in ["old", "known"] {
        let folder = fs::File::open(store.artifacts.folder(&id(job))).unwrap();
        folder.set_modified(long_ago).unwrap();
    }
    assert_eq!(store.artifacts.sweep(|job| job.as_str() == "known").unwrap(), 1);
    assert_eq!(store.artifacts.used_bytes(), 20);
    assert!(store.read("old", "a").await.is_err());
    assert!(store.read("known", "a").await.is_ok() && store.read("young", "a").await.is_ok());
}

#[test]
fn a_content_type_is_what_was_said_if_that_says_something() {
    let cases = [
        (Some("text/markdown"), "a.csv", "text/markdown"),
        (Some("text/csv; charset=latin1"), "a", "text/csv; charset=latin1"),
        (Some("application/vnd.api+json"), "a", "application/vnd.api+json"),
        (Some("application/octet-stream"), "a.CSV", "text/csv; charset=utf-8"),
        (Some("Application/X-WWW-Form-Urlencoded"), "a.json", "application/json"),
        (Some("nonsense"), "a.pdf", "application/pdf"),
        (Some("text/"), "a.pdf", "application/pdf"),
        (Some("text/a b"), "a", "application/octet-stream"),
        (Some("text/x;\r\nevil: 1"), "a", "application/octet-stream"),
        (Some("text/ü"), "a.svg", "image/svg+xml"),
        (None, "a.tar.gz", "application/gzip"),
        (None, "csv", "application/octet-stream"),
    ];
    for (given, name, expected) in cases {
        assert_eq!(upload::content_type(given, name), expected, "{given:?} {name}");
    }
    let long = format!("text/{}", "x".repeat(limits::ARTIFACT_CONTENT_TYPE_BYTES_MAX));
    assert_eq!(upload::content_type(Some(&long), "a"), "application/octet-stream");
}
