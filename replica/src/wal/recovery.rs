//! Reading a log at start: what is there, where it ends, and whether that end is a torn tail or damage.
//! Changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::WalError;
use super::format::{
    ALIGN, HEAD_BYTES, HEADER_BYTES, Head, HeaderFault, Kind, SegmentHeader, Use, VERSION, decode_state,
};
use super::index::{Change, Index, Place, Segment};
use super::spares::disk_error;
use crate::disk::{Disk, File};
use crate::log::StableState;

/// Read at once while scanning, bytes.
const WINDOW_BYTES: usize = 256 << 10;
static ZEROS: [u8; WINDOW_BYTES] = [0; WINDOW_BYTES];

/// A log as it was found.
pub(super) struct Recovered {
    pub index: Index,
    /// The last segment, and its last session.
    pub active: Segment,
    pub used: Use,
    /// Its commit index brought into the log.
    pub state: StableState,
    /// The commit index on disk lies beyond the log: the entries up to it did not survive a power cut.
    pub is_commit_cut: bool,
    /// Where the last segment's records end.
    pub end: u64,
    /// Bytes of a torn tail behind that.
    pub torn_bytes: u64,
}

struct Found {
    segment: Segment,
    header: SegmentHeader,
}

pub(super) fn segment_name(seq: u64) -> PathBuf {
    format!("{seq:016x}.wal").into()
}

pub(super) fn segment_seq(name: &Path) -> Option<u64> {
    let seq = u64::from_str_radix(name.to_str()?.strip_suffix(".wal")?, 16).ok()?;
    (segment_name(seq) == name).then_some(seq)
}

/// Reads the segments with these sequence numbers, ascending.
pub(super) fn recover(disk: &Arc<dyn Disk>, seqs: &[u64]) -> Result<Option<Recovered>, WalError> {
    let found = seqs.iter().map(|seq| load(disk, *seq)).collect::<Result<Vec<_>, _>>()?;
    check_row(disk, &found)?;
    let (Some(first), Some(last)) = (found.first(), found.last()) else { return Ok(None) };
    let mut scan = Scan {
        disk,
        index: Index::new(first.header.base),
        state: first.header.state.clone(),
        window: Window::default(),
        used: first.header.used,
    };
    let mut tail = Tail { end: HEADER_BYTES, torn_bytes: 0 };
    for (i, one) in found.iter().enumerate() {
        if scan.index.last != one.header.base {
            let what = "its first entry does not follow on the segment before";
            return Err(damaged(disk, &one.segment.name, 0, what));
        }
        scan.state = one.header.state.clone();
        scan.index.segments.push_back(one.segment.clone());
        let end = found.get(i + 1).map(|next| next.header.previous_end);
        tail = scan.segment(&one.segment, end)?;
    }
    let Scan { index, mut state, used, .. } = scan;
    // raft-rs panics on a commit index outside of the log; what is below the base was committed.
    let is_commit_cut = state.commit > index.last.0;
    state.commit = state.commit.min(index.last.0).max(index.base.0);
    let active = last.segment.clone();
    Ok(Some(Recovered {
        index,
        active,
        used,
        state,
        is_commit_cut,
        end: tail.end,
        torn_bytes: tail.torn_bytes,
    }))
}

fn damaged(disk: &Arc<dyn Disk>, name: &Path, offset: u64, what: impl Into<String>) -> WalError {
    WalError::Damaged { file: disk.locate(name), offset, what: what.into() }
}

fn load(disk: &Arc<dyn Disk>, seq: u64) -> Result<Found, WalError> {
    let name = segment_name(seq);
    let file = disk.open(&name, false).map_err(disk_error(disk, "open", &name))?;
    file.sync().map_err(disk_error(disk, "fdatasync", &name))?;
    let mut bytes = vec![0; HEADER_BYTES as usize];
    let got = file.read_at(&mut bytes, 0).map_err(disk_error(disk, "read", &name))?;
    bytes.truncate(got);
    let header = SegmentHeader::decode(&bytes).map_err(|fault| match fault {
        HeaderFault::Version(found) => WalError::Version { file: disk.locate(&name), found, known: VERSION },
        HeaderFault::NoMagic => damaged(disk, &name, 0, "it does not begin as a log segment does"),
        HeaderFault::Damaged => damaged(disk, &name, 0, "its header fails its checksum"),
    })?;
    if header.used.seq != seq {
        let what = format!("it is segment {:016x} under another name", header.used.seq);
        return Err(damaged(disk, &name, 0, what));
    }
    let segment = Segment::new(header.used, name, file, header.segment_bytes);
    Ok(Found { segment, header })
}

/// One log's segments, none missing.
fn check_row(disk: &Arc<dyn Disk>, found: &[Found]) -> Result<(), WalError> {
    for (before, after) in found.iter().zip(found.iter().skip(1)) {
        let (a, b) = (before.header.used, after.header.used);
        let next = segment_name(a.seq.saturating_add(1));
        if segment_name(b.seq) != next {
            return Err(damaged(
                disk,
                &next,
                0,
                "this segment is missing, the ones before and after are there",
            ));
        }
        if a.wal_id != b.wal_id {
            return Err(damaged(disk, &after.segment.name, 0, "it belongs to another log"));
        }
    }
    Ok(())
}

struct Tail {
    end: u64,
    torn_bytes: u64,
}

struct Scan<'a> {
    disk: &'a Arc<dyn Disk>,
    index: Index,
    state: StableState,
    window: Window,
    /// The session that the scan has come to.
    used: Use,
}

impl Scan<'_> {
    /// `end`: where the records of a segment that is not the last one are known to end.
    fn segment(&mut self, segment: &Segment, end: Option<u64>) -> Result<Tail, WalError> {
        self.window = Window::default();
        self.used = segment.used;
        let mut at = HEADER_BYTES;
        loop {
            if end == Some(at) {
                return Ok(Tail { end: at, torn_bytes: 0 });
            }
            let limit = end.unwrap_or(segment.bytes).min(segment.bytes);
            let read = self.record(segment, at, limit);
            match read.map_err(disk_error(self.disk, "read", &segment.name))? {
                Some((head, body)) => {
                    if self.apply(&head, &body, at).is_none() {
                        return Err(damaged(self.disk, &segment.name, at, "its records are out of order"));
                    }
                    at += head.record_bytes();
                }
                None if end.is_some() => {
                    let what = "a record fails its checksum, and later segments follow";
                    return Err(damaged(self.disk, &segment.name, at, what));
                }
                None => return self.tail(segment, at),
            }
        }
    }

    /// The whole record at this offset. Bodies of entries are only verified.
    fn record(&mut self, segment: &Segment, at: u64, limit: u64) -> std::io::Result<Option<(Head, Vec<u8>)>> {
        let Some(head) = self.head(segment, at, self.used)? else { return Ok(None) };
        if at.saturating_add(head.record_bytes()) > limit {
            return Ok(None);
        }
        let body = self.window.get(&*segment.file, at + HEAD_BYTES as u64, head.body_len as usize)?;
        let body =
            head.body(body).map(|body| if head.kind == Kind::State { body.to_vec() } else { Vec::new() });
        Ok(body.map(|body| (head, body)))
    }

    fn head(&mut self, segment: &Segment, at: u64, used: Use) -> std::io::Result<Option<Head>> {
        let bytes = self.window.get(&*segment.file, at, HEAD_BYTES)?;
        Ok(Head::decode(bytes, used, at))
    }

    /// Of this session, or of the next one, should the record that begins it be the bad one.
    fn any_head(&mut self, segment: &Segment, at: u64) -> std::io::Result<Option<Head>> {
        let head = self.head(segment, at, self.used)?;
        if head.is_some() { Ok(head) } else { self.head(segment, at, self.used.next_session()) }
    }

    fn apply(&mut self, head: &Head, body: &[u8], at: u64) -> Option<()> {
        match head.kind {
            Kind::Entry => {
                let place =
                    Place { offset: at.try_into().ok()?, bytes: head.record_bytes().try_into().ok()? };
                self.index.apply(Change::Entry(head.position, place))
            }
            Kind::Truncation => self.index.apply(Change::Truncation(head.position)),
            Kind::Session => {
                let next = self.used.next_session();
                self.used = (head.position == (next.session, 0)).then_some(next)?;
                self.index.apply(Change::Session(at.checked_add(head.record_bytes())?))
            }
            Kind::State => {
                self.state = decode_state(body)?;
                Some(())
            }
        }
    }

    /// There is no record at `bad`: the log's end, a torn tail, or damage?
    fn tail(&mut self, segment: &Segment, bad: u64) -> Result<Tail, WalError> {
        let mut torn_end = bad;
        let mut next = bad;
        let read = || disk_error(self.disk, "read", &segment.name);
        while let Some(at) = self.window.find_head(segment, next).map_err(read())? {
            if let Some(head) = self.any_head(segment, at).map_err(read())? {
                if head.durable > bad {
                    let what = format!(
                        "a record fails its checksum, though the one at offset {at} says that it had been durable"
                    );
                    return Err(damaged(self.disk, &segment.name, bad, what));
                }
                torn_end = torn_end.max(at.saturating_add(head.record_bytes()));
            }
            next = at.saturating_add(ALIGN);
        }
        Ok(Tail { end: bad, torn_bytes: torn_end - bad })
    }
}

/// A part of a file in memory, moved along by need.
#[derive(Default)]
struct Window {
    buf: Vec<u8>,
    start: u64,
}

impl Window {
    /// Short at the end of the file only.
    fn get(&mut self, file: &dyn File, at: u64, len: usize) -> std::io::Result<&[u8]> {
        let is_inside = |start: u64, buf: &[u8]| {
            at >= start && at.saturating_add(len as u64) <= start.saturating_add(buf.len() as u64)
        };
        if !is_inside(self.start, &self.buf) {
            self.buf.resize(len.max(WINDOW_BYTES), 0);
            let got = file.read_at(&mut self.buf, at)?;
            self.buf.truncate(got);
            self.start = at;
        }
        let rest = self.from(at);
        Ok(rest.get(..len).unwrap_or(rest))
    }

    /// All that is in memory from there on.
    fn from(&self, at: u64) -> &[u8] {
        let from = at.checked_sub(self.start).and_then(|n| usize::try_from(n).ok());
        from.and_then(|from| self.buf.get(from..)).unwrap_or_default()
    }

    /// Where the next head may begin, by its mark. None at the end, which a file may have before its segment has.
    fn find_head(&mut self, segment: &Segment, mut at: u64) -> std::io::Result<Option<u64>> {
        while at.saturating_add(HEAD_BYTES as u64) <= segment.bytes {
            if self.get(&*segment.file, at, HEAD_BYTES)?.len() < HEAD_BYTES {
                return Ok(None);
            }
            let rest = self.from(at);
            // Most of it was never written.
            let is_zero = ZEROS.get(..rest.len()) == Some(rest);
            if !is_zero && let Some(n) = Head::find(rest) {
                return Ok(Some(at.saturating_add(n)));
            }
            at = at.saturating_add(rest.len() as u64 / ALIGN * ALIGN);
        }
        Ok(None)
    }
}
