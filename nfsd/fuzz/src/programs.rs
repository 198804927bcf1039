//! The programs around NFS: portmapper, rpcbind, MOUNT, the lock and status monitors' numbers, and programs that there
//! are not.
//!
//! Input: up to four calls, each a byte for the program, one for its version, one for the procedure, one for the caller
//! and how it calls, the length of the arguments (u16, big-endian), and the arguments.

use bytes::Bytes;
use nfs3_types::mount::{exports, mountlist, mountres3};
use nfs3_types::portmap::pmaplist;
use nfs3_types::xdr_codec::Unpack;
use nfsd::rpc::Transport;

use super::nfs::UDP;
use super::world::{self, CALLERS, World};

/// Portmapper, MOUNT, NLM, NSM, NFSACL, NFS.
const PROGRAMS: [u32; 6] = [100_000, 100_005, 100_021, 100_024, 100_227, 100_003];
/// Most calls of one input.
const CALLS_MAX: u32 = 4;
/// Versions and procedures up to here.
const NUMBERS: u8 = 32;

/// The target.
pub fn run(input: &[u8]) {
    world::with(|world| {
        let mut rest = input;
        for xid in 0..CALLS_MAX {
            let Some(([program, version, procedure, how, high, low], after)) = rest.split_first_chunk::<6>()
            else {
                return;
            };
            let len = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
            let (args, after) = after.split_at(len);
            rest = after;
            let number = PROGRAMS[usize::from(*program) % PROGRAMS.len()];
            let (version, procedure) = (u32::from(version % NUMBERS), u32::from(procedure % NUMBERS));
            call(world, xid, (number, version, procedure), *how, args);
        }
    });
}

fn call(world: &World, xid: u32, program: (u32, u32, u32), how: u8, args: &[u8]) {
    let caller = CALLERS[usize::from(how & 3) % CALLERS.len()];
    // CALLIT and BCAST as datagrams are the calls that get no answer, for whoever floods a stranger.
    let unanswered = matches!(program, (100_000, 2..=4, 5));
    let transport = if how & UDP == 0 || unanswered { Transport::Tcp } else { Transport::Udp };
    let record = world::record(xid, program, caller, args);
    let reply = world.call(&record, transport).expect("a call gets an answer");
    assert!(reply.len() < 64 << 10, "{program:?}: {} bytes", reply.len());
    // SUCCESS alone has results to look at.
    if reply.get(4..24) == Some(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) {
        check(program, &reply.slice(24..));
    }
}

/// Results of procedures that have some are whole.
fn check(program: (u32, u32, u32), results: &Bytes) {
    match program {
        (100_000, 2, 1..=3) => whole::<u32>(program, results),
        (100_000, 2, 4) => whole::<pmaplist>(program, results),
        (100_005, 3, 1) => whole::<mountres3<'_>>(program, results),
        (100_005, 3, 2) => whole::<mountlist<'_, '_>>(program, results),
        (100_005, 3, 5) => whole::<exports<'_, '_>>(program, results),
        (_, _, 0) | (100_005, 3, 3 | 4) => assert!(results.is_empty(), "{program:?} has no results"),
        _ => {}
    }
}

fn whole<R: Unpack>(program: (u32, u32, u32), results: &[u8]) {
    let mut rest = results;
    if let Err(error) = R::unpack(&mut rest) {
        panic!("{program:?}: results do not decode: {error}");
    }
    assert!(rest.is_empty(), "{program:?}: {} bytes after the results", rest.len());
}
