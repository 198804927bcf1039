//! `hanfs`: see the library of the same name.

use std::process::ExitCode;

fn main() -> ExitCode {
    hanfs::cli::run(std::env::args_os())
}
