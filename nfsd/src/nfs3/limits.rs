//! How much one call may carry or ask for.

/// Most data of one READ or WRITE, bytes (rtmax, wtmax): the most that a Linux client uses. A longer READ is
/// answered short; a longer WRITE is written up to here (RFC 1813 section 3.3.7 allows it), if its record is
/// not too large already.
pub const IO_BYTES_MAX: u32 = 1 << 20;

/// Best unit of READ and WRITE, bytes (rtmult, wtmult): a page of the host's page cache.
pub(super) const IO_MULTIPLE: u32 = 4096;

/// Most results of one READDIR or READDIRPLUS, bytes (dtpref); about 370 entries with attributes. A client may
/// ask for more and gets this much: a listing needs no memory beyond it.
pub const DIR_BYTES_MAX: u32 = 64 << 10;

/// The same over UDP, bytes, of data and of directories: a reply is one datagram. What Linux's server allows.
pub(super) const UDP_BYTES_MAX: u32 = 32 << 10;

const _: () = assert!(UDP_BYTES_MAX + 4096 < 65_507, "results and headers fit in a datagram");
const _: () = assert!(UDP_BYTES_MAX.is_multiple_of(IO_MULTIPLE) && IO_BYTES_MAX.is_multiple_of(IO_MULTIPLE));
const _: () = assert!(DIR_BYTES_MAX <= IO_BYTES_MAX, "the largest reply is READ's");
