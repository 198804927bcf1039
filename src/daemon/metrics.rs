//! Figures for Prometheus: `GET /metrics`, in the OpenMetrics text format (version 1.0.0), which Prometheus reads.
//!
//! They are [`status::reply`], what `hanfs status` shows, under other names: no figure is made here. One node speaks of
//! itself alone; who wants the pair asks both. No call is answered but this one, and nothing is changed by it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use proto::admin::{ExportStatus, LinkStatus, StatusReply, TakeoverCounts};
use replica::clock::wall_ns;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::admin::AdminService;
use super::divergent::Tail;
use super::pauses::BOUNDS_MS;
use super::status;
use crate::config::Metrics;

/// What comes of a scrape; the version that the crate writes.
const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Connections at once: a handful of scrapers; more wait in the kernel.
const CONNECTIONS_MAX: usize = 16;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 8192;
/// A request's head takes no longer.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// A connection lives no longer: a scraper makes a new one.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);
/// Pause after a connection could not be accepted (no descriptors are left).
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);
/// What an export can be, as `ExportStatus.role` says.
const ROLES: [&str; 5] = ["primary", "backup", "candidate", "copying", "stopped"];

const NS: f64 = 1e9;

/// Answers from now on, in tasks of its own. Where that cannot be, it says so and the node goes on without.
pub async fn serve(node: AdminService, listen: Metrics, own: IpAddr) {
    let address = SocketAddr::new(listen.ip.unwrap_or(own), listen.port);
    match TcpListener::bind(address).await {
        Ok(listener) => drop(tokio::spawn(accept(listener, node))),
        Err(error) => {
            tracing::warn!(%address, %error, "figures for Prometheus are not served: `[metrics] listen`")
        }
    }
}

async fn accept(listener: TcpListener, node: AdminService) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let node = node.clone();
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(CONNECTION_TIME_MAX, connection(stream, node)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "accept a scraper");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, node: AdminService) -> Result<(), hyper::Error> {
    let answer = service_fn(move |request: Request<Incoming>| {
        let node = node.clone();
        async move {
            let saved = node.saved.look().await;
            Ok::<_, Infallible>(answer(&request, &node, &saved))
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

fn answer(request: &Request<Incoming>, node: &AdminService, saved: &[Tail]) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "only /metrics is here\n");
    }
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    match encode(status::reply(node, saved), wall_ns()) {
        Ok(text) => {
            let mut response = Response::new(Full::new(Bytes::from(text)));
            response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(FORMAT));
            response
        }
        Err(fmt::Error) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the figures could not be written\n"),
    }
}

/// A node's figures as text.
fn encode(status: StatusReply, now_ns: u64) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("hanfs");
    registry.register_collector(Box::new(Figures { status, now_ns }));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

/// One scrape.
#[derive(Debug)]
struct Figures {
    status: StatusReply,
    now_ns: u64,
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.node(&mut encoder)?;
        self.roles(&mut encoder)?;
        for (name, help, value) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for export in &self.status.exports {
                gauge(&mut family, &[("export", &export.path)], value(export, self))?;
            }
        }
        for (name, help, value) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for export in &self.status.exports {
                counter(&mut family, &[("export", &export.path)], value(export))?;
            }
        }
        self.takeovers(&mut encoder)
    }
}

type Gauge = fn(&ExportStatus, &Figures) -> f64;

/// Of each export. Names of figures are stable: they are only ever added to.
const GAUGES: [(&str, &str, Gauge); 21] = [
    ("serving", "This node answers clients of the export", |e, _| flag(e.serving)),
    ("vip_held", "The virtual IP is on this node", |e, _| flag(e.vip_held)),
    ("in_sync", "Primary: the backup has everything; backup: this node has", |e, _| flag(e.backup_in_sync)),
    ("solo_since_seconds", "Since when this node has the only copy, Unix time; 0: it has not", |e, _| {
        e.solo_since_ns as f64 / NS
    }),
    ("recovering", "The end of this copy may be lost and waits for the other node", |e, _| {
        flag(e.recovering)
    }),
    ("term", "Raft term", |e, _| e.term as f64),
    ("last_index", "Last entry of the log", |e, _| e.last_index as f64),
    ("commit_index", "Last entry known to be committed", |e, _| e.commit_index as f64),
    ("applied_index", "Last entry applied", |e, _| e.applied_index as f64),
    ("durable_index", "Last entry on this node's disk", |e, _| e.durable_index as f64),
    ("backup_index", "Primary: last entry that the backup has; else 0", |e, _| e.backup_index as f64),
    ("lag_bytes", "Primary: bytes of log that the backup does not have", |e, _| e.lag_bytes as f64),
    ("wal_bytes", "Disk space of the log", |e, _| e.wal_bytes as f64),
    ("checkpoint_age_seconds", "Since this process saw a checkpoint end, or began to look", |e, all| {
        all.seconds_since(e.checkpoint_at_ns)
    }),
    ("files", "Files, directories and all else", |e, _| e.files as f64),
    ("used_bytes", "Bytes of content", |e, _| e.bytes_used as f64),
    ("clients", "Client connections", |e, _| e.connections as f64),
    ("locks_held", "Locks and shares held", |e, _| e.locks_held as f64),
    ("lock_waiters", "Locks waited for", |e, _| e.lock_waiters as f64),
    ("reply_cache_entries", "Replies kept for retransmissions", |e, _| e.reply_cache_entries as f64),
    ("reply_cache_bytes", "Their bytes", |e, _| e.reply_cache_bytes as f64),
];

type Counter = fn(&ExportStatus) -> u64;

const COUNTERS: [(&str, &str, Counter); 2] = [
    ("reply_cache_evicted", "Replies that had to go for newer ones since this process began", |e| {
        e.replies_evicted
    }),
    (
        "reply_cache_evicted_early",
        "Of these, those younger than 120 s: a client could have asked for them again",
        |e| e.replies_evicted_early,
    ),
];

impl Figures {
    fn seconds_since(&self, at_ns: u64) -> f64 {
        if at_ns == 0 { 0.0 } else { self.now_ns.saturating_sub(at_ns) as f64 / NS }
    }

    fn node(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let status = &self.status;
        let labels =
            [("version", status.version.as_str()), ("node", &status.node), ("cluster", &status.cluster)];
        let connected = |link: &Option<LinkStatus>| {
            link.as_ref().filter(|link| link.configured).map(|link| flag(link.connected))
        };
        let figures = [
            ("uptime_seconds", "Age of the server process", Some(self.seconds_since(status.started_ns))),
            ("resident_memory_bytes", "Memory of the server process", Some(status.resident_bytes as f64)),
            ("peer_connected", "A session with the other node stands", connected(&status.peer)),
            ("witness_connected", "The witness answers", connected(&status.witness)),
            ("drained", "An administrator has drained this node", Some(flag(status.drained_since_ns != 0))),
            (
                "problems",
                "What `hanfs status` has to say against this node",
                Some(status.problems.len() as f64),
            ),
        ];
        let mut info = encoder.encode_descriptor("node", "Who answers", None, MetricType::Info)?;
        info.encode_info(&labels)?;
        for (name, help, value) in figures {
            if let Some(value) = value {
                encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn roles(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "1 for what this node is for the export, else 0";
        let mut family = encoder.encode_descriptor("role", help, None, MetricType::Gauge)?;
        for export in &self.status.exports {
            for role in ROLES {
                gauge(&mut family, &[("export", &export.path), ("role", role)], flag(export.role == role))?;
            }
        }
        let help =
            "Age of the last reply that left the reply cache when it did; 0: none did, or it is not known";
        let name = "reply_cache_evicted_age_seconds";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for export in &self.status.exports {
            gauge(&mut family, &[("export", &export.path)], export.last_evicted_age_s as f64)?;
        }
        Ok(())
    }

    fn takeovers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let none = TakeoverCounts::default();
        let help = "Takeovers by this node, since its data directory was made";
        let mut family = encoder.encode_descriptor("takeovers", help, None, MetricType::Counter)?;
        for (export, cause, counts) in self.counts(&none) {
            counter(&mut family, &[("export", export), ("cause", cause)], counts.takeovers)?;
        }
        let help = "Pauses of clients at takeovers by this node, since its data directory was made";
        let mut family =
            encoder.encode_descriptor("takeover_pause_seconds", help, None, MetricType::Histogram)?;
        for (export, cause, counts) in self.counts(&none) {
            let buckets = buckets(counts);
            let labels = [("export", export), ("cause", cause)];
            let all = buckets.iter().map(|(_, count)| count).sum();
            let sum = counts.sum_us as f64 / 1e6;
            let none: Option<&HashMap<usize, Exemplar>> = None;
            family.encode_family(&labels)?.encode_histogram(sum, all, &buckets, none)?;
        }
        Ok(())
    }

    /// Both kinds of every export.
    fn counts<'a>(
        &'a self,
        none: &'a TakeoverCounts,
    ) -> impl Iterator<Item = (&'a str, &'static str, &'a TakeoverCounts)> {
        self.status.exports.iter().flat_map(move |e| {
            let of = |counts: &'a Option<TakeoverCounts>| counts.as_ref().unwrap_or(none);
            let path = e.path.as_str();
            [(path, "crash", of(&e.crash_takeovers)), (path, "planned", of(&e.planned_takeovers))]
        })
    }
}

type Exemplar = prometheus_client::metrics::exemplar::Exemplar<NoLabelSet, f64>;

/// Upper ends in seconds and counts, not cumulative; the last has no end.
fn buckets(counts: &TakeoverCounts) -> Vec<(f64, u64)> {
    let ends = BOUNDS_MS.iter().map(|ms| *ms as f64 / 1e3).chain([f64::INFINITY]);
    ends.zip(counts.pauses.iter().copied().chain(std::iter::repeat(0))).collect()
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn gauge<const N: usize>(
    family: &mut MetricEncoder<'_>,
    labels: &[(&str, &str); N],
    value: f64,
) -> fmt::Result {
    family.encode_family(labels)?.encode_gauge(&value)
}

fn counter<const N: usize>(
    family: &mut MetricEncoder<'_>,
    labels: &[(&str, &str); N],
    value: u64,
) -> fmt::Result {
    let none: Option<&Exemplar> = None;
    family.encode_family(labels)?.encode_counter(&value, none)
}

#[cfg(test)]
mod tests {
    //! Goal: the figures are those of `status`, in a form that Prometheus reads. Method: a status made by hand; the lines
    //! that matter, and the rules that hold for all lines.

    use std::collections::HashSet;

    use super::*;

    fn text() -> String {
        let export = ExportStatus {
            path: "/one".to_owned(),
            role: "primary".to_owned(),
            serving: true,
            connections: 3,
            solo_since_ns: 1_500_000_000,
            replies_evicted: 7,
            replies_evicted_early: 5,
            last_evicted_age_s: 12,
            checkpoint_at_ns: 8_000_000_000,
            crash_takeovers: Some(TakeoverCounts {
                takeovers: 3,
                pauses: vec![1, 0, 0, 0, 1],
                longest_us: 400_000,
                sum_us: 440_000,
            }),
            ..ExportStatus::default()
        };
        let witness = LinkStatus { configured: true, connected: true, ..LinkStatus::default() };
        let status = StatusReply {
            node: "a".to_owned(),
            started_ns: 4_000_000_000,
            exports: vec![export],
            witness: Some(witness),
            peer: Some(LinkStatus::default()),
            ..StatusReply::default()
        };
        encode(status, 10_000_000_000).unwrap()
    }

    #[test]
    fn the_figures_are_those_of_status() {
        let text = text();
        for line in [
            "hanfs_uptime_seconds 6.0",
            "hanfs_witness_connected 1.0",
            "hanfs_role{export=\"/one\",role=\"primary\"} 1.0",
            "hanfs_role{export=\"/one\",role=\"backup\"} 0.0",
            "hanfs_serving{export=\"/one\"} 1.0",
            "hanfs_solo_since_seconds{export=\"/one\"} 1.5",
            "hanfs_checkpoint_age_seconds{export=\"/one\"} 2.0",
            "hanfs_clients{export=\"/one\"} 3.0",
            "hanfs_reply_cache_evicted_total{export=\"/one\"} 7",
            "hanfs_reply_cache_evicted_early_total{export=\"/one\"} 5",
            "hanfs_reply_cache_evicted_age_seconds{export=\"/one\"} 12.0",
            "hanfs_takeovers_total{export=\"/one\",cause=\"crash\"} 3",
            "hanfs_takeovers_total{export=\"/one\",cause=\"planned\"} 0",
            "hanfs_takeover_pause_seconds_sum{export=\"/one\",cause=\"crash\"} 0.44",
            "hanfs_takeover_pause_seconds_count{export=\"/one\",cause=\"crash\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
        }
        assert!(!text.contains("hanfs_peer_connected"), "a cluster of one has no peer");
    }

    #[test]
    fn the_form_is_what_a_parser_wants() {
        let text = text();
        let buckets: Vec<&str> =
            text.lines().filter(|l| l.contains("_bucket") && l.contains("crash")).collect();
        assert_eq!(buckets.len(), BOUNDS_MS.len() + 1);
        assert!(buckets[3].contains("le=\"0.3\"") && buckets[3].ends_with(" 1"), "{}", buckets[3]);
        assert!(
            buckets[4].contains("le=\"0.5\"") && buckets[4].ends_with(" 2"),
            "cumulative: {}",
            buckets[4]
        );
        assert!(buckets[10].contains("le=\"+Inf\""), "{}", buckets[10]);
        assert!(text.ends_with("# EOF\n"));
        let types: Vec<&str> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
        assert_eq!(types.iter().collect::<HashSet<_>>().len(), types.len(), "each name once");
    }
}
