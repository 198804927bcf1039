//! Goal: no bytes from the network make the server panic, hang, hold memory beyond its bounds, or answer with
//! something that is no answer. Method: the targets of `nfsd/fuzz`: each input that is kept in its corpus, then
//! inputs mutated from those by a seeded generator. `FUZZ_SEED` and `FUZZ_RUNS` choose others and more; a
//! failure prints the line that reruns it. `tests/fuzz` is the long run, guided by coverage.

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use targets::{TARGETS, Target};

/// Mutated inputs of each target where FUZZ_RUNS does not say.
const RUNS: u64 = 10_000;
/// Seed where FUZZ_SEED does not say.
const SEED: u64 = 1813;
/// Longest mutated input, bytes.
const INPUT_MAX: usize = 8 << 10;
/// An input that takes longer hangs: a thousand times what the slowest takes.
const HANG: Duration = Duration::from_secs(20);

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// What is kept, in the order of the names.
fn kept(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = corpus(target);
    let files = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("read {}: {e}", dir.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.display().to_string(), std::fs::read(path).unwrap())).collect()
}

/// Numbers from a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Values that lengths, counts and discriminants go wrong at.
const WORDS: [u32; 12] = [0, 1, 2, 3, 4, 64, 65, 255, 256, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/// One change to an input. `other` is another input to take a part of.
fn mutate(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(input.len() + 1);
    let len = random.below(16).min(input.len() - at);
    match random.below(7) {
        0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
        1 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.next() as u8),
        2 => {
            let word = WORDS[random.below(WORDS.len())].to_be_bytes();
            input.iter_mut().skip(at & !3).zip(word).for_each(|(byte, new)| *byte = new);
        }
        3 => drop(input.drain(at..at + len)),
        4 => {
            let bytes: Vec<_> = (0..random.below(16)).map(|_| random.next() as u8).collect();
            input.splice(at..at, bytes).for_each(drop);
        }
        5 => {
            let from = random.below(other.len());
            let part = &other[from..(from + random.below(64)).min(other.len())];
            input.splice(at..at + len, part.iter().copied()).for_each(drop);
        }
        _ => input.truncate(at),
    }
    input.truncate(INPUT_MAX);
}

/// Runs one input; `what` names it where it fails.
fn run(target: Target, input: &[u8], what: &str) {
    let (name, entry, _) = target;
    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| entry(input)));
    let took = started.elapsed();
    if outcome.is_err() || took > HANG {
        let found = std::env::temp_dir().join(format!("hanfs-fuzz-{name}"));
        std::fs::write(&found, input).unwrap();
        let verdict = if outcome.is_err() { "failed" } else { "hung" };
        panic!("{name}: {what} {verdict} after {took:?}; the input is in {}", found.display());
    }
}

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).unwrap_or_default();
    if text.is_empty() { default } else { text.parse().unwrap_or_else(|e| panic!("{variable}={text}: {e}")) }
}

fn fuzz(name: &str) {
    let target = *TARGETS.iter().find(|target| target.0 == name).expect("a target");
    let kept = kept(name);
    assert!(kept.len() >= target.2().len(), "{name}: the corpus is not there");
    for (path, input) in &kept {
        run(target, input, path);
    }
    let (seed, runs) = (number("FUZZ_SEED", SEED), number("FUZZ_RUNS", RUNS));
    let mut random = Random(seed.max(1));
    for round in 0..runs {
        let mut input = kept[random.below(kept.len())].1.clone();
        let other = &kept[random.below(kept.len())].1;
        for _ in 0..=random.below(6) {
            mutate(&mut random, &mut input, other);
        }
        let rerun = format!("FUZZ_SEED={seed} FUZZ_RUNS={} (its last input)", round + 1);
        run(target, &input, &rerun);
    }
}

#[test]
fn record() {
    fuzz("record");
}

#[test]
fn header() {
    fuzz("header");
}

#[test]
fn xdr() {
    fuzz("xdr");
}

#[test]
fn nfs() {
    fuzz("nfs");
}

#[test]
fn programs() {
    fuzz("programs");
}

/// Writes the seeds into the corpus: after a change of `seeds.rs`, `cargo test -p hanfs-nfsd --test fuzz -- --ignored`.
#[test]
#[ignore = "writes into the source tree"]
fn write_the_seeds() {
    for (name, _, seeds) in TARGETS {
        std::fs::create_dir_all(corpus(name)).unwrap();
        for (number, seed) in seeds().iter().enumerate() {
            std::fs::write(corpus(name).join(format!("seed-{number:02}")), seed).unwrap();
        }
    }
}
