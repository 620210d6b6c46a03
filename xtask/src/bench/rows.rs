//! The table of a run.
//!
//! Owns: reading figures and printing them. Does not know: what they mean.
//! Flow: JSON of runs → figures → rows.

use anyhow::{Context, Result};
use serde_json::Value;

/// A figure at a JSON pointer.
pub(super) fn figure(result: &Value, at: &str) -> Result<f64> {
    result.pointer(at).and_then(Value::as_f64).with_context(|| format!("no figure {at} in {result}"))
}

/// The figure that so many quarters of all figures are below: 2 is the median.
pub(super) fn quartile(mut figures: Vec<f64>, quarters: usize) -> Result<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() * quarters / 4).copied().context("no runs")
}

/// The median of a figure over several runs.
pub(super) fn median(results: &[Value], at: &str) -> Result<f64> {
    quartile(results.iter().map(|r| figure(r, at)).collect::<Result<Vec<f64>>>()?, 2)
}

/// Rows of scenario, figure and value.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<(String, String, String)>);

impl Table {
    pub(super) fn row(&mut self, scenario: &str, what: &str, value: impl Into<String>) {
        let value = value.into();
        println!("    {scenario} {what}: {value}");
        self.0.push((scenario.to_owned(), what.to_owned(), value));
    }

    pub(super) fn print(&self) {
        let scenario = self.0.iter().map(|(a, _, _)| a.chars().count()).max().unwrap_or(0);
        let what = self.0.iter().map(|(_, b, _)| b.chars().count()).max().unwrap_or(0);
        println!();
        for (a, b, c) in &self.0 {
            println!("  {a:<scenario$}  {b:<what$}  {c}");
        }
    }
}
