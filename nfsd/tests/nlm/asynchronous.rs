//! Goal: the asynchronous forms (SunOS and its descendants) are acknowledged with nothing and answered with a call of
//! the `_RES` procedure, from the virtual IP, by the way the call came. Method: one host asks and listens.

use crate::client::*;
use crate::harness::*;
use crate::xdr::*;

/// Calls the `_MSG` procedure; what the `_RES` one brings, after the cookie.
fn ask(client: &Client, by: By, version: u32, msg: u32, res: u32, args: &[u8]) -> Vec<u8> {
    assert_eq!(client.call(by, NLM, version, msg, args), (0, vec![]), "acknowledged with nothing");
    let heard = client.hear();
    assert_eq!((heard.program, heard.version, heard.procedure, heard.by), (NLM, version, res, by));
    assert_eq!(heard.from.ip(), VIP);
    let mut d = In(&heard.args);
    assert_eq!(d.bytes(), [7, 7], "the cookie is how the client knows what is answered");
    d.0.to_vec()
}

#[test]
fn every_message_gets_its_result() {
    for (version, by) in [(1, By::Udp), (3, By::Tcp), (4, By::Udp), (4, By::Tcp)] {
        let bench = Bench::new();
        let (client, other) = (Client::new(&bench, 2), Client::new(&bench, 3));
        let (mine, theirs) = (client.want(version, &bench.fh(b"f")), other.want(version, &bench.fh(b"f")));
        let stat = |stat| Out::default().u32(stat).0;
        assert_eq!(ask(&client, by, version, 6, 11, &mine.test()), stat(GRANTED));
        assert_eq!(ask(&client, by, version, 7, 12, &mine.lock()), stat(GRANTED));
        let denied = ask(&other, by, version, 6, 11, &theirs.test());
        assert_eq!(denied[..12], [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1], "denied: exclusive, process 1");
        let waiting = Want { block: true, ..theirs.clone() };
        assert_eq!(ask(&other, by, version, 7, 12, &waiting.lock()), stat(BLOCKED));
        assert_eq!(ask(&client, by, version, 9, 14, &mine.unlock()), stat(GRANTED));
        other.hears_granted(&waiting);
        until("the answer is in the state", || bench.fs.pending_grants().is_empty());
        assert_eq!(bench.held(), [(3, 1, true, 0, 10)]);
        assert_eq!(
            ask(&client, by, version, 7, 12, &Want { block: true, ..mine.clone() }.lock()),
            stat(BLOCKED)
        );
        let cancelled = ask(&client, by, version, 8, 13, &Want { block: true, ..mine.clone() }.cancel());
        assert_eq!(cancelled, stat(GRANTED));
        assert!(bench.fs.locks().waiters.is_empty());
    }
}

#[test]
fn results_that_are_sent_to_a_server_are_acknowledged_and_mean_nothing() {
    let bench = Bench::new();
    let client = Client::deaf(&bench, 2);
    let res = Out::default().bytes(&[0, 0, 0, 0, 0, 0, 0, 1]).u32(DENIED).0;
    for procedure in 11..=15 {
        assert_eq!(client.call(By::Udp, NLM, 4, procedure, &res), (0, vec![]));
        assert_eq!(client.call(By::Udp, NLM, 4, procedure, &res[..7]).0, 4, "GARBAGE_ARGS");
    }
}

#[test]
fn who_cannot_be_called_is_answered_all_the_same_once_it_asks_again() {
    let bench = Bench::new();
    let client = Client::deaf(&bench, 2);
    let want = client.want(4, &bench.fh(b"f"));
    assert_eq!(client.call(By::Udp, NLM, 4, 7, &want.lock()), (0, vec![]));
    assert_eq!(bench.held(), [(2, 1, true, 0, 10)]);
    assert_eq!(client.lock(&want), GRANTED);
}
