//! Goal: nothing that a client sends does more than fail that call. Method: every valid call cut off at every length,
//! lengths that lie, numbers that the protocol does not have, noise; after each the server still answers.

use crate::client::*;
use crate::harness::*;
use crate::xdr::*;

const GARBAGE_ARGS: u32 = 4;

#[test]
fn calls_that_end_too_early() {
    let bench = Bench::new();
    let client = Client::deaf(&bench, 2);
    let want = client.want(4, &bench.fh(b"f"));
    let share =
        Out::default().bytes(&[7, 7]).bytes(b"h").bytes(&want.lock.fh).bytes(b"o").u32(0).u32(1).u32(0).0;
    let notify = Out::default().bytes(b"somebody").u32(3).0;
    let calls = [
        (1, want.test()),
        (2, want.lock()),
        (3, want.cancel()),
        (4, want.unlock()),
        (6, want.test()),
        (7, want.lock()),
        (20, share.clone()),
        (21, share),
        (22, want.lock()),
        (23, notify),
    ];
    for (procedure, args) in calls {
        for len in 0..args.len() {
            let (stat, _) = client.call(By::Udp, NLM, 4, procedure, &args[..len]);
            assert_eq!(stat, GARBAGE_ARGS, "procedure {procedure}, {len} bytes");
        }
    }
    assert_eq!(bench.held(), []);
    assert_eq!(client.lock(&want), GRANTED);
}

#[test]
fn lengths_past_their_bounds() {
    let bench = Bench::new();
    let client = Client::deaf(&bench, 2);
    let good = client.want(4, &bench.fh(b"f"));
    let stat = |want: &Want| client.call(By::Tcp, NLM, 4, LOCK, &want.lock()).0;
    let with = |change: fn(&mut Want)| {
        let mut want = good.clone();
        change(&mut want);
        want
    };
    assert_eq!(stat(&with(|w| w.cookie = vec![1; 1025])), GARBAGE_ARGS);
    assert_eq!(stat(&with(|w| w.lock.caller = vec![1; 1025])), GARBAGE_ARGS);
    assert_eq!(stat(&with(|w| w.lock.oh = vec![1; 1025])), GARBAGE_ARGS);
    assert_eq!(stat(&with(|w| w.lock.fh = vec![1; 65])), GARBAGE_ARGS);
    let huge = Out::default().u32(u32::MAX).0;
    assert_eq!(client.call(By::Tcp, NLM, 4, LOCK, &huge).0, GARBAGE_ARGS, "a length of 4 GiB");
    let most = with(|w| {
        w.cookie = vec![1; 1024];
        w.lock.caller = vec![2; 1024];
        w.lock.oh = vec![3; 255];
    });
    assert_eq!(client.lock(&most), GRANTED);
    assert_eq!(client.lock(&with(|w| w.lock.oh = vec![3; 256])), FAILED, "more than any client's owner has");
    let bad_bool = Out::default().bytes(&[7]).u32(2).0;
    assert_eq!(client.call(By::Tcp, NLM, 4, LOCK, &bad_bool).0, GARBAGE_ARGS);
}

#[test]
fn noise() {
    let bench = Bench::new();
    let client = Client::deaf(&bench, 2);
    // A xorshift generator: the same noise in each run.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..500 {
        let args: Vec<u8> =
            (0..next() % 200).map(|_| next() as u8 & if next() % 2 == 0 { 1 } else { 255 }).collect();
        let (program, version) = if next() % 4 == 0 { (NSM, 1) } else { (NLM, 1 + (next() % 4) as u32) };
        let (stat, _) = client.call(By::Udp, program, version, (next() % 25) as u32, &args);
        assert!([0, 3, GARBAGE_ARGS].contains(&stat), "round {round}: accept_stat {stat}");
    }
    assert_eq!(client.lock(&client.want(4, &bench.fh(b"g"))), GRANTED);
}
