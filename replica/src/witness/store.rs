//! What a witness must never forget, on its disk.
//!
//! ```text
//! identity        one slot        drawn at random when the directory is made; never changes
//! <uuid>.vote     two slots       one file per group; the newer valid slot counts
//!
//! slot (little endian; slots begin at 0 and 4096)
//!   0  magic "HANFSWIT"           8
//!   8  format                     4    1
//!  12  zero                       4
//!  16  generation                 8    counts up with each write; 0 in `identity`
//!  24  identity                   8
//!  32  term                       8
//!  40  vote                       8
//!  48  entry term                 8
//!  56  entry index                8
//!  64  CRC-32C of bytes 0..64     4
//! ```
//!
//! A write goes to the older slot and is fdatasync'ed before the answer leaves, so the newer one is whole whatever happens.
//! A slot is less than a sector: a crash leaves it old or new. One that is neither empty nor valid is a damaged disk, and
//! is refused: what it held may have been a vote.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::state::WitnessState;
use crate::disk::{Disk, File};
use crate::ids::ExportId;
use crate::planted::{Planted, planted};

const MAGIC: &[u8; 8] = b"HANFSWIT";
const FORMAT: u32 = 1;
const SLOT_BYTES: usize = 68;
/// Slots lie in different sectors, whatever the disk's sector is.
const SLOT_STRIDE: u64 = 4096;
const IDENTITY: &str = "identity";
const SUFFIX: &str = "vote";

/// Why a witness's directory cannot be used. Each names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum WitnessStoreError {
    /// The host said no.
    #[error("{what} {path}: {source}")]
    Io {
        /// A verb.
        what: &'static str,
        /// The file.
        path: String,
        /// What the host said.
        source: io::Error,
    },
    /// Neither empty nor valid.
    #[error(
        "{path} is damaged: move it aside and restart the witness; it votes in that group again once both nodes are in \
         sync and have adopted it"
    )]
    Damaged {
        /// The file.
        path: String,
    },
    /// Made by a newer hanfs.
    #[error("{path} has format {format}, this hanfs knows up to {FORMAT}: upgrade it")]
    Format {
        /// The file.
        path: String,
        /// Its format.
        format: u32,
    },
    /// A group's file of another witness, or no identity beside the groups' files.
    #[error(
        "{path} is not of this witness: its directory is a mixture; move all of it aside and restart the witness"
    )]
    Foreign {
        /// The file.
        path: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    generation: u64,
    identity: u64,
    state: WitnessState,
}

impl Slot {
    fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut bytes = Vec::with_capacity(SLOT_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&u64::from(FORMAT).to_le_bytes());
        let s = &self.state;
        for field in [self.generation, self.identity, s.term, s.vote, s.entry_term, s.index] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        let mut slot = [0; SLOT_BYTES];
        for (to, from) in slot.iter_mut().zip(bytes.iter().chain(&crc.to_le_bytes())) {
            *to = *from;
        }
        slot
    }

    /// None: never written.
    fn decode(bytes: &[u8; SLOT_BYTES], path: &str) -> Result<Option<Self>, WitnessStoreError> {
        if bytes.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let damaged = || WitnessStoreError::Damaged { path: path.to_owned() };
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
        if !body.starts_with(MAGIC) || crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(damaged());
        }
        let mut words =
            body.chunks_exact(8).skip(1).map(|w| w.try_into().map(u64::from_le_bytes).unwrap_or_default());
        let mut next = || words.next().unwrap_or_default();
        let format = (next() & u64::from(u32::MAX)) as u32;
        if format > FORMAT {
            return Err(WitnessStoreError::Format { path: path.to_owned(), format });
        }
        let (generation, identity) = (next(), next());
        let state = WitnessState { term: next(), vote: next(), entry_term: next(), index: next() };
        Ok(Some(Self { generation, identity, state }))
    }
}

/// A witness's directory.
#[derive(Debug)]
pub struct WitnessStore {
    disk: Arc<dyn Disk>,
    identity: u64,
}

impl WitnessStore {
    /// Opens the directory, or makes it with `new_identity` (random, not 0).
    pub fn open(disk: Arc<dyn Disk>, new_identity: u64) -> Result<Self, WitnessStoreError> {
        let path = Path::new(IDENTITY);
        disk.create_dir(Path::new("")).map_err(failed("make", &*disk, Path::new("")))?;
        let names = disk.list(Path::new("")).map_err(failed("list", &*disk, Path::new("")))?;
        if names.iter().any(|n| n.file_name() == path.file_name()) {
            let file = disk.open(path, false).map_err(failed("open", &*disk, path))?;
            let locate = locate(&*disk, path);
            let slot = read_slot(&*file, 0, &locate)?;
            let slot = slot.ok_or(WitnessStoreError::Damaged { path: locate })?;
            return Ok(Self { disk, identity: slot.identity });
        }
        if let Some(group) = names.iter().find(|n| n.extension().is_some_and(|e| e == SUFFIX)) {
            return Err(WitnessStoreError::Foreign { path: locate(&*disk, group) });
        }
        // Under its own name only once it is whole.
        let new = Path::new("identity.new");
        let slot = Slot { generation: 0, identity: new_identity, state: WitnessState::default() };
        let file = disk.open(new, true).map_err(failed("make", &*disk, new))?;
        write_slot(&*file, 0, &slot).map_err(failed("write", &*disk, new))?;
        disk.rename(new, path).map_err(failed("rename", &*disk, new))?;
        disk.sync_dir(Path::new("")).map_err(failed("sync", &*disk, Path::new("")))?;
        Ok(Self { disk, identity: new_identity })
    }

    /// Random, born with this directory.
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// The groups that have a file.
    pub fn groups(&self) -> Result<Vec<ExportId>, WitnessStoreError> {
        let names = self.disk.list(Path::new("")).map_err(failed("list", &*self.disk, Path::new("")))?;
        let groups = names.iter().filter(|n| n.extension().is_some_and(|e| e == SUFFIX));
        Ok(groups.filter_map(|n| n.file_stem()?.to_str()?.parse().ok()).collect())
    }

    /// A group's file and what it says; None: no state of it yet. Nothing is made before the first write.
    pub fn group(&self, id: ExportId) -> Result<(WitnessFile, Option<WitnessState>), WitnessStoreError> {
        let path = PathBuf::from(format!("{id}.{SUFFIX}"));
        let named = locate(&*self.disk, &path);
        let mut handle = WitnessFile {
            disk: self.disk.clone(),
            path: path.clone(),
            identity: self.identity,
            generation: 0,
            file: None,
        };
        let file = match self.disk.open(&path, false) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((handle, None)),
            Err(e) => return Err(failed("open", &*self.disk, &path)(e)),
        };
        let slots = [read_slot(&*file, 0, &named)?, read_slot(&*file, SLOT_STRIDE, &named)?];
        let newest = slots.into_iter().flatten().max_by_key(|s| s.generation);
        if newest.is_some_and(|s| s.identity != self.identity) {
            return Err(WitnessStoreError::Foreign { path: named });
        }
        handle.generation = newest.map_or(0, |s| s.generation);
        handle.file = Some(file);
        Ok((handle, newest.map(|s| s.state)))
    }
}

/// The file of one group. One owner.
#[derive(Debug)]
pub struct WitnessFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    identity: u64,
    generation: u64,
    file: Option<Arc<dyn File>>,
}

impl WitnessFile {
    /// Makes a state durable. After an error the witness answers nothing more for this group: never retry.
    pub fn save(&mut self, state: WitnessState) -> Result<(), WitnessStoreError> {
        let failed = |what| failed(what, &*self.disk, &self.path);
        let file = match &self.file {
            Some(file) => file.clone(),
            None => self.disk.open(&self.path, true).map_err(failed("make"))?,
        };
        let generation = self.generation + 1;
        let slot = Slot { generation, identity: self.identity, state };
        let offset = if generation.is_multiple_of(2) { SLOT_STRIDE } else { 0 };
        write_slot(&*file, offset, &slot).map_err(failed("write"))?;
        if self.file.is_none() {
            self.disk.sync_dir(Path::new("")).map_err(failed("make"))?;
        }
        self.generation = generation;
        self.file = Some(file);
        Ok(())
    }
}

fn read_slot(file: &dyn File, offset: u64, path: &str) -> Result<Option<Slot>, WitnessStoreError> {
    let mut bytes = [0; SLOT_BYTES];
    let read = file.read_at(&mut bytes, offset).map_err(|source| WitnessStoreError::Io {
        what: "read",
        path: path.to_owned(),
        source,
    })?;
    // A file that ends within a slot: the host had room for a part of the write only, and it was not answered.
    if read < SLOT_BYTES { Ok(None) } else { Slot::decode(&bytes, path) }
}

fn write_slot(file: &dyn File, offset: u64, slot: &Slot) -> io::Result<()> {
    file.write_at(&[&slot.encode()], offset)?;
    // Planted: the answer does not wait for the disk.
    if planted(Planted::WitnessForgets) { Ok(()) } else { file.sync() }
}

fn locate(disk: &dyn Disk, path: &Path) -> String {
    disk.locate(path).display().to_string()
}

fn failed<'a>(
    what: &'static str,
    disk: &'a dyn Disk,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> WitnessStoreError + 'a {
    move |source| WitnessStoreError::Io { what, path: locate(disk, path), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    const GROUP: ExportId = ExportId([3; 16]);

    fn state(n: u64) -> WitnessState {
        WitnessState { term: n, vote: 1 + n % 2, entry_term: n, index: 10 * n }
    }

    fn open(disk: &SimDisk) -> WitnessStore {
        WitnessStore::open(Arc::new(disk.clone()), 42).expect("the directory opens")
    }

    fn read(disk: &SimDisk) -> Result<Option<WitnessState>, WitnessStoreError> {
        open(disk).group(GROUP).map(|(_, state)| state)
    }

    /// Goal: a vote that was answered is never forgotten, and the identity never changes. Method: cut the power at every
    /// write, of many, with a simulated disk that loses any mixture of what was not synced.
    #[test]
    fn what_was_saved_survives_any_power_cut() {
        for seed in 0..100 {
            let disk = SimDisk::new();
            let mut saved = None;
            for n in 1..=seed % 7 {
                let (mut file, found) = open(&disk).group(GROUP).expect("the group opens");
                assert_eq!(found, saved);
                file.save(state(n)).expect("it is saved");
                saved = Some(state(n));
                if n % 3 == 0 {
                    disk.crash(seed);
                }
            }
            // The last write is torn.
            if let (mut file, Some(_)) = open(&disk).group(GROUP).expect("the group opens") {
                disk.fail_next_sync();
                assert!(file.save(state(99)).is_err());
            }
            disk.crash(seed);
            let found = read(&disk).expect("the group opens");
            assert!(found == saved || found == Some(state(99)), "seed {seed}: {found:?} for {saved:?}");
            let again = WitnessStore::open(Arc::new(disk.clone()), 7).expect("the directory opens");
            assert_eq!(again.identity(), if saved.is_some() { 42 } else { again.identity() });
            assert_eq!(again.groups().expect("it lists").len(), usize::from(found.is_some()));
        }
    }

    /// Goal: a flipped bit is not taken for "no state", nor for an older vote. Method: flip one in the newer slot.
    #[test]
    fn a_damaged_slot_is_refused_with_the_remedy() {
        let disk = SimDisk::new();
        let (mut file, _) = open(&disk).group(GROUP).expect("the group opens");
        file.save(state(1)).expect("it is saved");
        file.save(state(2)).expect("it is saved");
        disk.flip_bit(Path::new(&format!("{GROUP}.vote")), SLOT_STRIDE + 33, 2).expect("a bit flips");
        let error = read(&disk).expect_err("it is damaged").to_string();
        assert!(error.contains(&GROUP.to_string()) && error.contains("move it aside"), "{error}");
    }

    /// Goal: votes of one witness are not taken for another's. Method: a group's file without its identity.
    #[test]
    fn a_mixture_of_directories_is_refused() {
        let disk = SimDisk::new();
        open(&disk).group(GROUP).expect("the group opens").0.save(state(1)).expect("it is saved");
        disk.remove(Path::new(IDENTITY)).expect("it is removed");
        let error = WitnessStore::open(Arc::new(disk.clone()), 43).expect_err("no identity beside a vote");
        assert!(matches!(error, WitnessStoreError::Foreign { .. }));
    }

    /// Goal: format 1 stays readable. Method: its bytes, written down.
    #[test]
    fn golden_slot_of_format_1() {
        let slot = Slot { generation: 2, identity: 0x0102, state: state(5) };
        let bytes = slot.encode();
        let mut expected = b"HANFSWIT".to_vec();
        for word in [1u64, 2, 0x0102, 5, 2, 5, 50] {
            expected.extend_from_slice(&word.to_le_bytes());
        }
        expected.extend_from_slice(&0xda80_006au32.to_le_bytes());
        assert_eq!(bytes[..], expected[..]);
        assert_eq!(Slot::decode(&bytes, "f").expect("it is valid"), Some(slot));
        let mut newer = bytes;
        newer[8] = 2;
        let crc = crc32c::crc32c(&newer[..64]);
        newer[64..].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(Slot::decode(&newer, "f"), Err(WitnessStoreError::Format { format: 2, .. })));
    }
}
