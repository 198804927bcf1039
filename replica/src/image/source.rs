//! The sending side of a copy, part by part.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use proto::peer::{
    Entry as WireEntry, ImageContent, ImageEnd, ImageLog, ImagePart, ImageRow, ImageRows, ImageStart,
    image_part,
};

use super::{ImageError, PART_BYTES, store};
use crate::clock::monotonic_ns;
use crate::fs::Fs;
use crate::fs::content::{Content, ContentFile, DIRS};
use crate::fs::kv::Image;
use crate::group::{LogPin, Pins};
use crate::log::{Entry, LogIndex, Term};
use crate::node::NodeStatus;
use crate::wal::WalReader;

/// At a copy's end, how long the source waits for what its log held at the beginning, ns.
const APPLY_MAX_NS: u64 = 30_000_000_000;
/// How often it looks.
const APPLY_LOOK: Duration = Duration::from_millis(5);

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
    let mut sending = Sending::begin(source)?;
    loop {
        match sending.next_part()? {
            Sent::Part(part) => sink(part)?,
            Sent::Wait => std::thread::sleep(APPLY_LOOK),
            Sent::Done(end, pin) => return Ok((end, pin)),
        }
    }
}

/// What comes next of a copy.
#[derive(Debug)]
pub enum Sent {
    /// For the receiver.
    Part(ImagePart),
    /// The state machine has to catch up first: ask again some ms later.
    Wait,
    /// That was all. The end's index, with a pin on the log after it.
    Done(LogIndex, LogPin),
}

/// A copy under way, as the source sees it. It never waits.
pub struct Sending {
    source: Source,
    _pin: LogPin,
    image: Image,
    stage: Stage,
}

enum Stage {
    Start,
    Rows,
    Content(ContentWalk),
    /// The log up to what was there when the copy began is being applied, until then.
    Applied {
        until_ns: u64,
    },
    Log {
        last: (LogIndex, Term),
        end: LogIndex,
        pin: LogPin,
    },
    End {
        end: LogIndex,
        pin: LogPin,
    },
    Done,
}

impl Sending {
    /// Begins a copy: the log from its checkpoint on is kept from now on.
    pub fn begin(source: Source) -> Result<Self, ImageError> {
        let pin = source.pins.pin(source.fs.progress().checkpoint);
        let image = source.fs.kv().image().map_err(store("read the checkpoint"))?;
        Ok(Self { source, _pin: pin, image, stage: Stage::Start })
    }

    /// The next part.
    ///
    /// # Errors
    /// Of a store, or [`ImageError::Stalled`]. The copy is over.
    pub fn next_part(&mut self) -> Result<Sent, ImageError> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Done) {
                Stage::Start => {
                    self.stage = Stage::Rows;
                    return Ok(Sent::Part(self.start()));
                }
                Stage::Rows => {
                    if let Some(rows) = self.rows()? {
                        self.stage = Stage::Rows;
                        return Ok(Sent::Part(rows));
                    }
                    self.stage = Stage::Content(ContentWalk::default());
                }
                Stage::Content(mut walk) => {
                    if let Some(chunk) = walk.next(self.source.fs.content())? {
                        self.stage = Stage::Content(walk);
                        return Ok(Sent::Part(chunk));
                    }
                    self.stage = Stage::Applied { until_ns: monotonic_ns().saturating_add(APPLY_MAX_NS) };
                }
                Stage::Applied { until_ns } => {
                    // What the receiver had acknowledged before it lost its copy is among it, so a whole copy lacks nothing
                    // that this voter ever vouched for.
                    let end = self.source.fs.progress().applied;
                    if end < self.source.status.last {
                        if monotonic_ns() >= until_ns {
                            return Err(ImageError::Stalled);
                        }
                        self.stage = Stage::Applied { until_ns };
                        return Ok(Sent::Wait);
                    }
                    let pin = self.source.pins.pin(end);
                    self.stage = Stage::Log { last: (self.image.index(), self.image.term()), end, pin };
                }
                Stage::Log { last, end, pin } if last.0 < end => {
                    let (log, last) = self.log(last.0, end)?;
                    self.stage = Stage::Log { last, end, pin };
                    return Ok(Sent::Part(log));
                }
                Stage::Log { last: (index, term), end, pin } => {
                    self.stage = Stage::End { end, pin };
                    return Ok(Sent::Part(part(image_part::Kind::End(ImageEnd { index, term }))));
                }
                Stage::End { end, pin } => return Ok(Sent::Done(end, pin)),
                Stage::Done => return Err(ImageError::Malformed("it has ended")),
            }
        }
    }

    fn start(&self) -> ImagePart {
        let progress = self.source.fs.progress();
        let status = &self.source.status;
        part(image_part::Kind::Start(ImageStart {
            index: self.image.index(),
            term: self.image.term(),
            vote_term: status.term,
            vote: status.me,
            history: status.history,
            files: progress.files,
            bytes: progress.bytes_used,
        }))
    }

    fn rows(&mut self) -> Result<Option<ImagePart>, ImageError> {
        let rows = self.image.next_batch(PART_BYTES).map_err(store("read the checkpoint"))?;
        if rows.is_empty() {
            return Ok(None);
        }
        let rows = rows.into_iter().map(|(key, value)| ImageRow { key, value }).collect();
        Ok(Some(part(image_part::Kind::Rows(ImageRows { rows }))))
    }

    /// Entries after `last`, and the last of them.
    fn log(&self, last: LogIndex, end: LogIndex) -> Result<(ImagePart, (LogIndex, Term)), ImageError> {
        let entries =
            self.source.reader.entries(last + 1, end + 1, PART_BYTES).map_err(store("read the log"))?;
        let Some(newest) = entries.last() else {
            return Err(ImageError::Malformed("the log ends before what is applied"));
        };
        let last = (newest.index, newest.term);
        let entries = entries.into_iter().map(to_wire).collect();
        Ok((part(image_part::Kind::Log(ImageLog { entries })), last))
    }
}

/// Goes through all content, directory by directory.
#[derive(Default)]
struct ContentWalk {
    /// Directories whose files have been listed.
    dirs: usize,
    files: VecDeque<ContentFile>,
    /// In the first of `files`.
    offset: u64,
}

impl ContentWalk {
    fn next(&mut self, content: &Content) -> Result<Option<ImagePart>, ImageError> {
        loop {
            let Some(ContentFile { file, .. }) = self.files.front().copied() else {
                if self.dirs >= DIRS {
                    return Ok(None);
                }
                let dir = u8::try_from(self.dirs)
                    .map_err(|_| ImageError::Malformed("too many content directories"))?;
                self.files = content.list_files(dir).map_err(store("list the content"))?.into();
                self.dirs += 1;
                continue;
            };
            if let Some(chunk) =
                content.read_chunk(file, self.offset, PART_BYTES).map_err(store("read content"))?
            {
                self.offset = chunk.offset + chunk.data.len() as u64;
                return Ok(Some(part(image_part::Kind::Content(ImageContent {
                    file_id: file.0,
                    offset: chunk.offset,
                    data: chunk.data,
                }))));
            }
            self.files.pop_front();
            self.offset = 0;
        }
    }
}

fn part(kind: image_part::Kind) -> ImagePart {
    ImagePart { kind: Some(kind) }
}

fn to_wire(entry: Entry) -> WireEntry {
    WireEntry { entry_type: 0, term: entry.term, index: entry.index, op: entry.op, payload: entry.payload }
}
