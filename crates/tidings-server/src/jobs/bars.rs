//! Jobs as bars in a terminal.
//!
//! Owns: two lines for each job that runs, and what stays behind when it has ended. Does not know: streams, exit codes.
//! Flow: in ← items, ticks · out → lines that are drawn over, and lines above them that stay.

use std::time::Instant;

use anyhow::{Error, Result};
use console::{Term, style, truncate_str};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use tidings_client::State;
use tidings_client::jobs::{Document, Ended, JobItem, Level, LogLine};

use super::estimate::{elapsed_ms, left, wait_ms};
use super::print;
use super::text::{clean, colored, note, percent, span, state};
use super::view::downloads;

/// A bar is no wider than this, and no narrower than a third of this.
const BAR_MAX: usize = 36;
/// Beside the bar: margins and the percentage.
const BESIDE: usize = 12;
/// Margins alone.
const MARGINS: usize = 4;
/// A bar has this many steps.
const STEPS: u64 = 1_000;
/// Characters of an id that tell jobs on one screen apart.
const SHORT: usize = 6;
/// A result that is longer than this is not shown at the end.
const RESULT_MAX: usize = 200;

pub(super) struct Bars {
    all: MultiProgress,
    bars: Vec<Bar>,
    base: String,
    width: Width,
}

/// How wide the terminal is. It may change at any time.
type Width = fn() -> usize;

struct Bar {
    id: String,
    bar: ProgressBar,
    /// The document, and when it came.
    seen: Option<(Document, Instant)>,
    style: Option<Look>,
    is_disconnected: bool,
}

/// What the style of a bar depends on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look {
    color: &'static str,
    width: usize,
}

impl Bars {
    pub(super) fn new(ids: &[String], base: &str) -> Self {
        let width = || usize::from(Term::stdout().size().1);
        Self::on(ProgressDrawTarget::stdout(), width, ids, base)
    }

    fn on(target: ProgressDrawTarget, width: Width, ids: &[String], base: &str) -> Self {
        let all = MultiProgress::with_draw_target(target);
        let bars = ids.iter().map(|id| Bar {
            id: clean(id),
            bar: all.add(ProgressBar::new(STEPS)),
            seen: None,
            style: None,
            is_disconnected: false,
        });
        let bars = bars.collect();
        Self { all, bars, base: base.to_owned(), width }
    }

    pub(super) fn handle(&mut self, number: usize, item: JobItem) -> Result<()> {
        let is_one = self.bars.len() == 1;
        let Some(bar) = self.bars.get_mut(number) else { return Ok(()) };
        let whose = if is_one { String::new() } else { bar.short() };
        let above = match item {
            JobItem::Progress(job) => {
                bar.seen = Some((*job, Instant::now()));
                bar.is_disconnected = false;
                Vec::new()
            }
            JobItem::Log(line) => log(&line, &whose),
            JobItem::Output(chunk) => output(&chunk, &whose),
            JobItem::Complete(job) => {
                bar.bar.finish_and_clear();
                completed(&job, &self.base)
            }
            JobItem::Error(end) => {
                bar.bar.finish_and_clear();
                ended(bar, &end)
            }
            JobItem::Reset(reset) => {
                let text =
                    format!("history is gone ({}): what follows is not complete", clean(&reset.reason));
                vec![style(text).yellow().to_string()]
            }
            JobItem::Disconnected { .. } => {
                bar.is_disconnected = true;
                Vec::new()
            }
            JobItem::Reconnected => {
                bar.is_disconnected = false;
                Vec::new()
            }
            _ => Vec::new(),
        };
        for line in above {
            self.all.println(line)?;
        }
        self.draw(number);
        Ok(())
    }

    pub(super) fn handle_failure(&mut self, number: usize, error: &Error) -> Result<()> {
        let Some(bar) = self.bars.get_mut(number) else { return Ok(()) };
        bar.bar.finish_and_clear();
        Ok(self.all.println(format!("{} {}  {error}", style("✗").red().bold(), style(&bar.id).dim()))?)
    }

    pub(super) fn tick(&mut self) {
        for number in 0..self.bars.len() {
            self.draw(number);
        }
    }

    /// Takes the bars away.
    pub(super) fn clear(&self) {
        for bar in &self.bars {
            bar.bar.finish_and_clear();
        }
    }

    /// Leaves the bars as they are, and begins a line below them: the terminal has shown `^C` somewhere, so that nobody
    /// knows where to draw over them.
    pub(super) fn leave(&self) -> Result<()> {
        self.all.set_draw_target(ProgressDrawTarget::hidden());
        print("")
    }

    fn draw(&mut self, number: usize) {
        let width = (self.width)();
        if let Some(bar) = self.bars.get_mut(number).filter(|bar| !bar.bar.is_finished()) {
            bar.draw(width);
        }
    }
}

impl Bar {
    fn draw(&mut self, width: usize) {
        let bar_width = (width.saturating_sub(BESIDE) / 3).clamp(BAR_MAX / 3, BAR_MAX);
        let look = Look { color: color(self.seen.as_ref().map(|(job, _)| job.state)), width: bar_width };
        if self.style != Some(look) {
            self.bar.set_style(look.style());
            self.style = Some(look);
        }
        let (head, note, steps) = match &self.seen {
            None => (style(&self.id).dim().to_string(), String::new(), 0),
            Some((job, at)) => (self.head(job, *at), below(job, *at), steps(job.progress)),
        };
        self.bar.set_position(steps);
        self.bar.set_prefix(truncate_str(&head, width.saturating_sub(3), "…").into_owned());
        let room = width.saturating_sub(bar_width + MARGINS);
        self.bar.set_message(truncate_str(&note, room, "…").into_owned());
        self.bar.tick();
    }

    /// What stands before a line of one of several jobs: its type, and enough of its id.
    fn short(&self) -> String {
        let skip = self.id.chars().count().saturating_sub(SHORT);
        let end: String = self.id.chars().skip(skip).collect();
        let job_type =
            self.seen.as_ref().map_or_else(String::new, |(job, _)| format!("{} ", clean(&job.job_type)));
        format!("{} ", style(format!("{job_type}…{end}")).dim())
    }

    /// `generate-report  running · attempt 2 of 3 · 12 s  job_1`: a narrow terminal cuts off the id first.
    fn head(&self, job: &Document, at: Instant) -> String {
        let mut rest = vec![colored(job.state, state(job)).to_string()];
        if job.cancel_requested {
            rest.push(style("asked to stop").yellow().to_string());
        }
        if job.attempt > 1 {
            let attempt = format!("attempt {} of {}", job.attempt, job.max_attempts.max(job.attempt));
            rest.push(style(attempt).yellow().to_string());
        }
        rest.push(style(span(elapsed_ms(job, at.elapsed()))).dim().to_string());
        if self.is_disconnected {
            rest.push(style("connection lost, trying again").yellow().to_string());
        }
        let separator = style(" · ").dim().to_string();
        title(job, &rest.join(&separator))
    }
}

impl Look {
    fn style(self) -> ProgressStyle {
        let Self { color, width } = self;
        let template =
            format!("{{spinner:.{color}}} {{prefix}}\n  {{bar:{width}.{color}/black.bright}} {{msg}}");
        // A template that cannot be read would be a fault of this file, and the plain bar is there in its place.
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        style.progress_chars("━╸─").tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
    }
}

fn color(state: Option<State>) -> &'static str {
    match state {
        Some(State::Running) => "cyan",
        Some(State::Retrying) => "yellow",
        _ => "white",
    }
}

/// Whole steps only: the bar is full when the job is.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000")]
fn steps(progress: f64) -> u64 {
    (progress.clamp(0.0, 100.0) * 10.0).floor() as u64
}

fn title(job: &Document, what: &str) -> String {
    format!("{}  {what}  {}", style(clean(&job.job_type)).bold(), style(clean(&job.id)).dim())
}

/// ` 42 %  ~8 s left  render · Rendering page 12`
fn below(job: &Document, at: Instant) -> String {
    let mut line = style(format!("{:>5}", percent(job.progress))).bold().to_string();
    if let Some(left) = left(job, at.elapsed()) {
        let about = if left.is_guess { "~" } else { "" };
        line.push_str(&format!("  {about}{} left", whole(left.ms)));
    }
    if let Some(wait) = wait_ms(job, at.elapsed()) {
        line.push_str(&format!("  runs in {}", whole(wait)));
    }
    let note = note(job);
    if !note.is_empty() {
        line.push_str(&format!("  {}", style(note).dim()));
    }
    line
}

/// A duration that is shown while it runs down: tenths of a second would flicker.
fn whole(ms: u64) -> String {
    span(ms.div_ceil(1_000).max(1) * 1_000).replace(".0 s", " s")
}

fn log(line: &LogLine, whose: &str) -> Vec<String> {
    let level = match line.level {
        Level::Debug => style("debug").dim(),
        Level::Info => style(" info").cyan(),
        Level::Warn => style(" warn").yellow(),
        Level::Error => style("error").red(),
    };
    line.message.lines().map(|text| format!("{level} {whose}{}", clean(text))).collect()
}

fn output(chunk: &Value, whose: &str) -> Vec<String> {
    let show = |text: &str| format!("{whose}{}", clean(text));
    match chunk {
        Value::String(text) => text.lines().map(show).collect(),
        other => vec![show(&other.to_string())],
    }
}

fn completed(job: &Document, base: &str) -> Vec<String> {
    let took = span(elapsed_ms(job, std::time::Duration::ZERO));
    let mark = style("✓").green().bold();
    let what = format!("{} in {took}", style("completed").green());
    let mut lines = vec![format!("{mark} {}", title(job, &what))];
    let urls = downloads(job, base);
    lines.extend(urls.iter().map(|url| format!("  {}", style(url).underlined())));
    let result = clean(&job.result.to_string());
    if urls.is_empty() && job.result != Value::Null && result.len() <= RESULT_MAX {
        lines.push(format!("  {result}"));
    }
    lines
}

fn ended(bar: &Bar, end: &Ended) -> Vec<String> {
    let mark = match end.state {
        State::Cancelled => style("✗").yellow().bold(),
        _ => style("✗").red().bold(),
    };
    let mut what = colored(end.state, end.state.as_str().to_owned()).to_string();
    // "cancelled: cancelled (cancelled)" would say it three times.
    if end.message != end.state.as_str() {
        what.push_str(&format!(": {}", clean(&end.message)));
    }
    if end.code != end.state.as_str() {
        what.push_str(&style(format!(" ({})", clean(&end.code))).dim().to_string());
    }
    vec![match &bar.seen {
        Some((job, _)) => format!("{mark} {}", title(job, &what)),
        None => format!("{mark} {what}  {}", style(&bar.id).dim()),
    }]
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use indicatif::{InMemoryTerm, TermLike};
    use serde_json::json;

    use super::*;

    fn document(id: &str, state: &str, more: &Value) -> Box<Document> {
        let mut job = json!({
            "id": id, "type": "export", "mode": "managed", "state": state, "attempt": 1, "max_attempts": 3,
            "created_at": 1_000, "updated_at": 13_000, "started_at": 1_000,
        });
        for (name, value) in more.as_object().unwrap() {
            job[name] = value.clone();
        }
        serde_json::from_value(job).unwrap()
    }

    fn item<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    /// What stands on a screen of 80 columns when all items were shown.
    fn check(ids: &[&str], items: Vec<(usize, JobItem)>, expected: Expect) {
        let term = InMemoryTerm::new(20, 80);
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(term.clone()), 255);
        let mut bars = Bars::on(target, || 80, &ids, "http://h:1");
        for (number, item) in items {
            bars.handle(number, item).unwrap();
        }
        // The spinner may stand anywhere.
        let shown: String =
            term.contents().chars().map(|c| if "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏".contains(c) { '*' } else { c }).collect();
        assert_eq!(term.width(), 80);
        expected.assert_eq(&shown);
    }

    #[test]
    fn a_running_job_is_a_bar_below_its_log_and_fits_the_terminal() {
        let progress = json!({
            "progress": 42, "current": 4_200, "total": 10_000, "unit": "rows", "step": "render", "eta_ms": 90_900,
            "message": "a message that is far too long for a line of a terminal \u{1b}[2J",
        });
        check(
            &["job_1"],
            vec![
                (0, JobItem::Progress(document("job_1", "queued", &json!({})))),
                (0, JobItem::Log(item(json!({ "level": "warn", "message": "one\ntwo\u{1b}[2J" })))),
                (0, JobItem::Progress(document("job_1", "running", &progress))),
            ],
            expect![[r#"
                 warn one
                 warn two\u{1b}[2J
                * export  running · 12 s  job_1
                  ━━━━━━━━━╸────────────  42 %  1 min 31 s left  4,200 of 10,000 rows · render…"#]],
        );
    }

    #[test]
    fn the_end_stays_behind_and_other_jobs_go_on() {
        let files = json!({
            "progress": 100, "finished_at": 13_000, "downloadUrl": "/v1/jobs/job_1/download",
            "artifacts": [{ "name": "a.csv" }],
        });
        let failed =
            json!({ "state": "failed", "message": "no\u{1b}such customer", "code": "gone", "attempt": 1 });
        let retrying =
            json!({ "attempt": 2, "reason": "failed", "cancel_requested": true, "run_at": 73_000 });
        check(
            &["job_1", "job_22", "job_333"],
            vec![
                (1, JobItem::Progress(document("job_22", "running", &json!({ "progress": 50 })))),
                (0, JobItem::Log(item(json!({ "message": "whose?" })))),
                (0, JobItem::Complete(document("job_1", "completed", &files))),
                (1, JobItem::Error(item(failed))),
                (2, JobItem::Progress(document("job_333", "retrying", &retrying))),
            ],
            expect![[r#"
                 info …job_1 whose?
                ✓ export  completed in 12 s  job_1
                  http://h:1/v1/jobs/job_1/download
                ✗ export  failed: no\u{1b}such customer (gone)  job_22
                * export  retrying (failed) · asked to stop · attempt 2 of 3 · 12 s  job_333
                  ──────────────────────   0 %  runs in 1 min 0 s"#]],
        );
        let cancelled =
            json!({ "state": "cancelled", "message": "cancelled", "code": "cancelled", "attempt": 1 });
        check(&["job_1"], vec![(0, JobItem::Error(item(cancelled)))], expect!["✗ cancelled  job_1"]);
    }
}
