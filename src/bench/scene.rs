//! What the load works on, in a new directory of the export: made before anything is measured.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use parking_lot::Mutex;

use super::connection::{Connection, Until};
use super::script::{Procedure, Random, Script};
use super::wire::{Call, Failure, MOUNT, NFS, Reply};
use super::workload::{BUSY, Workload};
use crate::client::Target;

/// A data file, bytes; each connection has one. Far more than a CPU's cache and less than the page cache: what
/// is measured is the server, not the disk's reads.
pub const DATA_BYTES: u64 = 32 << 20;
/// Files of the directory that is listed and looked up in.
const FILES: u64 = 2_000;
/// Random bytes of which payloads are slices, so that none has to be made while time runs.
const POOL_BYTES: usize = 4 << 20;
/// MNT, RFC 1813 appendix I.
const MNT: u32 = 1;

/// See the module.
pub struct Scene {
    /// The server.
    pub address: SocketAddr,
    /// Where files are made, renamed and removed.
    pub dir: Bytes,
    /// The directory that is listed.
    pub files_dir: Bytes,
    /// Its files: the numbers in their names, and their handles.
    pub files: Vec<(u64, Bytes)>,
    /// The data file of each connection.
    pub data: Vec<Bytes>,
    /// Numbers that occur once: in names, as seeds.
    pub serial: AtomicU64,
    /// Numbers of files in `dir` that nobody needs any more.
    pub removable: Mutex<Vec<u64>>,
    pool: Bytes,
}

impl Scene {
    /// With nothing in it.
    pub fn new(address: SocketAddr, dir: Bytes, files_dir: Bytes) -> Self {
        let mut random = Random(1);
        let pool: Vec<u8> = (0..POOL_BYTES / 8).flat_map(|_| random.next().to_le_bytes()).collect();
        Self {
            address,
            dir,
            files_dir,
            files: Vec::new(),
            data: Vec::new(),
            serial: AtomicU64::new(0),
            removable: Mutex::default(),
            pool: pool.into(),
        }
    }

    /// Mounts the export and makes everything in the new directory `name`.
    pub fn prepare(target: &Target, name: &str) -> Result<Self, Failure> {
        let address = SocketAddr::new(target.address, target.port);
        let mut connection = Connection::open(address)?;
        let root = mount(&mut connection, &target.path)?;
        let top = make(&mut connection, Procedure::Mkdir, &root, name)?;
        let dir = make(&mut connection, Procedure::Mkdir, &top, "work")?;
        let files_dir = make(&mut connection, Procedure::Mkdir, &top, "files")?;
        // Until there is the directory for work, files are made in the other one.
        let mut scene = Self::new(address, files_dir.clone(), files_dir);
        for lane in 0..BUSY.connections {
            scene.data.push(make(&mut connection, Procedure::Create, &top, &format!("data{lane}"))?);
        }
        scene.files = run_to_end(&scene, &mut connection, Workload::Create, 0, FILES)?;
        scene.dir = dir;
        for lane in 0..BUSY.connections {
            for slot in 0..BUSY.window {
                let name = scene.rename_name(lane, slot);
                make(&mut connection, Procedure::Create, &scene.dir, &name)?;
            }
            run_to_end(&scene, &mut connection, Workload::Seqwrite1m, lane, DATA_BYTES >> 20)?;
        }
        Ok(scene)
    }

    /// The file that a slot renames.
    pub fn rename_name(&self, lane: usize, slot: usize) -> String {
        format!("rename{lane}-{slot}")
    }

    /// Some random bytes.
    pub fn bytes(&self, random: &mut Random, bytes: u64) -> Bytes {
        let len = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.pool.len());
        let room = self.pool.len() - len;
        let start = random.below(room as u64 + 1) as usize;
        self.pool.slice(start..start + len)
    }

    /// Makes sure that there is something to remove, without measuring it.
    pub fn provide_removable(&self) -> Result<(), Failure> {
        if self.removable.lock().is_empty() {
            let mut connection = Connection::open(self.address)?;
            let made = run_to_end(self, &mut connection, Workload::Create, 0, FILES)?;
            self.removable.lock().extend(made.iter().map(|(number, _)| *number));
        }
        Ok(())
    }

    /// Takes away one connection's part of what there is to remove.
    pub fn take_removable(&self, lane: usize, lanes: usize) -> Vec<u64> {
        let mut all = self.removable.lock();
        let keep = all.len() - all.len() / (lanes - lane).max(1);
        all.split_off(keep)
    }

    /// Connects, and makes a call, so that the server has done what it does for a new connection.
    pub fn connect(&self) -> Result<Connection, Failure> {
        let mut connection = Connection::open(self.address)?;
        connection.call((NFS, Procedure::Null.number(), "NULL"), |_| {}, |_| Ok(()))?;
        Ok(connection)
    }
}

fn run_to_end(
    scene: &Scene,
    connection: &mut Connection,
    workload: Workload,
    lane: usize,
    sequences: u64,
) -> Result<Vec<(u64, Bytes)>, Failure> {
    let mut script = Script::new(scene, workload, lane, BUSY.window, Some(sequences));
    connection.run(&mut script, BUSY.window, Until::Done)?;
    Ok(std::mem::take(&mut script.made))
}

fn mount(connection: &mut Connection, path: &str) -> Result<Bytes, Failure> {
    let arguments = |call: &mut Call<'_>| _ = call.opaque(path.as_bytes());
    connection.call((MOUNT, MNT, "MNT"), arguments, |reply| {
        reply.ok("MNT")?;
        Ok(Bytes::copy_from_slice(reply.opaque()?))
    })
}

/// Makes a file or a directory that must not exist.
fn make(
    connection: &mut Connection,
    procedure: Procedure,
    dir: &Bytes,
    name: &str,
) -> Result<Bytes, Failure> {
    let arguments = |call: &mut Call<'_>| {
        call.opaque(dir).opaque(name.as_bytes());
        match procedure {
            Procedure::Create => call.u32(1).mode(0o644),
            _ => call.mode(0o755),
        };
    };
    let results = |reply: &mut Reply<'_>| {
        reply.ok(procedure.name())?;
        if !reply.bool()? {
            return Err(Failure::Wrong { procedure: procedure.name(), what: "no file handle" });
        }
        Ok(Bytes::copy_from_slice(reply.opaque()?))
    };
    connection.call((NFS, procedure.number(), procedure.name()), arguments, results)
}
