//! Goal: every answer is a well-formed RFC 5531 message, and no way out of a call leaves its client waiting.
//! Method: a sink that keeps what it is given.

use parking_lot::Mutex;

use super::*;

#[derive(Default)]
struct Kept(Mutex<Vec<Outcome>>);

impl ReplySink for Kept {
    fn settle(&self, request_bytes: usize, outcome: Outcome) {
        assert_eq!(request_bytes, 44, "the request's bytes are not given back");
        self.0.lock().push(outcome);
    }
}

fn words(answer: impl FnOnce(Responder)) -> Option<Vec<u32>> {
    let sink = Arc::new(Kept::default());
    answer(Responder::new(7, 44, sink.clone()));
    let mut kept = sink.0.lock();
    assert_eq!(kept.len(), 1, "a call is settled exactly once");
    match kept.pop()? {
        Outcome::Close => None,
        Outcome::Reply(wire) => {
            let all = [&wire.head()[..], &wire.payload()[..], wire.pad()].concat();
            assert_eq!(all.len(), wire.len());
            assert_eq!(wire.to_datagram(), all[4..]);
            Some(all.chunks(4).map(|w| u32::from_be_bytes(w.try_into().unwrap())).collect())
        }
    }
}

#[test]
fn answers_are_rfc_5531_messages() {
    let last = 1 << 31;
    let mut results = Encoder::new();
    results.u32(11).u32(5);
    let read = ReplyBody::with_payload(results, Bytes::from_static(b"\0\0\0\x01\x02"));
    assert_eq!(words(|r| r.accept(read)), Some(vec![last | 40, 7, 1, 0, 0, 0, 0, 11, 5, 1, 0x0200_0000]));
    assert_eq!(words(|r| r.accept(Encoder::new())), Some(vec![last | 24, 7, 1, 0, 0, 0, 0]));
    assert_eq!(words(|r| r.prog_unavail()), Some(vec![last | 24, 7, 1, 0, 0, 0, 1]));
    assert_eq!(words(|r| r.prog_mismatch(3, 3)), Some(vec![last | 32, 7, 1, 0, 0, 0, 2, 3, 3]));
    assert_eq!(words(|r| r.proc_unavail()), Some(vec![last | 24, 7, 1, 0, 0, 0, 3]));
    assert_eq!(words(|r| r.garbage_args()), Some(vec![last | 24, 7, 1, 0, 0, 0, 4]));
    assert_eq!(words(|r| r.system_err()), Some(vec![last | 24, 7, 1, 0, 0, 0, 5]));
    assert_eq!(words(|r| r.rpc_mismatch()), Some(vec![last | 24, 7, 1, 1, 0, 2, 2]));
    assert_eq!(words(|r| r.auth_error(AuthStat::TooWeak)), Some(vec![last | 20, 7, 1, 1, 1, 5]));
}

#[test]
fn a_responder_that_is_closed_or_dropped_closes_the_connection() {
    assert_eq!(words(|r| r.close()), None);
    assert_eq!(words(drop), None);
}
