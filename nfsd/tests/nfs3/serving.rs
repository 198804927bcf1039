//! Goal: nothing is said without the lease, and nothing is changed on a read-only export or by a caller who may
//! not. Method: the lease is taken away before a call, and while an operation is on its way.

use nfs3_types::nfs3::*;
use nfsd::exports::{ExportPolicy, Squash};

use crate::harness::*;

fn dirop(dir: nfs_fh3, name: &[u8]) -> diropargs3<'static> {
    diropargs3 { dir, name: name.to_vec().into() }
}

fn mkdir(server: &TestServer, name: &[u8]) -> Vec<u8> {
    pack(&MKDIR3args { where_: dirop(server.root(), name), attributes: sattr3::default() })
}

#[test]
fn without_the_lease_connections_are_closed_unanswered() {
    let server = TestServer::start();
    server.export().lease.revoke();
    let getattr = pack(&server.root());
    for (procedure, args) in [(1, getattr.clone()), (9, mkdir(&server, b"d")), (18, getattr)] {
        let mut raw = server.raw();
        raw.send(&call(1, procedure, &args));
        assert_eq!(raw.receive(), None, "procedure {procedure} was answered");
    }
    // NULL is about the service, not about an export.
    assert_eq!(accept_stat(&server.raw().call(2, 0, &[])), 0);
}

#[test]
fn a_lease_lost_on_the_way_closes_the_connection_and_the_next_primary_answers() {
    let server = TestServer::start();
    let mut raw = server.raw();
    let applied = {
        let _gate = server.export().gate.lock();
        raw.send(&call(7, 9, &mkdir(&server, b"d")));
        server.export().lease.revoke();
        server.export().fs.progress().applied
    };
    assert_eq!(raw.receive(), None, "an answer without the lease");
    assert_eq!(server.export().fs.progress().applied, applied + 1, "it was committed all the same");
    server.export().lease.extend(u64::MAX);
    let reply = server.raw().call(7, 9, &mkdir(&server, b"d"));
    assert_eq!(reply[24..28], [0; 4], "the retransmission gets the first answer, not EXIST");
}

#[test]
fn a_read_only_export_refuses_every_change_and_proposes_none() {
    let server = TestServer::with(&[ExportPolicy { read_only: true, ..OPEN }]);
    let (root, at) = (server.root(), || dirop(server.root(), b"x"));
    let symlink_data = b"t".to_vec().into();
    let symlink = symlinkdata3 { symlink_attributes: sattr3::default(), symlink_data };
    let (new_attributes, attributes) = (sattr3::default(), sattr3::default());
    let data = nfs3_types::xdr_codec::Opaque::borrowed(b"data");
    let changes = [
        (2, pack(&SETATTR3args { object: server.root(), new_attributes, guard: Nfs3Option::None })),
        (
            7,
            pack(&WRITE3args { file: root.clone(), offset: 0, count: 4, stable: stable_how::UNSTABLE, data }),
        ),
        (8, pack(&CREATE3args { where_: at(), how: createhow3::GUARDED(sattr3::default()) })),
        (9, pack(&MKDIR3args { where_: at(), attributes })),
        (10, pack(&SYMLINK3args { where_: at(), symlink })),
        (11, pack(&MKNOD3args { where_: at(), what: mknoddata3::NF3FIFO(sattr3::default()) })),
        (12, pack(&REMOVE3args { object: at() })),
        (13, pack(&RMDIR3args { object: at() })),
        (14, pack(&RENAME3args { from: at(), to: at() })),
        (15, pack(&LINK3args { file: root, link: at() })),
    ];
    let mut raw = server.raw();
    for (procedure, args) in changes {
        let reply = raw.call(procedure, procedure, &args);
        assert_eq!(accept_stat(&reply), 0);
        assert_eq!(reply[24..28], 30u32.to_be_bytes(), "procedure {procedure}: NFS3ERR_ROFS");
        // Attributes of each object that the results have room for.
        let objects = if matches!(procedure, 14 | 15) { 2 } else { 1 };
        assert!(reply.len() > 28 + objects * 84, "procedure {procedure}: attributes are missing");
    }
    assert_eq!(server.export().fs.progress().applied, 1, "something was proposed");
}

#[test]
fn squashed_callers_are_nobody() {
    let all = ExportPolicy { squash: Squash::All, anon_uid: 77, anon_gid: 78, read_only: false };
    let server = TestServer::with(&[OPEN, all]);
    server.run(async {
        let mut client = server.client_as(0, 0).await;
        for export in &server.exports {
            // Only root may make the directory writable, and the second export knows no root.
            let mode = sattr3 { mode: Nfs3Option::Some(0o777), ..sattr3::default() };
            let args = SETATTR3args { object: export.root(), new_attributes: mode, guard: Nfs3Option::None };
            let outcome = client.setattr(&args).await.unwrap();
            let open = export.id == server.exports[0].id;
            assert_eq!(matches!(outcome, Nfs3Result::Ok(_)), open);
        }
        let where_ = dirop(server.exports[1].root(), b"f");
        let create = CREATE3args { where_, how: createhow3::UNCHECKED(sattr3::default()) };
        let outcome = client.create(&create).await.unwrap();
        assert!(matches!(outcome, Nfs3Result::Err((nfsstat3::NFS3ERR_ACCES, _))), "{outcome:?}");

        let mut other = server.client_as(1000, 1001).await;
        let where_ = dirop(server.exports[0].root(), b"f");
        let create = CREATE3args { where_, how: createhow3::UNCHECKED(sattr3::default()) };
        let attr = other.create(&create).await.unwrap().unwrap().obj_attributes.unwrap();
        assert_eq!((attr.uid, attr.gid), (1000, 1001), "credentials arrive");
    });
}
