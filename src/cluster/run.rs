//! A cluster's processes, and what their status says.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use proto::admin::{ExportStatus, StatusReply, TakeoverRequest};

use super::layout::Layout;
use super::process::{Process, descendants};
use crate::cli::{AdminLink, Moment, Severity, View, health};
use crate::client::Target;
use crate::config::Config;
use crate::init;

/// What the witness's log is called.
const WITNESS: &str = "witness";
/// Between two looks at the status.
const POLL: Duration = Duration::from_millis(50);

/// The cluster.
pub struct Cluster {
    /// Its files.
    pub dir: PathBuf,
    /// Its configuration.
    pub config: Config,
    link: AdminLink,
    nodes: Vec<Process>,
    witness: Option<Process>,
}

impl Cluster {
    /// Makes its files and starts its processes.
    pub fn start(layout: &Layout, dir: &Path) -> anyhow::Result<Self> {
        let written = init::write(&layout.plan(dir)?, dir)?;
        let config = Config::load(&written.config)?;
        for node in &config.nodes {
            std::fs::create_dir_all(&node.data).with_context(|| format!("make {}", node.data.display()))?;
        }
        let first = config.nodes.first().context("a cluster has a node")?.name.clone();
        let witness = config.witness.is_some().then(|| start(dir, &config, WITNESS)).transpose()?;
        let nodes = config.nodes.iter().map(|n| start(dir, &config, &n.name)).collect::<Result<_, _>>()?;
        let link = AdminLink::new(config.clone(), first)?;
        Ok(Self { dir: dir.to_owned(), config, link, nodes, witness })
    }

    /// Where an export is mounted from.
    pub fn target(&self, path: &str) -> anyhow::Result<Target> {
        let export = self.config.export(path).with_context(|| format!("there is no export {path}"))?;
        Ok(Target { address: export.vip.address, port: self.config.network.nfs_port, path: path.to_owned() })
    }

    /// Both nodes' views.
    pub async fn views(&self) -> Vec<View> {
        self.link.views().await
    }

    /// Waits until all is well.
    pub async fn wait_healthy(&mut self, patience: Duration) -> anyhow::Result<String> {
        let until = Instant::now() + patience;
        loop {
            self.check()?;
            let health = health(&self.views().await, &Moment::now());
            if health.severity == Severity::Ok {
                if self.all_at_home().await {
                    return Ok(health.line());
                }
                self.send_home().await;
            }
            if Instant::now() > until {
                bail!("not healthy after {} s: {}\n{}", patience.as_secs(), health.line(), self.last_words());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Whichever node is up first may lead at first.
    async fn send_home(&self) {
        for export in &self.config.exports {
            if !self.export_on(&export.home, &export.path).await.is_some_and(|(_, e)| serves(&e)) {
                // Not yet is no failure: the caller asks again until its patience ends.
                let _ = self.giveback(&export.path).await;
            }
        }
    }

    async fn all_at_home(&self) -> bool {
        for export in &self.config.exports {
            let mirrored = self.config.mirror_of(export).is_some();
            let there = |e: &ExportStatus| serves(e) && (e.backup_in_sync || !mirrored);
            if !self.export_on(&export.home, &export.path).await.is_some_and(|(_, e)| there(&e)) {
                return false;
            }
        }
        true
    }

    /// Waits until a node serves an export.
    pub async fn wait_served_by(
        &mut self,
        node: &str,
        path: &str,
        patience: Duration,
    ) -> anyhow::Result<ExportStatus> {
        let until = Instant::now() + patience;
        loop {
            self.check()?;
            match self.export_on(node, path).await {
                Some((_, export)) if serves(&export) => return Ok(export),
                _ if Instant::now() > until => {
                    bail!(
                        "{path} is not served by {node} after {} s\n{}",
                        patience.as_secs(),
                        self.last_words()
                    )
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// What a node says about an export.
    pub async fn export_on(&self, node: &str, path: &str) -> Option<(StatusReply, ExportStatus)> {
        let reply = self.link.status_of(node).await.ok()?;
        let export = reply.exports.iter().find(|e| e.path == path)?.clone();
        Some((reply, export))
    }

    /// Asks for an export to go back to its home.
    pub async fn giveback(&self, path: &str) -> anyhow::Result<String> {
        let home = self.config.export(path).map(|e| e.home.clone()).unwrap_or_default();
        let mut client = self.link.connect(&home).await?;
        let request =
            TakeoverRequest { exports: vec![path.to_owned()], giveback: true, ..TakeoverRequest::default() };
        let reply = client.takeover(request).await?.into_inner();
        let result = reply.results.first().context("giveback: the node answered nothing")?;
        if !result.ok {
            bail!("giveback of {path}: {}", result.message);
        }
        Ok(result.message.clone())
    }

    /// SIGKILL to a node's guardian and server; returns their process ids.
    pub fn kill(&mut self, node: usize) -> Vec<u32> {
        self.nodes.get_mut(node).map(Process::kill).unwrap_or_default()
    }

    /// The process ids of a node's server, which does the work, without its guardian.
    pub fn server_ids(&self, node: usize) -> Vec<u32> {
        self.nodes.get(node).and_then(Process::id).map(descendants).unwrap_or_default()
    }

    /// Starts a node again.
    pub fn restart(&mut self, node: usize) -> anyhow::Result<()> {
        if let (Some(slot), Some(of)) = (self.nodes.get_mut(node), self.config.nodes.get(node)) {
            *slot = start(&self.dir, &self.config, &of.name)?;
        }
        Ok(())
    }

    /// An error if a process has ended by itself.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.nodes.iter_mut().chain(&mut self.witness).try_for_each(Process::check)
    }

    /// The ends of all logs.
    pub fn last_words(&self) -> String {
        let all = self.nodes.iter().chain(&self.witness);
        all.map(|p| format!("--- {} ({}):\n{}\n", p.name, p.log.display(), p.last_words())).collect()
    }

    /// Lets everything run on; returns the processes' ids.
    pub fn release(mut self) -> Vec<u32> {
        let all = self.nodes.iter_mut().chain(&mut self.witness);
        all.filter_map(|process| {
            let id = process.id();
            process.release();
            id
        })
        .collect()
    }
}

fn serves(export: &ExportStatus) -> bool {
    export.role == "primary" && export.serving && export.vip_held
}

fn start(dir: &Path, config: &Config, name: &str) -> anyhow::Result<Process> {
    let mut args = vec!["--config".to_owned(), config.path.display().to_string()];
    if name == WITNESS {
        args.push("witness".to_owned());
    } else {
        args.extend(["--node", name, "serve"].map(str::to_owned));
    }
    let log = dir.join(format!("{name}.log"));
    let label = if name == WITNESS { "the witness".to_owned() } else { format!("node {name}") };
    Process::start(&label, &args, &log).with_context(|| format!("start {label}"))
}
