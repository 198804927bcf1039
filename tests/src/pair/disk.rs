//! Data directories, looked at from outside.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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
