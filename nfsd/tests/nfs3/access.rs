//! Goal: a client gets of an export what its access list says and nothing more: one that is not admitted
//! learns nothing and changes nothing, whatever it guesses; a changed list counts at the next call; a name
//! that is not known yet costs a wait, never an error. Method: clients of two addresses of the loopback
//! network, every procedure, messages made by hand.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc;

use nfsd::access::{AccessList, Net, Rule, Who};
use nfsd::exports::{ExportPolicy, Squash};
use nfsd::names::{Known, Names};
use nfsd::xdr::Encoder;
use replica::ids::ExportId;

use crate::harness::*;

const INSIDE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

const NOENT: u32 = 2;
const ACCES: u32 = 13;
const ROFS: u32 = 30;
const STALE: u32 = 70;
const BADHANDLE: u32 = 10_001;
const JUKEBOX: u32 = 10_008;

fn rule(who: Who, policy: ExportPolicy) -> Rule {
    Rule { who, group: String::new(), policy, secure: false }
}

fn only(client: Ipv4Addr, policy: ExportPolicy) -> AccessList {
    [rule(Who::Net(Net::host(client.into())), policy)].into_iter().collect()
}

/// Arguments that decode, of each procedure but NULL, about a handle and the name `x`; and how many optional
/// parts, all absent, its failed results have (RFC 1813 section 3.3).
fn procedures(fh: &[u8]) -> Vec<(u32, Vec<u8>, usize)> {
    let sattr = |e: &mut Encoder| {
        (0..6).for_each(|_| _ = e.u32(0));
    };
    let args = |fill: &dyn Fn(&mut Encoder)| {
        let mut e = Encoder::new();
        e.opaque(fh);
        fill(&mut e);
        e.as_slice().to_vec()
    };
    let name = |e: &mut Encoder| _ = e.opaque(b"x");
    let alone = || args(&|_| {});
    let named = || args(&|e| name(e));
    let made = |before: &[u32]| {
        args(&|e| {
            name(e);
            before.iter().for_each(|word| _ = e.u32(*word));
            sattr(e);
        })
    };
    vec![
        (1, alone(), 0),
        (
            2,
            args(&|e| {
                sattr(e);
                e.u32(0);
            }),
            2,
        ),
        (3, named(), 1),
        (4, args(&|e| _ = e.u32(63)), 1),
        (5, alone(), 1),
        (6, args(&|e| _ = e.u64(0).u32(100)), 1),
        (7, args(&|e| _ = e.u64(0).u32(4).u32(0).opaque(b"data")), 2),
        (8, made(&[0]), 2),
        (9, made(&[]), 2),
        (
            10,
            args(&|e| {
                name(e);
                sattr(e);
                e.opaque(b"target");
            }),
            2,
        ),
        (11, made(&[7]), 2),
        (12, named(), 2),
        (13, named(), 2),
        (14, args(&|e| _ = e.opaque(b"x").opaque(fh).opaque(b"y")), 4),
        (15, args(&|e| _ = e.opaque(fh).opaque(b"y")), 3),
        (16, args(&|e| _ = e.u64(0).u64(0).u32(4096)), 1),
        (17, args(&|e| _ = e.u64(0).u64(0).u32(4096).u32(4096)), 1),
        (18, alone(), 1),
        (19, alone(), 1),
        (20, alone(), 1),
        (21, args(&|e| _ = e.u64(0).u32(0)), 2),
    ]
}

/// Results of a call.
fn status(reply: &[u8]) -> u32 {
    assert_eq!(accept_stat(reply), 0);
    u32::from_be_bytes(reply[24..28].try_into().unwrap())
}

fn getattr(server: &TestServer, from: Ipv4Addr) -> u32 {
    status(&server.raw_from(from).call(1, 1, &pack(&server.root())))
}

/// MKDIR of a name of the root.
fn mkdir(server: &TestServer, name: &[u8]) -> Vec<u8> {
    let mut e = Encoder::new();
    e.opaque(&server.root().data).opaque(name);
    // Mode 0.
    e.u32(1).u32(0);
    (0..5).for_each(|_| _ = e.u32(0));
    e.as_slice().to_vec()
}

#[test]
fn a_client_outside_the_list_gets_acces_whatever_handle_it_guesses() {
    let server = TestServer::admitting(vec![only(INSIDE, OPEN), only(INSIDE, OPEN)], &Names::nobody());
    let applied = server.export().fs.progress().applied;
    let root = server.export().fs.root();
    let handles = [
        nfsd::handle::encode(server.export().id, root).to_vec(),
        nfsd::handle::encode(server.export().id, replica::ids::Handle { generation: 9, ..root }).to_vec(),
        nfsd::handle::encode(ExportId([77; 16]), root).to_vec(),
        vec![],
        vec![255; 64],
    ];
    let mut raw = server.raw_from(OUTSIDE);
    for fh in &handles {
        for (procedure, args, optional) in procedures(fh) {
            let expected = [ACCES.to_be_bytes().to_vec(), vec![0; 4 * optional]].concat();
            let tcp = raw.call(procedure, procedure, &args);
            assert_eq!((accept_stat(&tcp), &tcp[24..]), (0, &expected[..]), "procedure {procedure}, {fh:?}");
            let udp = server.call_over_udp_from(OUTSIDE, procedure, &args);
            assert_eq!(udp[24..], expected[..], "procedure {procedure} over UDP, {fh:?}");
        }
    }
    assert_eq!(server.export().fs.progress().applied, applied, "something was proposed");
    assert_eq!(accept_stat(&raw.call(99, 0, &[])), 0, "NULL is about the service");

    // Who is admitted hears what is wrong with a handle.
    let mut raw = server.raw();
    let told: Vec<_> = handles.iter().map(|fh| status(&raw.call(1, 1, &procedures(fh)[0].1))).collect();
    assert_eq!(told, [0, STALE, STALE, BADHANDLE, BADHANDLE]);
}

#[test]
fn admitted_to_one_export_is_not_admitted_to_the_other() {
    let server = TestServer::admitting(vec![only(INSIDE, OPEN), only(OUTSIDE, OPEN)], &Names::nobody());
    let mut raw = server.raw_from(OUTSIDE);
    let mut ask = |export: &TestExport| status(&raw.call(1, 1, &pack(&export.root())));
    assert_eq!((ask(&server.exports[0]), ask(&server.exports[1])), (ACCES, 0));
}

#[test]
fn without_the_lease_nobody_is_refused_either() {
    let server = TestServer::admitting(vec![only(INSIDE, OPEN)], &Names::nobody());
    server.export().lease.revoke();
    let mut raw = server.raw_from(OUTSIDE);
    raw.send(&call(1, 1, &pack(&server.root())));
    assert_eq!(raw.receive(), None, "a deposed primary said no");
}

#[test]
fn each_client_has_the_policy_of_its_own_rule() {
    let net = Who::Net(Net::new([127, 0, 0, 0].into(), 8).unwrap());
    let strict = ExportPolicy { read_only: true, squash: Squash::All, ..OPEN };
    let list = [rule(net, strict), rule(Who::Net(Net::host(INSIDE.into())), OPEN)].into_iter().collect();
    let server = TestServer::admitting(vec![list], &Names::nobody());
    assert_eq!(status(&server.raw_from(OUTSIDE).call(1, 9, &mkdir(&server, b"a"))), ROFS);
    assert_eq!(status(&server.raw_from(INSIDE).call(1, 9, &mkdir(&server, b"a"))), 0);
    // Its root is nobody: what is closed to all others is closed to it.
    let mut search = Encoder::new();
    let made =
        server.export().fs.lookup(&proto::op::Cred::default(), server.export().fs.root(), b"a").unwrap().attr;
    let made = replica::ids::Handle { file: replica::ids::FileId(made.file_id), generation: made.generation };
    search.opaque(&nfsd::handle::encode(server.export().id, made)).opaque(b"x");
    let look = |from| status(&server.raw_from(from).call(2, 3, search.as_slice()));
    assert_eq!((look(INSIDE), look(OUTSIDE)), (NOENT, ACCES));
}

#[test]
fn a_changed_list_counts_at_the_next_call_of_a_connection() {
    let server = TestServer::admitting(vec![only(INSIDE, OPEN)], &Names::nobody());
    let access = &server.export().access;
    let mut raw = server.raw();
    let mut make = |xid: u32, name: &[u8]| status(&raw.call(xid, 9, &mkdir(&server, name)));
    assert_eq!(make(1, b"a"), 0);
    access.replace(only(INSIDE, ExportPolicy { read_only: true, ..OPEN }));
    assert_eq!(make(2, b"b"), ROFS);
    access.replace(only(OUTSIDE, OPEN));
    assert_eq!(make(3, b"c"), ACCES);
    access.replace(AccessList::everybody(OPEN, true));
    assert_eq!(make(4, b"d"), ACCES, "the client's port is not a privileged one");
    access.replace(AccessList::everybody(OPEN, false));
    assert_eq!(make(5, b"e"), 0);
}

fn wildcard() -> AccessList {
    [rule(Who::Wildcard("*.lab".into()), OPEN)].into_iter().collect()
}

/// As after a takeover: the client has mounted long ago, and this node has never heard its name.
#[test]
fn a_call_waits_for_its_clients_name_and_the_client_sees_no_error() {
    let (asked, questions) = mpsc::channel();
    let names = Names::new(Box::new(move |ip, _| _ = asked.send(ip)));
    let server = TestServer::admitting(vec![wildcard()], &names);
    let mut raw = server.raw_from(OUTSIDE);
    raw.send(&call(1, 1, &pack(&server.root())));
    assert_eq!(questions.recv().unwrap(), IpAddr::from(OUTSIDE));
    let learn = |name: &str| {
        let addresses = [(OUTSIDE.into(), vec![name.to_owned()].into())].into();
        names.learn(Known { addresses, ..Known::default() });
    };
    learn("c2.lab");
    assert_eq!(status(&raw.receive().expect("an answer")), 0);
    assert_eq!(getattr(&server, OUTSIDE), 0);
    learn("c2.elsewhere");
    assert_eq!(getattr(&server, OUTSIDE), ACCES);
}

#[test]
fn without_a_name_server_the_client_is_told_to_ask_again() {
    let server = TestServer::admitting(vec![wildcard()], &Names::nobody());
    assert_eq!(getattr(&server, OUTSIDE), JUKEBOX);
    let reply = server.raw_from(OUTSIDE).call(2, 9, &mkdir(&server, b"a"));
    assert_eq!(reply[24..], [&JUKEBOX.to_be_bytes()[..], &[0; 8]].concat(), "and nothing is made");
    let reply = server.call_over_udp_from(OUTSIDE, 1, &pack(&server.root()));
    assert_eq!(status(&reply), JUKEBOX, "at once: a datagram's sender may be made up");
    assert_eq!(server.export().fs.progress().applied, 1);
}
