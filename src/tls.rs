//! Who may talk to whom: mutual TLS with the cluster's own certificate authority.
//!
//! A principal is what a certificate's DNS name says: `a.node.hanfs`, `witness.hanfs`, `admin.hanfs`. Each
//! side presents one; a server refuses a client without, a client refuses a server that is somebody else.
//! No other authority is ever trusted, the host's own included, and no name is ever looked up.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};

/// HTTP/2 window of one stream, bytes: a full pipe at 10 Gbit/s and 10 ms.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
/// HTTP/2 window of a connection, bytes: two full streams (replication, and a copy beside it).
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// HTTP/2 frame, bytes: a whole WRITE of the largest size in one frame.
const FRAME_BYTES: u32 = 1 << 20;
/// A TCP or TLS handshake that takes longer is not worth waiting for in a cluster that takes over in 1 s.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// A host that lost power says nothing: each side asks the other this often whether it is there...
const KEEPALIVE: Duration = Duration::from_millis(500);
/// ...and ends the connection when no answer has come for this long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_millis(1500);

/// Somebody who has a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A node, by its name.
    Node(String),
    /// The witness.
    Witness,
    /// An administrator's machine.
    Admin,
}

impl Principal {
    /// The DNS name in the certificate.
    pub fn dns_name(&self) -> String {
        match self {
            Self::Node(name) => format!("{name}.node.hanfs"),
            Self::Witness => "witness.hanfs".to_owned(),
            Self::Admin => "admin.hanfs".to_owned(),
        }
    }

    /// The principal of a DNS name.
    pub fn from_dns_name(dns: &str) -> Option<Self> {
        match dns {
            "witness.hanfs" => Some(Self::Witness),
            "admin.hanfs" => Some(Self::Admin),
            _ => {
                let name = dns.strip_suffix(".node.hanfs")?;
                (!name.is_empty() && !name.contains('.')).then(|| Self::Node(name.to_owned()))
            }
        }
    }

    /// Name of its key files, without `.pem` and `.key`.
    pub fn file_name(&self) -> &str {
        match self {
            Self::Node(name) => name,
            Self::Witness => "witness",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Witness => f.write_str("the witness"),
            Self::Admin => f.write_str("the administrator"),
        }
    }
}

/// Where a principal's certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate of the cluster's authority.
    pub ca: PathBuf,
    /// The principal's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there or cannot be read.
    #[error("read {}: {source}; `hanfs init` made it next to the configuration: copy it to this host", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What was read is no certificate or key.
    #[error("use the keys {} and {}: {reason}", cert.display(), key.display())]
    Unusable {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why, in the library's words.
        reason: String,
    },
}

/// A principal's certificate and key, read.
#[derive(Clone)]
pub struct Credentials {
    files: TlsFiles,
    ca: Certificate,
    identity: Identity,
}

impl Credentials {
    /// Reads the files and tries them.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        install_provider();
        let ca = Certificate::from_pem(read(&files.ca)?);
        let identity = Identity::from_pem(read(&files.cert)?, read(&files.key)?);
        let credentials = Self { files: files.clone(), ca, identity };
        credentials.server()?;
        Ok(credentials)
    }

    /// A server that admits only clients with a certificate of this cluster, tuned for replication.
    pub fn server(&self) -> Result<Server, TlsError> {
        let tls = ServerTlsConfig::new()
            .identity(self.identity.clone())
            .client_ca_root(self.ca.clone())
            .client_auth_optional(false)
            .timeout(HANDSHAKE_TIMEOUT);
        Server::builder()
            .tls_config(tls)
            .map(|server| {
                server
                    .tcp_nodelay(true)
                    .initial_stream_window_size(STREAM_WINDOW_BYTES)
                    .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                    .max_frame_size(FRAME_BYTES)
                    .http2_keepalive_interval(Some(KEEPALIVE))
                    .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            })
            .map_err(|e| self.unusable(&e))
    }

    /// The way to a principal at an address; connecting fails if somebody else answers there.
    pub fn endpoint(&self, to: &Principal, address: SocketAddr) -> Result<Endpoint, TlsError> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(self.ca.clone())
            .identity(self.identity.clone())
            .domain_name(to.dns_name())
            .timeout(HANDSHAKE_TIMEOUT);
        Endpoint::from_shared(format!("https://{address}"))
            .and_then(|endpoint| endpoint.tls_config(tls))
            .map(|endpoint| {
                endpoint
                    .connect_timeout(HANDSHAKE_TIMEOUT)
                    .tcp_nodelay(true)
                    .initial_stream_window_size(STREAM_WINDOW_BYTES)
                    .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                    .max_frame_size(FRAME_BYTES)
                    .http2_keep_alive_interval(KEEPALIVE)
                    .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                    .keep_alive_while_idle(true)
            })
            .map_err(|e| self.unusable(&e))
    }

    fn unusable(&self, error: &dyn std::error::Error) -> TlsError {
        TlsError::Unusable {
            cert: self.files.cert.clone(),
            key: self.files.key.clone(),
            reason: causes(error),
        }
    }
}

/// Connections of a listener, without Nagle's delay: acknowledgements are small and waited for. (tonic's own setting does not
/// reach listeners that are given to it.)
pub fn incoming(listener: tokio::net::TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

/// An error and what caused it, in one line.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// Makes `ring` this process's cryptography. More than once does no harm.
pub fn install_provider() {
    // An error says that there is one already, which is what was wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The DNS name in the caller's certificate, as in `a.node.hanfs`.
pub fn peer_name<T>(request: &tonic::Request<T>) -> Option<String> {
    let certs = request.peer_certs()?;
    let cert = webpki::EndEntityCert::try_from(certs.first()?).ok()?;
    cert.valid_dns_names().next().map(str::to_owned)
}

/// Who called.
pub fn caller<T>(request: &tonic::Request<T>) -> Option<Principal> {
    Principal::from_dns_name(&peer_name(request)?)
}

#[cfg(test)]
mod tests;
