//! Runs seeds: `cargo run --release -p hanfs-sim -- --seeds 1000`, `--forever`, or one of them, with `--seed N --trace`.

use std::process::ExitCode;

fn main() -> ExitCode {
    hanfs_sim::cli::run()
}
