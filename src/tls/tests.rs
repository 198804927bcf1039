//! Goal: nobody without a certificate of this cluster gets in, nobody can pass for somebody else, and a server
//! knows who called. Method: real certificates from `init`, real handshakes over loopback.

use std::net::SocketAddr;
use std::path::Path;

use proto::admin::admin_client::AdminClient;
use proto::admin::admin_server::{Admin, AdminServer};
use proto::admin::{
    ChangeExportRequest, CrashReply, CrashRequest, DrainReply, DrainRequest, Event, EventsRequest,
    LocksReply, LocksRequest, PutConfigReply, PutConfigRequest, ReloadReply, ReloadRequest, StatusReply,
    StatusRequest, TakeoverReply, TakeoverRequest,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::{Credentials, Principal, TlsError, TlsFiles, caller, peer_name};
use crate::config::Config;
use crate::init::{self, Plan};

/// Answers with the caller's name.
struct WhoAmI;

#[tonic::async_trait]
impl Admin for WhoAmI {
    type EventsStream = ReceiverStream<Result<Event, Status>>;
    type PutConfigStream = ReceiverStream<Result<PutConfigReply, Status>>;

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let dns = peer_name(&request).ok_or_else(|| Status::unauthenticated("no name"))?;
        let who = caller(&request).ok_or_else(|| Status::unauthenticated("nobody"))?;
        assert_eq!(who.dns_name(), dns);
        Ok(Response::new(StatusReply { node: who.to_string(), ..StatusReply::default() }))
    }

    async fn takeover(&self, _: Request<TakeoverRequest>) -> Result<Response<TakeoverReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn reload(&self, _: Request<ReloadRequest>) -> Result<Response<ReloadReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn change_export(&self, _: Request<ChangeExportRequest>) -> Result<Response<ReloadReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn put_config(
        &self,
        _: Request<PutConfigRequest>,
    ) -> Result<Response<Self::PutConfigStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn events(&self, _: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn crash(&self, _: Request<CrashRequest>) -> Result<Response<CrashReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn locks(&self, _: Request<LocksRequest>) -> Result<Response<LocksReply>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

fn cluster(dir: &Path) -> Config {
    let text = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let nodes = text(&["a=127.0.0.1", "b=127.0.0.1:7401"]);
    let plan = Plan::from_options(&nodes, Some("127.0.0.1:7402"), &text(&["/e:a:127.0.0.9/8"])).unwrap();
    Config::load(&init::write(&plan, dir).unwrap().config).unwrap()
}

fn node(name: &str) -> Principal {
    Principal::Node(name.to_owned())
}

async fn serve(config: &Config, who: &Principal) -> SocketAddr {
    let credentials = Credentials::load(&config.tls_files(who)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = credentials.server().unwrap().add_service(AdminServer::new(WhoAmI));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

/// Who the server says is calling.
async fn call(
    config: &Config,
    from: &Principal,
    to: &Principal,
    address: SocketAddr,
) -> Result<String, String> {
    let credentials = Credentials::load(&config.tls_files(from)).unwrap();
    let endpoint = credentials.endpoint(to, address).unwrap();
    let channel = endpoint.connect().await.map_err(|e| super::causes(&e))?;
    let reply = AdminClient::new(channel).status(StatusRequest::default()).await;
    reply.map(|reply| reply.into_inner().node).map_err(|status| super::causes(&status))
}

#[tokio::test]
async fn everybody_of_the_cluster_gets_in_and_is_known_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let config = cluster(dir.path());
    let address = serve(&config, &node("a")).await;
    for (from, name) in
        [(node("b"), "node b"), (Principal::Witness, "the witness"), (Principal::Admin, "the administrator")]
    {
        assert_eq!(call(&config, &from, &node("a"), address).await.unwrap(), name);
    }
}

/// A cluster made by the same tool with the same names is still another cluster.
#[tokio::test]
async fn a_foreign_cluster_is_refused_by_both_sides() {
    let (dir, foreign_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (config, foreign) = (cluster(dir.path()), cluster(foreign_dir.path()));
    let address = serve(&config, &node("a")).await;
    let error = call(&foreign, &node("b"), &node("a"), address).await.unwrap_err();
    assert!(error.contains("certificate"), "the client refuses the server: {error}");

    // A client that trusts our authority but has a certificate of another one.
    let mut mixed = foreign.clone();
    mixed.tls.ca = config.tls.ca.clone();
    let error = call(&mixed, &node("b"), &node("a"), address).await.unwrap_err();
    assert!(!error.is_empty(), "the server refuses the client");
}

#[tokio::test]
async fn a_node_cannot_pass_for_another() {
    let dir = tempfile::tempdir().unwrap();
    let config = cluster(dir.path());
    let address = serve(&config, &node("b")).await;
    let error = call(&config, &Principal::Admin, &node("a"), address).await.unwrap_err();
    assert!(error.contains("a.node.hanfs"), "{error}");
}

/// Not even to be told that there is no such call: whoever has no certificate does not reach the program.
#[tokio::test]
async fn without_a_certificate_nothing_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let config = cluster(dir.path());
    let address = serve(&config, &node("a")).await;
    let reaches = async |endpoint: Endpoint| match endpoint.connect().await {
        Ok(channel) => {
            let answer = AdminClient::new(channel).takeover(TakeoverRequest::default()).await;
            answer.is_err_and(|status| status.code() == Code::Unimplemented)
        }
        Err(_) => false,
    };
    let known = Credentials::load(&config.tls_files(&Principal::Admin)).unwrap();
    assert!(reaches(known.endpoint(&node("a"), address).unwrap()).await, "with one it is");

    let ca = Certificate::from_pem(std::fs::read(&config.tls.ca).unwrap());
    let tls = ClientTlsConfig::new().ca_certificate(ca).domain_name("a.node.hanfs");
    let anonymous = Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap();
    assert!(!reaches(anonymous).await);
    assert!(!reaches(Endpoint::from_shared(format!("http://{address}")).unwrap()).await);
}

#[test]
fn names_and_principals_are_the_same_thing() {
    for who in [node("a"), node("store-1"), Principal::Witness, Principal::Admin] {
        assert_eq!(Principal::from_dns_name(&who.dns_name()), Some(who));
    }
    for dns in ["", ".node.hanfs", "a.b.node.hanfs", "a.hanfs", "admin.hanfs.example"] {
        assert_eq!(Principal::from_dns_name(dns), None, "{dns}");
    }
}

#[test]
fn a_missing_or_broken_key_names_the_file_and_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let config = cluster(dir.path());
    let files = config.tls_files(&node("a"));
    let missing = TlsFiles { key: dir.path().join("none.key"), ..files.clone() };
    let error = Credentials::load(&missing).err().unwrap().to_string();
    assert!(error.contains("none.key") && error.contains("copy it to this host"), "{error}");
    std::fs::write(&files.key, "not a key").unwrap();
    assert!(matches!(Credentials::load(&files), Err(TlsError::Unusable { .. })));
}
