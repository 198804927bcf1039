//! `hanfs locks`.

use std::process::ExitCode;

use proto::admin::admin_client::AdminClient;
use proto::admin::lock_line::State;
use proto::admin::{LockLine, LocksReply, LocksRequest};
use tonic::Code;
use tonic::transport::Channel;

use super::admin::{AdminLink, Severity, refused};
use super::args::LocksArgs;
use super::print;
use super::setup::Setup;
use super::time::Moment;

/// Shows an export's locks, from either node; a release goes to the one that serves.
pub async fn run(setup: &Setup, args: &LocksArgs) -> anyhow::Result<ExitCode> {
    let link = AdminLink::open(setup)?;
    let (node, mut client, note) = link.connect_any().await?;
    if let Some(note) = note {
        eprintln!("hanfs: {note}");
    }
    let release = args.release.map(|ip| ip.to_string()).unwrap_or_default();
    let request = LocksRequest { export: args.export.clone(), release };
    let reply = match client.locks(request.clone()).await {
        Ok(reply) => reply.into_inner(),
        Err(status) if status.code() == Code::FailedPrecondition => {
            let error = refused(&node, &status);
            match link.config().peer_of(&node).map(|other| other.name.clone()) {
                Some(other) => ask(&other, &mut link.connect(&other).await?, request).await?,
                None => return Err(error),
            }
        }
        Err(status) => return Err(refused(&node, &status)),
    };
    print(&page(&reply, args.release.is_some(), &Moment::now()));
    Ok(Severity::Ok.into())
}

async fn ask(
    node: &str,
    client: &mut AdminClient<Channel>,
    request: LocksRequest,
) -> anyhow::Result<LocksReply> {
    let reply = client.locks(request).await.map_err(|status| refused(node, &status))?;
    Ok(reply.into_inner())
}

/// One line a lock, then one a client.
pub fn page(reply: &LocksReply, released: bool, moment: &Moment) -> String {
    let mut text = String::new();
    if released {
        text.push_str(&format!("{}: {} released\n", reply.export, reply.released));
    }
    if reply.grace_since_ns > 0 {
        let since = moment.since(reply.grace_since_ns);
        text.push_str(&format!("{}: in grace {since}: clients claim locks that were lost\n", reply.export));
    }
    if reply.locks.is_empty() {
        text.push_str(&format!("{}: no locks\n", reply.export));
    } else {
        let head = ["STATE", "FILE", "KIND", "BYTES", "CLIENT", "PROCESS", "FOR"].map(str::to_owned);
        let lines = reply.locks.iter().map(|lock| row(lock, moment));
        text.push_str(&table(&std::iter::once(head).chain(lines).collect::<Vec<_>>()));
    }
    for client in &reply.clients {
        let watched = if client.monitored { "" } else { ", not monitored" };
        text.push_str(&format!(
            "client {} ({}): holds {}, waits for {}{watched}, known {}\n",
            client.client,
            client.name,
            client.held,
            client.waiting,
            moment.since(client.since_ns)
        ));
    }
    text
}

fn row(lock: &LockLine, moment: &Moment) -> [String; 7] {
    let share = lock.state() == State::Share;
    let state = match lock.state() {
        State::Held => "held",
        State::Waiting => "waits",
        State::Unconfirmed => "granted, call-back not answered",
        State::Share => "share",
    };
    let kind = match (share, lock.exclusive) {
        (true, _) => format!("{}, denies {}", rights(lock.access), rights(lock.deny)),
        (false, true) => "exclusive".to_owned(),
        (false, false) => "shared".to_owned(),
    };
    let bytes = match (share, lock.length) {
        (true, _) => "-".to_owned(),
        (false, 0) => format!("{}-", lock.offset),
        (false, length) => {
            format!("{}-{}", lock.offset, lock.offset.saturating_add(length).saturating_sub(1))
        }
    };
    let process = if share { "-".to_owned() } else { lock.svid.to_string() };
    [
        state.to_owned(),
        lock.file_id.to_string(),
        kind,
        bytes,
        lock.client.clone(),
        process,
        moment.age(lock.since_ns),
    ]
}

/// fsh4_access and fsh4_mode, RFC 1813 appendix II.
fn rights(bits: u32) -> &'static str {
    match bits {
        0 => "nothing",
        1 => "read",
        2 => "write",
        _ => "read and write",
    }
}

/// Columns as wide as their widest word.
fn table(rows: &[[String; 7]]) -> String {
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    //! Goal: an administrator sees at a glance who is in whose way. Method: fixed answers, exact text.

    use proto::admin::LockClient;

    use super::*;

    fn lock(state: State, client: &str, length: u64) -> LockLine {
        LockLine {
            state: state.into(),
            file_id: 12,
            client: client.into(),
            svid: 7,
            exclusive: state != State::Unconfirmed,
            offset: 10,
            length,
            since_ns: 940_000_000_000,
            deny: 2,
            access: 3,
            ..LockLine::default()
        }
    }

    #[test]
    fn locks_and_clients() {
        let states = [(State::Held, 5), (State::Waiting, 0), (State::Unconfirmed, 1), (State::Share, 0)];
        let client = LockClient {
            client: "10.0.0.1".into(),
            name: "web1".into(),
            held: 2,
            waiting: 1,
            monitored: true,
            since_ns: 940_000_000_000,
        };
        let reply = LocksReply {
            export: "/export".into(),
            locks: states.iter().map(|(state, length)| lock(*state, "10.0.0.1", *length)).collect(),
            clients: vec![client],
            released: 3,
            grace_since_ns: 999_000_000_000,
            ..LocksReply::default()
        };
        let moment = Moment { now_ns: 1_000_000_000_000, utc_offset_s: 0 };
        let expected = "\
/export: 3 released
/export: in grace since 00:16:39 (1 s): clients claim locks that were lost
STATE                            FILE  KIND                          BYTES  CLIENT    PROCESS  FOR
held                             12    exclusive                     10-14  10.0.0.1  7        60 s
waits                            12    exclusive                     10-    10.0.0.1  7        60 s
granted, call-back not answered  12    shared                        10-10  10.0.0.1  7        60 s
share                            12    read and write, denies write  -      10.0.0.1  -        60 s
client 10.0.0.1 (web1): holds 2, waits for 1, known since 00:15:40 (60 s)
";
        assert_eq!(page(&reply, true, &moment), expected);
        let none = LocksReply { export: "/export".into(), ..LocksReply::default() };
        assert_eq!(page(&none, false, &moment), "/export: no locks\n");
    }
}
