//! Goal: a call that is sent again, over another connection and from another port, gets the same reply, byte
//! for byte, and has no second effect. Method: raw records with xids of the test's choice; between the two
//! transmissions another caller does something that would make a second execution fail, or be seen.

use nfs3_types::nfs3::*;
use nfs3_types::xdr_codec::Opaque;

use crate::harness::*;

const SETATTR: u32 = 2;
const LOOKUP: u32 = 3;
const WRITE: u32 = 7;
const CREATE: u32 = 8;
const MKDIR: u32 = 9;
const SYMLINK: u32 = 10;
const MKNOD: u32 = 11;
const REMOVE: u32 = 12;
const RMDIR: u32 = 13;
const RENAME: u32 = 14;
const LINK: u32 = 15;

struct Bench {
    server: TestServer,
    xid: u32,
}

impl Bench {
    fn new() -> Self {
        Self { server: TestServer::start(), xid: 1000 }
    }

    fn at(&self, name: &[u8]) -> diropargs3<'static> {
        diropargs3 { dir: self.server.root(), name: name.to_vec().into() }
    }

    /// A call with a new xid that must succeed; its results after the status.
    fn once(&mut self, procedure: u32, args: &[u8]) -> Vec<u8> {
        self.xid += 1;
        let reply = self.server.raw().call(self.xid, procedure, args);
        assert_eq!((accept_stat(&reply), &reply[24..28]), (0, &[0; 4][..]), "procedure {procedure}");
        reply[28..].to_vec()
    }

    fn create(&mut self, name: &[u8]) -> nfs_fh3 {
        let how = createhow3::GUARDED(sattr3::default());
        let made = self.once(CREATE, &pack(&CREATE3args { where_: self.at(name), how }));
        fh(&made[8..8 + 36])
    }

    fn mkdir(&mut self, name: &[u8]) {
        let attributes = sattr3::default();
        self.once(MKDIR, &pack(&MKDIR3args { where_: self.at(name), attributes }));
    }

    /// Sends a call, lets `between` happen, sends it again.
    fn twice(&mut self, procedure: u32, args: Vec<u8>, between: impl FnOnce(&mut Self)) {
        self.xid += 1;
        let xid = self.xid;
        let first = self.server.raw().call(xid, procedure, &args);
        assert_eq!((accept_stat(&first), &first[24..28]), (0, &[0; 4][..]), "procedure {procedure}");
        between(self);
        let digest_of_tree = self.tree();
        let second = self.server.raw().call(xid, procedure, &args);
        assert_eq!(first, second, "procedure {procedure}: another reply");
        assert_eq!(digest_of_tree, self.tree(), "procedure {procedure}: a second effect");
        // The key of the reply cache is the whole call: the same xid with other arguments is another call.
        let mut other = args;
        other.extend_from_slice(&[0; 4]);
        let third = self.server.raw().call(xid, procedure, &other);
        assert_ne!(first, third, "procedure {procedure}: the xid alone was compared");
    }

    /// Everything below the root that a client can see: names, attributes, ctimes and content.
    fn tree(&self) -> String {
        let (fs, root) = (&self.server.export().fs, self.server.export().fs.root());
        let cred = proto::op::Cred::default();
        let mut seen = format!("{:?}", fs.getattr(root).unwrap());
        let mut take = |e: &replica::fs::DirEntry| {
            let handle = replica::ids::Handle {
                file: replica::ids::FileId(e.attr.file_id),
                generation: e.attr.generation,
            };
            let data = fs.read(&cred, handle, 0, 1 << 20).map(|read| read.data);
            seen.push_str(&format!("\n{e:?} {data:?}"));
            true
        };
        fs.readdir(&cred, root, 0, &mut take).unwrap();
        seen
    }
}

#[test]
fn names_are_made_once() {
    let mut b = Bench::new();
    let how = createhow3::GUARDED(sattr3::default());
    b.twice(CREATE, pack(&CREATE3args { where_: b.at(b"f"), how }), |_| {});
    let how = createhow3::EXCLUSIVE(createverf3([7; 8]));
    let exclusive = pack(&CREATE3args { where_: b.at(b"x"), how });
    b.xid += 1;
    let first = b.server.raw().call(b.xid, CREATE, &exclusive);
    assert_eq!(first, b.server.raw().call(b.xid, CREATE, &exclusive));
    b.twice(MKDIR, pack(&MKDIR3args { where_: b.at(b"d"), attributes: sattr3::default() }), |_| {});
    let symlink_data = b"t".to_vec().into();
    let symlink = symlinkdata3 { symlink_attributes: sattr3::default(), symlink_data };
    b.twice(SYMLINK, pack(&SYMLINK3args { where_: b.at(b"s"), symlink }), |_| {});
    let what = mknoddata3::NF3FIFO(sattr3::default());
    b.twice(MKNOD, pack(&MKNOD3args { where_: b.at(b"p"), what }), |_| {});
    let file = b.create(b"target");
    b.twice(LINK, pack(&LINK3args { file, link: b.at(b"l") }), |_| {});
}

#[test]
fn names_are_removed_once_though_they_are_there_again() {
    let mut b = Bench::new();
    b.create(b"f");
    b.twice(REMOVE, pack(&REMOVE3args { object: b.at(b"f") }), |b| _ = b.create(b"f"));
    b.mkdir(b"d");
    b.twice(RMDIR, pack(&RMDIR3args { object: b.at(b"d") }), |b| b.mkdir(b"d"));
    b.create(b"from");
    b.twice(RENAME, pack(&RENAME3args { from: b.at(b"from"), to: b.at(b"to") }), |b| _ = b.create(b"from"));
}

#[test]
fn data_and_attributes_are_not_put_back() {
    let mut b = Bench::new();
    let file = b.create(b"f");
    let write = |data: &'static [u8]| {
        let (file, count, data) = (file.clone(), data.len() as u32, Opaque::borrowed(data));
        pack(&WRITE3args { file, offset: 0, count, stable: stable_how::FILE_SYNC, data })
    };
    b.twice(WRITE, write(b"older"), |b| _ = b.once(WRITE, &write(b"newer")));
    let read = b.once(6, &pack(&READ3args { file: file.clone(), offset: 0, count: 5 }));
    assert_eq!(read[read.len() - 8..][..5], *b"older", "the third call, another one, was executed");

    let set = |mode| {
        let new_attributes = sattr3 { mode: Nfs3Option::Some(mode), ..sattr3::default() };
        pack(&SETATTR3args { object: file.clone(), new_attributes, guard: Nfs3Option::None })
    };
    b.xid += 1;
    let xid = b.xid;
    let first = b.server.raw().call(xid, SETATTR, &set(0o600));
    b.once(SETATTR, &set(0o644));
    let before = b.tree();
    assert_eq!(first, b.server.raw().call(xid, SETATTR, &set(0o600)));
    assert_eq!(before, b.tree(), "an old mode came back");
}

#[test]
fn failures_are_remembered_too() {
    let mut b = Bench::new();
    let remove = pack(&REMOVE3args { object: b.at(b"f") });
    let first = b.server.raw().call(5, REMOVE, &remove);
    assert_eq!(first[24..28], 2u32.to_be_bytes(), "NFS3ERR_NOENT");
    b.create(b"f");
    assert_eq!(first, b.server.raw().call(5, REMOVE, &remove));
    b.once(LOOKUP, &pack(&b.at(b"f")));
}

#[test]
fn a_retransmission_that_overtakes_the_answer_waits_for_it() {
    let b = Bench::new();
    let mkdir = pack(&MKDIR3args { where_: b.at(b"d"), attributes: sattr3::default() });
    let (mut original, mut again) = (b.server.raw(), b.server.raw());
    let applied = b.server.export().fs.progress().applied;
    {
        let _gate = b.server.export().gate.lock();
        original.send(&call(9, MKDIR, &mkdir));
        again.send(&call(9, MKDIR, &mkdir));
    }
    let (first, second) = (original.receive().unwrap(), again.receive().unwrap());
    assert_eq!(first, second);
    assert_eq!(first[24..28], [0; 4]);
    assert_eq!(b.server.export().fs.progress().applied, applied + 2, "both went through the log");
    assert_eq!(b.server.export().fs.progress().files, 2, "the root and one directory");
}
