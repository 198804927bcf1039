//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::bench::Workload;
use crate::config::Durability;

/// A highly available NFSv3 server pair.
#[derive(Debug, Parser)]
#[command(name = "hanfs", version, about, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (usage, configuration, nobody answers)."
)]
pub struct Cli {
    /// The cluster's configuration [default: $HANFS_CONFIG, else /etc/hanfs/hanfs.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which node this is, or which to ask [default: $HANFS_NODE, else the host's name, else the only node]
    #[arg(long, global = true, value_name = "NAME")]
    pub node: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node
    Serve,
    /// The part of a node that `serve` starts and watches
    #[command(hide = true)]
    Server,
    /// Run the witness
    Witness,
    /// How the cluster is: one line of health and its reason, then the details
    Status(StatusArgs),
    /// Let this node (or --node) serve exports that the other one serves or served
    Takeover(TakeoverArgs),
    /// Give exports back to their home nodes
    Giveback(GivebackArgs),
    /// A takeover and giveback under a load of its own: phases, the longest pause, errors, duplicates, lost writes, a verdict
    #[command(after_help = "Exit codes: 0 PASS, 1 FAIL, 2 it could not be run, 3 wrong usage.")]
    Drill(DrillArgs),
    /// For maintenance: move everything to the other node, and let nothing be given back by itself
    Drain(DrainArgs),
    /// End a drain
    Undrain(UndrainArgs),
    /// Add, change, remove or list exports while the cluster runs, on both nodes at once
    Export {
        /// What to do with them.
        #[command(subcommand)]
        command: ExportCommand,
    },
    /// Read this node's (or --node's) configuration anew and apply what can change while it runs
    Reload(ReloadArgs),
    /// A node's history
    Events(EventsArgs),
    /// Who has locked what in an export, and who waits
    Locks(LocksArgs),
    /// Work on the configuration
    Config {
        /// What to do with it.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Write a commented configuration and the cluster's keys
    Init(InitArgs),
    /// A whole cluster on this machine, without root: write, kill a node, carry on, verify
    Demo(DemoArgs),
    /// Measure an unreplicated node and a replicated pair on this machine, without root
    Bench(BenchArgs),
    /// Work on exports through the built-in client; say what pauses and errors there were
    #[command(hide = true)]
    Exercise(ExerciseArgs),
}

/// `hanfs config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with it
    Check,
}

/// `hanfs export`.
#[derive(Debug, Subcommand)]
pub enum ExportCommand {
    /// One more export, served as soon as both nodes have found each other
    Add(ExportAddArgs),
    /// Change options of an export; clients stay connected or reconnect by themselves
    Set(ExportSetArgs),
    /// Stop serving an export; its data is set aside on both nodes
    Remove(ExportRemoveArgs),
    /// Which exports there are
    List,
}

/// `hanfs export add`.
#[derive(Debug, Args)]
pub struct ExportAddArgs {
    /// What clients mount
    #[arg(value_name = "PATH")]
    pub path: String,
    /// The node that serves it when both are well
    #[arg(long, value_name = "NODE")]
    pub home: String,
    /// The address that clients mount it from, and its network's prefix length
    #[arg(long, value_name = "ADDRESS/BITS")]
    pub vip: String,
    /// The interface that carries the address [default: the one that has an address of the same network]
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// What a reply promises [default: disk]
    #[arg(long, value_name = "disk|memory", value_parser = durability)]
    pub durability: Option<Durability>,
    /// Who may mount it and how, as in "10.0.0.0/24(rw)"; may be given more than once [default: everybody]
    #[arg(long = "client", value_name = "WHO(HOW)")]
    pub clients: Vec<String>,
    /// The most that it may hold, as in 500G
    #[arg(long, value_name = "BYTES")]
    pub quota: Option<String>,
    /// The id of an export that was removed: its data comes back
    #[arg(long, value_name = "UUID")]
    pub id: Option<String>,
    /// More keys of its table, as in squash=none
    #[arg(value_name = "KEY=VALUE", value_parser = super::reload::key_value)]
    pub settings: Vec<(String, String)>,
}

/// `hanfs export set`.
#[derive(Debug, Args)]
pub struct ExportSetArgs {
    /// Which export
    #[arg(value_name = "PATH")]
    pub path: String,
    /// As in read_only=true; KEY= alone goes back to the default
    #[arg(value_name = "KEY=VALUE", required = true, value_parser = super::reload::key_value)]
    pub settings: Vec<(String, String)>,
}

/// `hanfs export remove`.
#[derive(Debug, Args)]
pub struct ExportRemoveArgs {
    /// Which export
    #[arg(value_name = "PATH")]
    pub path: String,
    /// Although clients are connected: theirs is cut off
    #[arg(long)]
    pub force: bool,
    /// Delete its data on both nodes instead of setting it aside
    #[arg(long)]
    pub destroy_data: bool,
}

/// `hanfs reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// Put this node's file on the other node too, whatever that one has, and apply it on both
    #[arg(long)]
    pub push: bool,
    /// Remove exports that are gone from the file although clients are connected
    #[arg(long)]
    pub force: bool,
    /// Delete the data of exports that are gone from the file instead of setting it aside
    #[arg(long)]
    pub destroy_data: bool,
}

/// `hanfs status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// As JSON, with stable keys
    #[arg(long)]
    pub json: bool,
    /// Again each second
    #[arg(short, long)]
    pub watch: bool,
}

/// `hanfs takeover`.
#[derive(Debug, Args)]
pub struct TakeoverArgs {
    /// Paths or ids of exports
    #[arg(value_name = "EXPORT", required_unless_present = "all", conflicts_with = "all")]
    pub exports: Vec<String>,
    /// Every export
    #[arg(long)]
    pub all: bool,
    /// List what speaks for and against it, and do nothing
    #[arg(long, conflicts_with = "force")]
    pub check: bool,
    /// Serve what this node has, whatever the other one may have: says what that discards, and needs --yes
    #[arg(long)]
    pub force: bool,
    /// With --force: I have read what is discarded
    #[arg(long, requires = "force")]
    pub yes: bool,
}

/// `hanfs giveback`.
#[derive(Debug, Args)]
pub struct GivebackArgs {
    /// Paths or ids of exports
    #[arg(value_name = "EXPORT", required_unless_present = "all", conflicts_with = "all")]
    pub exports: Vec<String>,
    /// Every export
    #[arg(long)]
    pub all: bool,
}

/// `hanfs drill`.
#[derive(Debug, Args)]
pub struct DrillArgs {
    /// Path or id of an export
    #[arg(value_name = "EXPORT")]
    pub export: String,
    /// Kill the server process that serves it, instead of asking it to hand over: needs --yes
    #[arg(long)]
    pub crash: bool,
    /// With --crash: all exports of that node may pause
    #[arg(long, requires = "crash")]
    pub yes: bool,
    /// End after this long, whatever has happened
    #[arg(long, value_name = "S", default_value_t = 120, value_parser = clap::value_parser!(u64).range(5..=3600))]
    pub seconds: u64,
    /// The longest pause of a planned move that passes
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub max_pause_ms: u64,
    /// The longest pause of a crash that passes
    #[arg(long, value_name = "MS", default_value_t = 3000)]
    pub max_crash_pause_ms: u64,
    /// A directory of the export in which root may write, where it may not in the topmost (squash)
    #[arg(long, value_name = "PATH")]
    pub dir: Option<String>,
    /// As JSON, with stable keys
    #[arg(long)]
    pub json: bool,
}

/// `hanfs drain`.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Which node [default: this one, or --node]
    #[arg(value_name = "NODE")]
    pub target: Option<String>,
    /// Where the other node is not ready, try again for this long
    #[arg(long, value_name = "S", num_args = 0..=1, default_missing_value = "600")]
    pub wait: Option<u64>,
}

/// `hanfs undrain`.
#[derive(Debug, Args)]
pub struct UndrainArgs {
    /// Which node [default: this one, or --node]
    #[arg(value_name = "NODE")]
    pub target: Option<String>,
    /// Let it take back what is at home there
    #[arg(long)]
    pub giveback: bool,
    /// Where it is not ready, try again for this long
    #[arg(long, value_name = "S", num_args = 0..=1, default_missing_value = "600")]
    pub wait: Option<u64>,
}

/// `hanfs events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Wait for more
    #[arg(short, long)]
    pub follow: bool,
    /// The newest N
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    pub newest: u32,
}

/// `hanfs locks`.
#[derive(Debug, Args)]
pub struct LocksArgs {
    /// Path or id of an export
    #[arg(value_name = "EXPORT")]
    pub export: String,
    /// Free everything that this client holds or waits for. If it is alive, it does not hear of it
    #[arg(long, value_name = "CLIENT")]
    pub release: Option<std::net::IpAddr>,
}

/// `hanfs init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The nodes, one or two: as in `a=10.77.0.11 b=10.77.0.12`
    #[arg(value_name = "NAME=ADDRESS[:PORT]", required = true, num_args = 1..=2)]
    pub nodes: Vec<String>,
    /// The witness
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub witness: Option<String>,
    /// An export: what clients mount, the node that serves it, where
    #[arg(long = "export", value_name = "PATH:HOME:VIP/PREFIX", required = true)]
    pub exports: Vec<String>,
    /// Where to write to
    #[arg(long, value_name = "DIR", default_value = "/etc/hanfs")]
    pub dir: PathBuf,
    /// Where there is a configuration already, leave it and call that a success
    #[arg(long, hide = true)]
    pub once: bool,
}

/// `hanfs demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Leave the cluster running at the end and say how to mount it
    #[arg(long)]
    pub keep: bool,
    /// Where its files go [default: a new directory for temporary files]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `hanfs bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// How long each workload runs each time
    #[arg(long, value_name = "S", default_value = "1", value_parser = bench_time)]
    pub seconds: Duration,
    /// How often everything is measured; the figures are medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// These workloads only; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub only: Vec<Workload>,
    /// What a reply promises
    #[arg(long, value_name = "disk|memory", default_value = "disk", value_parser = durability)]
    pub durability: Durability,
    /// As JSON
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// As a section of docs/benchmarks.md
    #[arg(long)]
    pub markdown: bool,
    /// On which disk: a directory in which a new one is made [default: the one for temporary files]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Long enough to count anything, short enough to wait for.
fn bench_time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|s| (0.01..=600.0).contains(s));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "expected 0.01 to 600 seconds".to_owned())
}

fn durability(text: &str) -> Result<Durability, String> {
    [Durability::Disk, Durability::Memory]
        .into_iter()
        .find(|d| d.as_str() == text)
        .ok_or_else(|| "expected disk or memory".to_owned())
}

/// `hanfs exercise`.
#[derive(Debug, Args)]
pub struct ExerciseArgs {
    /// What to work on
    #[arg(value_name = "ADDRESS:/EXPORT", required = true)]
    pub exports: Vec<String>,
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub seconds: u64,
    /// Where NFS and MOUNT answer
    #[arg(long, value_name = "PORT", default_value_t = 2049)]
    pub port: u16,
}
