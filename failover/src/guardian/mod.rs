//! The guardian: parent process of a node's server.
//!
//! It owns what must outlive the server or act when the server cannot: listening sockets, virtual IPs (VIPs), raw
//! sockets, and a deadline per VIP. It never reads a request, never decides who leads, and knows no Raft.
//!
//! What holds:
//! - A VIP is on this host only while the lease that the server reported lasts; a stopped, hung or
//!   outvoted server loses it in time. The exception is a *dead* server: nobody can answer then, so the
//!   VIP stays, accepting and parking connections, as long as the peer can order it down, and not
//!   longer than [`GuardianTiming::handover`] allows.
//! - Whatever happens to the server, a SYN to a VIP that is up is never refused.
//! - The server never outlives the guardian (PR_SET_PDEATHSIG). A VIP outlives it by milliseconds, for the
//!   [`crate::sentinel`] takes it down; where that is killed too, by [`crate::net::netlink::LIFETIME_S`] at most.
//! - One thread, one owner, one loop: `EventLoop`.

mod config;
mod event_loop;
mod export;
mod parking;
mod peer;
pub mod rule;
mod sentinel;
mod server;

pub use config::{
    Driver, GuardianConfig, GuardianError, GuardianExport, GuardianPeer, GuardianTiming, ServerCommand,
};

use crate::net::loopback::LoopbackVip;
use crate::net::netlink::{NetlinkVip, VipConfig};

/// Runs the guardian until the server ends for good or SIGTERM or SIGINT asks for it; returns the process's exit
/// code. Call it on the main thread and outside of any runtime: the kernel kills the server when the calling
/// *thread* ends.
pub fn run(config: GuardianConfig) -> Result<u8, GuardianError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| GuardianError::Start { what: "start the event loop", source })?;
    runtime.block_on(async move {
        match config.driver {
            Driver::Netlink => {
                let vips = config.exports.iter();
                let vips = vips.map(|e| VipConfig { vip: e.vip, interface: e.interface.clone() });
                let vips = NetlinkVip::open(vips)?;
                event_loop::EventLoop::start(config, vips).await?.run().await
            }
            Driver::Loopback => {
                event_loop::EventLoop::start(config, LoopbackVip::default()).await?.run().await
            }
        }
    })
}
