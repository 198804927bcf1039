//! Goal: a client of this program keeps to what makes exactly-once possible: after any break it sends the same
//! bytes again until they are answered, and takes only a whole answer to its own call. Method: a server that
//! follows a script, over real sockets; what it received is compared byte by byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nfs3_client::Nfs3Client;
use nfs3_client::nfs3_types::mount::{fhandle3, mountres3_ok};
use nfs3_client::nfs3_types::nfs3::{
    FSINFO3resok, Nfs3Result, REMOVE3res, REMOVE3resfail, WRITE3args, WRITE3resok, nfs_fh3, nfsstat3,
    nfstime3, post_op_attr, stable_how, wcc_data, writeverf3,
};
use nfs3_client::nfs3_types::xdr_codec::{Opaque, Pack, Unpack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Patience, RetryIo, Session, Stats, Target};

fn hasty() -> Patience {
    Patience {
        connect: Duration::from_secs(2),
        reconnect_after: Duration::from_millis(1),
        answer: Duration::from_secs(2),
        give_up: Duration::from_secs(10),
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A call's record, mark included.
async fn receive(stream: &mut TcpStream) -> Vec<u8> {
    let mark = stream.read_u32().await.unwrap();
    let mut record = mark.to_be_bytes().to_vec();
    record.resize(4 + (mark & 0x7fff_ffff) as usize, 0);
    stream.read_exact(&mut record[4..]).await.unwrap();
    record
}

fn xid(record: &[u8]) -> [u8; 4] {
    record[4..8].try_into().unwrap()
}

/// REPLY, MSG_ACCEPTED, AUTH_NONE, SUCCESS, and a body; without a mark.
fn accepted(xid: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut reply = xid.to_vec();
    for word in [1u32, 0, 0, 0, 0] {
        reply.extend(word.to_be_bytes());
    }
    reply.extend(body);
    reply
}

fn marked(reply: &[u8], last: bool) -> Vec<u8> {
    let mut record = (reply.len() as u32 | if last { 0x8000_0000 } else { 0 }).to_be_bytes().to_vec();
    record.extend(reply);
    record
}

fn client(address: SocketAddr, patience: Patience) -> (Nfs3Client<RetryIo>, Arc<Stats>) {
    let stats = Arc::new(Stats::default());
    (Nfs3Client::new(RetryIo::new(address, patience, stats.clone())), stats)
}

/// The case of a takeover: the call was received, perhaps executed, and its answer never left.
#[tokio::test]
async fn an_unanswered_call_is_sent_again_as_it_was() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        let one = receive(&mut first).await;
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        let two = receive(&mut second).await;
        // Half an answer is none.
        second.write_all(&marked(&accepted(xid(&two), &[]), true)[..10]).await.unwrap();
        drop(second);
        let (mut third, _) = listener.accept().await.unwrap();
        let three = receive(&mut third).await;
        third.write_all(&marked(&accepted(xid(&three), &[]), true)).await.unwrap();
        // The next call goes over the same connection, with another xid.
        let four = receive(&mut third).await;
        third.write_all(&marked(&accepted(xid(&four), &[]), true)).await.unwrap();
        (one, two, three, four)
    });
    let (mut nfs, stats) = client(address, hasty());
    nfs.null().await.unwrap();
    nfs.null().await.unwrap();
    let (one, two, three, four) = server.await.unwrap();
    assert_eq!(one, two);
    assert_eq!(one, three);
    assert_ne!(xid(&one), xid(&four));
    let stats = stats.snapshot();
    assert_eq!((stats.calls, stats.reconnects, stats.retransmissions), (2, 2, 2));
    assert!(stats.longest.is_some());
}

#[tokio::test]
async fn a_silent_connection_is_replaced() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let (mut silent, _) = listener.accept().await.unwrap();
        let one = receive(&mut silent).await;
        let (mut second, _) = listener.accept().await.unwrap();
        let two = receive(&mut second).await;
        second.write_all(&marked(&accepted(xid(&two), &[]), true)).await.unwrap();
        (one == two, silent)
    });
    let (mut nfs, _) = client(address, Patience { answer: Duration::from_millis(100), ..hasty() });
    nfs.null().await.unwrap();
    assert!(server.await.unwrap().0);
}

/// While nobody has the address, connections are refused; the client goes on trying.
#[tokio::test]
async fn a_refused_connection_is_tried_again() {
    let (listener, address) = listener().await;
    drop(listener);
    let (mut nfs, _) = client(address, hasty());
    let call = tokio::spawn(async move { nfs.null().await.map_err(|e| e.to_string()) });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let record = receive(&mut stream).await;
    stream.write_all(&marked(&accepted(xid(&record), &[]), true)).await.unwrap();
    call.await.unwrap().unwrap();
}

/// RFC 5531 section 11 lets a server cut a reply into fragments; a reply to another call is not ours.
#[tokio::test]
async fn fragments_are_joined_and_other_replies_skipped() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let record = receive(&mut stream).await;
        let mut stale = xid(&record);
        stale[0] ^= 1;
        stream.write_all(&marked(&accepted(stale, &[]), true)).await.unwrap();
        let reply = accepted(xid(&record), &[]);
        stream.write_all(&marked(&reply[..5], false)).await.unwrap();
        stream.write_all(&marked(&[], false)).await.unwrap();
        stream.write_all(&marked(&reply[5..], true)).await.unwrap();
    });
    let (mut nfs, stats) = client(address, hasty());
    nfs.null().await.unwrap();
    server.await.unwrap();
    assert_eq!(stats.snapshot().retransmissions, 0);
}

#[tokio::test]
async fn a_reply_without_end_is_refused_at_once() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        receive(&mut stream).await;
        stream.write_all(&0xffff_ffffu32.to_be_bytes()).await.unwrap();
        stream
    });
    let (mut nfs, _) = client(address, hasty());
    let error = nfs.null().await.unwrap_err().to_string();
    assert_eq!(error, "a reply of more than 4194304 bytes: this is no NFS server");
    drop(server.await.unwrap());
}

#[tokio::test]
async fn patience_ends() {
    let (listener, address) = listener().await;
    drop(listener);
    let (mut nfs, _) = client(address, Patience { give_up: Duration::from_millis(50), ..hasty() });
    let error = nfs.null().await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("no answer from {address} for 0 s: ")), "{error}");
}

fn packed(value: &impl Pack) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.pack(&mut bytes).unwrap();
    bytes
}

fn mounted() -> Vec<u8> {
    let mut body = 0u32.to_be_bytes().to_vec();
    body.extend(packed(&mountres3_ok {
        fhandle: fhandle3(Opaque::borrowed(b"root")),
        auth_flavors: vec![1],
    }));
    body
}

fn fsinfo(wtmax: u32) -> Vec<u8> {
    packed(&Nfs3Result::<_, REMOVE3resfail>::Ok(FSINFO3resok {
        obj_attributes: post_op_attr::None,
        rtmax: 1 << 20,
        rtpref: 1 << 20,
        rtmult: 4096,
        wtmax,
        wtpref: wtmax,
        wtmult: 4096,
        dtpref: 4096,
        maxfilesize: 1 << 40,
        time_delta: nfstime3 { seconds: 0, nseconds: 1 },
        properties: 0,
    }))
}

fn wrote(count: u32) -> Vec<u8> {
    let (committed, verf) = (stable_how::FILE_SYNC, writeverf3::default());
    let ok = WRITE3resok { file_wcc: wcc_data::default(), count, committed, verf };
    packed(&Nfs3Result::<_, REMOVE3resfail>::Ok(ok))
}

/// Answers MNT on the first connection and each call on the second with the next body; returns those calls.
async fn script(listener: TcpListener, bodies: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let (mut mount, _) = listener.accept().await.unwrap();
    let record = receive(&mut mount).await;
    mount.write_all(&marked(&accepted(xid(&record), &mounted()), true)).await.unwrap();
    let (mut nfs, _) = listener.accept().await.unwrap();
    let mut calls = Vec::new();
    for body in bodies {
        let record = receive(&mut nfs).await;
        nfs.write_all(&marked(&accepted(xid(&record), &body), true)).await.unwrap();
        calls.push(record);
    }
    calls
}

/// RFC 1813 section 3.3.7: a server may write less than it was sent; the rest has to follow from there.
#[tokio::test]
async fn a_short_write_is_continued_where_it_ended() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(script(listener, vec![fsinfo(8), wrote(3), wrote(7), wrote(0)]));
    let target = Target { address: address.ip(), port: address.port(), path: "/export".to_owned() };
    let mut session = Session::mount(&target, hasty(), &Arc::new(Stats::default())).await.unwrap();
    let file = nfs_fh3 { data: Opaque::borrowed(b"file") };
    assert!(session.write(&file, 100, b"0123456789").await.unwrap());
    let error = session.write(&file, 0, b"x").await.unwrap_err().to_string();
    assert_eq!(error, "WRITE at 0: nothing was written");

    let sent: Vec<(u64, Vec<u8>)> = server.await.unwrap()[1..3]
        .iter()
        .map(|record| {
            // Mark, xid, CALL, versions; then AUTH_SYS of this process and AUTH_NONE.
            let credential = u32::from_be_bytes(record[32..36].try_into().unwrap()) as usize;
            let mut args = &record[36 + credential + 8..];
            let (args, _) = WRITE3args::unpack(&mut args).unwrap();
            (args.offset, args.data.to_vec())
        })
        .collect();
    assert_eq!(sent, [(100, b"01234567".to_vec()), (103, b"3456789".to_vec())]);
}

#[tokio::test]
async fn a_refusal_names_operation_and_file() {
    let (listener, address) = listener().await;
    let refused: REMOVE3res = Nfs3Result::Err((nfsstat3::NFS3ERR_NOENT, REMOVE3resfail::default()));
    let server = tokio::spawn(script(listener, vec![fsinfo(8), packed(&refused)]));
    let target = Target { address: address.ip(), port: address.port(), path: "/export".to_owned() };
    let mut session = Session::mount(&target, hasty(), &Arc::new(Stats::default())).await.unwrap();
    let root = session.root();
    let error = session.remove(&root, "gone.c").await.unwrap_err().to_string();
    assert_eq!(error, "REMOVE gone.c: NFS3ERR_NOENT");
    server.await.unwrap();
}
