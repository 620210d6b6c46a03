//! What the export computes: any CSV, grouped and summed.
//!
//! Owns: finding out what columns mean, and the sums. Does not know: files, jobs.
//! Flow: a header → columns · rows → groups with count and sum.

use std::collections::HashMap;

use csv::StringRecord;

/// A column with more different values than this is no group.
const GROUPS_MAX: usize = 60;
/// Groupings in the report.
const GROUPINGS_MAX: usize = 4;

/// Sums of a file.
#[derive(Debug)]
pub(crate) struct Summary {
    columns: Vec<Column>,
    measure: Measure,
    pub(crate) rows: u64,
    pub(crate) total: f64,
}

#[derive(Debug)]
struct Column {
    name: String,
    /// `None` once it had too many values, or looked like a number.
    groups: Option<HashMap<String, Group>>,
}

/// One value of a column.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Group {
    pub(crate) rows: u64,
    pub(crate) sum: f64,
}

#[derive(Debug, Clone, Copy)]
enum Measure {
    Product(usize, usize),
    Column(usize),
    Rows,
}

/// A column's values, the largest first.
#[derive(Debug)]
pub(crate) struct Grouping {
    pub(crate) name: String,
    pub(crate) groups: Vec<(String, Group)>,
}

impl Summary {
    /// Looks at the header and one row.
    pub(crate) fn new(header: &StringRecord, sample: &StringRecord) -> Self {
        let find = |wanted: &str| header.iter().position(|name| name.trim().eq_ignore_ascii_case(wanted));
        let number = |i: &usize| sample.get(*i).is_some_and(|v| v.trim().parse::<f64>().is_ok());
        let is_id = |i: &usize| header.get(*i).is_some_and(|n| n.trim().to_ascii_lowercase().ends_with("id"));
        let measure = match (find("quantity"), find("unit_price")) {
            (Some(quantity), Some(price)) => Measure::Product(quantity, price),
            _ => {
                let numeric = (0..header.len()).rev().find(|i| number(i) && !is_id(i));
                numeric.map_or(Measure::Rows, Measure::Column)
            }
        };
        let column = |(i, name): (usize, &str)| Column {
            name: name.trim().to_owned(),
            groups: (!number(&i)).then(HashMap::new),
        };
        let columns = header.iter().enumerate().map(column).collect();
        Self { columns, measure, rows: 0, total: 0.0 }
    }

    /// What the sums are of.
    pub(crate) fn measure_name(&self) -> String {
        match self.measure {
            Measure::Product(..) => "Revenue".into(),
            Measure::Column(i) => self.columns.get(i).map_or_else(|| "Sum".into(), |c| c.name.clone()),
            Measure::Rows => "Rows".into(),
        }
    }

    pub(crate) fn add(&mut self, row: &StringRecord) {
        let value =
            |i: usize| row.get(i).and_then(|v| v.trim().parse::<f64>().ok()).filter(|v| v.is_finite());
        let amount = match self.measure {
            Measure::Product(a, b) => value(a).unwrap_or(0.0) * value(b).unwrap_or(0.0),
            Measure::Column(i) => value(i).unwrap_or(0.0),
            Measure::Rows => 1.0,
        };
        self.rows += 1;
        self.total += amount;
        for (column, text) in self.columns.iter_mut().zip(row) {
            let Some(groups) = &mut column.groups else { continue };
            let name = month(text).unwrap_or_else(|| text.trim());
            if !groups.contains_key(name) && groups.len() >= GROUPS_MAX {
                column.groups = None;
                continue;
            }
            let group = groups.entry(name.to_owned()).or_default();
            group.rows += 1;
            group.sum += amount;
        }
    }

    /// The columns that group the rows.
    pub(crate) fn groupings(&self) -> Vec<Grouping> {
        let mut groupings = Vec::new();
        for column in &self.columns {
            let Some(groups) = column.groups.as_ref().filter(|g| g.len() > 1) else { continue };
            let mut groups: Vec<(String, Group)> = groups.iter().map(|(n, g)| (n.clone(), *g)).collect();
            let by_time = groups.iter().all(|(name, _)| is_month(name));
            if by_time {
                groups.sort_by(|a, b| a.0.cmp(&b.0));
            } else {
                groups.sort_by(|a, b| b.1.sum.total_cmp(&a.1.sum).then_with(|| a.0.cmp(&b.0)));
            }
            let name = if by_time { "month".to_owned() } else { column.name.clone() };
            groupings.push(Grouping { name, groups });
        }
        groupings.truncate(GROUPINGS_MAX);
        groupings
    }
}

/// A date is grouped by its month.
fn month(text: &str) -> Option<&str> {
    let text = text.trim();
    let date = text.get(..10).filter(|_| text.len() >= 10)?;
    let digits = |part: Option<&str>| part.is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
    let is_date = digits(date.get(..4)) && digits(date.get(5..7)) && digits(date.get(8..10));
    (is_date && date.get(4..5) == Some("-") && date.get(7..8) == Some("-")).then(|| text.get(..7)).flatten()
}

fn is_month(text: &str) -> bool {
    text.len() == 7 && text.get(4..5) == Some("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_grouped_by_what_repeats_and_summed_by_revenue() {
        let row = |text: &str| StringRecord::from(text.split(',').collect::<Vec<_>>());
        let header = row("order_id,date,country,quantity,unit_price");
        let rows = ["1,2026-01-03,Spain,2,10.00", "2,2026-02-01,Italy,1,5.50", "3,2026-01-09,Spain,1,1.00"];
        let mut summary = Summary::new(&header, &row(rows[0]));
        rows.iter().for_each(|r| summary.add(&row(r)));
        assert_eq!((summary.rows, summary.total), (3, 26.5));
        let groupings = summary.groupings();
        let shown: Vec<String> = groupings
            .iter()
            .map(|g| {
                let groups: Vec<String> =
                    g.groups.iter().map(|(n, g)| format!("{n} {} {}", g.rows, g.sum)).collect();
                format!("{}: {}", g.name, groups.join(", "))
            })
            .collect();
        assert_eq!(shown, ["month: 2026-01 2 21, 2026-02 1 5.5", "country: Spain 2 21, Italy 1 5.5"]);
    }
}
