//! The table of a run.

use std::fmt;

use super::tunnel::System;

/// One number of one figure.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    /// What it is, with its unit.
    pub(crate) name: String,
    /// The number.
    pub(crate) number: f64,
    /// What becomes of the numbers of several rounds.
    pub(crate) shown: Shown,
}

impl Value {
    /// A number of which the median is shown.
    pub(crate) fn new(name: impl Into<String>, number: f64) -> Self {
        Self { name: name.into(), number, shown: Shown::Median }
    }

    /// A number of which a percentile is shown.
    pub(crate) fn percentile(name: impl Into<String>, percent: u32, number: f64) -> Self {
        Self { name: name.into(), number, shown: Shown::Percentile(percent) }
    }
}

/// What becomes of the numbers of several rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The middle one; a ratio is the median of the ratios within one round.
    Median,
    /// One that so many per cent do not exceed; a ratio is that of the percentiles.
    Percentile(u32),
}

/// All numbers so far.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    shown: Shown,
    ours: Vec<f64>,
    limit: Vec<f64>,
    original: Vec<f64>,
}

impl Table {
    /// Takes a number of a system. Rows stand in the order of their first numbers.
    pub(crate) fn add(&mut self, system: System, value: Value) {
        let at = self.rows.iter().position(|row| row.name == value.name).unwrap_or_else(|| {
            self.rows.push(Row {
                name: value.name,
                shown: value.shown,
                ours: Vec::new(),
                limit: Vec::new(),
                original: Vec::new(),
            });
            self.rows.len() - 1
        });
        let row = &mut self.rows[at];
        match system {
            System::Ours => row.ours.push(value.number),
            System::Limit => row.limit.push(value.number),
            System::Original => row.original.push(value.number),
        }
    }
}

impl Row {
    fn cells(&self) -> [String; 6] {
        let cell = |numbers: &[f64]| number(self.one(numbers));
        let mut cells = [
            self.name.clone(),
            cell(&self.ours),
            cell(&self.limit),
            cell(&self.original),
            number(self.ratio(&self.ours, &self.limit)),
            number(self.ratio(&self.original, &self.ours)),
        ];
        for cell in &mut cells[4..] {
            if !cell.is_empty() {
                cell.push('x');
            }
        }
        cells
    }

    fn one(&self, numbers: &[f64]) -> Option<f64> {
        match self.shown {
            Shown::Median => percentile(numbers, 50),
            Shown::Percentile(percent) => percentile(numbers, percent),
        }
    }

    fn ratio(&self, of: &[f64], to: &[f64]) -> Option<f64> {
        let ratio = if self.shown == Shown::Median && of.len() == to.len() {
            let ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
            self.one(&ratios)?
        } else {
            self.one(of)? / self.one(to)?
        };
        ratio.is_finite().then_some(ratio)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["", "ours", "limit-stdio", "original", "ours/limit", "original/ours"];
        let mut lines = vec![head.map(str::to_owned)];
        lines.extend(self.rows.iter().map(Row::cells));
        let width = |column: usize| {
            lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or_default()
        };
        let widths: [usize; 6] = std::array::from_fn(width);
        for (nth, cells) in lines.iter().enumerate() {
            write!(f, "| {:<width$} |", cells[0], width = widths[0])?;
            for (cell, width) in cells.iter().zip(widths).skip(1) {
                write!(f, " {cell:>width$} |")?;
            }
            writeln!(f)?;
            if nth == 0 {
                write!(f, "|{:-<width$}|", "", width = widths[0] + 2)?;
                for width in &widths[1..] {
                    write!(f, "{:-<width$}:|", "", width = width + 1)?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// The smallest of the numbers that so many per cent of them do not exceed; between the two middle ones for 50 per
/// cent of an even count.
pub(crate) fn percentile(numbers: &[f64], percent: u32) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len();
    if percent == 50 && count > 0 {
        return Some((sorted[(count - 1) / 2] + sorted[count / 2]) / 2.0);
    }
    let rank = (count * percent as usize).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// A number with three digits or so.
fn number(number: Option<f64>) -> String {
    let Some(number) = number else { return String::new() };
    let places = match number.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{number:.places$}")
}
