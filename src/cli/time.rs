//! Times and sizes as people read them.

/// Now, and where: everything that is shown is relative to this.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Wall clock, ns since 1970.
    pub now_ns: u64,
    /// Local time minus UTC, s.
    pub utc_offset_s: i64,
}

impl Moment {
    /// The host's.
    pub fn now() -> Self {
        let now_ns = replica::clock::wall_ns();
        Self { now_ns, utc_offset_s: utc_offset_s(now_ns) }
    }

    fn local_s(&self, at_ns: u64) -> i64 {
        (at_ns / 1_000_000_000) as i64 + self.utc_offset_s
    }

    /// `12:03:11`, with the date in front if it was another day.
    pub fn clock(&self, at_ns: u64) -> String {
        let at = self.local_s(at_ns);
        if at.div_euclid(DAY_S) == self.local_s(self.now_ns).div_euclid(DAY_S) {
            time_of_day(at)
        } else {
            self.full(at_ns)
        }
    }

    /// `2026-11-22 12:03:11`.
    pub fn full(&self, at_ns: u64) -> String {
        let at = self.local_s(at_ns);
        let (year, month, day) = civil(at.div_euclid(DAY_S));
        format!("{year:04}-{month:02}-{day:02} {}", time_of_day(at))
    }

    /// `4 min`: how long ago.
    pub fn age(&self, at_ns: u64) -> String {
        duration(self.now_ns.saturating_sub(at_ns) / 1_000_000_000)
    }

    /// `since 12:03:11 (4 min)`.
    pub fn since(&self, at_ns: u64) -> String {
        format!("since {} ({})", self.clock(at_ns), self.age(at_ns))
    }
}

const DAY_S: i64 = 86_400;

fn time_of_day(at_s: i64) -> String {
    let s = at_s.rem_euclid(DAY_S);
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// Year, month and day of a day since 1970 (H. Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// The largest unit that says enough.
pub fn duration(s: u64) -> String {
    match s {
        0..120 => format!("{s} s"),
        120..7200 => format!("{} min", s / 60),
        7200..172_800 => format!("{} h", s / 3600),
        _ => format!("{} days", s / 86_400),
    }
}

/// Binary units, three digits.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = UNITS[0];
    for next in UNITS.iter().skip(1) {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" || value >= 100.0 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

/// From microseconds.
pub fn millis(us: u64) -> String {
    if us < 10_000 { format!("{:.1} ms", us as f64 / 1000.0) } else { format!("{} ms", us / 1000) }
}

fn utc_offset_s(at_ns: u64) -> i64 {
    let at = (at_ns / 1_000_000_000) as libc::time_t;
    // SAFETY: `tm` is plain data for which all zeros is a value; `localtime_r` writes to it alone and reads
    // the environment, which this program never changes.
    unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&at, &mut tm).is_null() { 0 } else { tm.tm_gmtoff }
    }
}
