//! A full copy of an export for a node that is empty or past the log's horizon (Raft thesis section 5, with the content
//! copied while it is served).
//!
//! The source sends its metadata as of its last checkpoint c, the content as it happens to be (fuzzy), and the log
//! from c+1 to e, its applied index at the end. The receiver builds a new directory beside the old one and only when all of it is durable
//! puts it in the old one's place; then it starts the group there as after any restart: replaying c+1..e makes the content
//! exact, because effects are blind physical writes and file ids are never reused. Until then it has no part in Raft: it
//! neither votes nor acknowledges.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::peer::{
    Entry as WireEntry, ImageContent, ImageEnd, ImageLog, ImagePart, ImageRow, ImageRows, ImageStart,
    LogMark, image_part,
};

use crate::disk::RealDisk;
use crate::divergent::MARKS_MAX;
use crate::fs::Fs;
use crate::fs::content::{Content, ContentWriter, DIRS};
use crate::fs::kv::KvWriter;
use crate::group::{LogPin, Pins, sync_dir};
use crate::ids::{FileId, voter};
use crate::log::{Entry, LogIndex, StableState, Term};
use crate::node::NodeStatus;
use crate::wal::{Wal, WalOptions, WalReader};

/// Bytes of one part, at most (one part is one message of the stream).
const PART_BYTES: usize = 1 << 20;
/// At a copy's end, how long the source waits for what its log held at the beginning.
const APPLY_MAX: Duration = Duration::from_secs(30);
/// How often it looks.
const APPLY_LOOK: Duration = Duration::from_millis(5);
/// Name of the file that says that a received image is whole.
const COMPLETE: &str = "complete";

/// Within a received image: what of the old copy is kept, each under the name that it gets in `DATA/divergent`.
const KEPT: &str = "kept";
/// In one of those: the old copy itself is to be moved there, whole, under the name [`KEPT_COPY`].
const KEEP_COPY: &str = "keep-copy";
/// See [`KEEP_COPY`].
pub const KEPT_COPY: &str = "copy";

/// Why a copy failed. The export's old directory, if any, is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The other side is gone.
    #[error("the other node closed the stream")]
    Closed,
    /// What came makes no sense: another version, or a bug.
    #[error("the copy is malformed: {0}")]
    Malformed(&'static str),
    /// What was in the source's log at the beginning is not committed: the source may not lead any more.
    #[error("the source's log does not get applied; it may have lost its lead")]
    Stalled,
    /// A store of this node.
    #[error("{what}: {source}")]
    Store {
        /// Verb and noun.
        what: &'static str,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn store<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    what: &'static str,
) -> impl FnOnce(E) -> ImageError {
    move |source| ImageError::Store { what, source: source.into() }
}

/// What a copy is made from: a group that leads, as of now. It holds the stores, not the group.
pub struct Source {
    pub(crate) fs: Arc<Fs>,
    pub(crate) reader: WalReader,
    pub(crate) pins: Pins,
    pub(crate) status: NodeStatus,
}

/// Sends an image. Blocks; `sink` hands on one part. Returns the end's index with a pin on the log after it: keep that until the
/// receiver takes part again, or the log may be cut under it.
pub fn send(
    source: Source,
    sink: &mut dyn FnMut(ImagePart) -> Result<(), ImageError>,
) -> Result<(LogIndex, LogPin), ImageError> {
    let Source { fs, reader, pins, status } = source;
    let _pin = pins.pin(fs.progress().checkpoint);
    let mut image = fs.kv().image().map_err(store("read the checkpoint"))?;
    let progress = fs.progress();
    sink(part(image_part::Kind::Start(ImageStart {
        index: image.index(),
        term: image.term(),
        vote_term: status.term,
        vote: status.me,
        history: status.history,
        files: progress.files,
        bytes: progress.bytes_used,
        parent_history: status.parent.0,
        parent_end: Some(mark(status.parent.1)),
        marks: newest(reader.marks()),
    })))?;
    loop {
        let rows = image.next_batch(PART_BYTES).map_err(store("read the checkpoint"))?;
        if rows.is_empty() {
            break;
        }
        let rows = rows.into_iter().map(|(key, value)| ImageRow { key, value }).collect();
        sink(part(image_part::Kind::Rows(ImageRows { rows })))?;
    }
    send_content(fs.content(), sink)?;

    let end = applied_past(&fs, status.last)?;
    let after_end = pins.pin(end);
    let mut last = (image.index(), image.term());
    while last.0 < end {
        let entries = reader.entries(last.0 + 1, end + 1, PART_BYTES).map_err(store("read the log"))?;
        let Some(newest) = entries.last() else {
            return Err(ImageError::Malformed("the log ends before what is applied"));
        };
        last = (newest.index, newest.term);
        let entries = entries.into_iter().map(to_wire).collect();
        sink(part(image_part::Kind::Log(ImageLog { entries })))?;
    }
    sink(part(image_part::Kind::End(ImageEnd { index: last.0, term: last.1 })))?;
    Ok((end, after_end))
}

fn mark((index, term): (LogIndex, Term)) -> LogMark {
    LogMark { index, term }
}

fn newest(marks: Vec<(LogIndex, Term)>) -> Vec<LogMark> {
    let skipped = marks.len().saturating_sub(MARKS_MAX);
    marks.into_iter().skip(skipped).map(mark).collect()
}

/// Waits until everything is applied that the log held when the copy began, and says how far it is. What the receiver had
/// acknowledged before it lost its copy is among it, so a whole copy lacks nothing that this voter ever vouched for.
fn applied_past(fs: &Fs, last: LogIndex) -> Result<LogIndex, ImageError> {
    let until = Instant::now() + APPLY_MAX;
    loop {
        let applied = fs.progress().applied;
        if applied >= last {
            return Ok(applied);
        }
        if Instant::now() >= until {
            return Err(ImageError::Stalled);
        }
        std::thread::sleep(APPLY_LOOK);
    }
}

fn send_content(
    content: &Content,
    sink: &mut dyn FnMut(ImagePart) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    for dir in 0..DIRS {
        let dir = u8::try_from(dir).map_err(|_| ImageError::Malformed("too many content directories"))?;
        for file in content.list_files(dir).map_err(store("list the content"))? {
            let mut offset = 0;
            while let Some(chunk) =
                content.read_chunk(file.file, offset, PART_BYTES).map_err(store("read content"))?
            {
                offset = chunk.offset + chunk.data.len() as u64;
                sink(part(image_part::Kind::Content(ImageContent {
                    file_id: file.file.0,
                    offset: chunk.offset,
                    data: chunk.data,
                })))?;
            }
        }
    }
    Ok(())
}

fn part(kind: image_part::Kind) -> ImagePart {
    ImagePart { kind: Some(kind) }
}

fn to_wire(entry: Entry) -> WireEntry {
    WireEntry { entry_type: 0, term: entry.term, index: entry.index, op: entry.op, payload: entry.payload }
}

/// What a voter that is copied anew must not forget.
#[derive(Clone, Debug)]
pub enum OldVote {
    /// From its log.
    Known(StableState),
    /// Its log cannot be read.
    Unknown,
}

/// From the log of an export's directory.
pub fn old_vote(dir: &Path) -> OldVote {
    let disk = Arc::new(RealDisk::new(dir.join("wal")));
    if !dir.join("wal").exists() {
        return OldVote::Known(StableState::default());
    }
    match Wal::open(disk, WalOptions::default()) {
        Ok(opened) => OldVote::Known(opened.state),
        Err(error) => {
            tracing::warn!(%error, "the old log cannot be read");
            OldVote::Unknown
        }
    }
}

/// How far a copy has come in.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageProgress {
    /// Bytes of content that the source has.
    pub bytes: u64,
    /// Of them, here.
    pub bytes_done: u64,
}

/// The receiving side. Dropping it leaves an unfinished directory, which the next copy (or start) removes.
pub struct Receiver {
    incoming: PathBuf,
    start: ImageStart,
    kv: Option<KvWriter>,
    content: Option<ContentWriter>,
    wal: Option<Wal>,
    last: (LogIndex, Term),
    state: StableState,
    progress: ImageProgress,
}

impl Receiver {
    /// Begins with the first part. `dir` is the export's directory; `old` what this voter must not forget: the
    /// state of its old log, where there is one that can be read.
    pub fn begin(dir: &Path, old: &OldVote, start: ImagePart) -> Result<Self, ImageError> {
        let Some(image_part::Kind::Start(start)) = start.kind else {
            return Err(ImageError::Malformed("it does not begin with its start"));
        };
        let incoming = incoming(dir);
        remove_dir(&incoming).map_err(store("remove an unfinished copy"))?;
        std::fs::create_dir_all(&incoming).map_err(store("make a directory for the copy"))?;
        // The vote of a voter that comes to life with this copy is the leader's, in the leader's term: it cannot
        // have helped to elect anybody else in it. A later vote of its own stands.
        // What cannot be read may have been a vote in the next term: that one is spent.
        let (term, vote) = match old {
            OldVote::Known(state) if state.term > start.vote_term => (state.term, state.vote),
            OldVote::Known(_) => (start.vote_term, start.vote),
            OldVote::Unknown => (start.vote_term + 1, voter::WITNESS),
        };
        let state =
            StableState { term, vote, commit: start.index, history: start.history, ..StableState::default() };
        Ok(Self {
            kv: Some(KvWriter::create(&incoming.join("meta.redb")).map_err(store("make a database"))?),
            content: Some(
                ContentWriter::create(&incoming.join("content")).map_err(store("make a directory"))?,
            ),
            wal: None,
            last: (start.index, start.term),
            progress: ImageProgress { bytes: start.bytes, bytes_done: 0 },
            incoming,
            start,
            state,
        })
    }

    /// What the source said first.
    pub fn start(&self) -> &ImageStart {
        &self.start
    }

    /// A new directory for what is to be kept of the old copy. It becomes `DATA/divergent/NAME` when the copy is put in place, and
    /// goes with the copy if that fails. What is written there must be durable before the last part.
    pub fn keep(&self, name: &str) -> Result<PathBuf, ImageError> {
        let dir = self.incoming.join(KEPT).join(name);
        std::fs::create_dir_all(&dir).map_err(store("make a directory for what is kept"))?;
        Ok(dir)
    }

    /// Keeps the old copy as a whole: it is moved to `DATA/divergent/NAME/copy` instead of being removed.
    pub fn keep_copy(&self, name: &str) -> Result<(), ImageError> {
        std::fs::write(self.keep(name)?.join(KEEP_COPY), []).map_err(store("mark what is kept"))
    }

    /// The next part. True: that was the end, and the copy is durable: [`install`] it.
    pub fn part(&mut self, part: ImagePart) -> Result<bool, ImageError> {
        match part.kind {
            Some(image_part::Kind::Rows(rows)) => {
                let kv = self.kv.as_mut().ok_or(ImageError::Malformed("rows after the log"))?;
                for row in rows.rows {
                    kv.put(&row.key, &row.value).map_err(store("write a row"))?;
                }
            }
            Some(image_part::Kind::Content(chunk)) => {
                let content = self.content.as_mut().ok_or(ImageError::Malformed("content after the log"))?;
                self.progress.bytes_done += chunk.data.len() as u64;
                content
                    .write(FileId(chunk.file_id), chunk.offset, &chunk.data)
                    .map_err(store("write content"))?;
            }
            Some(image_part::Kind::Log(log)) => self.log(log)?,
            Some(image_part::Kind::End(end)) => return self.end(end).map(|()| true),
            Some(image_part::Kind::Start(_)) | None => return Err(ImageError::Malformed("a second start")),
        }
        Ok(false)
    }

    /// How far it has come.
    pub fn progress(&self) -> ImageProgress {
        self.progress
    }

    /// Everything before the log is there: make it durable, once.
    fn stores_done(&mut self) -> Result<(), ImageError> {
        if let Some(content) = self.content.take() {
            content.finish().map_err(store("sync the content"))?;
        }
        if let Some(kv) = self.kv.take() {
            kv.finish(self.start.index, self.start.term).map_err(store("sync the database"))?;
            let disk = Arc::new(RealDisk::new(self.incoming.join("wal")));
            let opened = Wal::create(disk, WalOptions::default(), self.last, &self.state)
                .map_err(store("make a log"))?;
            self.wal = Some(opened.wal);
        }
        Ok(())
    }

    fn log(&mut self, log: ImageLog) -> Result<(), ImageError> {
        self.stores_done()?;
        let entries: Vec<Entry> = log
            .entries
            .into_iter()
            .map(|e| Entry { index: e.index, term: e.term, op: e.op, payload: e.payload })
            .collect();
        for entry in &entries {
            if entry.index != self.last.0 + 1 || entry.term < self.last.1 {
                return Err(ImageError::Malformed("the log has a gap"));
            }
            self.last = (entry.index, entry.term);
        }
        let wal = self.wal.as_mut().ok_or(ImageError::Malformed("no log"))?;
        wal.append(None, &entries).map_err(store("append to the log"))
    }

    fn end(&mut self, end: ImageEnd) -> Result<(), ImageError> {
        self.stores_done()?;
        if (end.index, end.term) != self.last {
            return Err(ImageError::Malformed("it ends elsewhere than it says"));
        }
        self.state.commit = end.index;
        let mut wal = self.wal.take().ok_or(ImageError::Malformed("no log"))?;
        wal.append(Some(&self.state), &[]).map_err(store("append to the log"))?;
        wal.sync().map_err(store("sync the log"))?;
        drop(wal);
        sync_kept(&self.incoming.join(KEPT)).map_err(store("sync what is kept of the old copy"))?;
        std::fs::write(self.incoming.join(COMPLETE), []).map_err(store("mark the copy"))?;
        sync_dir(&self.incoming).map_err(store("sync the copy"))?;
        if let Some(parent) = self.incoming.parent() {
            sync_dir(parent).map_err(store("sync the exports' directory"))?;
        }
        Ok(())
    }
}

/// Where what was kept of replaced copies is, for an export's directory `DATA/exports/UUID`: `DATA/divergent`.
pub fn kept_dir(dir: &Path) -> PathBuf {
    dir.parent().and_then(Path::parent).unwrap_or(dir).join("divergent")
}

/// Puts a whole copy, if one is there, in the place of the export's directory, and removes what is left of others. Called at every
/// start, too: a crash at any point between leaves either the old directory or the whole copy.
///
/// Order: old copy aside, new one into its place, durable; what is kept of the old one to its own place, durable; only then the
/// old copy is removed.
pub fn install(dir: &Path) -> Result<bool, ImageError> {
    let (incoming, old) = (incoming(dir), sibling(dir, "old"));
    let whole = incoming.join(COMPLETE).exists();
    if whole {
        if dir.exists() {
            // Left from an earlier copy: this one would not have begun before it was done with.
            remove_dir(&old).map_err(store("remove an old copy"))?;
            std::fs::rename(dir, &old).map_err(store("move the old copy aside"))?;
        }
        std::fs::rename(&incoming, dir).map_err(store("move the copy into place"))?;
        if let Some(parent) = dir.parent() {
            sync_dir(parent).map_err(store("sync the exports' directory"))?;
        }
    }
    let _ = std::fs::remove_file(dir.join(COMPLETE));
    put_away(dir, &old).map_err(store("keep what only this node had"))?;
    remove_dir(&incoming).map_err(store("remove an unfinished copy"))?;
    remove_dir(&old).map_err(store("remove an old copy"))?;
    Ok(whole)
}

/// Moves what came into place with a copy to where it is kept. Begins anew wherever a crash left it.
fn put_away(dir: &Path, old: &Path) -> std::io::Result<()> {
    let (kept, place) = (dir.join(KEPT), kept_dir(dir));
    let found = match std::fs::read_dir(&kept) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    std::fs::create_dir_all(&place)?;
    for one in found {
        let one = one?;
        if one.path().join(KEEP_COPY).exists() {
            if old.exists() {
                std::fs::rename(old, one.path().join(KEPT_COPY))?;
            }
            sync_dir(&one.path())?;
            if let Some(parent) = old.parent() {
                sync_dir(parent)?;
            }
            std::fs::remove_file(one.path().join(KEEP_COPY))?;
        }
        std::fs::rename(one.path(), place.join(one.file_name()))?;
    }
    sync_dir(&place)?;
    if let Some(data) = place.parent() {
        sync_dir(data)?;
    }
    std::fs::remove_dir(&kept)
}

/// Makes every name in there durable; whoever wrote a file has synced that.
fn sync_kept(kept: &Path) -> std::io::Result<()> {
    let found = match std::fs::read_dir(kept) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    for one in found {
        sync_dir(&one?.path())?;
    }
    sync_dir(kept)
}

fn incoming(dir: &Path) -> PathBuf {
    sibling(dir, "incoming")
}

fn sibling(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn remove_dir(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what only this node had is never removed before it is where it is kept, wherever a crash comes in between.
    //! Method: directories as each step of [`install`] leaves them; then it is called, as at a start.
    use std::fs;

    use super::*;

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
        let new = incoming(&dir);
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
            sibling(&self.dir, "old")
        }

        /// Everything is in its place, also after another start.
        fn check(&self, keep_copy: bool) {
            for _ in 0..2 {
                install(&self.dir).unwrap();
                let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
                assert_eq!(read(self.dir.join("wal/1")), "new");
                let kept = kept_dir(&self.dir).join(NAME);
                assert_eq!(read(kept.join("info.toml")), "kept");
                assert_eq!(read(kept.join(KEPT_COPY).join("wal/1")), if keep_copy { "old" } else { "" });
                assert!(!kept.join(KEEP_COPY).exists());
                for gone in [self.old(), incoming(&self.dir), self.dir.join(KEPT), self.dir.join(COMPLETE)] {
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
                    fs::rename(incoming(&s.dir), &s.dir).unwrap();
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
        fs::remove_file(incoming(&s.dir).join(COMPLETE)).unwrap();
        assert!(!install(&s.dir).unwrap());
        assert_eq!(fs::read_to_string(s.dir.join("wal/1")).unwrap(), "old");
        assert!(!kept_dir(&s.dir).exists() && !incoming(&s.dir).exists());
    }
}
