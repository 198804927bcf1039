//! File handle bytes (nfs_fh3, RFC 1813 section 2.3.3): the same on both nodes, never derived from a boot, a
//! device or a path.
//!
//! ```text
//!  0        1                4                              20                28                36
//! +--------+----------------+------------------------------+-----------------+-----------------+
//! | 1      | 0, 0, 0        | export id                    | file id, BE     | generation, BE  |
//! +--------+----------------+------------------------------+-----------------+-----------------+
//!  version   reserved         the UUID's bytes               u64               u64
//! ```
//!
//! The version comes first so that any later layout is told apart by its first byte; the reserved bytes keep
//! what follows aligned to four, as XDR sends it. A handle is not a secret: AUTH_SYS trusts the network.

use replica::ids::{ExportId, FileId, Handle};

/// Length of a handle, bytes. NFS3_FHSIZE allows 64.
pub const HANDLE_BYTES: usize = 36;

/// Longest handle that the protocol allows, bytes (NFS3_FHSIZE).
pub const FHSIZE: usize = 64;

const VERSION: u8 = 1;

/// Not a handle that this server ever gave out: NFS3ERR_BADHANDLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a file handle of this server")]
pub struct BadHandle;

/// The handle's bytes.
pub fn encode(export: ExportId, handle: Handle) -> [u8; HANDLE_BYTES] {
    let mut bytes = [0; HANDLE_BYTES];
    bytes[0] = VERSION;
    bytes[4..20].copy_from_slice(&export.0);
    bytes[20..28].copy_from_slice(&handle.file.0.to_be_bytes());
    bytes[28..36].copy_from_slice(&handle.generation.to_be_bytes());
    bytes
}

/// What a handle's bytes name. Whether the file is still there, only its export knows.
pub fn decode(bytes: &[u8]) -> Result<(ExportId, Handle), BadHandle> {
    let bytes: &[u8; HANDLE_BYTES] = bytes.try_into().map_err(|_| BadHandle)?;
    let (head, rest) = bytes.split_first_chunk::<4>().ok_or(BadHandle)?;
    let (export, rest) = rest.split_first_chunk::<16>().ok_or(BadHandle)?;
    let (file, rest) = rest.split_first_chunk::<8>().ok_or(BadHandle)?;
    let generation = rest.first_chunk::<8>().ok_or(BadHandle)?;
    if *head != [VERSION, 0, 0, 0] {
        return Err(BadHandle);
    }
    let handle =
        Handle { file: FileId(u64::from_be_bytes(*file)), generation: u64::from_be_bytes(*generation) };
    Ok((ExportId(*export), handle))
}

#[cfg(test)]
mod tests {
    //! Goal: a handle given out by one version is understood for ever, and nothing else passes for one.
    //! Method: a golden handle, and each kind of damage to it.

    use super::*;

    #[test]
    fn golden_version_1() {
        let export = ExportId(*b"0123456789abcdef");
        let handle = Handle { file: FileId(0x0102_0304_0506_0708), generation: 9 };
        let bytes = encode(export, handle);
        assert_eq!(bytes, *b"\x01\0\0\x000123456789abcdef\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0\0\0\0\x09");
        assert_eq!(decode(&bytes), Ok((export, handle)));
    }

    #[test]
    fn anything_else_is_a_bad_handle() {
        let good = encode(ExportId([7; 16]), Handle { file: FileId::ROOT, generation: 0 });
        assert_eq!(decode(&[]), Err(BadHandle));
        assert_eq!(decode(&good[..35]), Err(BadHandle));
        assert_eq!(decode(&[&good[..], &[0]].concat()), Err(BadHandle));
        for (at, value) in [(0, 0), (0, 2), (1, 1), (3, 255)] {
            let mut bad = good;
            bad[at] = value;
            assert_eq!(decode(&bad), Err(BadHandle), "byte {at} = {value}");
        }
    }
}
