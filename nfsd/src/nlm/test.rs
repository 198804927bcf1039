//! TEST: what would become of a LOCK. Answered from applied state under the lease, as every read.

use replica::fs::locks::LockStatus;

use super::args::{TestArgs, Version};
use super::change::{lock_status, owner_of, refuse_read_only};
use super::results::test_res;
use crate::nfs3::Request;
use crate::xdr::{self, Encoder};

/// Results, or `None` where this node may not speak for the export.
pub(super) type Answer = Option<Encoder>;

/// NLM4_TEST, RFC 1813 appendix II section 5.2.1.
pub(super) fn test(rq: &Request<'_>, version: Version) -> xdr::Result<Answer> {
    let args = TestArgs::decode(&mut rq.call.decoder(), version)?;
    let object = match rq.object(&args.lock.fh) {
        Ok(object) => object,
        Err(refused) => {
            return Ok(lock_status(refused).map(|stat| test_res(version, &args.cookie, Err(stat))));
        }
    };
    let (cred, owner) = (rq.cred(&object), owner_of(rq.call, &args.lock));
    let find = || {
        refuse_read_only(&object, args.exclusive)?;
        let (exclusive, offset, length) = (args.exclusive, args.lock.offset, args.lock.length);
        object.group().fs().test_lock(&cred, object.handle, &owner, exclusive, offset, length)
    };
    let found: Result<_, LockStatus> = find();
    let results = test_res(version, &args.cookie, found.as_ref().map(Option::as_ref).map_err(|stat| *stat));
    Ok(object.group().serving().then_some(results))
}
