//! Percentiles of one run, medians over runs.

use super::workload::Unit;

/// What one run measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Calls answered.
    pub calls: u64,
    /// Bytes of data read or written.
    pub bytes: u64,
    /// Directory entries listed.
    pub entries: u64,
    /// From the first call to the last reply.
    pub seconds: f64,
    /// Of single calls, ns.
    pub p50_ns: u64,
    /// Of single calls, ns.
    pub p99_ns: u64,
    /// CPU seconds of the primary's server.
    pub primary_cpu_s: f64,
    /// CPU seconds of the backup's server, where there is one.
    pub backup_cpu_s: Option<f64>,
    /// CPU seconds of the load generator.
    pub load_cpu_s: f64,
}

impl Sample {
    /// How much was done.
    fn amount(&self, unit: Unit) -> f64 {
        match unit {
            Unit::Calls => self.calls as f64,
            Unit::Mib => self.bytes as f64 / f64::from(1 << 20),
            Unit::Entries => self.entries as f64,
        }
    }

    /// Per second.
    pub fn rate(&self, unit: Unit) -> f64 {
        ratio(self.amount(unit), self.seconds)
    }

    /// CPU seconds per so much work.
    fn per(&self, unit: Unit, cpu_s: f64) -> f64 {
        ratio(cpu_s, self.amount(unit)) * unit.cpu_scale()
    }
}

/// Medians over the rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Of each round, in order.
    pub rates: Vec<f64>,
    /// In the row's unit.
    pub rate: f64,
    /// Of single calls.
    pub p50_us: f64,
    /// Of single calls.
    pub p99_us: f64,
    /// CPU seconds per 10k calls or entries, or per GiB.
    pub primary_cpu: f64,
    /// The same of the backup.
    pub backup_cpu: Option<f64>,
    /// The same of the load generator.
    pub load_cpu: f64,
}

impl Summary {
    /// None where nothing was measured.
    pub fn of(samples: &[Sample], unit: Unit) -> Option<Self> {
        let by = |f: &dyn Fn(&Sample) -> f64| median(samples.iter().map(f).collect());
        let backup: Vec<f64> =
            samples.iter().filter_map(|s| s.backup_cpu_s.map(|cpu| s.per(unit, cpu))).collect();
        Some(Self {
            rates: samples.iter().map(|s| s.rate(unit)).collect(),
            rate: by(&|s| s.rate(unit))?,
            p50_us: by(&|s| s.p50_ns as f64 / 1e3)?,
            p99_us: by(&|s| s.p99_ns as f64 / 1e3)?,
            primary_cpu: by(&|s| s.per(unit, s.primary_cpu_s))?,
            backup_cpu: median(backup),
            load_cpu: by(&|s| s.per(unit, s.load_cpu_s))?,
        })
    }
}

/// The middle one, or the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let high = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(high);
    }
    let low = *values.get(middle.checked_sub(1)?)?;
    Some((low + high) / 2.0)
}

/// The smallest value that at least `percent` of all are not above (nearest rank); 0 of nothing.
pub fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// 0 where the divisor is.
pub fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}
