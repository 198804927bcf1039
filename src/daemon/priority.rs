//! The processes' priority: a lease is kept in time only if whoever keeps it gets to run.

/// setpriority(2)'s nice value. Far enough above ordinary work that a machine full of it costs no lease, and below what kernels
/// and watchdogs use.
const NICE: i32 = -11;

/// Gives this process, and what it starts, precedence over ordinary ones. Without the right to it (CAP_SYS_NICE) nothing changes: a
/// node works without, only not on a machine that is far too busy.
pub fn raise() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "no precedence over other processes");
    }
}
