//! The Raft log and the votes of one group on disk: append, fdatasync, read back, cut.
//!
//! [`Wal`] has one owner and appends; [`WalReader`] is for everybody else. Nothing is ever overwritten in place:
//! a suffix that a new leader contradicts is removed by appending a truncation record, so a crash at any point
//! leaves a prefix of what was appended, and at least all that [`Wal::sync`] covered. The WAL never retries: a
//! failed write or fdatasync poisons it for good.
//!
//! # Files
//! The directory holds segments `<sequence number, 16 hex digits>.wal` in one unbroken row, of which the last
//! is appended to, and `spare-<number>` files: zeroed, or segments no longer needed, whose blocks the host has
//! allocated and written, so that an fdatasync writes data alone. `new` is a log whose creation did not finish.
//!
//! # Segment
//! All integers are little-endian. A header of 4096 bytes, then records at multiples of 8.
//!
//! ```text
//! offset  0         8        12        16        24        32
//!         +---------+---------+---------+---------+---------+
//!         |"hanfsWAL"| version | CRC-32C |  log id | sequence|
//!         +---------+---------+---------+---------+---------+
//! offset 32        40        48        56        64        68
//!         +---------+---------+---------+---------+---------+-------------- - -
//!         | segment |  base   |  base   |  end of |  state  | state, zeros
//!         |  bytes  |  index  |  term   | previous|  bytes  | up to 4096
//!         +---------+---------+---------+---------+---------+-------------- - -
//! ```
//! The CRC covers the 4096 bytes without itself. The log id is random, one per log. *Base* is the last entry
//! before this segment, *end of previous* the offset at which the records of the segment before end, *state* the
//! newest voter's state at that time: so it outlives the segments that are cut.
//!
//! # Record
//! ```text
//! offset  0         4      7   8        12        16        24        32        40       44       48
//!         +---------+------+---+---------+---------+---------+---------+---------+--------+--------+---- - -
//!         | CRC-32C |"REC" |k. |  body   | CRC-32C | durable |  index  |  term   |   op   |  zero  | body,
//!         | of head |      |   |  bytes  | of body |  up to  |         |         |  bytes |        | padding
//!         +---------+------+---+---------+---------+---------+---------+---------+--------+--------+---- - -
//! ```
//! The head's CRC covers bytes 4 to 48 and is seeded with log id, sequence number, session (from 0) and the
//! record's own offset, 8 bytes each: what an earlier use of the segment, an earlier session, or another log left
//! behind is never taken for a record. *Durable up to*
//! is the offset in this segment below which everything had been fdatasync'ed when the record was written.
//!
//! | kind | meaning | body |
//! | --- | --- | --- |
//! | 1 entry | the log's next entry | op, then payload |
//! | 2 state | the voter's state from here on | state |
//! | 3 truncation | entries behind (index, term) are gone | none |
//! | 4 session | the log was opened; what follows is of session number *index* | none |
//!
//! State: term, vote, commit, history, witness, parent history (8 bytes each), flags (1 byte: 1 solo,
//! 2 recovering, 4 stand-in, 8 blank, 16 locks lost, 32 the next follows), length of the boot id (2 bytes), boot id,
//! end of the parent history (index, term; 8 bytes each). One append writes truncation, state, entries, in this order: a commit index
//! never outlives a crash without the truncation it relies on, and is cut back to the last entry there is.
//!
//! # Order of operations, and why
//! *Next segment*: fdatasync the old one; write the header into a spare and fdatasync it; rename; sync the
//! directory; only then append. So every segment but the last is wholly durable and its end is known: a bad byte
//! there is damage. *Cut*: fdatasync; then oldest first, each rename or removal durable before the next, so that
//! a crash leaves no hole.
//!
//! # Recovery
//! Everything is fdatasync'ed before it is read. The last segment ends at its first bad record, at offset X. If a
//! whole record head of this session or the next follows whose *durable up to* is beyond X, then X had been
//! durable: damage, and nothing is touched. Otherwise a power cut tore an unsynced batch, in whatever order its
//! sectors went, and the tail is dropped. A session record, synced before anything else, then sees to it that
//! no mixture of what is left of it and of what is written over it can come back to life. What a flipped bit does to the last batch, behind which nothing was written, cannot be told
//! from a torn tail; the record of a clean stop behind it makes it so.

mod batch;
mod error;
mod format;
mod index;
mod reader;
mod recovery;
mod spares;
#[cfg(test)]
mod tests;
mod writer;

pub use error::WalError;
pub use reader::WalReader;
pub use writer::{ENTRY_BYTES_MAX, Opened, Wal, WalOptions};
