//! Call headers and credentials: whatever a record is, it is a call, a refusal or nothing; and what passes for a call
//! is one to `nfs3_types` too, of the same program.

use std::sync::Arc;

use bytes::Bytes;
use nfs3_types::rpc::{msg_body, rpc_msg};
use nfs3_types::xdr_codec::{Error, Unpack};
use nfsd::rpc::offline::take;
use nfsd::rpc::{Call, Cred, Program, Registry, Responder, Transport};
use nfsd::xdr::Encoder;
use parking_lot::Mutex;

use super::memory;
use super::world::{Answers, TUPLE};

/// A header's own fields, a copy of the machine's name and the groups; the answer.
const HELD_MAX: usize = 16 << 10;

/// Keeps the call that it gets and answers with nothing.
#[derive(Default)]
struct Keeper(Mutex<Option<Call>>);

impl Program for Keeper {
    fn call(&self, call: Call, responder: Responder) {
        *self.0.lock() = Some(call);
        responder.accept(Encoder::new());
    }
}

/// The target.
pub fn run(input: &[u8]) {
    let keeper = Arc::new(Keeper::default());
    let registry = Registry::new().with(100_003, 3..=3, keeper.clone());
    let record = Bytes::copy_from_slice(input);
    let answers = Arc::new(Answers::default());
    let is_call = memory::bounded("decode a header", HELD_MAX, || {
        take(&registry, &record, TUPLE, Transport::Tcp, answers.clone())
    });
    let Some(answer) = answers.only(is_call) else { return };
    assert_eq!(answer.get(..4), input.get(..4), "the answer has another xid");
    if let Some(call) = keeper.0.lock().take() {
        check(&call, input);
    }
}

/// The call is what an independent decoder finds, and within the RFC's bounds.
fn check(call: &Call, input: &[u8]) {
    let mut rest = input;
    let message = match rpc_msg::unpack(&mut rest) {
        Ok((message, _)) => message,
        // A verifier of a flavour that it does not know. Here, only its length is looked at.
        Err(Error::InvalidEnumValue(_)) => return,
        Err(error) => panic!("not a call to an independent decoder: {error}"),
    };
    let msg_body::CALL(body) = message.body else { panic!("a reply was taken for a call") };
    assert_eq!(
        (call.xid, call.program, call.version, call.procedure),
        (message.xid, body.prog, body.vers, body.proc)
    );
    assert_eq!(call.args[..], *rest, "the arguments begin elsewhere");
    if let Cred::AuthSys { machine, gids, .. } = &call.cred {
        assert!(machine.len() <= 255 && gids.len() <= 16, "RFC 5531 appendix A");
    }
}
