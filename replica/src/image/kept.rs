//! What only this node had when a copy replaces its own: it comes into place with the copy, and is put away from there.
//!
//! Order: the old copy aside, the new one into its place, durable; what is kept of the old one to its own place, durable; only
//! then the old copy is removed. A start does what a crash left undone.

use std::io;
use std::path::{Path, PathBuf};

use super::Place;
use super::receiver::is_there;
use crate::disk::Disk;

/// Within a received image: what of the old copy is kept, each under the name that it gets in `DATA/divergent`.
pub(super) const KEPT: &str = "kept";
/// In one of those: the old copy itself is to be moved there, whole, under the name [`KEPT_COPY`].
pub(super) const KEEP_COPY: &str = "keep-copy";
/// Name of an old copy that is kept as a whole, in its directory below `DATA/divergent`.
pub const KEPT_COPY: &str = "copy";
/// Where what is kept is put away.
pub(super) const PLACE: &str = "divergent";

/// Where what was kept of replaced copies is, for an export's directory `DATA/exports/UUID`: `DATA/divergent`.
pub fn kept_dir(dir: &Path) -> PathBuf {
    dir.parent().and_then(Path::parent).unwrap_or(dir).join("divergent")
}

/// Moves what came into place with a copy to where it is kept. Begins anew wherever a crash left it.
pub(super) fn put_away(place: &Place, old: &Path) -> io::Result<()> {
    let Place { disk, name, .. } = place;
    let (kept, to) = (name.join(KEPT), Path::new(PLACE));
    let Some(found) = names(&**disk, &kept)? else { return Ok(()) };
    disk.create_dir(to)?;
    for one in found {
        let from = kept.join(&one);
        let mark = from.join(KEEP_COPY);
        if is_there(&**disk, &mark) {
            if is_there(&**disk, old) {
                disk.rename(old, &from.join(KEPT_COPY))?;
            }
            disk.sync_dir(&from)?;
            disk.sync_dir(place.parent())?;
            disk.remove(&mark)?;
        }
        disk.rename(&from, &to.join(&one))?;
    }
    disk.sync_dir(to)?;
    disk.remove_tree(&kept)
}

/// Makes every name among what is kept in a received image durable; whoever wrote a file has synced that.
pub(super) fn sync_kept(incoming: &dyn Disk) -> io::Result<()> {
    let kept = Path::new(KEPT);
    let Some(found) = names(incoming, kept)? else { return Ok(()) };
    for one in found {
        incoming.sync_dir(&kept.join(one))?;
    }
    incoming.sync_dir(kept)
}

/// What is in a directory; `None`: there is no such directory.
fn names(disk: &dyn Disk, dir: &Path) -> io::Result<Option<Vec<PathBuf>>> {
    match disk.list(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what only this node had is never removed before it is where it is kept, wherever a crash comes in between.
    //! Method: directories as each step of [`install`] leaves them; then it is called, as at a start.
    use std::fs;

    use super::super::receiver::{COMPLETE, INCOMING};
    use super::*;
    use crate::image::install;

    const NAME: &str = "an-export-and-a-time";

    struct Scene {
        _root: tempfile::TempDir,
        dir: PathBuf,
    }

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// An export with an old copy, and a whole new one beside it.
    fn scene(keep_copy: bool) -> Scene {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("exports").join("uuid");
        write(&dir.join("wal/1"), "old");
        let new = dir.with_extension(INCOMING);
        write(&new.join("wal/1"), "new");
        write(&new.join(KEPT).join(NAME).join("info.toml"), "kept");
        if keep_copy {
            write(&new.join(KEPT).join(NAME).join(KEEP_COPY), "");
        }
        write(&new.join(COMPLETE), "");
        Scene { _root: root, dir }
    }

    impl Scene {
        fn old(&self) -> PathBuf {
            self.dir.with_extension("old")
        }

        /// Everything is in its place, also after another start.
        fn check(&self, keep_copy: bool) {
            for _ in 0..2 {
                install(&Place::of(&self.dir)).unwrap();
                let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
                assert_eq!(read(self.dir.join("wal/1")), "new");
                let kept = kept_dir(&self.dir).join(NAME);
                assert_eq!(read(kept.join("info.toml")), "kept");
                assert_eq!(read(kept.join(KEPT_COPY).join("wal/1")), if keep_copy { "old" } else { "" });
                assert!(!kept.join(KEEP_COPY).exists());
                for gone in [
                    self.old(),
                    self.dir.with_extension(INCOMING),
                    self.dir.join(KEPT),
                    self.dir.join(COMPLETE),
                ] {
                    assert!(!gone.exists(), "{}", gone.display());
                }
            }
        }
    }

    #[test]
    fn a_copy_is_put_in_place_and_what_is_kept_is_put_away() {
        for keep_copy in [false, true] {
            scene(keep_copy).check(keep_copy);
        }
    }

    #[test]
    fn a_crash_after_any_rename_loses_nothing() {
        for keep_copy in [false, true] {
            for steps in 1..=3 {
                let s = scene(keep_copy);
                fs::rename(&s.dir, s.old()).unwrap();
                if steps >= 2 {
                    fs::rename(s.dir.with_extension(INCOMING), &s.dir).unwrap();
                }
                if steps >= 3 && keep_copy {
                    fs::rename(s.old(), s.dir.join(KEPT).join(NAME).join(KEPT_COPY)).unwrap();
                }
                s.check(keep_copy);
            }
        }
    }

    #[test]
    fn a_copy_that_is_not_whole_leaves_the_old_one_and_keeps_nothing() {
        let s = scene(true);
        fs::remove_file(s.dir.with_extension(INCOMING).join(COMPLETE)).unwrap();
        assert!(!install(&Place::of(&s.dir)).unwrap());
        assert_eq!(fs::read_to_string(s.dir.join("wal/1")).unwrap(), "old");
        assert!(!kept_dir(&s.dir).exists() && !s.dir.with_extension(INCOMING).exists());
    }
}
