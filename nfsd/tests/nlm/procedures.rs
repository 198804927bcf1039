//! Goal: each procedure of each version does what the protocol says, over both transports, once. Method: hosts of
//! different addresses lock the same file; results are read by hand; what is held is looked up in the state.

use crate::client::*;
use crate::harness::*;
use crate::xdr::*;

const SHARE: u32 = 20;
const UNSHARE: u32 = 21;
const NM_LOCK: u32 = 22;
const FREE_ALL: u32 = 23;

#[test]
fn the_programs_are_there_and_the_portmapper_says_where() {
    let bench = Bench::new();
    let client = Client::deaf(&bench, 2);
    for by in [By::Tcp, By::Udp] {
        for (program, version) in [(NLM, 1), (NLM, 3), (NLM, 4), (NSM, 1)] {
            assert_eq!(client.call(by, program, version, 0, &[]), (0, vec![]));
            for protocol in [6, 17] {
                let args = Out::default().u32(program).u32(version).u32(protocol).u32(0).0;
                let port = client.call(by, 100_000, 2, 3, &args);
                assert_eq!(port, (0, Out::default().u32(bench.addr.port().into()).0), "{program} v{version}");
            }
        }
        assert_eq!(client.call(by, NLM, 5, 0, &[]), (2, Out::default().u32(1).u32(4).0), "PROG_MISMATCH");
        for (version, procedure) in [(1, SHARE), (1, FREE_ALL), (4, 16), (4, 19), (4, 24), (4, u32::MAX)] {
            assert_eq!(client.call(by, NLM, version, procedure, &[]).0, 3, "PROC_UNAVAIL");
        }
    }
}

#[test]
fn a_lock_is_taken_seen_and_given_back_in_every_version() {
    for version in [1, 2, 3, 4] {
        let bench = Bench::new();
        let (a, b) = (Client::deaf(&bench, 2), Client::deaf(&bench, 3));
        let (of_a, of_b) = (a.want(version, &bench.fh(b"f")), b.want(version, &bench.fh(b"f")));
        assert_eq!(a.lock(&of_a), GRANTED);
        assert_eq!(bench.held(), [(2, 1, true, 0, 10)]);
        assert_eq!(b.lock(&of_b), DENIED);
        assert_eq!(a.stat(TEST, &of_a, &of_a.test()), GRANTED, "one's own lock is in nobody's way");
        let (_, results) = b.call(By::Tcp, NLM, version, TEST, &of_b.test());
        let mut d = In(&results);
        assert_eq!((d.bytes(), d.u32()), (of_b.cookie.clone(), DENIED));
        assert_eq!((d.u32(), d.u32(), d.bytes()), (1, 1, of_a.lock.oh.clone()), "who is in the way");
        assert_eq!((d.range(version), d.range(version)), (0, 10));
        d.end();
        assert_eq!(a.unlock(&of_a), GRANTED);
        assert_eq!(a.unlock(&of_a), GRANTED, "nothing to unlock is no error");
        assert_eq!(b.lock(&of_b), GRANTED);
        assert_eq!(bench.held(), [(3, 1, true, 0, 10)]);
    }
}

#[test]
fn ranges_of_old_versions_become_wide_ones() {
    let bench = Bench::new();
    let client = Client::deaf(&bench, 2);
    let cases = [(0, 0, 0), (5, 0, 0), (u32::MAX - 9, 9, 9), (u32::MAX - 9, 10, 0), (7, u32::MAX, 0)];
    for (offset, length, wide) in cases {
        let mut want = client.want(3, &bench.fh(b"f"));
        (want.lock.offset, want.lock.length) = (offset.into(), length.into());
        assert_eq!(client.lock(&want), GRANTED);
        assert_eq!(bench.held(), [(2, 1, true, offset.into(), wide)]);
        assert_eq!(client.unlock(&want), GRANTED);
        assert_eq!(bench.held(), []);
    }
    // What lies past 32 bits is told as the last byte and beyond.
    let (other, mut far) = (Client::deaf(&bench, 3), client.want(4, &bench.fh(b"f")));
    (far.lock.offset, far.lock.length) = (1 << 40, 5);
    assert_eq!(client.lock(&far), GRANTED);
    let mut all = other.want(3, &bench.fh(b"f"));
    all.lock.length = 0;
    let (_, results) = other.call(By::Tcp, NLM, 3, TEST, &all.test());
    assert_eq!(results[results.len() - 8..], [255, 255, 255, 255, 0, 0, 0, 0]);
}

#[test]
fn what_is_sent_again_is_answered_again_and_done_once() {
    let bench = Bench::new();
    let (a, b) = (Client::deaf(&bench, 2), Client::deaf(&bench, 3));
    let (of_a, of_b) = (a.want(4, &bench.fh(b"f")), b.want(4, &bench.fh(b"f")));
    let message = call(77, NLM, 4, LOCK, 0, &of_a.lock());
    let first = a.send(By::Tcp, &message).unwrap();
    assert_eq!(a.unlock(&of_a), GRANTED);
    assert_eq!(b.lock(&of_b), GRANTED);
    assert_eq!(a.send(By::Tcp, &message).unwrap(), first, "the same xid from another port");
    assert_eq!(a.send(By::Udp, &message).unwrap(), first, "and over the other transport");
    assert_eq!(bench.held(), [(3, 1, true, 0, 10)], "a late retransmission takes nothing");
    let unlock = call(78, NLM, 4, UNLOCK, 0, &of_b.unlock());
    let first = b.send(By::Tcp, &unlock).unwrap();
    assert_eq!(b.lock(&of_b), GRANTED);
    assert_eq!(b.send(By::Tcp, &unlock).unwrap(), first);
    assert_eq!(bench.held(), [(3, 1, true, 0, 10)], "a late retransmission frees nothing");
    assert_eq!(b.lock(&of_b), GRANTED, "a new xid with the same cookie: held already");
    assert_eq!(bench.held().len(), 1);
}

#[test]
fn what_cannot_be_locked() {
    let bench = Bench::new();
    let client = Client::deaf(&bench, 2);
    let fh = bench.fh(b"f");
    let with = |fh: Vec<u8>| client.want(4, &fh);
    let mut gone = fh.clone();
    gone[35] ^= 1;
    assert_eq!(client.lock(&with(gone.clone())), STALE_FH);
    assert_eq!(client.unlock(&with(gone.clone())), STALE_FH);
    let stale_test = with(gone.clone());
    assert_eq!(client.stat(TEST, &stale_test, &stale_test.test()), STALE_FH);
    let mut old = client.want(3, &gone);
    old.version = 3;
    assert_eq!(client.lock(&old), NOLOCKS, "version 3 has no word for it");
    let mut elsewhere = fh.clone();
    elsewhere[4] ^= 1;
    assert_eq!(client.lock(&with(elsewhere)), STALE_FH, "another export's");
    for bad in [vec![], vec![1], fh[..35].to_vec(), vec![9; 36], vec![1; 64]] {
        assert_eq!(client.lock(&with(bad)), FAILED, "no handle of anybody's");
    }
    let root = nfsd::handle::encode(bench.handle.id(), bench.fs.root()).to_vec();
    assert_eq!(client.lock(&with(root)), FAILED, "a directory");
    let mut big = with(fh.clone());
    (big.lock.offset, big.lock.length) = (u64::MAX, 2);
    assert_eq!(client.lock(&big), FBIG);
    assert_eq!(bench.held(), []);
}

#[test]
fn who_may_not_read_may_not_lock() {
    let bench = Bench::new();
    let client = Client::deaf(&bench, 2);
    let stat = |uid, want: &Want| {
        let (_, results) = client.call_as(uid, By::Tcp, NLM, 4, LOCK, &want.lock());
        In(&results[results.len() - 4..]).u32()
    };
    let private = client.want(4, &bench.fh(b"private"));
    assert_eq!(stat(OWNER + 1, &private), FAILED);
    assert_eq!(bench.held(), []);
    assert_eq!(stat(OWNER, &private), GRANTED);
    let mut shared = client.want(4, &bench.fh(b"f"));
    shared.exclusive = false;
    assert_eq!(stat(OWNER + 1, &shared), GRANTED, "readable by everybody");
    let exclusive = client.want(4, &bench.fh(b"g"));
    assert_eq!(
        stat(OWNER + 1, &exclusive),
        GRANTED,
        "flock -x on a file that one may only read, as at knfsd"
    );
}

#[test]
fn a_read_only_export_has_shared_locks_only() {
    let bench = Bench::with(true, PATIENCE);
    let client = Client::deaf(&bench, 2);
    let mut want = client.want(4, &bench.fh(b"f"));
    assert_eq!(client.lock(&want), ROFS);
    assert_eq!(client.stat(TEST, &want, &want.test()), ROFS);
    want.exclusive = false;
    assert_eq!(client.lock(&want), GRANTED);
    assert_eq!(client.unlock(&want), GRANTED);
    assert_eq!(bench.held(), []);
}

fn share_args(client: &Client, fh: &[u8], mode: u32, access: u32) -> Vec<u8> {
    let want = client.want(4, fh);
    let out = Out::default().bytes(&want.cookie).bytes(&want.lock.caller).bytes(fh).bytes(&want.lock.oh);
    out.u32(mode).u32(access).u32(0).0
}

fn share(client: &Client, version: u32, procedure: u32, fh: &[u8], mode: u32, access: u32) -> u32 {
    let args = share_args(client, fh, mode, access);
    let (accept_stat, results) = client.call(By::Tcp, NLM, version, procedure, &args);
    let mut d = In(&results);
    assert_eq!((accept_stat, d.bytes()), (0, vec![7, 7]));
    let (stat, _sequence) = (d.u32(), d.u32());
    d.end();
    stat
}

#[test]
fn shares_keep_others_out_until_they_are_given_back() {
    let bench = Bench::new();
    let (a, b) = (Client::deaf(&bench, 2), Client::deaf(&bench, 3));
    let fh = bench.fh(b"f");
    for version in [3, 4] {
        assert_eq!(share(&a, version, SHARE, &fh, 2, 3), GRANTED, "deny writing, read and write");
        assert_eq!(share(&b, version, SHARE, &fh, 0, 2), DENIED);
        assert_eq!(share(&b, version, SHARE, &fh, 0, 1), GRANTED);
        assert_eq!(share(&b, version, UNSHARE, &fh, 0, 1), GRANTED);
        assert_eq!(share(&a, version, UNSHARE, &fh, 2, 3), GRANTED);
        assert_eq!(share(&b, version, SHARE, &fh, 0, 2), GRANTED);
        assert_eq!(share(&b, version, UNSHARE, &fh, 0, 2), GRANTED);
        assert_eq!(bench.fs.locks().shares, []);
    }
    assert_eq!(a.call(By::Tcp, NLM, 4, SHARE, &share_args(&a, &fh, 4, 1)).0, 4, "no such mode: GARBAGE_ARGS");
}

#[test]
fn an_unmonitored_client_locks_and_frees_everything_at_once() {
    let bench = Bench::new();
    let (dos, other) = (Client::deaf(&bench, 2), Client::deaf(&bench, 3));
    for file in [&b"f"[..], b"g"] {
        let want = dos.want(4, &bench.fh(file));
        assert_eq!(dos.stat(NM_LOCK, &want, &want.lock()), GRANTED);
    }
    let mut apart = other.want(4, &bench.fh(b"f"));
    apart.lock.offset = 100;
    assert_eq!(other.lock(&apart), GRANTED);
    // Also under another's name: who frees is who calls.
    let args = Out::default().bytes(b"host3").u32(0).0;
    assert_eq!(dos.call(By::Tcp, NLM, 4, FREE_ALL, &args), (0, vec![]));
    assert_eq!(bench.held(), [(3, 1, true, 100, 10)]);
}

#[test]
fn a_server_that_waits_for_nothing_refuses_what_it_is_granted() {
    let bench = Bench::new();
    let client = Client::deaf(&bench, 2);
    let want = client.want(4, &bench.fh(b"f"));
    assert_eq!(client.stat(5, &want, &want.test()), DENIED);
    assert_eq!(client.call(By::Tcp, NLM, 4, 10, &want.test()), (0, vec![]));
}

#[test]
fn without_the_lease_nothing_is_said() {
    let bench = Bench::new();
    let client = Client::deaf(&bench, 2);
    let want = client.want(4, &bench.fh(b"f"));
    bench.lease.revoke();
    assert_eq!(client.send(By::Tcp, &call(5, NLM, 4, TEST, 0, &want.test())), None, "closed");
    assert_eq!(client.send(By::Tcp, &call(6, NLM, 4, LOCK, 0, &want.lock())), None, "closed");
    bench.lease.extend(u64::MAX);
    let again = client.send(By::Tcp, &call(6, NLM, 4, LOCK, 0, &want.lock())).expect("an answer");
    assert_eq!(accepted(&again, 6), (0, Out::default().bytes(&[7, 7]).u32(GRANTED).0), "done the first time");
    assert_eq!(bench.held().len(), 1);
}
