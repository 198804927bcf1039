//! The command line. Each command is a thin shell around a module that does the work.
//!
//! Exit codes are those of monitoring plugins: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (wrong usage, a
//! configuration that is refused, nobody who answers).

mod admin;
mod args;
mod drain;
mod drill;
mod events;
mod json;
mod locks;
mod operate;
mod reload;
mod render;
mod setup;
mod status;
#[cfg(test)]
mod tests;
mod time;

use std::ffi::OsString;
use std::future::Future;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use args::{Cli, Command, ConfigCommand};

pub use admin::{AdminLink, Severity};
pub use render::{Health, View, health, takeover_line};
pub use time::Moment;

/// Runs a command line, the program's name included.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too; where they cannot be written there is nobody to tell.
            let _ = error.print();
            return if error.use_stderr() { Severity::Unknown.into() } else { ExitCode::SUCCESS };
        }
    };
    let code = dispatch(cli);
    code.unwrap_or_else(|error| {
        eprintln!("hanfs: {error:#}");
        Severity::Unknown.into()
    })
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let setup = setup::Setup { config: cli.config, node: cli.node };
    match cli.command {
        Command::Serve => daemon(&setup, crate::daemon::serve),
        Command::Server => daemon(&setup, crate::daemon::server),
        Command::Witness => {
            setup::init_tracing()?;
            Ok(critical_if_failed(crate::daemon::witness(setup.load()?)))
        }
        Command::Status(args) => block_on(status::run(&setup, &args)),
        Command::Takeover(args) => block_on(operate::takeover(&setup, &args)),
        Command::Giveback(args) => block_on(operate::giveback(&setup, &args)),
        Command::Drill(args) => block_on_threads(drill::run(&setup, &args)),
        Command::Drain(args) => block_on(drain::drain(&setup, &args)),
        Command::Undrain(args) => block_on(drain::undrain(&setup, &args)),
        Command::Reload(args) => block_on(reload::reload(&setup, &args)),
        Command::Export { command } => block_on(reload::export(&setup, &command)),
        Command::Events(args) => block_on(events::run(&setup, &args)),
        Command::Locks(args) => block_on(locks::run(&setup, &args)),
        Command::Config { command: ConfigCommand::Check } => setup::check(&setup),
        Command::Init(args) => setup::init(&args),
        Command::Demo(args) => {
            setup::init_tracing()?;
            let options = crate::demo::Options { keep: args.keep, dir: args.dir };
            block_on_threads(crate::demo::run(options))
        }
        Command::Bench(args) => {
            let form = match (args.json, args.markdown) {
                (true, _) => crate::bench::Form::Json,
                (_, true) => crate::bench::Form::Markdown,
                _ => crate::bench::Form::Table,
            };
            block_on_threads(crate::bench::run(crate::bench::Options {
                time: args.seconds,
                rounds: args.rounds,
                only: args.only,
                durability: args.durability,
                form,
                dir: args.dir,
            }))
        }
        Command::Exercise(args) => {
            let time = std::time::Duration::from_secs(args.seconds);
            let options = crate::exercise::Options { exports: args.exports, port: args.port, time };
            block_on_threads(crate::exercise::run(options))
        }
    }
}

type Daemon = fn(crate::config::Config, String) -> anyhow::Result<ExitCode>;

fn daemon(setup: &setup::Setup, run: Daemon) -> anyhow::Result<ExitCode> {
    setup::init_tracing()?;
    let config = setup.load()?;
    let node = setup.node(&config)?;
    Ok(critical_if_failed(run(config, node)))
}

/// A daemon that stops by itself is not a matter of usage.
fn critical_if_failed(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("hanfs: {error:#}");
        Severity::Critical.into()
    })
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("start the runtime")?.block_on(work)
}

fn block_on_threads<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("start the runtime")?.block_on(work)
}

/// Writes to standard output; false when nobody reads it any more.
fn print(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}
