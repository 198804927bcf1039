//! Calls on tape: a connection that records what went over it, so that a test can send a call again, byte by byte,
//! as a client does that never saw the reply.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hanfs::client::Target;
use nfs3_client::Nfs3Client;
use nfs3_client::io::{AsyncRead, AsyncWrite};
use nfs3_types::rpc::{auth_unix, opaque_auth};
use nfs3_types::xdr_codec::Opaque;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The last call and its reply, with their record marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tape {
    /// As it was sent.
    pub call: Vec<u8>,
    /// As it came.
    pub reply: Vec<u8>,
}

/// The recording connection.
pub struct Recorder {
    stream: TcpStream,
    tape: Arc<Mutex<Tape>>,
}

impl AsyncWrite for Recorder {
    async fn async_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        *self.tape.lock() = Tape { call: buf.to_vec(), reply: Vec::new() };
        self.stream.write_all(buf).await?;
        Ok(buf.len())
    }
}

impl AsyncRead for Recorder {
    async fn async_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.stream.read(buf).await?;
        self.tape.lock().reply.extend_from_slice(&buf[..n]);
        Ok(n)
    }
}

/// A client whose last call is on tape.
pub struct Recording {
    /// Makes the calls.
    pub nfs: Nfs3Client<Recorder>,
    tape: Arc<Mutex<Tape>>,
}

impl Recording {
    /// Connects.
    pub async fn new(target: &Target) -> Self {
        let stream = TcpStream::connect(address(target)).await.expect("connect");
        let tape = Arc::new(Mutex::new(Tape::default()));
        let recorder = Recorder { stream, tape: tape.clone() };
        let credential = opaque_auth::auth_unix(&auth_unix {
            stamp: 0,
            machinename: Opaque::borrowed(b"recorder"),
            uid: 0,
            gid: 0,
            gids: Vec::new(),
        });
        Self { nfs: Nfs3Client::new_with_auth(recorder, credential, opaque_auth::default()), tape }
    }

    /// The last call.
    pub fn tape(&self) -> Tape {
        self.tape.lock().clone()
    }
}

/// Sends a recorded call on a new connection; the reply with its record mark.
pub async fn send_again(target: &Target, call: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address(target)).await?;
    stream.write_all(call).await?;
    let mut reply = vec![0; 4];
    stream.read_exact(&mut reply).await?;
    let mark = u32::from_be_bytes(reply[..4].try_into().expect("four bytes"));
    assert!(mark & 0x8000_0000 != 0, "the reply to a small call is one fragment");
    reply.resize(4 + (mark & 0x7fff_ffff) as usize, 0);
    stream.read_exact(&mut reply[4..]).await?;
    Ok(reply)
}

fn address(target: &Target) -> SocketAddr {
    SocketAddr::new(target.address, target.port)
}
