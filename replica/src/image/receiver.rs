//! The receiving side of a copy: a new directory beside the old one, and how it takes its place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::peer::{ImageEnd, ImageLog, ImagePart, ImageStart, image_part};

use super::kept::{KEEP_COPY, KEPT, PLACE, put_away, sync_kept};
use super::{ImageError, Place, store};
use crate::disk::Disk;
use crate::fs::content::ContentWriter;
use crate::fs::kv::KvWriter;
use crate::fs::{CONTENT_DIR, META_FILE};
use crate::group::WAL_DIR;
use crate::ids::{FileId, voter};
use crate::log::{Entry, LogIndex, StableState, Term};
use crate::wal::Wal;

/// Name of the file that says that a received image is whole.
pub(super) const COMPLETE: &str = "complete";
/// What follows the export's name in the name of a copy that is coming in.
pub(super) const INCOMING: &str = "incoming";

/// What a voter that is copied anew must not forget.
#[derive(Clone, Debug)]
pub enum OldVote {
    /// From its log.
    Known(StableState),
    /// Its log cannot be read.
    Unknown,
}

/// From the log of an export's directory.
pub fn old_vote(place: &Place) -> OldVote {
    let disk = place.disk.below(&place.name.join(WAL_DIR));
    if !is_there(&*disk, Path::new("")) {
        return OldVote::Known(StableState::default());
    }
    match Wal::open(disk, place.wal.clone()) {
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
    place: Place,
    incoming: Arc<dyn Disk>,
    start: ImageStart,
    kv: Option<KvWriter>,
    content: Option<ContentWriter>,
    wal: Option<Wal>,
    last: (LogIndex, Term),
    state: StableState,
    progress: ImageProgress,
}

impl Receiver {
    /// Begins with the first part. `place` is the export's; `old` what this voter must not forget: the
    /// state of its old log, where there is one that can be read.
    pub fn begin(place: &Place, old: &OldVote, start: ImagePart) -> Result<Self, ImageError> {
        let Some(image_part::Kind::Start(start)) = start.kind else {
            return Err(ImageError::Malformed("it does not begin with its start"));
        };
        let name = place.sibling(INCOMING);
        place.disk.remove_tree(&name).map_err(store("remove an unfinished copy"))?;
        place.disk.create_dir(&name).map_err(store("make a directory for the copy"))?;
        let incoming = place.disk.below(&name);
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
            kv: Some(
                KvWriter::create(incoming.clone(), Path::new(META_FILE)).map_err(store("make a database"))?,
            ),
            content: Some(
                ContentWriter::create(incoming.below(Path::new(CONTENT_DIR)))
                    .map_err(store("make a directory"))?,
            ),
            wal: None,
            last: (start.index, start.term),
            progress: ImageProgress { bytes: start.bytes, bytes_done: 0 },
            place: place.clone(),
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
        let dir = Path::new(KEPT).join(name);
        // A disk that has no room for it says so while the old copy is still in its place.
        self.place.disk.create_dir(Path::new(PLACE)).map_err(store("make a directory for what is kept"))?;
        self.incoming.create_dir(&dir).map_err(store("make a directory for what is kept"))?;
        Ok(self.incoming.locate(&dir))
    }

    /// Keeps the old copy as a whole: it is moved to `DATA/divergent/NAME/copy` instead of being removed.
    pub fn keep_copy(&self, name: &str) -> Result<(), ImageError> {
        self.keep(name)?;
        let mark = Path::new(KEPT).join(name).join(KEEP_COPY);
        self.incoming.open(&mark, true).map(drop).map_err(store("mark what is kept"))
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
            let disk = self.incoming.below(Path::new(WAL_DIR));
            let opened = Wal::create(disk, self.place.wal.clone(), self.last, &self.state)
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
        sync_kept(&*self.incoming).map_err(store("sync what is kept of the old copy"))?;
        self.incoming.open(Path::new(COMPLETE), true).map_err(store("mark the copy"))?;
        self.incoming.sync_dir(Path::new("")).map_err(store("sync the copy"))?;
        self.place.disk.sync_dir(self.place.parent()).map_err(store("sync the exports' directory"))
    }
}

/// Puts a whole copy, if one is there, in the place of the export's directory, and removes what is left of others. Called at every
/// start, too: a crash at any point between leaves either the old directory or the whole copy.
pub fn install(place: &Place) -> Result<bool, ImageError> {
    let Place { disk, name, .. } = place;
    let (incoming, old) = (place.sibling(INCOMING), place.sibling("old"));
    let whole = is_there(&**disk, &incoming.join(COMPLETE));
    if whole {
        if is_there(&**disk, name) {
            // Left from an earlier copy: this one would not have begun before it was done with.
            disk.remove_tree(&old).map_err(store("remove an old copy"))?;
            disk.rename(name, &old).map_err(store("move the old copy aside"))?;
        }
        disk.rename(&incoming, name).map_err(store("move the copy into place"))?;
        disk.sync_dir(place.parent()).map_err(store("sync the exports' directory"))?;
    }
    let _ = disk.remove(&name.join(COMPLETE));
    put_away(place, &old).map_err(store("keep what only this node had"))?;
    disk.remove_tree(&incoming).map_err(store("remove an unfinished copy"))?;
    disk.remove_tree(&old).map_err(store("remove an old copy"))?;
    Ok(whole)
}

/// Is there a file or a directory of this name?
pub(super) fn is_there(disk: &dyn Disk, path: &Path) -> bool {
    disk.file_len(path).is_ok() || disk.list(path).is_ok()
}
