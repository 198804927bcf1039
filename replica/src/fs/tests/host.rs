//! A directory of the host's file system behind the operations of NFS: the oracle of `differential`.
//!
//! Objects are held as O_PATH descriptors, which name an inode as a handle does, whatever its path is by now. Users
//! are the effective ids of the calling thread. What Linux's NFS server adds is added here: the owner of a file may
//! always write to it.

use std::os::fd::{AsRawFd, OwnedFd};

use proto::op::Cred;
use rustix::fs::{self, Access, AtFlags, CWD, Dir, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tempfile::TempDir;

use crate::fs::Status;

pub type Outcome<T> = Result<T, Errno>;

/// An open export of the host's.
pub struct Host {
    dir: TempDir,
    /// Every mode is asked for without these bits, as mkdir(2) and open(2) take them away.
    pub umask: u32,
}

/// Back to who the thread was, also where a test fails in between.
struct Back {
    uid: Uid,
    gid: Gid,
}

impl Drop for Back {
    fn drop(&mut self) {
        let back = set_thread_res_uid(None, self.uid, None)
            .and_then(|()| set_thread_res_gid(None, self.gid, None))
            .and_then(|()| set_thread_groups(&[]));
        assert!(back.is_ok() || std::thread::panicking(), "become who one was: {back:?}");
    }
}

/// Runs `what` with this user's ids.
pub fn as_user<T>(cred: &Cred, what: impl FnOnce() -> T) -> T {
    let now = (geteuid(), getegid());
    if (now.0.as_raw(), now.1.as_raw()) == (cred.uid, cred.gid) {
        return what();
    }
    become_user(cred).expect("become another user");
    let _back = Back { uid: now.0, gid: now.1 };
    what()
}

fn become_user(cred: &Cred) -> Outcome<()> {
    let groups: Vec<Gid> = cred.gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
    set_thread_groups(&groups)?;
    set_thread_res_gid(None, Gid::from_raw(cred.gid), None)?;
    set_thread_res_uid(None, Uid::from_raw(cred.uid), None)
}

/// Can this thread act as others (root, with their ids mapped)? Else there is one user: this one.
pub fn has_users() -> bool {
    let other = Cred { uid: 100, gid: 100, gids: vec![200] };
    let now = (geteuid(), getegid());
    let became = now.0.is_root() && become_user(&other).is_ok();
    if now.0.is_root() {
        drop(Back { uid: now.0, gid: now.1 });
    }
    became
}

/// This process's user.
pub fn myself() -> Cred {
    Cred { uid: geteuid().as_raw(), gid: getegid().as_raw(), gids: Vec::new() }
}

/// The status that Linux's NFS server makes of an error.
pub fn status_of(error: Errno) -> Status {
    match error {
        Errno::PERM => Status::Perm,
        Errno::NOENT => Status::NoEnt,
        Errno::ACCESS => Status::Acces,
        Errno::EXIST => Status::Exist,
        Errno::NOTDIR => Status::NotDir,
        Errno::ISDIR => Status::IsDir,
        Errno::INVAL => Status::Inval,
        Errno::NOTEMPTY => Status::NotEmpty,
        other => panic!("the host says {other}, which no operation here should meet"),
    }
}

/// An object by its descriptor, for calls that take paths.
fn proc_path(object: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", object.as_raw_fd())
}

fn open_path(dir: &OwnedFd, name: &str) -> OwnedFd {
    fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .expect("open O_PATH")
}

/// What a stat(2) says, as NFS's attributes say it: type and mode, names, owner, group, size.
pub type Seen = (u32, u32, u32, u32, u64);

impl Host {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let status = std::fs::read_to_string("/proc/self/status").expect("/proc/self/status");
        let umask = status.lines().find_map(|line| line.strip_prefix("Umask:")).expect("Umask");
        fs::chmod(dir.path(), Mode::from_raw_mode(0o777)).expect("chmod");
        Self { umask: u32::from_str_radix(umask.trim(), 8).expect("octal"), dir }
    }

    pub fn root(&self) -> OwnedFd {
        fs::open(self.dir.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("open O_PATH")
    }

    pub fn create(cred: &Cred, dir: &OwnedFd, name: &str, mode: u32) -> Outcome<OwnedFd> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        as_user(cred, || fs::openat(dir, name, flags, Mode::from_raw_mode(mode)))?;
        Ok(open_path(dir, name))
    }

    pub fn mkdir(cred: &Cred, dir: &OwnedFd, name: &str, mode: u32) -> Outcome<OwnedFd> {
        as_user(cred, || fs::mkdirat(dir, name, Mode::from_raw_mode(mode)))?;
        Ok(open_path(dir, name))
    }

    pub fn symlink(cred: &Cred, dir: &OwnedFd, name: &str, target: &str) -> Outcome<OwnedFd> {
        as_user(cred, || fs::symlinkat(target, dir, name))?;
        Ok(open_path(dir, name))
    }

    pub fn fifo(cred: &Cred, dir: &OwnedFd, name: &str, mode: u32) -> Outcome<OwnedFd> {
        as_user(cred, || fs::mknodat(dir, name, FileType::Fifo, Mode::from_raw_mode(mode), 0))?;
        Ok(open_path(dir, name))
    }

    pub fn link(cred: &Cred, file: &OwnedFd, dir: &OwnedFd, name: &str) -> Outcome<()> {
        as_user(cred, || fs::linkat(CWD, proc_path(file), dir, name, AtFlags::SYMLINK_FOLLOW))
    }

    pub fn remove(cred: &Cred, dir: &OwnedFd, name: &str) -> Outcome<()> {
        as_user(cred, || fs::unlinkat(dir, name, AtFlags::empty()))
    }

    pub fn rmdir(cred: &Cred, dir: &OwnedFd, name: &str) -> Outcome<()> {
        as_user(cred, || fs::unlinkat(dir, name, AtFlags::REMOVEDIR))
    }

    pub fn rename(cred: &Cred, from: &OwnedFd, name: &str, to: &OwnedFd, to_name: &str) -> Outcome<()> {
        as_user(cred, || fs::renameat(from, name, to, to_name))
    }

    /// A regular file, open for writing: by its owner in any case.
    fn open_to_write(cred: &Cred, file: &OwnedFd) -> Outcome<OwnedFd> {
        let owner = fs::fstat(file)?.st_uid == cred.uid;
        let open = || fs::open(proc_path(file), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        if owner { open() } else { as_user(cred, open) }
    }

    pub fn write(cred: &Cred, file: &OwnedFd, offset: u64, data: &[u8]) -> Outcome<()> {
        let file = Self::open_to_write(cred, file)?;
        let written = as_user(cred, || rustix::io::pwrite(&file, data, offset))?;
        assert_eq!(written, data.len());
        Ok(())
    }

    pub fn set_size(cred: &Cred, file: &OwnedFd, size: u64) -> Outcome<()> {
        let file = Self::open_to_write(cred, file)?;
        as_user(cred, || fs::ftruncate(&file, size))
    }

    pub fn chmod(cred: &Cred, file: &OwnedFd, mode: u32) -> Outcome<()> {
        let mode = Mode::from_raw_mode(mode);
        as_user(cred, || fs::chmodat(CWD, proc_path(file), mode, AtFlags::empty()))
    }

    pub fn chown(cred: &Cred, file: &OwnedFd, uid: Option<u32>, gid: Option<u32>) -> Outcome<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        as_user(cred, || fs::chownat(file, "", uid, gid, AtFlags::EMPTY_PATH))
    }

    /// Both times: to this second, or to now.
    pub fn utimes(cred: &Cred, file: &OwnedFd, second: Option<i64>) -> Outcome<()> {
        let time = match second {
            Some(second) => Timespec { tv_sec: second, tv_nsec: 0 },
            None => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        };
        let times = Timestamps { last_access: time, last_modification: time };
        as_user(cred, || fs::utimensat(CWD, proc_path(file), &times, AtFlags::empty()))
    }

    pub fn lookup(cred: &Cred, dir: &OwnedFd, name: &str) -> Outcome<Seen> {
        as_user(cred, || fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)).map(|stat| Self::seen(&stat))
    }

    pub fn list(cred: &Cred, dir: &OwnedFd) -> Outcome<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = as_user(cred, || fs::open(proc_path(dir), flags, Mode::empty()))?;
        let names = Dir::read_from(&dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names: Vec<String> = names.collect::<Outcome<_>>()?;
        names.sort();
        Ok(names)
    }

    pub fn may(cred: &Cred, object: &OwnedFd, access: Access) -> bool {
        as_user(cred, || fs::accessat(CWD, proc_path(object), access, AtFlags::EACCESS)).is_ok()
    }

    fn seen(stat: &fs::Stat) -> Seen {
        (stat.st_mode, stat.st_nlink as u32, stat.st_uid, stat.st_gid, stat.st_size as u64)
    }

    /// Every path, what stat(2) says of it, and content or target.
    pub fn tree(&self) -> Vec<(String, Seen, Vec<u8>)> {
        let mut all = Vec::new();
        self.walk(self.dir.path(), "/", &mut all);
        all.sort();
        all
    }

    fn walk(&self, at: &std::path::Path, path: &str, all: &mut Vec<(String, Seen, Vec<u8>)>) {
        let stat = fs::lstat(at).expect("lstat");
        let content = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => std::fs::read(at).expect("read"),
            FileType::Symlink => {
                std::fs::read_link(at).expect("readlink").into_os_string().into_encoded_bytes()
            }
            FileType::Directory => {
                for entry in std::fs::read_dir(at).expect("read directory") {
                    let name = entry.expect("entry").file_name();
                    let slash = if path.ends_with('/') { "" } else { "/" };
                    self.walk(&at.join(&name), &format!("{path}{slash}{}", name.to_string_lossy()), all);
                }
                Vec::new()
            }
            _ => Vec::new(),
        };
        all.push((path.to_owned(), Self::seen(&stat), content));
    }
}
