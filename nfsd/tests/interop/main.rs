//! What a client that is not ours is owed by the whole server: every procedure's every error, attributes around each
//! call, handles that nobody else can use, the programs around NFS, and what two clients see of each other.

mod call;
mod errors;
mod handles;
#[path = "../nfs3/harness.rs"]
#[allow(dead_code, reason = "shared with the nfs3 tests")]
mod harness;
mod programs;
mod two_clients;
mod wcc;
