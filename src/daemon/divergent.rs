//! What only this node had of an export when its copy was replaced by the other node's, whose history won.
//!
//! Nothing of it is served or ever read again by itself: it is kept until an administrator has looked at it and removes it. There
//! is no limit to how much is kept and nothing is dropped: one tail is at most what the log holds (`wal_mb`) or one copy, one
//! is saved per lost history, and `status` warns until it is removed. Where it cannot be saved the copy fails and is tried
//! again.
//!
//! ```text
//! DATA/divergent/UUID-TIME/info.toml   what it is, and why
//! DATA/divergent/UUID-TIME/wal/        the entries, a log of its own (replica::wal) whose base is the last common entry
//! DATA/divergent/UUID-TIME/copy/       instead of wal/, where the log did not reach back so far: the whole old copy
//! ```

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use proto::admin::{DivergentEntry, DivergentReply, DivergentRequest, DivergentTail};
use replica::clock::wall_ns;
use replica::disk::{Disk, RealDisk};
use replica::divergent::Log;
use replica::ids::ExportId;
use replica::image::{KEPT_COPY, Receiver, kept_dir};
use replica::log::{LogIndex, StableState};
use replica::wal::{ENTRY_BYTES_MAX, Wal, WalError, WalOptions, WalReader};
use serde::{Deserialize, Serialize};
use tonic::Status;

use super::op_text;
use crate::cli::Moment;

/// Format of `info.toml` that this build writes and reads.
const FORMAT: u32 = 1;
const INFO: &str = "info.toml";
const WAL: &str = "wal";
/// Entries of a tail are read in pieces of this many bytes.
const PIECE_BYTES: usize = 1 << 20;
/// A saved log's segments: small, because most tails are; an entry of the largest size fits.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Entries in one answer.
const ENTRIES_MAX: usize = 20_000;

const _: () = assert!(ENTRY_BYTES_MAX as u64 * 2 <= SEGMENT_BYTES);

/// `info.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Info {
    format: u32,
    /// The export's id, and its path then.
    export: String,
    path: String,
    why: String,
    /// When, ns since 1970.
    pub saved_ns: u64,
    /// The history that it belongs to and the one that replaced it, hexadecimal.
    history: String,
    winner_history: String,
    /// The last entry that both nodes certainly have; 0: none is known.
    common: LogIndex,
    /// Entries that are there.
    first: LogIndex,
    last: LogIndex,
    /// Up to here at least they had been committed in their own history, so clients had been answered. Of the second before a crash
    /// nobody knows.
    committed: LogIndex,
    /// Of the entries; of the copy, where it was kept whole.
    bytes: u64,
    whole_copy: bool,
}

/// One that is kept.
#[derive(Clone, Debug)]
pub struct Tail {
    /// Name of its directory.
    pub id: String,
    dir: PathBuf,
    /// What it is.
    pub info: Info,
}

impl Tail {
    fn read(dir: &Path) -> Option<Self> {
        let id = dir.file_name()?.to_str()?.to_owned();
        let Ok(text) = std::fs::read_to_string(dir.join(INFO)) else {
            let info = Info::by_hand(dir, &id)?;
            return Some(Self { id, dir: dir.to_owned(), info });
        };
        let info: Info = toml::from_str(&text).ok().filter(|info: &Info| info.format == FORMAT)?;
        Some(Self { id, dir: dir.to_owned(), info })
    }

    /// For `status`.
    pub fn problem(&self) -> String {
        let (path, id) = (&self.info.path, &self.id);
        format!(
            "{path}: {} were replaced and are saved on this node: see `hanfs divergent show {id}`, then `hanfs divergent \
             remove {id}`",
            self.info.what()
        )
    }

    fn wal(&self) -> PathBuf {
        let dir = if self.info.whole_copy { self.dir.join(KEPT_COPY) } else { self.dir.clone() };
        dir.join(WAL)
    }

    fn to_proto(&self) -> DivergentTail {
        let info = self.info.clone();
        DivergentTail {
            id: self.id.clone(),
            export: info.path,
            export_id: info.export,
            saved_ns: info.saved_ns,
            why: info.why,
            first: info.first,
            last: info.last,
            committed: info.committed,
            bytes: info.bytes,
            whole_copy: info.whole_copy,
            directory: self.dir.display().to_string(),
        }
    }
}

impl Info {
    /// Of an export's directory that an administrator has moved to `DIR/copy`: its log says the rest.
    fn by_hand(dir: &Path, id: &str) -> Option<Self> {
        let moved = dir.join(KEPT_COPY).join(WAL).metadata().ok()?;
        Some(Self {
            format: FORMAT,
            export: String::new(),
            path: id.to_owned(),
            why: "an administrator has put it here".to_owned(),
            saved_ns: u64::try_from(moved.mtime()).unwrap_or_default().saturating_mul(1_000_000_000),
            history: String::new(),
            winner_history: String::new(),
            common: 0,
            first: 0,
            last: LogIndex::MAX,
            committed: 0,
            bytes: 0,
            whole_copy: true,
        })
    }

    fn what(&self) -> String {
        if self.last == LogIndex::MAX {
            return "the changes of a copy that was put aside".to_owned();
        }
        let n = self.last.saturating_add(1).saturating_sub(self.first);
        let copy = if self.whole_copy { ", and older ones," } else { "" };
        format!("{n} entries{copy} that only this node had ({} to {})", self.first, self.last)
    }
}

/// Saves what the old copy in `dir` has and the source of `receiver` has not, as part of the copy that comes in. Durable before
/// that is whole. Says what was saved, if there was anything.
pub fn save(receiver: &Receiver, dir: &Path, id: ExportId, path: &str) -> anyhow::Result<Option<String>> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir.join(WAL)));
    if !dir.join(WAL).try_exists()? {
        return Ok(None);
    }
    let (reader, state) = match WalReader::open(&disk) {
        Ok(Some(found)) => found,
        // That was said already, and there is nothing that could be told from the rest.
        Ok(None) | Err(WalError::Damaged { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let source = Log::of_source(receiver.start());
    let own = Log::new(&state, reader.marks());
    // Within one history everything that was acknowledged is the source's too.
    let (common, last) = (own.common(&source), reader.last_index());
    if own.history == source.history || common >= last {
        return Ok(None);
    }
    let whole_copy = common.saturating_add(1) < reader.first_index();
    let first = common.saturating_add(1).max(reader.first_index());
    let saved_ns = wall_ns();
    let mut info = Info {
        format: FORMAT,
        export: id.to_string(),
        path: path.to_owned(),
        why: format!(
            "the other node went on as history {:016x}, this node's was {:016x}",
            source.history, own.history
        ),
        saved_ns,
        history: format!("{:016x}", own.history),
        winner_history: format!("{:016x}", source.history),
        common,
        first,
        last,
        committed: state.commit.clamp(common, last),
        bytes: 0,
        whole_copy,
    };
    let id = format!("{id}-{}", stamp(saved_ns));
    let kept = receiver.keep(&id)?;
    if whole_copy {
        receiver.keep_copy(&id)?;
        info.bytes = bytes_below(dir);
    } else {
        info.bytes = copy_entries(&reader, &state, &kept.join(WAL), first, last)?;
    }
    write_durably(&kept.join(INFO), &toml::to_string(&info)?)?;
    let place = kept_dir(dir).join(&id);
    Ok(Some(format!("{} are saved in {}: see `hanfs divergent list`", info.what(), place.display())))
}

/// `20261122T191500Z`.
fn stamp(at_ns: u64) -> String {
    let text = Moment { now_ns: at_ns, utc_offset_s: 0 }.full(at_ns);
    let digits = text.chars().filter(|c| c.is_ascii_digit() || *c == ' ');
    digits.map(|c| if c == ' ' { 'T' } else { c }).chain(['Z']).collect()
}

/// A log of its own with entries `first..=last`; says how many bytes those are. Durable.
fn copy_entries(
    reader: &WalReader,
    state: &StableState,
    to: &Path,
    first: LogIndex,
    last: LogIndex,
) -> anyhow::Result<u64> {
    let base = first.saturating_sub(1);
    let term = reader.term_at(base).context("the log has no entry before the first one to be saved")?;
    let state = StableState { commit: state.commit.clamp(base, last), ..state.clone() };
    let options = WalOptions { segment_bytes: SEGMENT_BYTES, spare_segments: 0 };
    let mut wal = Wal::create(Arc::new(RealDisk::new(to)), options, (base, term), &state)?.wal;
    let (mut next, mut bytes) = (first, 0_u64);
    while next <= last {
        let entries = reader.entries(next, last.saturating_add(1), PIECE_BYTES)?;
        let newest = entries.last().context("the log ends before its end")?.index;
        bytes = entries.iter().fold(bytes, |sum, e| sum.saturating_add(e.cost() as u64));
        wal.append(None, &entries)?;
        next = newest.saturating_add(1);
    }
    wal.sync()?;
    Ok(bytes)
}

fn write_durably(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// On the disk.
fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let one = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.blocks().saturating_mul(512),
        Err(_) => 0,
    };
    entries.map(one).fold(0, u64::saturating_add)
}

/// What is kept in a data directory, oldest first.
pub fn list(data: &Path) -> Vec<Tail> {
    let dirs = std::fs::read_dir(data.join("divergent")).into_iter().flatten().flatten();
    let mut tails: Vec<Tail> = dirs.filter_map(|one| Tail::read(&one.path())).collect();
    tails.sort_by(|a, b| (a.info.saved_ns, &a.id).cmp(&(b.info.saved_ns, &b.id)));
    tails
}

/// Lists, shows or removes. Blocks.
pub fn answer(data: &Path, request: &DivergentRequest) -> Result<DivergentReply, Status> {
    let tails = list(data);
    if request.id.is_empty() {
        return Ok(DivergentReply {
            tails: tails.iter().map(Tail::to_proto).collect(),
            ..DivergentReply::default()
        });
    }
    let found = tails.into_iter().find(|tail| tail.id == request.id);
    let tail = found.ok_or_else(|| Status::not_found(format!("nothing is saved as {}", request.id)))?;
    let shown = vec![tail.to_proto()];
    if request.remove {
        remove(&tail.dir).map_err(|e| Status::internal(format!("remove {}: {e}", tail.dir.display())))?;
        return Ok(DivergentReply { tails: shown, ..DivergentReply::default() });
    }
    let (entries, more) = entries(&tail, request.after)
        .map_err(|e| Status::internal(format!("read {}: {e:#}", tail.dir.display())))?;
    Ok(DivergentReply { tails: shown, entries, more })
}

/// Its description goes last: a crash in the middle leaves something that is still listed.
fn remove(dir: &Path) -> std::io::Result<()> {
    for one in std::fs::read_dir(dir)? {
        let one = one?;
        if one.file_type()?.is_dir() {
            std::fs::remove_dir_all(one.path())?;
        }
    }
    std::fs::remove_dir_all(dir)
}

fn entries(tail: &Tail, after: LogIndex) -> anyhow::Result<(Vec<DivergentEntry>, bool)> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(tail.wal()));
    let (reader, _) = WalReader::open(&disk)?.context("there is no log")?;
    let last = tail.info.last.min(reader.last_index());
    let mut next = after.saturating_add(1).max(tail.info.first).max(reader.first_index());
    let mut lines = Vec::new();
    while next <= last && lines.len() < ENTRIES_MAX {
        let entries = reader.entries(next, last.saturating_add(1), PIECE_BYTES)?;
        let newest = entries.last().context("the log ends before its end")?.index;
        lines.extend(entries.iter().map(op_text::line));
        next = newest.saturating_add(1);
    }
    let more = lines.len() > ENTRIES_MAX || next <= last;
    lines.truncate(ENTRIES_MAX);
    Ok((lines, more))
}

#[cfg(test)]
mod tests {
    //! Goal: exactly what only the loser has is kept, can be read, and stays until it is removed. Method: a real log in a directory,
    //! and a copy's start as a winner sends it.

    use prost::Message as _;
    use proto::op::{OP_VERSION, Op, Write, op::Kind};
    use proto::peer::{ImagePart, ImageStart, LogMark, image_part};
    use replica::image::{OldVote, Place, install};
    use replica::log::Entry;

    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        let file = Some(proto::op::Handle { file_id: 7, generation: 1 });
        let kind = Kind::Write(Write { file, offset: index * 10 });
        let op = Op { version: OP_VERSION, clock_ns: index, kind: Some(kind), ..Op::default() };
        Entry {
            index,
            term,
            op: op.encode_to_vec().into(),
            payload: bytes::Bytes::from_static(b"0123456789"),
        }
    }

    /// DATA with an export whose log holds entries behind `base` up to 12, of term 1, and from 8 on of term 2.
    fn loser(base: u64) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("exports").join("uuid");
        let options = WalOptions { segment_bytes: 1 << 20, spare_segments: 0 };
        let state = StableState { term: 2, commit: 9, ..StableState::default() };
        let disk = Arc::new(RealDisk::new(dir.join(WAL)));
        let term = |index| if index < 8 { 1 } else { 2 };
        let base_of = (base, if base == 0 { 0 } else { term(base) });
        let mut wal = Wal::create(disk, options, base_of, &state).unwrap().wal;
        let entries: Vec<Entry> = (base + 1..=12).map(|index| entry(index, term(index))).collect();
        wal.append(Some(&state), &entries).unwrap();
        wal.sync().unwrap();
        (root, dir)
    }

    fn start(history: u64, parent_end: (u64, u64)) -> ImagePart {
        let start = ImageStart {
            history,
            parent_end: Some(LogMark { index: parent_end.0, term: parent_end.1 }),
            ..ImageStart::default()
        };
        ImagePart { kind: Some(image_part::Kind::Start(start)) }
    }

    /// Saves what there is to save and puts the copy in place, as far as what is kept goes.
    fn replaced(dir: &Path, start: ImagePart) -> Option<String> {
        let receiver = Receiver::begin(&Place::of(dir), &OldVote::Unknown, start).unwrap();
        let text = save(&receiver, dir, ExportId([1; 16]), "/one").unwrap();
        let incoming = dir.with_file_name("uuid.incoming");
        std::fs::write(incoming.join("complete"), "").unwrap();
        assert!(install(&Place::of(dir)).unwrap());
        text
    }

    fn show(data: &Path, id: &str, after: u64) -> DivergentReply {
        answer(data, &DivergentRequest { id: id.to_owned(), after, remove: false }).unwrap()
    }

    #[test]
    fn the_tail_is_saved_shown_and_removed() {
        let (root, dir) = loser(0);
        let text = replaced(&dir, start(9, (10, 2))).unwrap();
        assert!(text.contains("2 entries that only this node had (11 to 12)"), "{text}");
        let tails = list(root.path());
        let [tail] = &tails[..] else { panic!("{tails:?}") };
        assert_eq!((tail.info.common, tail.info.first, tail.info.last), (10, 11, 12));
        assert_eq!((tail.info.committed, tail.info.whole_copy), (10, false));
        assert!(tail.problem().contains("/one: 2 entries"), "{}", tail.problem());
        let reply = show(root.path(), &tail.id, 0);
        let lines: Vec<_> = reply.entries.iter().map(|e| (e.index, e.term, e.what.as_str())).collect();
        let expected = [(11, 2, "WRITE to file 7, bytes 110-119"), (12, 2, "WRITE to file 7, bytes 120-129")];
        assert_eq!((lines.as_slice(), reply.more), (&expected[..], false));
        assert_eq!(show(root.path(), &tail.id, 11).entries.len(), 1);

        let request =
            DivergentRequest { id: "../exports".into(), remove: true, ..DivergentRequest::default() };
        assert!(answer(root.path(), &request).is_err(), "only what is listed");
        let request = DivergentRequest { id: tail.id.clone(), remove: true, ..DivergentRequest::default() };
        assert_eq!(answer(root.path(), &request).unwrap().tails.len(), 1);
        assert!(list(root.path()).is_empty() && !tail.dir.exists());
    }

    #[test]
    fn nothing_is_saved_where_the_winner_has_it_all() {
        for begin in [start(9, (12, 2)), start(9, (15, 2)), start(0, (0, 0))] {
            let (root, dir) = loser(0);
            assert_eq!(replaced(&dir, begin), None);
            assert!(list(root.path()).is_empty());
        }
    }

    #[test]
    fn a_log_that_does_not_reach_back_is_kept_with_its_whole_copy() {
        let (root, dir) = loser(6);
        std::fs::write(dir.join("content"), "what the log does not say any more").unwrap();
        let text = replaced(&dir, start(9, (3, 1))).unwrap();
        assert!(text.contains("6 entries, and older ones, that only this node had (7 to 12)"), "{text}");
        let tails = list(root.path());
        let [tail] = &tails[..] else { panic!("{tails:?}") };
        assert!(tail.info.whole_copy && tail.dir.join(KEPT_COPY).join("content").exists());
        assert_eq!(show(root.path(), &tail.id, 0).entries.len(), 6);
    }

    /// Where both nodes went on, an administrator chooses by moving a directory.
    #[test]
    fn a_directory_that_a_person_moved_here_is_shown_like_the_others() {
        let (root, dir) = loser(6);
        let kept = kept_dir(&dir).join("by-hand");
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::rename(&dir, kept.join(KEPT_COPY)).unwrap();
        std::fs::create_dir_all(kept_dir(&dir).join("nothing of ours")).unwrap();
        let tails = list(root.path());
        let [tail] = &tails[..] else { panic!("{tails:?}") };
        assert!(tail.id == "by-hand" && tail.problem().contains("put aside"), "{}", tail.problem());
        let entries = show(root.path(), "by-hand", 0).entries;
        assert_eq!(entries.iter().map(|e| e.index).collect::<Vec<_>>(), [7, 8, 9, 10, 11, 12]);
    }

    /// Format 1 is read for ever.
    #[test]
    fn the_description_is_as_it_ever_was() {
        let text = "\
format = 1
export = \"6f2c0000-0000-4000-8000-000000000001\"
path = \"/one\"
why = \"because\"
saved_ns = 5
history = \"0000000000000000\"
winner_history = \"0000000000000009\"
common = 10
first = 11
last = 12
committed = 10
bytes = 300
whole_copy = false
";
        let info: Info = toml::from_str(text).unwrap();
        assert_eq!(toml::to_string(&info).unwrap(), text);
        assert_eq!(stamp(1_000_000_000_000_000_000), "20010909T014640Z");
    }
}
