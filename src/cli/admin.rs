//! Talking to nodes: who to ask, with which certificate, and what to do when one does not answer.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use proto::admin::admin_client::AdminClient;
use proto::admin::{StatusReply, StatusRequest};
use tonic::transport::Channel;

use super::render::View;
use super::setup::Setup;
use crate::config::{Config, Node};
use crate::tls::{Credentials, Principal, causes};

/// How long a node may take to say how it is; a healthy one needs a few ms.
const STATUS_TIMEOUT: Duration = Duration::from_secs(3);

/// Largest answer of a node: 65,536 locks with long names.
const REPLY_BYTES_MAX: usize = 128 << 20;

/// How bad it is; also the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// All is well.
    Ok,
    /// It works, with less protection than configured.
    Warning,
    /// It does not work.
    Critical,
    /// Nobody can say.
    Unknown,
}

impl Severity {
    /// In capitals, as monitoring shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl From<Severity> for ExitCode {
    fn from(severity: Severity) -> Self {
        Self::from(severity as u8)
    }
}

/// The cluster's nodes, seen by an administrator.
pub struct AdminLink {
    config: Config,
    credentials: Credentials,
    /// The node that is asked first.
    first: String,
}

impl AdminLink {
    /// From the command line's options. Away from the nodes any of them is the first.
    pub fn open(setup: &Setup) -> anyhow::Result<Self> {
        let config = setup.load()?;
        let first = match setup.node(&config) {
            Ok(node) => node,
            Err(error) if setup.node.is_some() => return Err(error),
            Err(error) => config.nodes.first().map(|n| n.name.clone()).ok_or(error)?,
        };
        Self::new(config, first)
    }

    /// To a cluster, asking `first` first.
    pub fn new(config: Config, first: String) -> anyhow::Result<Self> {
        let own = Principal::Node(first.clone());
        let credentials = match Credentials::load(&config.tls_files(&Principal::Admin)) {
            Ok(credentials) => credentials,
            Err(error) => Credentials::load(&config.tls_files(&own)).map_err(|_| error)?,
        };
        Ok(Self { config, credentials, first })
    }

    /// The configuration it was made from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The node that is asked first.
    pub fn first(&self) -> &str {
        &self.first
    }

    /// Connects to a node by name.
    pub async fn connect(&self, name: &str) -> anyhow::Result<AdminClient<Channel>> {
        let node = self.config.node(name).ok_or_else(|| anyhow!("there is no node {name}"))?;
        self.connect_to(node)
            .await
            .with_context(|| format!("node {name} at {} does not answer", node.address))
    }

    async fn connect_to(&self, node: &Node) -> anyhow::Result<AdminClient<Channel>> {
        let endpoint = self.credentials.endpoint(&Principal::Node(node.name.clone()), node.address)?;
        let channel = endpoint.connect().await.map_err(|e| anyhow!(causes(&e)))?;
        // A full lock table has some MiB.
        Ok(AdminClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX))
    }

    /// Connects to the first node, else to the other one; says who it is and why not the first.
    pub async fn connect_any(&self) -> anyhow::Result<(String, AdminClient<Channel>, Option<String>)> {
        let error = match self.connect(&self.first).await {
            Ok(client) => return Ok((self.first.clone(), client, None)),
            Err(error) => error,
        };
        let Some(other) = self.config.peer_of(&self.first) else { return Err(error) };
        let client = self.connect(&other.name).await.with_context(|| format!("{error:#}"))?;
        Ok((other.name.clone(), client, Some(format!("{error:#}; asking node {}", other.name))))
    }

    /// One node's view.
    pub async fn status_of(&self, name: &str) -> anyhow::Result<StatusReply> {
        let ask = async {
            let mut client = self.connect(name).await?;
            let request = StatusRequest { local_only: true };
            let reply = client.status(request).await.map_err(|status| refused(name, &status))?;
            anyhow::Ok(reply.into_inner())
        };
        tokio::time::timeout(STATUS_TIMEOUT, ask)
            .await
            .map_err(|_| anyhow!("node {name} did not answer within {} s", STATUS_TIMEOUT.as_secs()))?
    }

    /// Every node's view, the first node's first.
    pub async fn views(&self) -> Vec<View> {
        let view = async |name: &str| View {
            node: name.to_owned(),
            status: self.status_of(name).await.map_err(|error| format!("{error:#}")),
        };
        match self.config.peer_of(&self.first) {
            Some(other) => {
                let (first, other) = tokio::join!(view(&self.first), view(&other.name));
                vec![first, other]
            }
            None => vec![view(&self.first).await],
        }
    }
}

/// A node's refusal, in words.
pub fn refused(node: &str, status: &tonic::Status) -> anyhow::Error {
    anyhow!("node {node}: {} ({:?})", status.message(), status.code())
}
