//! Goal: where the host's rpcbind has port 111, clients find NFS through it, also after it was restarted; and what
//! another server registered stays. Method: a small rpcbind made for the tests on a Unix socket; nothing of the host.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use bytes::Bytes;
use failover::net::Port;
use nfsd::xdr::{Decoder, Encoder};

use super::*;
use crate::config::model::Driver;

type Table = Arc<Mutex<Vec<Entry>>>;

/// Answers DUMP, SET and UNSET as rpcbind does, until the test ends.
fn rpcbind(path: &Path) -> Table {
    let table = Table::default();
    let (listener, shared) = (UnixListener::bind(path).unwrap(), table.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let table = shared.clone();
            std::thread::spawn(move || while answer(&stream, &table).is_some() {});
        }
    });
    table
}

fn answer(mut stream: &UnixStream, table: &Table) -> Option<()> {
    let mut mark = [0; 4];
    stream.read_exact(&mut mark).ok()?;
    let mut call = vec![0; (u32::from_be_bytes(mark) & !(1 << 31)) as usize];
    stream.read_exact(&mut call).ok()?;
    let call = Bytes::from(call);
    let mut d = Decoder::new(&call);
    let xid = d.u32().unwrap();
    assert_eq!([0; 4].map(|_| d.u32().unwrap()), [0, 2, 100_000, 4], "not a call of rpcbind version 4");
    let procedure = d.u32().unwrap();
    d.u64().unwrap();
    d.u64().unwrap();
    let mut reply = Encoder::new();
    reply.u32(xid).u32(1).u32(0).u64(0).u32(0);
    let mut table = table.lock();
    match procedure {
        4 => {
            for e in table.iter() {
                reply.bool(true).u32(e.program).u32(e.version);
                for text in [&e.netid, &e.address, &e.owner] {
                    reply.opaque(text.as_bytes());
                }
            }
            reply.bool(false);
        }
        1 | 2 => {
            let (program, version) = (d.u32().unwrap(), d.u32().unwrap());
            let mut text = || String::from_utf8(d.opaque(100).unwrap().to_vec()).unwrap();
            let entry = Entry { program, version, netid: text(), address: text(), owner: text() };
            let there = table.iter().position(|e| e.names_the_same(&entry));
            reply.bool((procedure == 1) == there.is_none());
            match there {
                Some(at) if procedure == 2 => drop(table.remove(at)),
                None if procedure == 1 => table.push(entry),
                _ => {}
            }
        }
        other => panic!("procedure {other}"),
    }
    // In two fragments, as a stream may be cut.
    let (a, b) = reply.as_slice().split_at(20);
    let marks = [a.len() as u32, b.len() as u32 | 1 << 31].map(u32::to_be_bytes);
    stream.write_all(&[&marks[0][..], a, &marks[1], b].concat()).ok()
}

fn network(portmap_port: u16) -> Network {
    Network { driver: Driver::Loopback, nfs_port: 2049, portmap_port }
}

fn portmapper(path: &Path, portmap_port: u16) -> Arc<Portmapper> {
    // Nobody listens on the discard port: there is no other way in.
    Portmapper::new(network(portmap_port), Door { path: path.to_owned(), tcp: ([127, 0, 0, 1], 9).into() })
}

/// Sockets without port 111, as where another server has it.
fn listeners() -> Listeners {
    Listeners::open([127, 0, 0, 1].into(), &[Port::tcp(0), Port::udp(0)]).unwrap()
}

const ID: ExportId = ExportId([7; 16]);
const REGISTERED: &str = "registered with the host's rpcbind";

async fn until(portmapper: &Portmapper, what: impl Fn(&str) -> bool) -> String {
    let wait = async {
        loop {
            let status = portmapper.status();
            if what(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the status never came")
}

#[tokio::test]
async fn what_the_host_has_port_111_for_is_registered_there_and_taken_back_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rpcbind.sock");
    let table = rpcbind(&path);
    let portmapper = portmapper(&path, 111);
    assert_eq!(portmapper.status(), "none: no export is served here");
    let task = tokio::spawn(portmapper.clone().keep());
    portmapper.serving(ID, &listeners());
    until(&portmapper, |s| s == REGISTERED).await;
    assert_eq!(portmapper.problem(), None);
    let found = |program, netid| {
        let table = table.lock();
        let entry = table.iter().find(|e| e.program == program && e.version == 3 && e.netid == netid);
        entry.map(|e| e.address.clone())
    };
    for program in [100_003, 100_005] {
        for netid in ["tcp", "udp"] {
            assert_eq!(found(program, netid).as_deref(), Some("0.0.0.0.8.1"), "{program} over {netid}");
        }
        assert_eq!(found(program, "tcp6"), None, "no virtual IP is of IPv6");
    }
    // It was restarted: the next look registers again.
    table.lock().clear();
    portmapper.changed.notify_one();
    let wait = async {
        while table.lock().len() < 4 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("not registered again");
    portmapper.unregister().await;
    assert_eq!(table.lock().len(), 0, "something stays registered after a clean end");
    portmapper.changed.notify_one();
    portmapper.unregister().await;
    assert_eq!(table.lock().len(), 0, "registered again although it has ended");
    task.abort();
}

#[tokio::test]
async fn another_servers_registration_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rpcbind.sock");
    let table = rpcbind(&path);
    let other = Entry {
        program: 100_005,
        version: 3,
        netid: "udp".into(),
        address: "0.0.0.0.78.80".into(),
        owner: "superuser".into(),
    };
    table.lock().push(other.clone());
    let portmapper = portmapper(&path, 111);
    let task = tokio::spawn(portmapper.clone().keep());
    portmapper.serving(ID, &listeners());
    let status = until(&portmapper, |s| s.contains("100005")).await;
    assert!(status.starts_with("none: ") && status.contains("0.0.0.0.78.80"), "{status}");
    assert!(portmapper.problem().is_some());
    portmapper.unregister().await;
    assert_eq!(*table.lock(), [other]);
    task.abort();
}

#[tokio::test]
async fn without_rpcbind_the_status_says_where_it_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nothing.sock");
    let portmapper = portmapper(&path, 111);
    let task = tokio::spawn(portmapper.clone().keep());
    portmapper.serving(ID, &listeners());
    let status = until(&portmapper, |s| s.contains("not there")).await;
    assert!(status.contains("nothing.sock") && status.contains("127.0.0.1:9"), "{status}");
    portmapper.stopped(ID);
    assert_eq!(portmapper.problem(), None, "a node that serves nothing has no such problem");
    task.abort();
}

#[test]
fn with_port_111_of_its_own_nobody_is_asked() {
    let own = listeners();
    let port = own.tcp[0].local_addr().unwrap().port();
    let nowhere = Path::new("/nonexistent");
    let mapper = portmapper(nowhere, port);
    mapper.serving(ID, &own);
    assert_eq!((mapper.status().as_str(), mapper.wanted().len()), ("own", 0));
    let mapper = portmapper(nowhere, 0);
    mapper.serving(ID, &own);
    assert_eq!((mapper.status().as_str(), mapper.wanted().len()), ("none: portmap_port is 0", 0));
    assert_eq!(mapper.problem(), None);
}
