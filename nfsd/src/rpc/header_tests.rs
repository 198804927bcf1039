//! Goal: each malformed header gets the answer that RFC 5531 names for it, and a retransmission has the
//! checksum of its original. Method: headers made word by word, one thing wrong at a time.

use super::*;
use crate::xdr::Encoder;

fn tuple(client: &str) -> Tuple {
    Tuple { client: client.parse().unwrap(), server: "192.0.2.1:2049".parse().unwrap() }
}

fn client() -> Tuple {
    tuple("192.0.2.7:700")
}

/// An AUTH_SYS credential body.
fn sys(stamp: u32, machine: &[u8], gids: &[u32]) -> Vec<u8> {
    let mut e = Encoder::new();
    e.u32(stamp).opaque(machine).u32(1000).u32(100).u32(gids.len() as u32);
    gids.iter().for_each(|gid| {
        e.u32(*gid);
    });
    e.as_slice().to_vec()
}

fn call(rpc_version: u32, flavour: u32, credential: &[u8], args: &[u8]) -> Bytes {
    let mut e = Encoder::new();
    e.u32(77).u32(0).u32(rpc_version).u32(100_003).u32(3).u32(1);
    e.u32(flavour).opaque(credential).u32(0).opaque(b"").fixed(args);
    Bytes::copy_from_slice(e.as_slice())
}

fn refusal(record: &Bytes) -> Option<Refusal> {
    match decode(record, client(), Transport::Tcp) {
        Message::Refused { xid: 77, why } => Some(why),
        _ => None,
    }
}

fn accepted(record: &Bytes) -> Call {
    match decode(record, client(), Transport::Tcp) {
        Message::Call(call) => call,
        other => panic!("not taken for a call: {other:?}"),
    }
}

#[test]
fn a_good_call_is_taken_apart_and_its_arguments_stay_in_the_record() {
    let record = call(2, 1, &sys(5, b"box", &[27, 0]), b"arguments...");
    let c = accepted(&record);
    assert_eq!((c.xid, c.program, c.version, c.procedure), (77, 100_003, 3, 1));
    let machine = Bytes::from_static(b"box");
    assert_eq!(c.cred, Cred::AuthSys { stamp: 5, machine, uid: 1000, gid: 100, gids: vec![27, 0] });
    assert_eq!(c.args, b"arguments..."[..]);
    assert!(record.as_ptr_range().contains(&c.args.as_ptr()), "the arguments were copied");
    assert_eq!(accepted(&call(2, 0, b"", b"")).cred, Cred::AuthNone);
}

#[test]
fn each_refusal_is_the_one_of_the_rfc() {
    assert_eq!(refusal(&call(3, 0, b"", b"")), Some(Refusal::RpcMismatch));
    let bad_cred = Some(Refusal::Auth(AuthStat::BadCred));
    assert_eq!(refusal(&call(2, 1, b"", b"")), bad_cred, "empty AUTH_SYS");
    assert_eq!(refusal(&call(2, 1, &sys(0, &[b'm'; 256], &[]), b"")), bad_cred, "machine name");
    assert_eq!(refusal(&call(2, 1, &sys(0, b"m", &[0; 17]), b"")), bad_cred, "17 groups");
    assert_eq!(refusal(&call(2, 0, &[0; 404], b"")), bad_cred, "credential over 400 bytes");
    assert_eq!(refusal(&call(2, 6, b"gss!", b"")), Some(Refusal::Auth(AuthStat::TooWeak)));
    assert_eq!(refusal(&call(2, 3, b"des!", b"")), Some(Refusal::Auth(AuthStat::TooWeak)));
    assert_eq!(refusal(&call(2, 2, b"abbr", b"")), Some(Refusal::Auth(AuthStat::RejectedCred)), "AUTH_SHORT");
    let mut verifier = call(2, 0, b"", b"").to_vec();
    let at = verifier.len() - 4;
    verifier[at - 1] = 6;
    assert_eq!(refusal(&verifier.clone().into()), Some(Refusal::Auth(AuthStat::BadVerf)), "another flavour");
    verifier[at - 1] = 0;
    verifier[at..].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(refusal(&verifier.into()), Some(Refusal::Auth(AuthStat::BadVerf)));
}

#[test]
fn what_is_no_call_is_not_answered() {
    let good = call(2, 0, b"", b"");
    let mut reply = good.to_vec();
    reply[7] = 1;
    let is_call = |record: Bytes| !matches!(decode(&record, client(), Transport::Udp), Message::NotACall);
    assert!(!is_call(reply.into()));
    for len in [0, 3, 4, 8, 11, 12, 20, 24] {
        assert!(!is_call(good.slice(..len)), "{len} bytes of a header were answered");
    }
}

#[test]
fn a_retransmission_has_the_checksum_of_its_original_and_another_call_has_not() {
    let original = accepted(&call(2, 1, &sys(1, b"box", &[]), &[1; 400]));
    let again = accepted(&call(2, 1, &sys(2, b"box", &[]), &[1; 400]));
    assert_eq!(original.key(), again.key(), "a new stamp makes a retransmission look like a new call");
    let mut other_args = [1; 400];
    other_args[255] = 2;
    assert_ne!(original.key(), accepted(&call(2, 1, &sys(1, b"box", &[]), &other_args)).key());
    assert_ne!(original.key(), accepted(&call(2, 1, &sys(1, b"box", &[]), &[1; 404])).key());
    assert_ne!(original.key(), accepted(&call(2, 0, b"", &[1; 400])).key(), "another caller");
}

#[test]
fn the_key_leaves_out_the_port_and_unifies_mapped_addresses() {
    let record = call(2, 0, b"", b"");
    let from = |addr: &str| match decode(&record, tuple(addr), Transport::Tcp) {
        Message::Call(call) => call.key(),
        other => panic!("{other:?}"),
    };
    assert_eq!(from("192.0.2.7:700"), from("[::ffff:192.0.2.7]:701"));
    assert_ne!(from("192.0.2.7:700"), from("192.0.2.8:700"));
}
