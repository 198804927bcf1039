//! `hanfs locks`: an export's locks as this node has applied them, and what an administrator may do about them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use proto::admin::{LockClient, LockLine, LocksReply, LocksRequest, lock_line};
use proto::op::op::Kind;
use proto::op::{OP_VERSION, Op, ReleaseClient};
use replica::fs::locks::{HostView, LockView, LocksView, ShareView};
use replica::handle::GroupHandle;
use tokio::sync::oneshot;
use tonic::Status;

use super::export::Export;

/// Releases what is to be released, then shows what there is.
pub async fn answer(export: &Export, request: &LocksRequest) -> Result<LocksReply, Status> {
    let path = export.config().path.clone();
    let absent =
        || Status::failed_precondition(format!("{path} does not run on this node now: see `hanfs status`"));
    let group = export.with_group(|group| group.handle()).ok_or_else(absent)?;
    let released = if request.release.is_empty() { 0 } else { release(&group, &request.release).await? };
    let applied_index = group.fs().progress().applied;
    Ok(LocksReply { applied_index, released, ..shown(&path, &group.fs().locks()) })
}

/// Frees everything of a client, and says how much it was.
async fn release(group: &GroupHandle, client: &str) -> Result<u64, Status> {
    let address: IpAddr = client.parse().map_err(|_| {
        Status::invalid_argument(format!("{client:?} is not an address: `hanfs locks` shows them"))
    })?;
    let client = match address.to_canonical() {
        IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
    };
    let not_here = || {
        Status::failed_precondition("this node does not serve the export: only the one that does can release")
    };
    if !group.serving() {
        return Err(not_here());
    }
    let op = Op {
        version: OP_VERSION,
        clock_ns: replica::clock::wall_ns(),
        kind: Some(Kind::ReleaseClient(ReleaseClient { client })),
        ..Op::default()
    };
    let (done, fate) = oneshot::channel();
    let tell = move |reply: Result<std::sync::Arc<proto::op::Reply>, _>| {
        // Who asked may have gone.
        let _ = done.send(reply.ok());
    };
    group.propose(op, Bytes::new(), Box::new(tell));
    let reply = fate.await.ok().flatten().ok_or_else(not_here)?;
    Ok(reply.lock.as_ref().map_or(0, |lock| lock.freed))
}

fn shown(path: &str, view: &LocksView) -> LocksReply {
    use lock_line::State;
    let held = view.held.iter().map(|lock| line(lock, State::Held));
    let waiters = view.waiters.iter().map(|waiter| {
        let state = if waiter.granted { State::Unconfirmed } else { State::Waiting };
        line(&waiter.lock, state)
    });
    let shares = view.shares.iter().map(share);
    LocksReply {
        export: path.to_owned(),
        locks: held.chain(waiters).chain(shares).collect(),
        clients: view.hosts.iter().map(client).collect(),
        grace_since_ns: view.grace_since_ns.unwrap_or_default(),
        ..LocksReply::default()
    }
}

fn line(lock: &LockView, state: lock_line::State) -> LockLine {
    LockLine {
        state: state.into(),
        file_id: lock.file.file.0,
        client: address(&lock.owner.client),
        name: name(&lock.caller_name),
        svid: lock.owner.svid,
        exclusive: lock.exclusive,
        offset: lock.offset,
        length: lock.length,
        since_ns: lock.since_ns,
        ..LockLine::default()
    }
}

fn share(share: &ShareView) -> LockLine {
    LockLine {
        state: lock_line::State::Share.into(),
        file_id: share.file.file.0,
        client: address(&share.owner.client),
        name: name(&share.caller_name),
        since_ns: share.since_ns,
        deny: share.mode,
        access: share.access,
        ..LockLine::default()
    }
}

fn client(host: &HostView) -> LockClient {
    LockClient {
        client: address(&host.client),
        name: name(&host.caller_name),
        held: host.held,
        waiting: host.waiting,
        monitored: host.monitored,
        since_ns: host.since_ns,
    }
}

fn address(bytes: &[u8]) -> String {
    let v4 = <[u8; 4]>::try_from(bytes).map(|b| Ipv4Addr::from(b).to_string());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|b| Ipv6Addr::from(b).to_string())).unwrap_or_default()
}

/// A client's own word for itself: any bytes, made fit for a terminal.
fn name(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
