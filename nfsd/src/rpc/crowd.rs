//! The connections of all services of a node: at most as many as the limit says.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::connection::Connection;

/// See the module.
pub(crate) struct Crowd {
    max: usize,
    members: Mutex<HashMap<u64, Arc<Connection>>>,
    /// Somebody has left.
    left: Notify,
}

impl Crowd {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, members: Mutex::default(), left: Notify::new() }
    }

    /// Lets a connection in, unless there are as many as may be.
    pub(crate) fn enter(&self, connection: &Arc<Connection>) -> bool {
        let mut members = self.members.lock();
        let room = members.len() < self.max;
        if room {
            members.insert(connection.id, connection.clone());
        }
        room
    }

    pub(crate) fn leave(&self, connection: &Connection) {
        self.members.lock().remove(&connection.id);
        self.left.notify_waiters();
    }

    /// Done when somebody has left since this was called.
    pub(crate) fn somebody_left(&self) -> tokio::sync::futures::Notified<'_> {
        self.left.notified()
    }

    /// Closes the connection that has had nothing in flight for the longest time, whichever service's it is; false
    /// where all are busy, or one is about to leave. (Its service forgets it when its task has ended.)
    pub(crate) fn evict(&self) -> bool {
        let oldest = {
            let members = self.members.lock();
            let idle = members.values().filter(|c| c.calls() == 0);
            idle.min_by_key(|c| c.active_ns()).cloned()
        };
        let Some(connection) = oldest else { return false };
        let closed = connection.close();
        if closed {
            tracing::info!(client = %connection.tuple.client, "idle connection closed to make room for another");
        }
        closed
    }
}
