//! Goal: locks do what NLM's clients rely on, also after a crash and on the other node. Method: transcripts in `locks/`,
//! readable in a review: each line is an operation and what came of it. Each transcript runs on two exports, one of
//! which crashes after every step (every other time from a checkpoint); both must say the same and end byte-identical.
//! `UPDATE=1` rewrites what came of it.
//!
//! ```text
//! a lock f 0-9 x wait        owner a (client 10.0.0.'a', svid 0; a2: svid 2) on file f, bytes 0 to 9, exclusive
//! a lock f 5- s              from 5 to the end, shared. Also: reclaim, state N, unmonitored
//! a unlock f 0-9   a cancel f 0-9 x   a test f 0-9 x
//! a accepts | a refuses      a's client answers its oldest call-back
//! a reboots 3 | a released   SM_NOTIFY with state 3; an administrator's order
//! a share f DENY ACCESS | a unshare f
//! remove f | primary | grace | grace ends | show
//! ```
//! After `;` comes who is to be called back that was not before. `'` after it: another primary may have called already.

use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use proto::op::op::Kind;
use proto::op::{self, LockOwner};

use super::harness::{Export, create, remove, user};
use crate::fs::locks::{LockStatus, LockView, Owner};
use crate::ids::Handle;

/// Who may lock everything.
pub(super) fn anyone() -> op::Cred {
    user(7)
}

/// The owner with this name: a letter for the client, then the svid.
pub(super) fn owner(name: &str) -> LockOwner {
    let client = name.as_bytes()[0];
    LockOwner {
        client: Bytes::copy_from_slice(&[10, 0, 0, client]),
        svid: name[1..].parse().unwrap_or_default(),
        oh: Bytes::from(format!("{name}@host")),
        caller_name: Bytes::from_static(b"host"),
    }
}

pub(super) fn lock(
    file: Handle,
    who: &str,
    (offset, length): (u64, u64),
    exclusive: bool,
    block: bool,
) -> op::Lock {
    op::Lock {
        file: Some(file.into()),
        owner: Some(owner(who)),
        exclusive,
        offset,
        length,
        block,
        cookie: Bytes::from_static(b"cookie"),
        nlm_version: 4,
        ..op::Lock::default()
    }
}

pub(super) fn unlock(file: Handle, who: &str, (offset, length): (u64, u64)) -> Kind {
    Kind::Unlock(op::Unlock { file: Some(file.into()), owner: Some(owner(who)), offset, length })
}

pub(super) fn cancel(file: Handle, who: &str, (offset, length): (u64, u64), exclusive: bool) -> Kind {
    let (file, owner) = (Some(file.into()), Some(owner(who)));
    Kind::LockCancel(op::LockCancel { file, owner, exclusive, offset, length })
}

/// What came of an operation on locks.
pub(super) fn stat(export: &mut Export, kind: Kind) -> LockStatus {
    let reply = export.run_as(anyone(), kind, &[]);
    assert_eq!(reply.status, 0);
    LockStatus::from_u32(reply.lock.as_ref().expect("an answer about locks").stat).expect("nlm4_stats")
}

/// A file that anyone may lock.
pub(super) fn file(export: &mut Export, name: &str) -> Handle {
    export.make(create(export.root(), name, super::harness::mode(0o666)))
}

/// Offset and length of `0-9` or `5-`.
fn range(text: &str) -> (u64, u64) {
    let (start, end) = text.split_once('-').expect("START-END");
    let start = start.parse().expect("a number");
    let length = if end.is_empty() { 0 } else { end.parse::<u64>().expect("a number") - start + 1 };
    (start, length)
}

struct Script {
    export: Export,
    files: Vec<(String, Handle)>,
    called: Vec<u64>,
}

impl Script {
    fn new() -> Self {
        let mut export = Export::new();
        let files = ["f", "g"].map(|name| (name.to_owned(), file(&mut export, name)));
        Self { export, files: files.into(), called: Vec::new() }
    }

    fn file(&self, name: &str) -> Handle {
        self.files.iter().find(|(known, _)| known == name).expect("a known file").1
    }

    fn name(&self, file: Handle) -> &str {
        self.files.iter().find(|(_, known)| *known == file).map_or("?", |(name, _)| name)
    }

    fn text(&self, lock: &LockView) -> String {
        let (file, kind) = (self.name(lock.file), if lock.exclusive { "x" } else { "s" });
        let end = match lock.length {
            0 => String::new(),
            length => (lock.offset + length - 1).to_string(),
        };
        format!("{} {file} {}-{end} {kind}", who(&lock.owner), lock.offset)
    }

    fn pending(&self, who: &str) -> u64 {
        let owner = owner(who);
        let grants = self.export.fs.pending_grants();
        let of =
            grants.iter().find(|g| g.lock.owner.client == owner.client && g.lock.owner.svid == owner.svid);
        of.expect("somebody to be called back").id
    }

    /// Runs one line; says what came of it.
    fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let kind = match words[..] {
            ["remove", name] => remove(self.export.root(), name),
            ["primary", ..] => Kind::Incarnation(op::Incarnation {
                verifier: 1,
                node: "n".to_owned(),
                locks_lost: words.get(1) == Some(&"incomplete"),
            }),
            ["grace", "ends"] => Kind::GraceEnd(op::GraceEnd {}),
            ["show"] => return self.show(),
            [who, "test", file, at, kind] => return self.test(who, file, at, kind == "x"),
            [who, "lock", file, at, kind, ..] => {
                let after = |word: &str| words.iter().position(|w| *w == word).and_then(|n| words.get(n + 1));
                let has = |word: &str| words.contains(&word);
                let wanted = lock(self.file(file), who, range(at), kind == "x", has("wait"));
                let nsm_state = after("state").map_or(0, |n| n.parse().expect("a number"));
                let (reclaim, unmonitored) = (has("reclaim"), has("unmonitored"));
                Kind::Lock(op::Lock { reclaim, nsm_state, unmonitored, ..wanted })
            }
            [who, "unlock", file, at] => unlock(self.file(file), who, range(at)),
            [who, "cancel", file, at, kind] => cancel(self.file(file), who, range(at), kind == "x"),
            [who, answer @ ("accepts" | "refuses")] => {
                Kind::LockCallback(op::LockCallback { id: self.pending(who), refused: answer == "refuses" })
            }
            [who, "reboots", state] => {
                let (client, nsm_state) = (owner(who).client, state.parse().expect("a number"));
                Kind::FreeAll(op::FreeAll { client, nsm_state })
            }
            [who, "released"] => Kind::ReleaseClient(op::ReleaseClient { client: owner(who).client }),
            [who, "share", file, mode, access] => Kind::Share(op::Share {
                file: Some(self.file(file).into()),
                owner: Some(owner(who)),
                mode: mode.parse().expect("a number"),
                access: access.parse().expect("a number"),
                ..op::Share::default()
            }),
            [who, "unshare", file] => {
                Kind::Unshare(op::Unshare { file: Some(self.file(file).into()), owner: Some(owner(who)) })
            }
            _ => panic!("what is {line:?}?"),
        };
        let reply = self.export.run_as(super::harness::root(), kind, &[]);
        let mut said = match &reply.lock {
            Some(lock) => format!("{:?}", LockStatus::from_u32(lock.stat).expect("nlm4_stats")),
            None => format!("status {}", reply.status),
        };
        if let Some(lock) = reply.lock.as_ref().filter(|lock| lock.freed > 0) {
            let _ = write!(said, ", {} freed", lock.freed);
        }
        said + &self.calls()
    }

    fn calls(&mut self) -> String {
        let mut said = String::new();
        let pending = self.export.fs.pending_grants();
        for grant in pending.iter().filter(|grant| !self.called.contains(&grant.id)) {
            assert_eq!(grant.cookie, "cookie");
            let old = if grant.fresh { "" } else { "'" };
            let _ = write!(said, "; call {}{old}", self.text(&grant.lock));
        }
        self.called = pending.iter().map(|grant| grant.id).collect();
        said
    }

    fn test(&self, who: &str, file: &str, at: &str, exclusive: bool) -> String {
        let ((offset, length), owner) = (range(at), owner(who));
        let owner = Owner { client: owner.client, svid: owner.svid, oh: owner.oh };
        match self.export.fs.test_lock(&anyone(), self.file(file), &owner, exclusive, offset, length) {
            Ok(None) => "free".to_owned(),
            Ok(Some(lock)) => format!("has {}", self.text(&lock)),
            Err(status) => format!("{status:?}"),
        }
    }

    fn show(&self) -> String {
        let all = self.export.fs.locks();
        let mut said: Vec<String> = all.held.iter().map(|lock| self.text(lock)).collect();
        let fresh: Vec<u64> = self
            .export
            .fs
            .pending_grants()
            .iter()
            .filter(|grant| grant.fresh)
            .map(|grant| grant.id)
            .collect();
        said.extend(all.waiters.iter().map(|waiter| {
            let state = if waiter.granted { "was granted" } else { "waits for" };
            let old = if waiter.granted && !fresh.contains(&waiter.id) { "'" } else { "" };
            let text = self.text(&waiter.lock);
            text.replacen(' ', &format!(" {state} "), 1) + old
        }));
        said.extend(all.shares.iter().map(|share| {
            let file = self.name(share.file);
            format!("{} shares {file} {} {}", who(&share.owner), share.mode, share.access)
        }));
        let known = all.hosts.iter().map(|host| {
            let letter = char::from(host.client[3]);
            assert_eq!(host.caller_name, "host");
            let monitored = if host.monitored { "" } else { "?" };
            format!("{letter}{monitored}={}+{}", host.held, host.waiting)
        });
        said.push(format!("known: {}", known.collect::<Vec<_>>().join(" ")));
        if all.grace_since_ns.is_some() {
            said.push("grace".to_owned());
        }
        said.join("; ")
    }

    fn crash(self, checkpoint: bool) -> Self {
        if checkpoint {
            self.export.fs.checkpoint().expect("checkpoint");
        }
        let digest = self.export.fs.progress().digest;
        let export = self.export.crash();
        assert_eq!(export.fs.progress().digest, digest, "replay gives the same digest");
        Self { export, ..self }
    }
}

/// The owner's name.
fn who(owner: &Owner) -> String {
    let svid = if owner.svid == 0 { String::new() } else { owner.svid.to_string() };
    format!("{}{svid}", char::from(owner.client[3]))
}

fn transcript(path: &Path) {
    let text = std::fs::read_to_string(path).expect("read the transcript");
    let (mut plain, mut shaken) = (Script::new(), Script::new());
    let mut result = String::new();
    for (n, line) in text.lines().enumerate() {
        let command = line.split("->").next().unwrap_or_default().trim();
        if command.is_empty() || command.starts_with('#') {
            result += &format!("{line}\n");
            continue;
        }
        let said = plain.run(command);
        assert_eq!(shaken.run(command).replace('\'', ""), said.replace('\'', ""), "line {}: {line}", n + 1);
        shaken = shaken.crash(n % 2 == 0);
        assert_eq!(
            shaken.export.fs.locks(),
            plain.export.fs.locks(),
            "after a crash, line {}: {line}",
            n + 1
        );
        result += &format!("{command:<32} -> {said}\n");
    }
    assert_eq!(shaken.export.fs.progress().digest, plain.export.fs.progress().digest);
    assert_eq!(shaken.export.rows(), plain.export.rows());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, result).expect("write the transcript");
    } else {
        assert_eq!(result, text, "{}: UPDATE=1 rewrites it", path.display());
    }
}

#[test]
fn transcripts() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fs/tests/locks");
    let files = std::fs::read_dir(dir).expect("list transcripts");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    assert!(paths.len() >= 6, "{paths:?}");
    paths.iter().for_each(|path| transcript(path));
}
