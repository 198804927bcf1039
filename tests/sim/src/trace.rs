//! What happened, as a hash and, where it is asked for, as text. The same seed twice gives the same hash: that is how
//! it is proved that nothing but the seed decides.

use xxhash_rust::xxh3::Xxh3;

/// Lines that a failure shows, at most.
const LINES_KEPT: usize = 400;

/// See the module.
pub struct Trace {
    hash: Xxh3,
    /// Every line goes to standard error as it happens.
    print: bool,
    lines: std::collections::VecDeque<String>,
    events: u64,
}

impl Trace {
    /// Nothing has happened.
    pub fn new(print: bool) -> Self {
        Self { hash: Xxh3::new(), print, lines: std::collections::VecDeque::new(), events: 0 }
    }

    /// Something small and frequent: a kind and numbers. It has no line, only its part in the hash.
    pub fn event(&mut self, now: u64, kind: &str, numbers: &[u64]) {
        self.events += 1;
        self.hash.update(&now.to_le_bytes());
        self.hash.update(kind.as_bytes());
        for number in numbers {
            self.hash.update(&number.to_le_bytes());
        }
        if self.print {
            eprintln!("{:>12.6} ms    {kind} {numbers:?}", now as f64 / 1e6);
        }
    }

    /// Something that a person wants to read.
    pub fn say(&mut self, now: u64, text: impl Into<String>) {
        let text = text.into();
        self.events += 1;
        self.hash.update(&now.to_le_bytes());
        self.hash.update(text.as_bytes());
        let line = format!("{:>12.6} ms  {text}", now as f64 / 1e6);
        if self.print {
            eprintln!("{line}");
        }
        if self.lines.len() >= LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Is every line printed?
    pub fn prints(&self) -> bool {
        self.print
    }

    /// Of everything so far.
    pub fn digest(&self) -> u64 {
        self.hash.digest()
    }

    /// How many events went into it.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The last lines, for a failure.
    pub fn tail(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}
