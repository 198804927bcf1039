//! How locks are written down: rows 'L' (ranges, shares, the grace period), 'W' (waiters), 'H' (clients).
//!
//! ```text
//! 'L' | 0                              | format 1 | in grace 1 | since ns 8 |
//! 'L' | 1 | file 8 | index 8 | n 4     range:  | format 1 | exclusive 1 | generation 8 | start 8 | end 8 |
//!                                              | since ns 8 | nsm state 4 | owner |
//! 'L' | 2 | file 8 | index 8 | n 4     share:  | format 1 | mode 1 | access 1 | generation 8 | since ns 8 |
//!                                              | nsm state 4 | owner |
//! 'W' | file 8 | id 8                  waiter: | format 1 | flags 1 | nlm version 1 | overtaken 2 | generation 8 |
//!                                              | start 8 | end 8 | since ns 8 | nsm state 4 | granted at 8 |
//!                                              | cookie bytes 1 | cookie | undo pieces 4 | pieces | owner |
//! 'H' | client 4 or 16                 client: | format 1 | monitored 1 | since ns 8 | nsm state 4 | notified 4 |
//!                                              | caller name |
//!
//! owner: | client bytes 1 | client | svid 4 | oh bytes 2 | oh | caller name bytes 2 | caller name |
//! flags: 1 exclusive, 2 UDP, 4 granted          piece: | start 8 | end 8 | 0 not held, 1 shared, 2 exclusive |
//! ```
//!
//! Index and n name a row: the entry that made it, and the how manieth row of that entry it is. A waiter's id is the
//! index of its LOCK, so waiters are in order of arrival. 'H' comes before 'L' and 'W', as a store is read in this order.

use std::io;

use bytes::Bytes;

use super::Owner;
use super::range::Range;
use super::table::{Claim, Held, HeldKey, Host, Share, Waiter};
use crate::fs::rows::{Fields, corrupt};
use crate::ids::FileId;
use crate::log::LogIndex;

/// First byte of a client's row.
pub(super) const HOST_TAG: u8 = b'H';
/// First byte of rows of what is held, and of the grace period.
pub(super) const LOCK_TAG: u8 = b'L';
/// First byte of a waiter's row.
pub(super) const WAITER_TAG: u8 = b'W';
/// Key of the grace period.
pub(super) const GRACE_KEY: [u8; 2] = [LOCK_TAG, 0];
/// Second byte of a range's key.
pub(super) const RANGE_KIND: u8 = 1;
/// Second byte of a share's key.
pub(super) const SHARE_KIND: u8 = 2;

/// Format of all of these rows.
const FORMAT: u8 = 1;
const EXCLUSIVE: u8 = 1;
const UDP: u8 = 2;
const GRANTED: u8 = 4;
/// A bit that no flag has, and none above it.
const FLAGS_END: u8 = 8;

/// Key of a range or of a share.
pub(super) fn held_key(kind: u8, file: FileId, key: HeldKey) -> Bytes {
    let mut row = vec![LOCK_TAG, kind];
    row.extend_from_slice(&file.0.to_be_bytes());
    row.extend_from_slice(&key.0.to_be_bytes());
    row.extend_from_slice(&key.1.to_be_bytes());
    row.into()
}

/// Reads the key of a range or of a share: what it is, its file, its name.
pub(super) fn decode_held_key(key: &[u8]) -> io::Result<(u8, FileId, HeldKey)> {
    let mut fields = Fields::new(key, "a lock's key");
    fields.u8()?;
    let kind = fields.u8()?;
    let file = FileId(u64::from_be_bytes(fields.array()?));
    let index = u64::from_be_bytes(fields.array()?);
    Ok((kind, file, (index, u32::from_be_bytes(fields.array()?))))
}

/// Key of a waiter.
pub(super) fn waiter_key(file: FileId, id: u64) -> Bytes {
    let mut row = vec![WAITER_TAG];
    row.extend_from_slice(&file.0.to_be_bytes());
    row.extend_from_slice(&id.to_be_bytes());
    row.into()
}

/// Reads the key of a waiter.
pub(super) fn decode_waiter_key(key: &[u8]) -> io::Result<(FileId, u64)> {
    let mut fields = Fields::new(key, "a waiter's key");
    fields.u8()?;
    let file = FileId(u64::from_be_bytes(fields.array()?));
    Ok((file, u64::from_be_bytes(fields.array()?)))
}

/// Key of a client.
pub(super) fn host_key(client: &[u8]) -> Bytes {
    let mut row = vec![HOST_TAG];
    row.extend_from_slice(client);
    row.into()
}

/// A value that is being written.
struct Value(Vec<u8>);

impl Value {
    fn new() -> Self {
        Self(vec![FORMAT])
    }

    fn put(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u8(self, n: u8) -> Self {
        self.put(&[n])
    }

    fn u32(self, n: u32) -> Self {
        self.put(&n.to_le_bytes())
    }

    fn u64(self, n: u64) -> Self {
        self.put(&n.to_le_bytes())
    }

    fn range(self, range: Range) -> Self {
        self.u64(range.start).u64(range.end)
    }

    /// Length (at most 2^16-1: whoever made the claim has checked it) and bytes.
    fn text(self, bytes: &[u8]) -> Self {
        self.put(&(bytes.len() as u16).to_le_bytes()).put(bytes)
    }

    fn claim(self, claim: &Claim) -> Self {
        let Owner { client, svid, oh } = &claim.owner;
        let head = self.u8(client.len() as u8).put(client).u32(*svid);
        head.text(oh).text(&claim.caller_name)
    }

    fn done(self) -> Bytes {
        self.0.into()
    }
}

/// Starts to read a value.
fn fields<'a>(value: &'a [u8], what: &'static str) -> io::Result<Fields<'a>> {
    let mut fields = Fields::new(value, what);
    if fields.u8()? == FORMAT { Ok(fields) } else { Err(corrupt(what)) }
}

fn take(fields: &mut Fields<'_>, len: usize) -> io::Result<Bytes> {
    fields.take(len).map(Bytes::copy_from_slice)
}

fn text(fields: &mut Fields<'_>) -> io::Result<Bytes> {
    let len = fields.u16()?;
    take(fields, usize::from(len))
}

fn range(fields: &mut Fields<'_>) -> io::Result<Range> {
    let (start, end) = (fields.u64()?, fields.u64()?);
    if start <= end { Ok(Range { start, end }) } else { Err(corrupt("a lock's range")) }
}

fn claim(fields: &mut Fields<'_>, since_ns: u64, nsm_state: u32) -> io::Result<Claim> {
    let len = fields.u8()?;
    let client = take(fields, usize::from(len))?;
    let owner = Owner { client, svid: fields.u32()?, oh: text(fields)? };
    Ok(Claim { owner, caller_name: text(fields)?, since_ns, nsm_state })
}

/// The row of a range.
pub(super) fn encode_held(generation: u64, held: &Held) -> Bytes {
    let value = Value::new().u8(u8::from(held.exclusive)).u64(generation).range(held.range);
    value.u64(held.claim.since_ns).u32(held.claim.nsm_state).claim(&held.claim).done()
}

/// Reads the row of a range, and its file's generation.
pub(super) fn decode_held(value: &[u8]) -> io::Result<(u64, Held)> {
    let mut f = fields(value, "a lock")?;
    let exclusive = match f.u8()? {
        0 => false,
        1 => true,
        _ => return Err(corrupt("a lock")),
    };
    let (generation, range) = (f.u64()?, range(&mut f)?);
    let (since_ns, nsm_state) = (f.u64()?, f.u32()?);
    Ok((generation, Held { claim: claim(&mut f, since_ns, nsm_state)?, range, exclusive }))
}

/// The row of a share.
pub(super) fn encode_share(generation: u64, share: &Share) -> Bytes {
    let value = Value::new().u8(share.mode).u8(share.access).u64(generation);
    value.u64(share.claim.since_ns).u32(share.claim.nsm_state).claim(&share.claim).done()
}

/// Reads the row of a share, and its file's generation.
pub(super) fn decode_share(value: &[u8]) -> io::Result<(u64, Share)> {
    let mut f = fields(value, "a share reservation")?;
    let (mode, access, generation) = (f.u8()?, f.u8()?, f.u64()?);
    let (since_ns, nsm_state) = (f.u64()?, f.u32()?);
    Ok((generation, Share { claim: claim(&mut f, since_ns, nsm_state)?, mode, access }))
}

/// The row of a waiter.
pub(super) fn encode_waiter(generation: u64, waiter: &Waiter) -> Bytes {
    let flag = |bit: u8, set: bool| if set { bit } else { 0 };
    let flags = flag(EXCLUSIVE, waiter.exclusive)
        | flag(UDP, waiter.udp)
        | flag(GRANTED, waiter.granted_at.is_some());
    let value = Value::new().u8(flags).u8(waiter.nlm_version).put(&waiter.overtaken.to_le_bytes());
    let value = value.u64(generation).range(waiter.range).u64(waiter.claim.since_ns);
    let value = value.u32(waiter.claim.nsm_state).u64(waiter.granted_at.unwrap_or_default());
    let value = value.u8(waiter.cookie.len() as u8).put(&waiter.cookie).u32(waiter.undo.len() as u32);
    let pieces = waiter.undo.iter().fold(value, |value, (range, held)| {
        value.range(*range).u8(match held {
            None => 0,
            Some(false) => 1,
            Some(true) => 2,
        })
    });
    pieces.claim(&waiter.claim).done()
}

/// Reads the row of a waiter, and its file's generation.
pub(super) fn decode_waiter(value: &[u8]) -> io::Result<(u64, Waiter)> {
    let mut f = fields(value, "a waiter")?;
    let (flags, nlm_version, overtaken) = (f.u8()?, f.u8()?, f.u16()?);
    if flags >= FLAGS_END {
        return Err(corrupt("a waiter"));
    }
    let (generation, wanted) = (f.u64()?, range(&mut f)?);
    let (since_ns, nsm_state, granted_at) = (f.u64()?, f.u32()?, f.u64()?);
    let cookie_len = f.u8()?;
    let cookie = take(&mut f, usize::from(cookie_len))?;
    let mut undo = Vec::new();
    for _ in 0..f.u32()? {
        let piece = range(&mut f)?;
        undo.push(match f.u8()? {
            0 => (piece, None),
            1 => (piece, Some(false)),
            2 => (piece, Some(true)),
            _ => return Err(corrupt("a waiter")),
        });
    }
    let waiter = Waiter {
        claim: claim(&mut f, since_ns, nsm_state)?,
        range: wanted,
        exclusive: flags & EXCLUSIVE != 0,
        cookie,
        udp: flags & UDP != 0,
        nlm_version,
        overtaken,
        granted_at: (flags & GRANTED != 0).then_some(granted_at),
        undo,
    };
    Ok((generation, waiter))
}

/// The row of a client.
pub(super) fn encode_host(host: &Host) -> Bytes {
    let value = Value::new().u8(u8::from(host.monitored)).u64(host.since_ns);
    value.u32(host.nsm_state).u32(host.notified).text(&host.caller_name).done()
}

/// Reads the row of a client. It holds nothing yet: that comes with the other rows.
pub(super) fn decode_host(value: &[u8]) -> io::Result<Host> {
    let mut f = fields(value, "a client of locks")?;
    let monitored = f.u8()? != 0;
    let (since_ns, nsm_state, notified) = (f.u64()?, f.u32()?, f.u32()?);
    Ok(Host { caller_name: text(&mut f)?, monitored, since_ns, nsm_state, notified, held: 0, waiting: 0 })
}

/// The row of the grace period.
pub(super) fn encode_grace(since_ns: Option<u64>) -> Bytes {
    Value::new().u8(u8::from(since_ns.is_some())).u64(since_ns.unwrap_or_default()).done()
}

/// Reads the row of the grace period.
pub(super) fn decode_grace(value: &[u8]) -> io::Result<Option<u64>> {
    let mut f = fields(value, "the grace period")?;
    let (grace, since_ns) = (f.u8()? != 0, f.u64()?);
    Ok(grace.then_some(since_ns))
}

/// The entry that made a row, and the how manieth row of it.
pub(super) fn next_key(index: LogIndex, made: &mut u32) -> HeldKey {
    let key = (index, *made);
    *made = made.saturating_add(1);
    key
}

#[cfg(test)]
mod tests {
    //! Goal: the formats never change by accident, and damage is an error. Method: one golden row per kind; each row
    //! cut at every place, and with each byte of its head spoiled, decodes to an error or to something, never a panic.

    use super::*;

    fn claim() -> Claim {
        let owner = Owner {
            client: Bytes::from_static(&[10, 0, 0, 9]),
            svid: 0x0102_0304,
            oh: Bytes::from_static(b"7@box"),
        };
        Claim { owner, caller_name: Bytes::from_static(b"box"), since_ns: 5, nsm_state: 3 }
    }

    fn hex(row: &[u8]) -> String {
        row.iter().map(|b| format!("{b:02x}")).collect()
    }

    const OWNER: &str = "040a0000090403020105003740626f780300626f78";

    #[test]
    fn golden_rows() {
        let (since, state) = ("0500000000000000", "03000000");
        let (generation, range) = ("0200000000000000", "0100000000000000ffffffffffffffff");
        let wanted = Range { start: 1, end: u64::MAX };
        let held = Held { claim: claim(), range: wanted, exclusive: true };
        assert_eq!(hex(&encode_held(2, &held)), format!("0101{generation}{range}{since}{state}{OWNER}"));
        assert_eq!(decode_held(&encode_held(2, &held)).unwrap(), (2, held));
        let share = Share { claim: claim(), mode: 3, access: 1 };
        assert_eq!(hex(&encode_share(2, &share)), format!("010301{generation}{since}{state}{OWNER}"));
        assert_eq!(decode_share(&encode_share(2, &share)).unwrap(), (2, share));
        let waiter = Waiter {
            claim: claim(),
            range: wanted,
            exclusive: true,
            cookie: Bytes::from_static(b"ck"),
            udp: true,
            nlm_version: 4,
            overtaken: 258,
            granted_at: Some(9),
            undo: vec![(wanted, Some(false))],
        };
        let undo = format!("01000000{range}01");
        let golden = format!(
            "0107040201{generation}{range}{since}{state}090000000000000002636b{undo}{OWNER}"
        );
        assert_eq!(hex(&encode_waiter(2, &waiter)), golden);
        assert_eq!(decode_waiter(&encode_waiter(2, &waiter)).unwrap(), (2, waiter));
        let host = Host {
            caller_name: Bytes::from_static(b"box"),
            monitored: true,
            since_ns: 5,
            nsm_state: 3,
            notified: 1,
            held: 0,
            waiting: 0,
        };
        assert_eq!(hex(&encode_host(&host)), format!("0101{since}{state}010000000300626f78"));
        assert_eq!(decode_host(&encode_host(&host)).unwrap(), host);
        assert_eq!(hex(&encode_grace(Some(5))), format!("0101{since}"));
        assert_eq!(decode_grace(&encode_grace(Some(5))).unwrap(), Some(5));
        assert_eq!(decode_grace(&encode_grace(None)).unwrap(), None);
    }

    #[test]
    fn golden_keys() {
        let (file, key) = (FileId(7), (0x0102, 3));
        assert_eq!(hex(&held_key(RANGE_KIND, file, key)), "4c010000000000000007000000000000010200000003");
        assert_eq!(decode_held_key(&held_key(SHARE_KIND, file, key)).unwrap(), (SHARE_KIND, file, key));
        assert_eq!(hex(&waiter_key(file, 9)), "5700000000000000070000000000000009");
        assert_eq!(decode_waiter_key(&waiter_key(file, 9)).unwrap(), (file, 9));
        assert_eq!(hex(&host_key(&[10, 0, 0, 9])), "480a000009");
    }

    #[test]
    fn damage_is_an_error() {
        let wanted = Range { start: 1, end: 2 };
        let row = encode_held(2, &Held { claim: claim(), range: wanted, exclusive: true });
        for cut in 0..row.len() {
            assert!(decode_held(&row[..cut]).is_err(), "cut at {cut}");
        }
        for (place, byte) in [(0, 2), (1, 2), (10, 3)] {
            let mut bad = row.to_vec();
            bad[place] = byte;
            assert!(decode_held(&bad).is_err(), "byte {place}");
        }
        assert!(decode_waiter(&row).is_err());
        assert!(decode_held_key(b"L\x01short").is_err());
        assert!(decode_waiter_key(b"W").is_err());
    }
}
