//! READDIR and READDIRPLUS: as many entries as the client has room for, counted in encoded bytes.
//!
//! Entries are encoded into a buffer of their own while the directory is walked; the directory's attributes
//! are known after it and go out in front, in the reply's head.

use proto::op::Attr;
use replica::fs::{DirEntry, Failed, Status};
use replica::ids::ExportId;

use super::args::ReaddirArgs;
use super::attr::{POST_OP_ATTR, post_op};
use super::program::{Answer, Object, Refused, Request};
use super::read::answer;
use super::reply::handle_of;
use crate::handle::{self, HANDLE_BYTES};
use crate::rpc::ReplyBody;
use crate::xdr::{Encoder, HEADROOM};

/// cookieverf3 of every listing: cookies never change their meaning, so there is nothing to tell apart. Another
/// one was never given out.
const COOKIEVERF: u64 = 0;

/// READDIR3resok without entries: dir_attributes, cookieverf, end of list, eof; bytes.
const EMPTY_LISTING: usize = POST_OP_ATTR + 8 + 4 + 4;

/// entry3 without its name: value follows, fileid, the name's length, cookie; bytes.
const ENTRY: usize = 4 + 8 + 4 + 8;

/// What entryplus3 adds: post_op_attr and post_op_fh3; bytes.
const PLUS: usize = POST_OP_ATTR + 4 + 4 + HANDLE_BYTES;

/// Entries on their way into a reply.
struct Listing {
    export: ExportId,
    plus: bool,
    /// Room for entries, bytes.
    room: usize,
    /// Room for entries less attributes and handles (dircount), bytes.
    dir_room: usize,
    dir_used: usize,
    entries: Encoder,
}

impl Listing {
    /// A listing of at most `bytes_max`, whatever the client says. None where not even an empty one fits.
    fn new(export: ExportId, args: &ReaddirArgs, bytes_max: u32) -> Option<Self> {
        let room = (args.maxcount.min(bytes_max) as usize).checked_sub(EMPTY_LISTING)?;
        Some(Self {
            export,
            plus: args.dircount.is_some(),
            room,
            dir_room: args.dircount.map_or(usize::MAX, |count| count as usize),
            dir_used: 0,
            entries: Encoder::with_capacity(room.min(4096)),
        })
    }

    /// Adds the entry if there is room for it. `dircount` never keeps the first one out: it says how much the
    /// client prefers, `maxcount` how much it can take.
    fn take(&mut self, entry: &DirEntry) -> bool {
        let plain = ENTRY.saturating_add(entry.name.len().next_multiple_of(4));
        let whole = if self.plus { plain.saturating_add(PLUS) } else { plain };
        let full = self.entries.len().saturating_add(whole) > self.room;
        let dir_used = self.dir_used.saturating_add(plain);
        if full || (dir_used > self.dir_room && !self.entries.is_empty()) {
            return false;
        }
        self.dir_used = dir_used;
        let e = &mut self.entries;
        e.bool(true).u64(entry.attr.file_id).opaque(&entry.name).u64(entry.cookie);
        if self.plus && !entry.searchable {
            post_op(e, self.export, None);
            e.bool(false);
        } else if self.plus {
            post_op(e, self.export, Some(&entry.attr));
            e.bool(true).opaque(&handle::encode(self.export, handle_of(&entry.attr)));
        }
        true
    }

    /// The results. TOOSMALL where there are entries and not one of them fits.
    fn finish(mut self, dir: Attr, end: bool) -> Result<ReplyBody, Failed> {
        if self.entries.is_empty() && !end {
            return Err(Failed { status: Status::TooSmall, attr: Some(dir) });
        }
        self.entries.bool(false).bool(end);
        let mut head = Encoder::with_capacity(4 + POST_OP_ATTR + 8);
        head.u32(Status::Ok as u32);
        post_op(&mut head, self.export, Some(&dir));
        head.u64(COOKIEVERF);
        Ok(ReplyBody::with_payload(head, self.entries.into_inner().freeze().slice(HEADROOM..)))
    }
}

/// Failures of both procedures carry the directory's attributes.
fn list(rq: &Request<'_>, dir: &Object, args: &ReaddirArgs) -> Result<ReplyBody, Failed> {
    let fs = dir.group().fs();
    let failed = |status| Failed { status, attr: fs.getattr(dir.handle).ok() };
    if args.cookie != 0 && args.cookieverf != COOKIEVERF {
        return Err(failed(Status::BadCookie));
    }
    let mut listing =
        Listing::new(dir.export(), args, rq.dir_bytes_max()).ok_or_else(|| failed(Status::TooSmall))?;
    let (attr, end) = fs.readdir(&rq.cred(dir), dir.handle, args.cookie, &mut |entry| listing.take(entry))?;
    listing.finish(attr, end)
}

fn run(rq: &Request<'_>, plus: bool) -> Result<Answer, Refused> {
    let args = ReaddirArgs::decode(&mut rq.call.decoder(), plus)?;
    let dir = rq.object(&args.dir)?;
    match list(rq, &dir, &args) {
        Ok(body) => Ok(Answer { group: dir.entry.handle, body }),
        Err(failed) => answer(&dir, Err::<(), _>(failed), |_, ()| {}),
    }
}

/// READDIR, RFC 1813 section 3.3.16. `count` bounds READDIR3resok, all of it.
pub(super) fn readdir(rq: &Request<'_>) -> Result<Answer, Refused> {
    run(rq, false)
}

/// READDIRPLUS, RFC 1813 section 3.3.17. `maxcount` bounds READDIRPLUS3resok, all of it; each entry has its
/// attributes and its handle, where the caller may search the directory: to tell them is to look the names up.
pub(super) fn readdirplus(rq: &Request<'_>) -> Result<Answer, Refused> {
    run(rq, true)
}

#[cfg(test)]
#[path = "readdir_tests.rs"]
mod tests;
