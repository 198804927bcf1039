//! Who this process is, in the words of a [`Hello`].

use proto::peer::{GroupHello, Hello, PEER_VERSION};

/// Fixed for the life of the process.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The cluster's UUID.
    pub cluster: [u8; 16],
    /// This node's name.
    pub node: String,
    /// The host's boot id.
    pub boot_id: String,
    /// This process, drawn at random.
    pub process_id: u64,
}

impl Identity {
    /// Of this process, on this host.
    pub fn new(cluster: [u8; 16], node: &str) -> anyhow::Result<Self> {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let process_id = getrandom::u64().map_err(|e| anyhow::anyhow!("draw a random number: {e}"))?;
        Ok(Self { cluster, node: node.to_owned(), boot_id, process_id })
    }

    /// What it says first. `config_digest`: of the configuration that it runs with; a guardian has none.
    pub fn hello(&self, groups: Vec<GroupHello>, config_digest: bytes::Bytes) -> Hello {
        Hello {
            version: PEER_VERSION,
            cluster: bytes::Bytes::copy_from_slice(&self.cluster),
            node: self.node.clone(),
            boot_id: self.boot_id.clone(),
            process_id: self.process_id,
            groups,
            config_digest,
            hanfs_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Hello::default()
        }
    }

    /// Is this the peer that is expected? The error names what is wrong and what to do.
    pub fn check(&self, hello: &Hello, expected: &str) -> Result<(), String> {
        if hello.version != PEER_VERSION {
            return Err(format!(
                "node {} speaks version {} of the peers' protocol, this node {PEER_VERSION}: upgrade the older one",
                hello.node, hello.version
            ));
        }
        if hello.cluster[..] != self.cluster[..] {
            return Err(format!(
                "node {} belongs to another cluster: the `cluster` line of the two configurations differs",
                hello.node
            ));
        }
        if hello.node != expected {
            return Err(format!(
                "expected node {expected} but {} answered: check the nodes' addresses",
                hello.node
            ));
        }
        Ok(())
    }
}
