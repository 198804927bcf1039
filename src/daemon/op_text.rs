//! An entry of a log in words, for people: who asked for what, and of which file. Data is not shown.

use std::net::{Ipv4Addr, Ipv6Addr};

use prost::Message as _;
use proto::admin::DivergentEntry;
use proto::op::op::Kind;
use proto::op::{Handle, Op, Sattr};
use replica::log::Entry;

/// One line's worth.
pub fn line(entry: &Entry) -> DivergentEntry {
    let (index, term) = (entry.index, entry.term);
    if entry.op.is_empty() {
        let what = "a term begins".to_owned();
        return DivergentEntry { index, term, what, ..DivergentEntry::default() };
    }
    let Ok(op) = Op::decode(&entry.op[..]) else {
        let what = format!("{} bytes that this hanfs cannot read", entry.op.len());
        return DivergentEntry { index, term, what, ..DivergentEntry::default() };
    };
    let client = op.call.as_ref().map(|call| address(&call.client)).unwrap_or_default();
    let uid = op.cred.as_ref().map(|cred| format!(", as uid {}", cred.uid)).unwrap_or_default();
    let what = format!("{}{uid}", what(op.kind.as_ref(), entry.payload.len() as u64));
    DivergentEntry { index, term, at_ns: op.clock_ns, client, what }
}

fn what(kind: Option<&Kind>, payload_bytes: u64) -> String {
    let Some(kind) = kind else { return "an operation that this hanfs does not know".to_owned() };
    match kind {
        Kind::Incarnation(op) => format!("node {} begins to serve", op.node),
        Kind::AdoptWitness(_) => "a witness is adopted".to_owned(),
        Kind::SetAttr(op) => format!("SETATTR of {}{}", file(op.file), attributes(op.attr.as_ref())),
        Kind::Write(op) => {
            let last = op.offset.saturating_add(payload_bytes).saturating_sub(1);
            match payload_bytes {
                0 => format!("WRITE to {}, no bytes", file(op.file)),
                _ => format!("WRITE to {}, bytes {}-{last}", file(op.file), op.offset),
            }
        }
        Kind::Create(op) => format!("CREATE {}{}", named(op.dir, &op.name), attributes(op.attr.as_ref())),
        Kind::Mkdir(op) => format!("MKDIR {}{}", named(op.dir, &op.name), attributes(op.attr.as_ref())),
        Kind::Symlink(op) => format!("SYMLINK {} to {}", named(op.dir, &op.name), quoted(&op.target)),
        Kind::Mknod(op) => format!("MKNOD {}{}", named(op.dir, &op.name), attributes(op.attr.as_ref())),
        Kind::Remove(op) => format!("REMOVE {}", named(op.dir, &op.name)),
        Kind::Rmdir(op) => format!("RMDIR {}", named(op.dir, &op.name)),
        Kind::Rename(op) => {
            format!("RENAME {} to {}", named(op.from_dir, &op.from_name), named(op.to_dir, &op.to_name))
        }
        Kind::Link(op) => format!("LINK of {} as {}", file(op.file), named(op.dir, &op.name)),
        Kind::SetQuota(op) => format!("a quota of {} bytes and {} inodes", op.bytes, op.inodes),
        Kind::MountAdd(op) => format!("mounted by {}", address(&op.client)),
        Kind::MountRemove(op) => format!("unmounted by {}", address(&op.client)),
        Kind::Lock(op) => format!("LOCK of {}", file(op.file)),
        Kind::Unlock(op) => format!("UNLOCK of {}", file(op.file)),
        Kind::LockCancel(op) => format!("CANCEL of a lock of {}", file(op.file)),
        Kind::LockCallback(_) => "a granted lock is confirmed or given up".to_owned(),
        Kind::FreeAll(op) => format!("{} has restarted and has no locks", address(&op.client)),
        Kind::Share(op) => format!("SHARE of {}", file(op.file)),
        Kind::Unshare(op) => format!("UNSHARE of {}", file(op.file)),
        Kind::ReleaseClient(op) => format!("an administrator frees the locks of {}", address(&op.client)),
        Kind::GraceEnd(_) => "the grace period ends".to_owned(),
    }
}

fn file(handle: Option<Handle>) -> String {
    handle.map_or_else(|| "no file".to_owned(), |h| format!("file {}", h.file_id))
}

fn named(dir: Option<Handle>, name: &[u8]) -> String {
    let dir = dir.map_or_else(|| "no directory".to_owned(), |h| format!("directory {}", h.file_id));
    format!("{} in {dir}", quoted(name))
}

/// Any bytes, made fit for a terminal.
fn quoted(name: &[u8]) -> String {
    format!("\"{}\"", name.escape_ascii())
}

fn attributes(attr: Option<&Sattr>) -> String {
    let Some(attr) = attr else { return String::new() };
    let mode = attr.mode.map(|mode| format!(", mode {mode:04o}"));
    let owner = attr.uid.map(|uid| format!(", uid {uid}"));
    let group = attr.gid.map(|gid| format!(", gid {gid}"));
    let size = attr.size.map(|size| format!(", size {size}"));
    [mode, owner, group, size].into_iter().flatten().collect()
}

fn address(bytes: &[u8]) -> String {
    let v4 = <[u8; 4]>::try_from(bytes).map(|b| Ipv4Addr::from(b).to_string());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|b| Ipv6Addr::from(b).to_string())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    //! Goal: an administrator can tell from a line what was lost. Method: operations as clients make them, exact text.

    use proto::op::{CallKey, Create, Cred, Rename};

    use super::*;

    fn shown(op: &Op, payload: &'static [u8]) -> DivergentEntry {
        let payload = bytes::Bytes::from_static(payload);
        line(&Entry { index: 5, term: 2, op: op.encode_to_vec().into(), payload })
    }

    #[test]
    fn operations_in_words() {
        let dir = Some(Handle { file_id: 1, generation: 1 });
        let call = CallKey { client: vec![10, 0, 0, 9].into(), ..CallKey::default() };
        let of = |kind| Op {
            clock_ns: 9,
            call: Some(call.clone()),
            cred: Some(Cred { uid: 1000, ..Cred::default() }),
            kind: Some(kind),
            ..Op::default()
        };
        let attr = Some(Sattr { mode: Some(0o640), ..Sattr::default() });
        let create = Create { dir, name: b"a\n\"b".to_vec().into(), attr, ..Create::default() };
        let line = shown(&of(Kind::Create(create)), b"");
        assert_eq!((line.index, line.term, line.at_ns, line.client.as_str()), (5, 2, 9, "10.0.0.9"));
        assert_eq!(line.what, r#"CREATE "a\n\"b" in directory 1, mode 0640, as uid 1000"#);
        let rename = Rename {
            from_dir: dir,
            from_name: b"x".to_vec().into(),
            to_dir: Some(Handle { file_id: 3, generation: 1 }),
            to_name: b"y".to_vec().into(),
        };
        let line = shown(&of(Kind::Rename(rename)), b"");
        assert_eq!(line.what, r#"RENAME "x" in directory 1 to "y" in directory 3, as uid 1000"#);
        assert_eq!(shown(&Op::default(), b"").what, "a term begins", "raft-rs's own entry is empty");
    }

    #[test]
    fn what_is_no_operation_is_said_to_be_none() {
        let entry =
            Entry { index: 1, term: 1, op: bytes::Bytes::from_static(b"\xff\xff"), ..Entry::default() };
        assert_eq!(line(&entry).what, "2 bytes that this hanfs cannot read");
        let unknown = Op { version: 99, ..Op::default() };
        assert_eq!(shown(&unknown, b"").what, "an operation that this hanfs does not know");
    }
}
