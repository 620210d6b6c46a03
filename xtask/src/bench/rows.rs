//! The table of a run.
//!
//! Owns: reading figures and printing them. Does not know: what they mean.
//! Flow: JSON of runs → figures → rows.

use std::fmt;

use anyhow::{Context, Result};
use serde_json::Value;

/// A figure at a JSON pointer.
pub(super) fn figure(result: &Value, at: &str) -> Result<f64> {
    result.pointer(at).and_then(Value::as_f64).with_context(|| format!("no figure {at} in {result}"))
}

/// A list at a JSON pointer.
pub(super) fn list<'a>(result: &'a Value, at: &str) -> Result<&'a [Value]> {
    let list = result.pointer(at).and_then(Value::as_array);
    Ok(list.with_context(|| format!("no list {at} in {result}"))?)
}

/// How much more a figure is in one row of turns than in the other: of those that followed each other, because the speed of a
/// machine with neighbours drifts.
#[derive(Debug)]
pub(super) struct Ratio {
    low: f64,
    pub(super) median: f64,
    high: f64,
}

impl Ratio {
    /// Of two figures, each turns and where their results have it, as a JSON pointer; turns are in pairs.
    pub(super) fn of_neighbours(below: (&[Value], &str), above: (&[Value], &str)) -> Result<Self> {
        let ratio = |(b, a)| Ok(figure(a, above.1)? / figure(b, below.1)?);
        let ratios = below.0.iter().zip(above.0).map(ratio).collect::<Result<Vec<f64>>>()?;
        let part = |quarters| quartile(ratios.clone(), quarters);
        Ok(Self { low: part(1)?, median: part(2)?, high: part(3)? })
    }
}

/// With the middle half.
impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2}–{:.2})", self.median, self.low, self.high)
    }
}

/// The figure that so many quarters of all figures are below: 2 is the median.
fn quartile(mut figures: Vec<f64>, quarters: usize) -> Result<f64> {
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
