//! Goal: a client that knows only the address finds everything: ports, exports, the root. Method: `nfs3_client`'s
//! portmapper and MOUNT clients, every procedure, over the port that all programs share.

use nfs3_client::tokio::TokioIo;
use nfs3_client::{MountClient, MountError, PortmapError, PortmapperClient};
use nfs3_types::mount::{dirpath, mountstat3};
use nfs3_types::rpc::opaque_auth;
use nfs3_types::xdr_codec::Opaque;
use tokio::net::TcpStream;

use crate::call::*;
use crate::harness::*;

async fn stream(server: &TestServer) -> TokioIo<TcpStream> {
    TokioIo::new(TcpStream::connect(server.addr).await.unwrap())
}

fn path(name: &str) -> dirpath<'static> {
    dirpath(Opaque::owned(name.as_bytes().to_vec()))
}

#[test]
fn the_portmapper_finds_every_program() {
    let server = TestServer::start();
    server.run(async {
        let mut c = PortmapperClient::new(stream(&server).await);
        c.null().await.unwrap();
        let table = c.dump().await.unwrap();
        for (program, version) in [(100_003, 3), (100_005, 3), (100_021, 4), (100_024, 1)] {
            for protocol in [6, 17] {
                assert_eq!(c.getport(program, version, protocol).await.unwrap(), server.addr.port());
                let lines = table.iter().filter(|m| (m.prog, m.vers, m.prot) == (program, version, protocol));
                assert_eq!(lines.count(), 1, "program {program}, transport {protocol}");
            }
        }
        // As rpcbind does: a version that is not there gets the port of one that is, which tells the caller more.
        assert_eq!(c.getport(100_003, 4, 6).await.unwrap(), server.addr.port());
        for (program, version, protocol) in [(100_003, 3, 1), (100_227, 3, 6), (0, 0, 0)] {
            let port = c.getport(program, version, protocol).await;
            assert!(matches!(port, Err(PortmapError::ProgramUnavailable)), "{program}: {port:?}");
        }
    });
}

#[test]
fn mount_gives_the_root_and_keeps_its_list() {
    let server = TestServer::with(&[OPEN, OPEN]);
    server.run(async {
        let mut c = MountClient::new_with_auth(stream(&server).await, auth(0, 0), opaque_auth::default());
        c.null().await.unwrap();
        let exports = c.export().await.unwrap().into_inner();
        let paths: Vec<_> = exports.iter().map(|e| e.ex_dir.0.to_vec()).collect();
        assert_eq!(paths, [b"/export1".to_vec(), b"/export2".to_vec()]);

        let nfs = &mut server.client().await;
        let dir = made(nfs, mkdir(&server.root(), b"dir", 0o755)).await;
        done(nfs, create(&dir, b"file")).await;
        for (name, expected) in
            [("/export1", server.root()), ("/export2", server.exports[1].root()), ("/export1/dir", dir)]
        {
            let mounted = c.mnt(path(name)).await.unwrap();
            assert_eq!(mounted.fhandle.0[..], expected.data[..], "{name}");
            assert_eq!(mounted.auth_flavors, [1], "AUTH_SYS");
        }
        let long = format!("/export1/{}", "n".repeat(256));
        let refused = [
            ("/none", mountstat3::MNT3ERR_NOENT),
            ("/export1/none", mountstat3::MNT3ERR_NOENT),
            ("/export1/dir/file", mountstat3::MNT3ERR_NOTDIR),
            ("/export1/dir/file/x", mountstat3::MNT3ERR_NOTDIR),
            ("/export1/../export2", mountstat3::MNT3ERR_INVAL),
            (&long, mountstat3::MNT3ERR_NAMETOOLONG),
        ];
        for (name, expected) in refused {
            let outcome = c.mnt(path(name)).await;
            let Err(MountError::Denied(status)) = outcome else { panic!("{name}: {outcome:?}") };
            assert_eq!(status as u32, expected as u32, "{name}");
        }
        assert_eq!(c.dump().await.unwrap().into_inner().len(), 3, "what was refused is not mounted");
        c.umnt(path("/export2")).await.unwrap();
        assert_eq!(c.dump().await.unwrap().into_inner().len(), 2);
        c.umntall().await.unwrap();
        assert!(c.dump().await.unwrap().into_inner().is_empty());
    });
}
