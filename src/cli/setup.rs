//! Which configuration, which node, which log; and the two commands that are about files only.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use tracing_subscriber::EnvFilter;

use super::admin::Severity;
use super::args::InitArgs;
use super::print;
use crate::config::Config;
use crate::init::{self, Plan};
use crate::tls::{Credentials, Principal};

const CONFIG: &str = "/etc/hanfs/hanfs.toml";

/// The global options.
pub struct Setup {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--node`.
    pub node: Option<String>,
}

impl Setup {
    /// Where the configuration is.
    fn path(&self) -> PathBuf {
        self.config
            .clone()
            .or_else(|| std::env::var_os("HANFS_CONFIG").map(PathBuf::from))
            .unwrap_or_else(|| CONFIG.into())
    }

    /// The configuration, checked.
    pub fn load(&self) -> anyhow::Result<Config> {
        Ok(Config::load(&self.path())?)
    }

    /// Which node this is.
    pub fn node(&self, config: &Config) -> anyhow::Result<String> {
        let env = std::env::var("HANFS_NODE").ok();
        choose_node(config, self.node.as_deref(), env.as_deref(), host_name().as_deref())
    }
}

/// The name given, else the environment's, else the host's if it is one, else the only one.
pub fn choose_node(
    config: &Config,
    option: Option<&str>,
    env: Option<&str>,
    host: Option<&str>,
) -> anyhow::Result<String> {
    let names: Vec<&str> = config.nodes.iter().map(|n| n.name.as_str()).collect();
    let list = names.join(", ");
    for (source, name) in [("--node", option), ("HANFS_NODE", env)] {
        let Some(name) = name else { continue };
        if !names.contains(&name) {
            bail!("{source} {name}: {} has no such node; expected one of {list}", config.path.display());
        }
        return Ok(name.to_owned());
    }
    let short = host.map(|h| h.split('.').next().unwrap_or(h));
    if let Some(name) = host.into_iter().chain(short).find(|h| names.contains(h)) {
        return Ok(name.to_owned());
    }
    match names.as_slice() {
        [only] => Ok((*only).to_owned()),
        _ => Err(anyhow!(
            "which node is this? The host's name ({}) is none of {list}: give --node NAME or set HANFS_NODE",
            host.unwrap_or("unknown")
        )),
    }
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned())
}

/// Log lines go to standard error; `HANFS_LOG` is a filter as in `info,replica=debug`, `HANFS_LOG_FORMAT=json`
/// makes them JSON.
pub fn init_tracing() -> anyhow::Result<()> {
    let text = std::env::var("HANFS_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::try_new(&text).with_context(|| {
        format!("HANFS_LOG={text:?}: expected a filter such as info or info,replica=debug")
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = std::env::var("HANFS_LOG_FORMAT").is_ok_and(|format| format == "json");
    let started = if json { log.json().try_init() } else { log.with_ansi(false).try_init() };
    started.map_err(|error| anyhow!("start the log: {error}"))
}

/// `hanfs config check`: the file, and what it needs on this host.
pub fn check(setup: &Setup) -> anyhow::Result<ExitCode> {
    let config = setup.load()?;
    let mut text = format!("{}: {}\n", config.path.display(), summary(&config));
    let mut warnings = Vec::new();
    match setup.node(&config) {
        Ok(node) => {
            text.push_str(&format!("This is node {node}.\n"));
            let files = config.tls_files(&Principal::Node(node));
            Credentials::load(&files)?;
            warnings.extend(open_key(&files.key));
        }
        Err(error) => warnings.push(error.to_string()),
    }
    for warning in &warnings {
        text.push_str(&format!("WARNING: {warning}\n"));
    }
    print(&text);
    Ok(if warnings.is_empty() { Severity::Ok.into() } else { Severity::Warning.into() })
}

fn summary(config: &Config) -> String {
    let nodes: Vec<&str> = config.nodes.iter().map(|n| n.name.as_str()).collect();
    let exports: Vec<String> = config.exports.iter().map(|e| format!("{} on {}", e.path, e.home)).collect();
    let witness = if config.witness.is_some() { "a witness" } else { "no witness" };
    format!("correct: nodes {}, {witness}, {}", nodes.join(" and "), exports.join(", "))
}

/// A key that others can read is no secret.
fn open_key(key: &Path) -> Option<String> {
    let mode = std::fs::metadata(key).ok()?.permissions().mode();
    (mode & 0o077 != 0).then(|| format!("others can read {}: chmod 600 it", key.display()))
}

/// `hanfs init`.
pub fn init(args: &InitArgs) -> anyhow::Result<ExitCode> {
    let config = args.dir.join("hanfs.toml");
    if args.once && config.exists() {
        print(&format!("{} is there already; nothing was written.\n", config.display()));
        return Ok(Severity::Ok.into());
    }
    let plan = Plan::from_options(&args.nodes, args.witness.as_deref(), &args.exports)?;
    let written = init::write(&plan, &args.dir)?;
    print(&init::instructions(&written));
    Ok(Severity::Ok.into())
}
