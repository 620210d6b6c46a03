//! One run, from its lease to its outcome.
//!
//! Owns: the handler's task, and what its end means. Does not know: leasing, renewals.
//! Flow: in ← a run and its handler · out → complete, fail or release; nothing if the lease is lost.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use super::context::{JobContext, LOST, Run};
use super::{Fail, Handler};
use crate::jobs::JobsError;

/// How long a handler that lost its lease may take to notice, before it is dropped.
const LOST_GRACE: Duration = Duration::from_secs(5);
/// How long a handler that is dropped may take to let go.
const DROP_GRACE: Duration = Duration::from_secs(2);
/// How long giving a job back may take. After that its lease has to expire.
const RELEASE: Duration = Duration::from_secs(5);

/// How a handler ended.
enum Outcome {
    Ended(Result<Value, Fail>),
    /// The worker ends, and the handler did not.
    GivenBack,
    Lost,
}

/// Runs a job to its end, or until `give_back` says so.
pub(super) async fn drive(
    run: Arc<Run>,
    handler: Handler,
    input: Option<Box<RawValue>>,
    give_back: watch::Receiver<bool>,
) {
    let job = JobContext(Arc::clone(&run));
    let mut task = JoinSet::new();
    // In the task, so that a handler that panics before it awaits does so there too.
    task.spawn(async move { handler(job, input).await });
    let outcome = outcome(&run, &mut task, give_back).await;
    task.abort_all();
    timeout(DROP_GRACE, task.join_next()).await.ok();
    match outcome {
        Outcome::Lost => {}
        Outcome::Ended(Err(fail)) if fail.is_release() => release(&run).await,
        Outcome::GivenBack => release(&run).await,
        Outcome::Ended(Ok(result)) => complete(&run, result).await,
        Outcome::Ended(Err(fail)) => report_fail(&run, &fail).await,
    }
}

async fn outcome(
    run: &Run,
    task: &mut JoinSet<Result<Value, Fail>>,
    mut give_back: watch::Receiver<bool>,
) -> Outcome {
    let is_lost = async {
        run.lost().await;
        sleep(LOST_GRACE).await;
    };
    tokio::select! {
        joined = task.join_next() => match joined {
            _ if run.is_lost() => Outcome::Lost,
            Some(Ok(result)) => Outcome::Ended(result),
            Some(Err(error)) => Outcome::Ended(Err(panicked(run, error))),
            None => Outcome::GivenBack,
        },
        () = is_lost => Outcome::Lost,
        // The worker that is gone without a word wants nothing back either.
        _ = give_back.wait_for(|now| *now) => Outcome::GivenBack,
    }
}

async fn complete(run: &Run, result: Value) {
    match run.conclude(run.reporter().complete(Some(result), &[])).await {
        Ok(_) => {}
        // Too large, for example. Without this the job would run again to the same end.
        Err(JobsError::Refused(problem)) if !LOST.contains(&problem.code.as_str()) => {
            let fail = Fail::new(format!("the result was refused: {problem}")).code(problem.code).never();
            report_fail(run, &fail).await;
        }
        Err(error) => untold(run, &error),
    }
}

async fn report_fail(run: &Run, fail: &Fail) {
    tracing::debug!(job = %run.id(), message = fail.message(), "the run has failed");
    if let Err(error) = run.conclude(run.reporter().fail(fail.fields())).await {
        untold(run, &error);
    }
}

async fn release(run: &Run) {
    if run.is_lost() {
        return;
    }
    if let Err(error) = run.conclude(run.reporter().release(RELEASE)).await {
        untold(run, &error);
    }
}

fn untold(run: &Run, error: &JobsError) {
    if !LOST.contains(&error.code()) {
        tracing::error!(job = %run.id(), %error, "the end of the run could not be reported");
    }
}

fn panicked(run: &Run, error: JoinError) -> Fail {
    let message = match error.try_into_panic() {
        Ok(panic) => text(&*panic),
        Err(error) => error.to_string(),
    };
    tracing::error!(job = %run.id(), job_type = run.job_type(), message, "the handler panicked");
    Fail::new(format!("the handler panicked: {message}")).code("panicked")
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
