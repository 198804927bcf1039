//! What one connection calls, slot by slot, and what has to be in the replies.
//!
//! A slot goes through *sequences*: one call, or a few that belong together (CREATE, WRITE, GETATTR). Every
//! reply is checked; a benchmark whose calls fail, or that is answered less than it asked for, says nothing.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use super::scene::{DATA_BYTES, Scene};
use super::wire::{Call, Failure, Reply};
use super::workload::Workload;
use super::workload::Workload as W;
use Procedure as P;

/// One READ or WRITE of the random workloads, bytes.
const SMALL: u64 = 4 << 10;
/// One READ or WRITE of the sequential workloads, bytes: rtmax and wtmax.
const LARGE: u64 = 1 << 20;
/// A small file, bytes.
const FILE: u64 = 8 << 10;
/// One READDIRPLUS, bytes: what a Linux client asks for at first, and what is preferred (dtpref).
const LISTING: u32 = 64 << 10;

/// stable_how, RFC 1813 section 3.3.7.
const UNSTABLE: u32 = 0;
const FILE_SYNC: u32 = 2;
/// createhow3: fail where the name exists.
const GUARDED: u32 = 1;
/// ftype3: a regular file.
const REGULAR: u32 = 1;

/// The procedures that occur, RFC 1813 section 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Procedure {
    Null = 0,
    Getattr = 1,
    Lookup = 3,
    Read = 6,
    Write = 7,
    Create = 8,
    Mkdir = 9,
    Remove = 12,
    Rmdir = 13,
    Rename = 14,
    Readdirplus = 17,
}

impl Procedure {
    /// On the wire.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Getattr => "GETATTR",
            Self::Lookup => "LOOKUP",
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Create => "CREATE",
            Self::Mkdir => "MKDIR",
            Self::Remove => "REMOVE",
            Self::Rmdir => "RMDIR",
            Self::Rename => "RENAME",
            Self::Readdirplus => "READDIRPLUS",
        }
    }
}

/// A slot's next call, less its arguments.
pub struct Step {
    /// Which.
    pub procedure: Procedure,
    /// WRITE's data, which come last.
    pub payload: Option<Bytes>,
}

/// What a reply brought.
#[derive(Debug, Default)]
pub struct Done {
    /// Bytes read or written.
    pub bytes: u64,
    /// Entries listed.
    pub entries: u64,
    /// The sequence is at its end.
    pub last: bool,
}

/// Where a slot is in its sequence.
struct Slot {
    /// How many calls of the sequence have been answered.
    stage: u8,
    procedure: Procedure,
    /// What the call is about; the directory, where it names something in it.
    handle: Bytes,
    name: String,
    /// READ, WRITE: where; READDIRPLUS: the cookie.
    offset: u64,
    /// READ, WRITE: how many; READDIRPLUS: entries so far.
    bytes: u64,
}

/// One connection's part of a workload.
pub struct Script<'a> {
    scene: &'a Scene,
    workload: Workload,
    /// Which connection.
    lane: usize,
    random: Random,
    /// Next sequential offset.
    offset: u64,
    /// Sequences to begin, where they are counted.
    left: Option<u64>,
    slots: Vec<Slot>,
    /// Files made, with the numbers in their names.
    pub made: Vec<(u64, Bytes)>,
    /// What is to be removed.
    removable: Vec<u64>,
}

impl<'a> Script<'a> {
    /// For a connection with this many calls outstanding; `sequences` to begin, or as many as the time allows.
    pub fn new(
        scene: &'a Scene,
        workload: Workload,
        lane: usize,
        window: usize,
        sequences: Option<u64>,
    ) -> Self {
        let slot = |n| Slot {
            stage: 0,
            procedure: Procedure::Null,
            handle: Bytes::new(),
            name: scene.rename_name(lane, n),
            offset: 0,
            bytes: 0,
        };
        Self {
            scene,
            workload,
            lane,
            random: Random(scene.serial.fetch_add(1, Relaxed)),
            offset: 0,
            left: sequences,
            slots: (0..window).map(slot).collect(),
            made: Vec::new(),
            removable: Vec::new(),
        }
    }

    /// Gives a `remove` its files.
    pub fn with_removable(mut self, removable: Vec<u64>) -> Self {
        self.removable = removable;
        self
    }

    /// What was to be removed and is still there.
    pub fn into_removable(self) -> Vec<u64> {
        self.removable
    }

    /// Begins a slot's next call; none: there is nothing left to do.
    pub fn next(&mut self, slot: usize) -> Option<Step> {
        let begins = self.slots.get(slot)?.stage == 0;
        if begins && let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        let data = self.scene.data.get(self.lane)?.clone();
        match (self.workload, self.slots.get(slot)?.stage) {
            (W::Null, _) => self.begin(slot, P::Null, Bytes::new()),
            (W::Getattr, _) => {
                let (_, handle) = self.any_file()?;
                self.begin(slot, P::Getattr, handle)
            }
            (W::Lookup, _) => {
                let (number, _) = self.any_file()?;
                self.name(slot, "f", number);
                self.begin(slot, P::Lookup, self.scene.files_dir.clone())
            }
            (W::Randread4k | W::Randwrite4k | W::Randwrite4kSync, _) => {
                let offset = self.random.below(DATA_BYTES / SMALL) * SMALL;
                self.place(slot, offset, SMALL);
                let read = self.workload == W::Randread4k;
                self.begin(slot, if read { P::Read } else { P::Write }, data)
            }
            (W::Seqread1m | W::Seqwrite1m, _) => {
                self.place(slot, self.offset, LARGE);
                self.offset = (self.offset + LARGE) % DATA_BYTES;
                let read = self.workload == W::Seqread1m;
                self.begin(slot, if read { P::Read } else { P::Write }, data)
            }
            (W::Create, _) | (W::Smallfile, 0) => {
                let number = self.scene.serial.fetch_add(1, Relaxed);
                self.name(slot, "f", number);
                self.begin(slot, P::Create, self.scene.dir.clone())
            }
            (W::Smallfile, stage) => {
                self.place(slot, 0, FILE);
                let handle = self.slots.get(slot)?.handle.clone();
                self.begin(slot, if stage == 1 { P::Write } else { P::Getattr }, handle)
            }
            (W::Mkdir, 0) => {
                let number = self.scene.serial.fetch_add(1, Relaxed);
                self.name(slot, "d", number);
                self.begin(slot, P::Mkdir, self.scene.dir.clone())
            }
            (W::Mkdir, _) => self.begin(slot, P::Rmdir, self.scene.dir.clone()),
            (W::Rename, _) => self.begin(slot, P::Rename, self.scene.dir.clone()),
            (W::Remove, _) => {
                let number = self.removable.pop()?;
                self.name(slot, "f", number);
                self.begin(slot, P::Remove, self.scene.dir.clone())
            }
            (W::Readdirplus, stage) => {
                if stage == 0 {
                    self.place(slot, 0, 0);
                }
                self.begin(slot, P::Readdirplus, self.scene.files_dir.clone())
            }
        }
    }

    fn begin(&mut self, slot: usize, procedure: Procedure, handle: Bytes) -> Option<Step> {
        let state = self.slots.get_mut(slot)?;
        (state.procedure, state.handle) = (procedure, handle);
        let payload =
            (procedure == Procedure::Write).then(|| self.scene.bytes(&mut self.random, state.bytes));
        Some(Step { procedure, payload })
    }

    fn any_file(&mut self) -> Option<(u64, Bytes)> {
        let n = self.random.below(self.scene.files.len() as u64);
        self.scene.files.get(n as usize).cloned()
    }

    fn name(&mut self, slot: usize, kind: &str, number: u64) {
        use std::fmt::Write;
        if let Some(state) = self.slots.get_mut(slot) {
            state.name.clear();
            // Writing to a String cannot fail.
            let _ = write!(state.name, "{kind}{number}");
        }
    }

    fn place(&mut self, slot: usize, offset: u64, bytes: u64) {
        if let Some(state) = self.slots.get_mut(slot) {
            (state.offset, state.bytes) = (offset, bytes);
        }
    }

    /// Writes the arguments of the call that [`Self::next`] began, all but a payload.
    pub fn arguments(&self, slot: usize, call: &mut Call<'_>) {
        let Some(state) = self.slots.get(slot) else { return };
        let name = state.name.as_bytes();
        if state.procedure == Procedure::Null {
            return;
        }
        call.opaque(&state.handle);
        match state.procedure {
            Procedure::Null | Procedure::Getattr => {}
            Procedure::Lookup | Procedure::Remove | Procedure::Rmdir => _ = call.opaque(name),
            Procedure::Read => _ = call.u64(state.offset).u32(state.bytes as u32),
            Procedure::Write => {
                let stable = stable_how(self.workload);
                call.u64(state.offset).u32(state.bytes as u32).u32(stable);
            }
            Procedure::Create => _ = call.opaque(name).u32(GUARDED).mode(0o644),
            Procedure::Mkdir => _ = call.opaque(name).mode(0o755),
            Procedure::Rename => {
                let other = format!("{}.renamed", state.name);
                let (from, to) =
                    if state.stage == 0 { (name, other.as_bytes()) } else { (other.as_bytes(), name) };
                call.opaque(from).opaque(&state.handle).opaque(to);
            }
            // cookieverf3 of a directory of ours is always 0.
            Procedure::Readdirplus => _ = call.u64(state.offset).u64(0).u32(LISTING).u32(LISTING),
        }
    }

    /// Checks the reply of a slot's call.
    pub fn check(&mut self, slot: usize, reply: &mut Reply<'_>) -> Result<Done, Failure> {
        let Some(state) = self.slots.get_mut(slot) else { return Ok(Done::default()) };
        let procedure = state.procedure;
        reply.accepted(procedure.name())?;
        let mut done = Done::default();
        if procedure != Procedure::Null {
            reply.ok(procedure.name())?;
            done = match procedure {
                Procedure::Readdirplus => state.listing(self.scene.files.len() as u64, reply)?,
                _ => state.results(self.workload, reply)?,
            };
        }
        if procedure == Procedure::Create {
            let number = state.name.get(1..).and_then(|n| n.parse().ok()).unwrap_or_default();
            self.made.push((number, state.handle.clone()));
        }
        state.stage = state.stage.saturating_add(1);
        if procedure != Procedure::Readdirplus {
            let calls = match self.workload {
                Workload::Smallfile => 3,
                Workload::Mkdir | Workload::Rename => 2,
                _ => 1,
            };
            done.last = state.stage == calls;
        }
        if done.last {
            state.stage = 0;
        }
        Ok(done)
    }
}

impl Slot {
    /// The results of any procedure but NULL and READDIRPLUS, status passed.
    fn results(&mut self, workload: Workload, reply: &mut Reply<'_>) -> Result<Done, Failure> {
        let mut done = Done::default();
        match self.procedure {
            Procedure::Getattr => {
                let expected = if workload == Workload::Smallfile { FILE } else { 0 };
                if reply.type_and_size()? != (REGULAR, expected) {
                    return self.wrong("another type or size than the file's");
                }
            }
            Procedure::Read => {
                reply.skip_post_op_attr()?;
                done.bytes = u64::from(reply.u32()?);
                reply.bool()?;
                if done.bytes != self.bytes || reply.opaque()?.len() as u64 != self.bytes {
                    return self.wrong("fewer bytes than asked for");
                }
            }
            Procedure::Write => {
                reply.skip_wcc_data()?;
                done.bytes = u64::from(reply.u32()?);
                if done.bytes != self.bytes {
                    return self.wrong("fewer bytes written than sent");
                }
                if reply.u32()? < stable_how(workload) {
                    return self.wrong("less stable than asked for");
                }
            }
            Procedure::Create | Procedure::Mkdir => {
                if !reply.bool()? {
                    return self.wrong("no file handle");
                }
                self.handle = Bytes::copy_from_slice(reply.opaque()?);
            }
            _ => {}
        }
        Ok(done)
    }

    /// A page of a directory of so many files; its last page is the sequence's last call.
    fn listing(&mut self, files: u64, reply: &mut Reply<'_>) -> Result<Done, Failure> {
        let (entries, cookie, eof) = entries(reply, self.offset)?;
        self.offset = cookie;
        self.bytes = self.bytes.saturating_add(entries);
        if !eof && entries == 0 {
            return self.wrong("no entries, and not at the end");
        }
        if eof && self.bytes < files {
            return self.wrong("entries are missing");
        }
        Ok(Done { bytes: 0, entries, last: eof })
    }

    fn wrong<T>(&self, what: &'static str) -> Result<T, Failure> {
        Err(Failure::Wrong { procedure: self.procedure.name(), what })
    }
}

/// What a WRITE asks for.
fn stable_how(workload: Workload) -> u32 {
    if matches!(workload, Workload::Randwrite4k | Workload::Seqwrite1m) { UNSTABLE } else { FILE_SYNC }
}

/// READDIRPLUS3resok: how many entries, the last cookie, and whether that is all.
fn entries(reply: &mut Reply<'_>, from: u64) -> Result<(u64, u64, bool), Failure> {
    reply.skip_post_op_attr()?;
    // cookieverf3.
    reply.skip(8)?;
    let (mut count, mut cookie) = (0, from);
    while reply.bool()? {
        // fileid3.
        reply.skip(8)?;
        reply.opaque()?;
        cookie = reply.u64()?;
        reply.skip_post_op_attr()?;
        if reply.bool()? {
            reply.opaque()?;
        }
        count += 1;
    }
    Ok((count, cookie, reply.bool()?))
}

/// SplitMix64 (Steele, Lea, Flood 2014): places and bytes that nobody can guess ahead, cheaply.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}
