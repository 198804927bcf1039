//! Both replicas are the same, bit by bit, at the same applied index: the rolling digest of every change and reply during the
//! run, and in the end every name, attribute and byte.

use std::collections::BTreeMap;

use proto::op::Cred;
use replica::fs::{Fs, FsProgress, ftype};
use replica::ids::{FileId, Handle};

use crate::world::World;

/// Digests remembered per export.
const DIGESTS_KEPT: usize = 4096;

/// See the module.
#[derive(Default)]
pub struct Replicas {
    /// By export, history and index.
    digests: BTreeMap<(usize, u64, u64), (usize, u64)>,
}

impl World {
    /// The digest of a state as of this index.
    pub fn check_replicas(&mut self, h: usize, export: usize, progress: &FsProgress, history: u64) {
        let key = (export, history, progress.applied);
        let known = *self.checks.replicas.digests.entry(key).or_insert((h, progress.digest));
        if known.1 != progress.digest {
            let other = known.0;
            self.fail(format!(
                "export {export} differs at entry {}: host {h} has digest {:x}, host {other} had {:x}",
                progress.applied, progress.digest, known.1
            ));
        }
        if self.checks.replicas.digests.len() > DIGESTS_KEPT {
            self.checks.replicas.digests.pop_first();
        }
    }

    /// In the end: both nodes have applied the same, and have the same.
    pub fn check_content(&mut self, export: usize) {
        let mut seen = Vec::new();
        for h in 0..2 {
            self.hosts[h].set_clock(self.now);
            let Some(run) = self.group(h, export) else { return };
            let handle = run.parts.group.handle();
            seen.push((handle.fs().progress(), tree(handle.fs())));
        }
        let [(a, first), (b, second)] = &seen[..] else { return };
        if a.applied != b.applied {
            self.fail(format!("export {export}: in the end {} and {} are applied", a.applied, b.applied));
        } else if first != second {
            let differs = first.iter().zip(second).find(|(x, y)| x != y);
            self.fail(format!("export {export}: the replicas differ in the end: {differs:?}"));
        }
    }
}

/// Every object below the root, as text: attributes, names, content.
fn tree(fs: &Fs) -> Vec<String> {
    let mut out = vec![
        format!("write verifier {:x}, witness {:x}", fs.write_verifier(), fs.witness_identity()),
        format!("mounts {:?}, quota {:?}, usage {:?}", fs.mounts(), fs.quota(), fs.usage()),
        format!("locks {:?} of {:?}", fs.locks(), fs.lock_hosts()),
    ];
    walk(fs, fs.root(), "/", &mut out);
    out
}

fn walk(fs: &Fs, dir: Handle, path: &str, out: &mut Vec<String>) {
    let root = Cred { uid: 0, gid: 0, gids: vec![] };
    let mut entries = Vec::new();
    let listed = fs.readdir(&root, dir, 2, &mut |entry| {
        entries.push(entry.clone());
        true
    });
    if let Err(failed) = listed {
        out.push(format!("{path}: {failed:?}"));
    }
    for entry in entries {
        let path = format!("{path}{}", String::from_utf8_lossy(&entry.name));
        let handle = Handle { file: FileId(entry.attr.file_id), generation: entry.attr.generation };
        let content = match entry.attr.file_type {
            // Again: a failure of the disk that was ordered may still be to come.
            ftype::REG => {
                let read = || fs.read(&root, handle, 0, 1 << 20).map(|r| r.data);
                format!("{:?}", read().or_else(|_| read()))
            }
            _ => String::new(),
        };
        out.push(format!("{path} cookie {} {:?} {content}", entry.cookie, entry.attr));
        if entry.attr.file_type == ftype::DIR {
            walk(fs, handle, &format!("{path}/"), out);
        }
    }
}
