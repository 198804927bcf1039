//! The figures as a table, as Markdown, as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::stats::{Sample, Summary, ratio};
use super::workload::{SHAPES, Shape, Workload};
use crate::config::Durability;

/// Everything measured.
#[derive(Debug)]
pub struct Report {
    /// The machine, in one line.
    pub machine: String,
    /// fdatasync of 4 KiB on the disk used, median and 99th percentile.
    pub fdatasync_us: (f64, f64),
    /// Of all exports.
    pub durability: Durability,
    /// Of one run.
    pub seconds: f64,
    /// Of each row.
    pub rounds: u32,
    /// In the order in which they ran.
    pub rows: Vec<Row>,
    /// Runs that do not count because a call failed, in words.
    pub failures: Vec<String>,
}

/// A workload in one shape, on both contenders.
#[derive(Debug)]
pub struct Row {
    /// What.
    pub workload: Workload,
    /// How.
    pub shape: Shape,
    /// Runs on one node without a peer.
    pub unreplicated: Vec<Sample>,
    /// Runs on the pair.
    pub replicated: Vec<Sample>,
}

const HEAD: [&str; 11] = [
    "workload",
    "rate, CPU",
    "alone: rate",
    "p50 us",
    "p99 us",
    "CPU",
    "pair: rate",
    "p50 us",
    "p99 us",
    "CPU, primary + backup",
    "pair / alone",
];

impl Report {
    /// For a terminal.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", self.conditions());
        for shape in SHAPES {
            let cells = self.cells(shape);
            if !cells.is_empty() {
                let _ = write!(out, "\n{}\n{}", title(shape), aligned(&cells));
            }
        }
        for failure in &self.failures {
            let _ = writeln!(out, "\nFAILED: {failure}");
        }
        out
    }

    /// The section "Figures" of docs/benchmarks.md.
    pub fn markdown(&self) -> String {
        let mut out = format!("## Figures\n\n{}\n", self.conditions());
        for shape in SHAPES {
            let cells = self.cells(shape);
            if cells.is_empty() {
                continue;
            }
            let _ = write!(out, "\n### {}\n\n| {} |\n|", title(shape), HEAD.join(" | "));
            let _ = writeln!(out, "{}", " --- |".repeat(HEAD.len()));
            for row in cells {
                let _ = writeln!(out, "| {} |", row.join(" | "));
            }
        }
        for failure in &self.failures {
            let _ = writeln!(out, "\nFailed: {failure}");
        }
        out
    }

    fn conditions(&self) -> String {
        let debug =
            if cfg!(debug_assertions) { " This is a debug build: its figures mean nothing." } else { "" };
        format!(
            "hanfs {}, durability \"{}\"; {}. Medians of {} interleaved rounds of {} s. fdatasync of 4 KiB on this \
             disk: {} us (p99 {} us).{debug}",
            env!("CARGO_PKG_VERSION"),
            self.durability.as_str(),
            self.machine,
            self.rounds,
            self.seconds,
            number(self.fdatasync_us.0),
            number(self.fdatasync_us.1),
        )
    }

    fn cells(&self, shape: Shape) -> Vec<Vec<String>> {
        self.rows.iter().filter(|row| row.shape == shape).map(Row::cells).collect()
    }

    /// Everything, with stable keys: they are only ever added to.
    pub fn json(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "debug_build": cfg!(debug_assertions),
            "machine": self.machine,
            "fdatasync_p50_us": self.fdatasync_us.0,
            "fdatasync_p99_us": self.fdatasync_us.1,
            "durability": self.durability.as_str(),
            "seconds": self.seconds,
            "rounds": self.rounds,
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "failures": self.failures,
        })
    }
}

impl Row {
    fn summaries(&self) -> (Option<Summary>, Option<Summary>) {
        let unit = self.workload.unit();
        (Summary::of(&self.unreplicated, unit), Summary::of(&self.replicated, unit))
    }

    /// Rate of the pair by rate of one node, medians both.
    fn ratio(&self) -> Option<f64> {
        let (alone, pair) = self.summaries();
        alone.zip(pair).map(|(alone, pair)| ratio(pair.rate, alone.rate))
    }

    fn cells(&self) -> Vec<String> {
        let unit = self.workload.unit();
        let (alone, pair) = self.summaries();
        let mut cells = vec![self.workload.name().to_owned(), format!("{}, s/{}", unit.rate(), unit.cpu())];
        for summary in [&alone, &pair] {
            let Some(s) = summary else {
                cells.extend(["-"; 4].map(str::to_owned));
                continue;
            };
            cells.extend([s.rate, s.p50_us, s.p99_us].map(number));
            let backup = s.backup_cpu.map(|cpu| format!(" + {}", number(cpu))).unwrap_or_default();
            cells.push(format!("{}{backup}", number(s.primary_cpu)));
        }
        cells.push(self.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")));
        cells
    }

    fn json(&self) -> Value {
        let (alone, pair) = self.summaries();
        let unit = self.workload.unit();
        json!({
            "workload": self.workload.name(),
            "connections": self.shape.connections,
            "window": self.shape.window,
            "unit": unit.rate(),
            "cpu_unit": format!("s/{}", unit.cpu()),
            "unreplicated": alone.as_ref().map(summary),
            "replicated": pair.as_ref().map(summary),
            "ratio": self.ratio(),
        })
    }
}

fn summary(s: &Summary) -> Value {
    json!({
        "rate": s.rate,
        "rates": s.rates,
        "p50_us": s.p50_us,
        "p99_us": s.p99_us,
        "primary_cpu": s.primary_cpu,
        "backup_cpu": s.backup_cpu,
        "load_cpu": s.load_cpu,
    })
}

fn title(shape: Shape) -> String {
    let many = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    format!("{}, {} outstanding on each", many(shape.connections, "connection"), many(shape.window, "call"))
}

/// Three digits that mean something.
pub fn number(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v if v >= 0.0995 || v == 0.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

/// Columns below each other: text to the left, numbers to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let head: Vec<String> = HEAD.iter().map(|h| (*h).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&head).chain(rows).collect();
    let width = |column| all.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut out = String::new();
    for row in all {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        let line: Vec<String> = cells.collect();
        let _ = writeln!(out, "{}", line.join("  ").trim_end());
    }
    out
}
