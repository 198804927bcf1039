//! The file as it is written. Optional keys stay optional here; `check` puts the defaults in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::model::{ArbiterKind, Driver, Durability, Squash};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    pub cluster: String,
    pub nodes: BTreeMap<String, RawNode>,
    pub witness: Option<RawWitness>,
    pub arbiter: Option<RawArbiter>,
    #[serde(default)]
    pub exports: Vec<RawExport>,
    #[serde(default)]
    pub network: RawNetwork,
    #[serde(default)]
    pub timing: RawTiming,
    #[serde(default)]
    pub limits: RawLimits,
    pub metrics: Option<RawMetrics>,
    #[serde(default)]
    pub tls: RawTls,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawNode {
    pub address: String,
    pub replication: Option<String>,
    pub data: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWitness {
    pub address: String,
    pub data: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawArbiter {
    pub kind: ArbiterKind,
    pub command: Option<Vec<String>>,
    pub timeout_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawExport {
    pub path: String,
    pub id: String,
    pub home: String,
    pub vip: String,
    pub interface: Option<String>,
    pub durability: Option<Durability>,
    pub read_only: Option<bool>,
    pub squash: Option<Squash>,
    pub anon_uid: Option<u32>,
    pub anon_gid: Option<u32>,
    pub secure: Option<bool>,
    pub clients: Option<Vec<String>>,
    pub quota: Option<String>,
    pub quota_inodes: Option<u64>,
    pub giveback_after_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawNetwork {
    pub driver: Option<Driver>,
    pub nfs_port: Option<u16>,
    pub portmap_port: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTiming {
    pub ping_ms: Option<u64>,
    pub lease_ms: Option<u64>,
    pub promise_ms: Option<u64>,
    pub detect_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLimits {
    pub cache_mb: Option<u64>,
    pub connections: Option<u64>,
    pub in_flight_mb: Option<u64>,
    pub checkpoint_mb: Option<u64>,
    pub wal_mb: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMetrics {
    pub listen: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTls {
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
}
