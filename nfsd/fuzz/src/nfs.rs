//! NFS v3: arguments of any procedure, through the real dispatcher, to a real file system.
//!
//! Input: up to four calls, each a byte for the procedure, a byte for the caller and how it calls, the length of the
//! arguments (u16, big-endian), and the arguments. Each answer must be well-formed to `nfs3_types` from its first to its
//! last byte, arguments that the server took must be arguments to it too, and a change that is sent again must get the
//! same answer again.

use bytes::Bytes;
use nfs3_types::nfs3::*;
use nfs3_types::xdr_codec::Unpack;
use nfsd::rpc::Transport;

use super::world::{self, CALLERS, World};

/// Procedures of NFS v3, and one that there is not.
const PROCEDURES: u8 = 23;
/// Most calls of one input.
const CALLS_MAX: u32 = 4;
/// Bits of a call's second byte: by UDP; sent twice.
pub const UDP: u8 = 0x80;
/// See [`UDP`].
pub const TWICE: u8 = 0x40;

/// Longest reply but for READ's, bytes: a listing of 64 KiB with its header.
const REPLY_MAX: usize = (64 << 10) + 1024;
/// Longest reply of READ, bytes.
const READ_REPLY_MAX: usize = (1 << 20) + 1024;

/// The target.
pub fn run(input: &[u8]) {
    world::with(|world| {
        let mut rest = input;
        for xid in 0..CALLS_MAX {
            let Some(([procedure, how, high, low], after)) = rest.split_first_chunk::<4>() else { return };
            let len = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
            let (args, after) = after.split_at(len);
            rest = after;
            call(world, xid, u32::from(procedure % PROCEDURES), *how, args);
        }
    });
}

fn call(world: &World, xid: u32, procedure: u32, how: u8, args: &[u8]) {
    let caller = CALLERS[usize::from(how & 3) % CALLERS.len()];
    let record = world::record(xid, (PROGRAM, VERSION, procedure), caller, args);
    let transport = if how & UDP == 0 { Transport::Tcp } else { Transport::Udp };
    let reply = world.call(&record, transport).expect("a call gets an answer");
    check(procedure, args, &reply);
    // Reads may differ: what they read may have changed since.
    let changes = matches!(procedure, 2 | 7..=15);
    if how & TWICE != 0 && changes {
        let again = world.call(&record, transport).expect("a call gets an answer");
        assert_eq!(again, reply, "procedure {procedure}: a retransmission got another answer");
    }
}

/// The reply is one of procedure's, whole.
fn check(procedure: u32, args: &[u8], reply: &Bytes) {
    let word =
        |at: usize| reply.get(at..at + 4).map(|w| u32::from_be_bytes(w.try_into().expect("four bytes")));
    assert_eq!((word(4), word(8)), (Some(1), Some(0)), "not an accepted reply");
    let results = &reply[24..];
    match word(20) {
        Some(0) => {}
        // PROC_UNAVAIL, GARBAGE_ARGS.
        Some(3) => return assert_eq!(procedure, 22, "a procedure is missing"),
        Some(4) => return assert!(results.is_empty()),
        other => panic!("accept_stat {other:?}"),
    }
    let max = if procedure == 6 { READ_REPLY_MAX } else { REPLY_MAX };
    assert!(reply.len() <= max, "procedure {procedure}: {} bytes", reply.len());
    if procedure > 0 {
        let status = word(24).expect("a status");
        assert!(!matches!(status, 5 | 10_006 | 10_008), "procedure {procedure}: status {status}");
    }
    agree(procedure, args, results);
}

/// Both decode, and the results do to their last byte.
fn both<A: Unpack, R: Unpack>(procedure: u32, args: &[u8], results: &[u8]) {
    let mut rest = args;
    assert!(A::unpack(&mut rest).is_ok(), "procedure {procedure}: arguments that are none were taken");
    let mut rest = results;
    if let Err(error) = R::unpack(&mut rest) {
        panic!("procedure {procedure}: results do not decode: {error}");
    }
    assert!(rest.is_empty(), "procedure {procedure}: {} bytes after the results", rest.len());
}

fn agree(procedure: u32, args: &[u8], results: &[u8]) {
    let check = match procedure {
        0 => return assert!(results.is_empty(), "NULL has no results"),
        1 => both::<GETATTR3args, GETATTR3res>,
        2 => both::<SETATTR3args, SETATTR3res>,
        3 => both::<LOOKUP3args<'_>, LOOKUP3res>,
        4 => both::<ACCESS3args, ACCESS3res>,
        5 => both::<READLINK3args, READLINK3res<'_>>,
        6 => both::<READ3args, READ3res<'_>>,
        7 => both::<WRITE3args<'_>, WRITE3res>,
        8 => both::<CREATE3args<'_>, CREATE3res>,
        9 => both::<MKDIR3args<'_>, MKDIR3res>,
        10 => both::<SYMLINK3args<'_>, SYMLINK3res>,
        11 => both::<MKNOD3args<'_>, MKNOD3res>,
        12 => both::<REMOVE3args<'_>, REMOVE3res>,
        13 => both::<RMDIR3args<'_>, RMDIR3res>,
        14 => both::<RENAME3args<'_, '_>, RENAME3res>,
        15 => both::<LINK3args<'_>, LINK3res>,
        16 => both::<READDIR3args, READDIR3res<'_>>,
        17 => both::<READDIRPLUS3args, READDIRPLUS3res<'_>>,
        18 => both::<FSSTAT3args, FSSTAT3res>,
        19 => both::<FSINFO3args, FSINFO3res>,
        20 => both::<PATHCONF3args, PATHCONF3res>,
        21 => both::<COMMIT3args, COMMIT3res>,
        _ => panic!("procedure {procedure} was answered"),
    };
    check(procedure, args, results);
}
