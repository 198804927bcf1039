//! A whole cluster as real processes on loopback addresses, and what a test does to it.
//!
//! `shape` says what the cluster is and writes its files, `process` starts and kills, `cluster` drives nodes and
//! witness and waits for what their status says, `logs` judges what they wrote, `load` is clients that remember
//! every acknowledged change, `tape` records calls byte by byte and sends them again, `disk` looks at data
//! directories. Nothing needs root or a network; every process is killed by its id when its [`Cluster`] is dropped.

pub mod cluster;
pub mod disk;
pub mod load;
pub mod logs;
pub mod process;
pub mod shape;
pub mod tape;

pub use cluster::Cluster;
pub use load::Load;
pub use shape::Shape;
