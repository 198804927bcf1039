//! Goal: who waits gets the lock and hears of it, whatever is lost on the way; nobody loses a lock. Method: hosts whose
//! own lock managers answer as scripted: at once, late, not at all, or that they do not want it.

use proto::op::Incarnation;
use proto::op::op::Kind;

use crate::client::*;
use crate::harness::*;
use crate::xdr::Want;

/// `a` holds the lock that `b` waits for; what each asked for.
fn contended(bench: &Bench, version: u32, a: &Client, b: &Client, by: By) -> (Want, Want) {
    let of_a = a.want(version, &bench.fh(b"f"));
    let of_b = Want { block: true, ..b.want(version, &bench.fh(b"f")) };
    assert_eq!(a.lock(&of_a), GRANTED);
    let stat = if by == By::Tcp { b.lock(&of_b) } else { b.lock_over_udp(&of_b) };
    assert_eq!(stat, BLOCKED);
    (of_a, of_b)
}

fn settled(bench: &Bench) -> bool {
    bench.fs.pending_grants().is_empty()
}

#[test]
fn a_waiter_is_called_back_by_the_way_it_came() {
    for version in [1, 3, 4] {
        for by in [By::Tcp, By::Udp] {
            let bench = Bench::new();
            let (a, b) = (Client::deaf(&bench, 2), Client::new(&bench, 3));
            let (of_a, of_b) = contended(&bench, version, &a, &b, by);
            b.hears_nothing();
            assert_eq!(a.unlock(&of_a), GRANTED);
            assert_eq!(b.hears_granted(&of_b).by, by);
            until("the answer is in the state", || settled(&bench));
            assert_eq!(bench.held(), [(3, 1, true, 0, 10)]);
            b.hears_nothing();
        }
    }
}

#[test]
fn a_client_with_one_transport_is_called_by_that_one() {
    for (by, only) in [(By::Tcp, By::Udp), (By::Udp, By::Tcp)] {
        let bench = Bench::new();
        let (a, b) = (Client::deaf(&bench, 2), Client::with(&bench, 3, Some(only), &[]));
        let (of_a, of_b) = contended(&bench, 4, &a, &b, by);
        assert_eq!(a.unlock(&of_a), GRANTED);
        assert_eq!(b.hears_granted(&of_b).by, only);
    }
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    let bench = Bench::new();
    let (a, b) = (Client::deaf(&bench, 2), Client::with(&bench, 3, None, &[None]));
    let (of_a, of_b) = contended(&bench, 4, &a, &b, By::Tcp);
    assert_eq!(a.unlock(&of_a), GRANTED);
    b.hears_granted(&of_b);
    b.hears_granted(&of_b);
    until("the answer is in the state", || settled(&bench));
    assert_eq!(bench.held(), [(3, 1, true, 0, 10)]);
}

#[test]
fn a_lock_that_nobody_wants_any_more_goes_to_the_next() {
    let bench = Bench::new();
    let (a, c) = (Client::deaf(&bench, 2), Client::new(&bench, 4));
    let b = Client::with(&bench, 3, None, &[Some(DENIED)]);
    let (of_a, of_b) = contended(&bench, 4, &a, &b, By::Udp);
    let of_c = Want { block: true, ..c.want(4, &bench.fh(b"f")) };
    assert_eq!(c.lock(&of_c), BLOCKED);
    assert_eq!(a.unlock(&of_a), GRANTED);
    b.hears_granted(&of_b);
    c.hears_granted(&of_c);
    until("the answers are in the state", || settled(&bench));
    assert_eq!(bench.held(), [(4, 1, true, 0, 10)]);
}

/// A Linux client that hears GRANTED a second time finds nobody who waits: it has the lock, and refuses it.
#[test]
fn a_refusal_after_a_lost_answer_takes_no_lock_away() {
    let bench = Bench::new();
    let (a, c) = (Client::deaf(&bench, 2), Client::new(&bench, 4));
    let b = Client::with(&bench, 3, None, &[None, Some(DENIED)]);
    let (of_a, of_b) = contended(&bench, 4, &a, &b, By::Udp);
    let of_c = Want { block: true, ..c.want(4, &bench.fh(b"f")) };
    assert_eq!(c.lock(&of_c), BLOCKED);
    assert_eq!(a.unlock(&of_a), GRANTED);
    b.hears_granted(&of_b);
    b.hears_granted(&of_b);
    until("the answer is in the state", || settled(&bench));
    assert_eq!(bench.held(), [(3, 1, true, 0, 10)], "b has accepted it");
    c.hears_nothing();
}

#[test]
fn a_client_in_its_own_grace_is_asked_later() {
    let bench = Bench::new();
    let (a, b) = (Client::deaf(&bench, 2), Client::with(&bench, 3, None, &[Some(GRACE)]));
    let (of_a, of_b) = contended(&bench, 4, &a, &b, By::Udp);
    assert_eq!(a.unlock(&of_a), GRANTED);
    b.hears_granted(&of_b);
    b.hears_granted(&of_b);
    until("the answer is in the state", || settled(&bench));
    assert_eq!(bench.held(), [(3, 1, true, 0, 10)]);
}

#[test]
fn who_gives_up_waiting_gets_nothing() {
    let bench = Bench::new();
    let (a, b) = (Client::deaf(&bench, 2), Client::new(&bench, 3));
    let (of_a, of_b) = contended(&bench, 4, &a, &b, By::Tcp);
    assert_eq!(b.cancel(&of_b), GRANTED);
    assert_eq!(a.unlock(&of_a), GRANTED);
    b.hears_nothing();
    assert_eq!(bench.held(), []);
    assert!(bench.fs.locks().waiters.is_empty());
}

/// Linux asks again every 30 s, same cookie and new xid.
#[test]
fn asking_again_keeps_the_place_and_finds_the_lock() {
    let bench = Bench::new();
    let (a, b) = (Client::deaf(&bench, 2), Client::deaf(&bench, 3));
    let (of_a, of_b) = contended(&bench, 4, &a, &b, By::Tcp);
    assert_eq!(b.lock(&of_b), BLOCKED);
    assert_eq!(bench.fs.locks().waiters.len(), 1, "one waiter, asked twice");
    assert_eq!(a.unlock(&of_a), GRANTED);
    assert_eq!(b.lock(&of_b), GRANTED, "a client that cannot be called back finds out by asking");
    assert_eq!(bench.held(), [(3, 1, true, 0, 10)]);
}

#[test]
fn a_new_primary_calls_back_for_the_old_one() {
    calls_back_for_an_earlier_service(true);
}

/// Its lease lapsed for a moment, or its address was lost and raised again.
#[test]
fn the_same_primary_calls_back_for_its_earlier_service() {
    calls_back_for_an_earlier_service(false);
}

fn calls_back_for_an_earlier_service(new_primary: bool) {
    let mut bench = Bench::new();
    let (a, mut b) = (Client::deaf(&bench, 2), Client::with(&bench, 3, None, &[None]));
    let (of_a, of_b) = contended(&bench, 4, &a, &b, By::Udp);
    assert_eq!(a.unlock(&of_a), GRANTED);
    b.hears_granted(&of_b);
    // The answer is lost with the primary; the client has accepted, and will refuse a second call.
    bench.stop();
    b.say(&[Some(DENIED)]);
    if new_primary {
        let (verifier, node) = (8, "other".into());
        bench.propose(Kind::Incarnation(Incarnation { verifier, node, locks_lost: false }));
    }
    assert_eq!(bench.fs.pending_grants().len(), 1, "it is still to be told");
    bench.serve();
    b.hears_granted(&of_b);
    until("the answer is in the state", || settled(&bench));
    assert_eq!(bench.held(), [(3, 1, true, 0, 10)], "the lock that the client has is not given away");
    b.follow(&bench);
    assert_eq!(b.unlock(&of_b), GRANTED);
    assert_eq!(bench.held(), []);
}

#[test]
fn a_client_that_is_gone_delays_no_other() {
    let bench = Bench::new();
    let holder = Client::deaf(&bench, 2);
    let (gone, there) = (Client::deaf(&bench, 3), Client::new(&bench, 4));
    let of_holder: Vec<_> = (0..20)
        .map(|i| {
            let mut w = holder.want(4, &bench.fh(b"f"));
            w.lock.offset = i * 10;
            w
        })
        .collect();
    for want in &of_holder {
        assert_eq!(holder.lock(want), GRANTED);
    }
    let waiting = |client: &Client, i: usize| {
        let mut want = Want { block: true, ..client.want(4, &bench.fh(b"f")) };
        want.lock.offset = i as u64 * 10;
        assert_eq!(client.lock_over_udp(&want), BLOCKED);
        want
    };
    (0..19).for_each(|i| _ = waiting(&gone, i));
    let last = waiting(&there, 19);
    for want in &of_holder {
        assert_eq!(holder.unlock(want), GRANTED);
    }
    there.hears_granted(&last);
}
