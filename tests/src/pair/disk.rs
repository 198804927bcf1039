//! Data directories, looked at from outside, and file systems of their own for them (that needs root).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every content file below an export's directory: relative name and bytes, without zeros at the end, which are the
/// same as a hole. A file of nothing but zeros is the same as none.
pub fn content(export: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let root = export.join("content");
    let mut files = BTreeMap::new();
    for dir in list(&root).into_iter().filter(|path| path.is_dir()) {
        for file in list(&dir) {
            let mut bytes = fs::read(&file).expect("read a content file");
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes.truncate(used);
            if !bytes.is_empty() {
                files.insert(file.strip_prefix(&root).expect("below its root").to_owned(), bytes);
            }
        }
    }
    files
}

/// Fails the test unless both hold the same bytes. Returns how many files there are.
pub fn assert_same_content(a: &Path, b: &Path) -> usize {
    let (a, b) = (content(a), content(b));
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b), "the nodes hold different content files");
    for (name, bytes) in &a {
        let other = &b[name];
        let differs = bytes.iter().zip(other).position(|(x, y)| x != y);
        assert!(
            bytes == other,
            "{} differs at byte {differs:?}, lengths {} and {}",
            name.display(),
            bytes.len(),
            other.len()
        );
    }
    a.len()
}

/// Disk space below a directory, bytes; what is not there takes none.
pub fn used_bytes(path: &Path) -> u64 {
    let own = path.symlink_metadata().map_or(0, |meta| meta.blocks() * 512);
    own + if path.is_dir() { list(path).iter().map(|path| used_bytes(path)).sum() } else { 0 }
}

/// The segments of an export's log that are in use, oldest first.
pub fn wal_segments(export: &Path) -> Vec<PathBuf> {
    let mut segments: Vec<PathBuf> = list(&export.join("wal"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ext| ext == "wal"))
        .collect();
    segments.sort();
    segments
}

/// What is in a directory.
pub fn list(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// A file system of its own at a directory, unmounted at the end.
pub struct OwnDisk {
    at: PathBuf,
}

impl OwnDisk {
    /// In memory, so that it can be filled.
    pub fn memory(at: &Path, mib: u64) -> Self {
        let size = format!("size={mib}m");
        Self::mount(at, &["-t", "tmpfs", "-o", &size, "hanfs-test"])
    }

    /// A real one in a sparse file beside the directory, so that it can be frozen.
    pub fn ext4(at: &Path, mib: u64) -> Self {
        let image = at.with_extension("ext4");
        let file = fs::File::create(&image).expect("make a disk's file");
        file.set_len(mib << 20).expect("size a disk's file");
        let image = image.display().to_string();
        run("mkfs.ext4", &["-q", "-F", &image]);
        Self::mount(at, &["-o", "loop", &image])
    }

    fn mount(at: &Path, what: &[&str]) -> Self {
        fs::create_dir_all(at).expect("make the mount point");
        let dir = at.display().to_string();
        run("mount", &[what, &[dir.as_str()]].concat());
        Self { at: at.to_owned() }
    }

    /// From now on, whatever writes to it waits.
    pub fn freeze(&self) {
        run("fsfreeze", &["-f", &self.at.display().to_string()]);
    }

    /// Writing goes on.
    pub fn thaw(&self) {
        run("fsfreeze", &["-u", &self.at.display().to_string()]);
    }

    /// Writes a file that leaves so much room.
    pub fn fill_up_to(&self, left_mib: u64) {
        use std::io::{Seek, SeekFrom, Write};
        let host = rustix::fs::statvfs(&self.at).expect("look at the room");
        let bytes = (host.f_bavail * host.f_frsize).saturating_sub(left_mib << 20);
        let mut file = fs::File::create(self.at.join("filler")).expect("make a filler");
        // At once, as nobody could who writes it.
        let _ = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes);
        if left_mib == 0 {
            // The last pages, too.
            file.seek(SeekFrom::Start(bytes)).expect("seek");
            while file.write_all(&[0; 4096]).is_ok() {}
        }
    }
}

impl Drop for OwnDisk {
    fn drop(&mut self) {
        let at = self.at.display().to_string();
        let _ = Command::new("fsfreeze").args(["-u", &at]).output();
        let _ = Command::new("umount").args(["-l", &at]).status();
    }
}

fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().expect("run a program");
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// May this process make file systems of its own? Says so if not.
pub fn may_mount() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: it needs root for a file system of its own");
    }
    root
}
