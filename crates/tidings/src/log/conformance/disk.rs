//! The suite, run against the log on disk.
//!
//! Owns: stores for it, in a real folder and on a disk that loses what was not synced. Does not know: the cases.
//! Flow: in ← a setup · out → one test per case and kind of disk.

mod lossy;

use std::sync::Arc;

use self::lossy::LossyDisk;
use super::{Ending, Setup, Store};
use crate::log::Log;
use crate::log::disk::{DiskLog, Options};

/// Small, so that every case crosses segments.
const SEGMENT_BYTES: u64 = 64 << 10;

fn options(setup: Setup) -> Options {
    let options = Options::default().retention(setup.retention).keys_max(setup.keys_max);
    options.segment_bytes(SEGMENT_BYTES).reserve_bytes(0)
}

/// A folder of the machine. The power does not fail here; that is the simulated disk's part.
struct Folder {
    setup: Setup,
    folder: tempfile::TempDir,
}

impl Store for Folder {
    fn open(&mut self) -> Arc<dyn Log> {
        Arc::new(DiskLog::open(self.folder.path(), options(self.setup)).expect("the folder opens"))
    }
}

/// A disk in memory whose power can fail.
struct Lossy {
    setup: Setup,
    disk: LossyDisk,
}

impl Store for Lossy {
    fn open(&mut self) -> Arc<dyn Log> {
        let options = options(self.setup).disk(Arc::new(self.disk.clone()));
        Arc::new(DiskLog::open("lossy", options).expect("the disk opens"))
    }

    fn end(&mut self, log: Arc<dyn Log>, ending: Ending) {
        match ending {
            Ending::Closed => log.close().expect("a healthy log closes"),
            Ending::Killed => {}
            Ending::PowerCut { seed } => self.disk.cut(seed),
        }
    }

    fn fail_next_append(&mut self, seed: u64) -> bool {
        self.disk.fail_next_append(seed);
        true
    }
}

fn in_folder(setup: Setup) -> Box<dyn Store> {
    Box::new(Folder { setup, folder: tempfile::tempdir().unwrap() })
}

fn on_lossy_disk(setup: Setup) -> Box<dyn Store> {
    Box::new(Lossy { setup, disk: LossyDisk::default() })
}

// The other areas need retention on disk.
crate::log::conformance!(in_a_folder, in_folder, [append channels concurrent feed read]);
crate::log::conformance!(on_a_lossy_disk, on_lossy_disk, [append channels concurrent feed read]);

#[test]
fn restarts_power_cuts_and_failed_appends_keep_what_was_acknowledged() {
    for new in [in_folder, on_lossy_disk] {
        super::restart::every_run_opens_an_epoch(&new);
        super::restart::what_was_acknowledged_survives_every_ending(&new);
        super::restart::keys_survive_a_restart(&new);
        super::restart::deletions_survive_whatever_happens_around_them(&new);
        super::restart::an_append_that_failed_halfway_is_there_as_a_whole_or_not_at_all(&new);
        super::restart::what_a_run_found_survives_the_next_power_cut(&new);
    }
    // Not in a folder as well: a thousand real fsyncs show nothing that this does not.
    super::model::random_operations_in_a_roomy_log_agree_with_the_model(&on_lossy_disk);
}
