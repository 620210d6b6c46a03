//! How the threads that answer requests share a core with those that deliver and commit.
//!
//! Owns: the scheduling policy of a thread. Does not know: what the threads do.
//! Flow: a thread of the runtime begins → `SCHED_BATCH`, where there is one.

/// Lets this thread, when it is woken, wait until the one that runs has used up its slice or has nothing more to do (sched(7)).
///
/// For the threads of the runtime that answers requests. Where cores are busy, each of a batch of answers would else interrupt
/// the writer that makes them, and be sent alone. Where a core is free, nothing changes, nor where the system is not Linux.
/// The nice value stays as it is.
///
/// ```
/// let runtime = tokio::runtime::Builder::new_multi_thread().on_thread_start(tidings::take_turns).enable_all().build()?;
/// # drop(runtime);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn take_turns() {
    #[cfg(target_os = "linux")]
    linux::take();
}

#[cfg(target_os = "linux")]
mod linux {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
        thread_native_id,
    };

    const POLICY: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);

    pub(super) fn take() {
        let Some(priority) = nice() else { return };
        if let Err(error) = set_thread_priority_and_policy(thread_native_id(), priority, POLICY) {
            tracing::debug!(?error, "requests interrupt delivery");
        }
    }

    /// The nice value that the process has, as what stands for it here: the two are set together.
    fn nice() -> Option<ThreadPriority> {
        let nice = rustix::process::getpriority_process(None).ok()?;
        let all = (0..100_u8).filter_map(|value| ThreadPriority::try_from(value).ok());
        all.into_iter().find(|priority| priority.to_posix(POLICY).is_ok_and(|value| value == nice))
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    /// The policy of a thread as the kernel has it (proc_pid_stat(5), fields 19 and 41): `SCHED_BATCH` is 3.
    fn nice_and_policy() -> (i32, u32) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        (fields[16].parse().unwrap(), fields[38].parse().unwrap())
    }

    #[test]
    fn a_thread_that_takes_turns_is_as_nice_as_before() {
        std::thread::spawn(|| {
            let (nice, _) = nice_and_policy();
            take_turns();
            assert_eq!(nice_and_policy(), (nice, 3));
        })
        .join()
        .unwrap();
    }
}
