//! `hanfs divergent`: what only one node had when its copy of an export was replaced.

use std::process::ExitCode;

use anyhow::bail;
use proto::admin::admin_client::AdminClient;
use proto::admin::{DivergentEntry, DivergentReply, DivergentRequest, DivergentTail};
use serde_json::{Value, json};
use tonic::Code;
use tonic::transport::Channel;

use super::admin::{AdminLink, Severity, refused};
use super::args::DivergentCommand;
use super::print;
use super::setup::Setup;
use super::time::{Moment, bytes};

/// Lists, shows or removes, on whichever node it is.
pub async fn run(setup: &Setup, command: &DivergentCommand) -> anyhow::Result<ExitCode> {
    let link = AdminLink::open(setup)?;
    match command {
        DivergentCommand::List { json } => list(&link, *json).await,
        DivergentCommand::Show { id } => show(&link, id).await,
        DivergentCommand::Remove { id } => {
            // Seen before it is deleted, and deleted where it was seen.
            let mut request = DivergentRequest { id: id.clone(), ..DivergentRequest::default() };
            let (node, mut client, _) = find(&link, &request).await?;
            request.remove = true;
            client.divergent(request).await.map_err(|status| refused(&node, &status))?;
            print(&format!("removed from node {node}\n"));
            Ok(Severity::Ok.into())
        }
    }
}

/// The nodes, the one that is asked first in front.
fn nodes(link: &AdminLink) -> Vec<String> {
    let other = link.config().peer_of(link.first()).map(|node| node.name.clone());
    std::iter::once(link.first().to_owned()).chain(other).collect()
}

/// A node that does not answer may have something saved: it is said, and is no success.
async fn list(link: &AdminLink, as_json: bool) -> anyhow::Result<ExitCode> {
    let mut all = Vec::new();
    let mut severity = Severity::Ok;
    for node in nodes(link) {
        match ask(link, &node, DivergentRequest::default()).await {
            Ok((_, reply)) => all.extend(reply.tails.into_iter().map(|tail| (node.clone(), tail))),
            Err(error) => {
                eprintln!("hanfs: {error:#}");
                severity = Severity::Warning;
            }
        }
    }
    if as_json {
        print(&format!("{}\n", Value::Array(all.iter().map(|(node, tail)| to_json(node, tail)).collect())));
    } else {
        print(&page(&all, &Moment::now()));
    }
    Ok(severity.into())
}

async fn show(link: &AdminLink, id: &str) -> anyhow::Result<ExitCode> {
    let mut request = DivergentRequest { id: id.to_owned(), ..DivergentRequest::default() };
    let (node, mut client, mut reply) = find(link, &request).await?;
    let moment = Moment::now();
    if let Some(tail) = reply.tails.first()
        && !print(&head(&node, tail, &moment))
    {
        return Ok(Severity::Ok.into());
    }
    loop {
        for entry in &reply.entries {
            if !print(&line(entry, &moment)) {
                return Ok(Severity::Ok.into());
            }
        }
        let Some(last) = reply.entries.last().filter(|_| reply.more) else { break };
        request.after = last.index;
        let next = client.divergent(request.clone()).await.map_err(|status| refused(&node, &status))?;
        reply = next.into_inner();
    }
    Ok(Severity::Ok.into())
}

type Asked = (AdminClient<Channel>, DivergentReply);

async fn ask(link: &AdminLink, node: &str, request: DivergentRequest) -> anyhow::Result<Asked> {
    let mut client = link.connect(node).await?;
    let reply = client.divergent(request).await.map_err(|status| refused(node, &status))?;
    Ok((client, reply.into_inner()))
}

/// Asks each node for one that only one of them has. Names that were given by hand may be on both: then nobody could say which is
/// meant.
async fn find(
    link: &AdminLink,
    request: &DivergentRequest,
) -> anyhow::Result<(String, AdminClient<Channel>, DivergentReply)> {
    let mut errors = Vec::new();
    let mut found = Vec::new();
    for node in nodes(link) {
        let mut client = match link.connect(&node).await {
            Ok(client) => client,
            Err(error) => {
                errors.push(format!("{error:#}"));
                continue;
            }
        };
        match client.divergent(request.clone()).await {
            Ok(reply) => found.push((node, client, reply.into_inner())),
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => errors.push(format!("{:#}", refused(&node, &status))),
        }
    }
    let one = found.pop();
    match (one, found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(_), false) => bail!("{} is on both nodes: rename one of the two directories", request.id),
        (None, _) if errors.is_empty() => {
            bail!("nothing is saved as {}: see `hanfs divergent list`", request.id)
        }
        (None, _) => bail!("{}", errors.join("; ")),
    }
}

/// A paragraph each.
fn page(all: &[(String, DivergentTail)], moment: &Moment) -> String {
    if all.is_empty() {
        return "nothing is saved: no node had anything that the other's history lacks\n".to_owned();
    }
    all.iter().map(|(node, tail)| head(node, tail, moment)).collect()
}

fn head(node: &str, tail: &DivergentTail, moment: &Moment) -> String {
    let (id, export, dir) = (&tail.id, &tail.export, &tail.directory);
    if tail.first == 0 {
        let at = moment.full(tail.saved_ns);
        return format!("{id}\n  a whole copy on node {node}, last changed {at}\n  {}\n  {dir}\n", tail.why);
    }
    let committed = match tail.committed {
        upto if upto >= tail.last => "all of them committed, so clients had been told".to_owned(),
        upto if upto >= tail.first => {
            format!(
                "at least up to {upto} committed, so clients had been told; of the last second nobody knows"
            )
        }
        _ => "none known to be committed; of the last second before a crash nobody knows".to_owned(),
    };
    let copy = if tail.whole_copy { "; its log did not reach back, the whole copy is kept" } else { "" };
    format!(
        "{id}\n  {export} on node {node}, saved {}: entries {} to {}, {}, {committed}{copy}\n  {}\n  {dir}\n",
        moment.full(tail.saved_ns),
        tail.first,
        tail.last,
        bytes(tail.bytes),
        tail.why
    )
}

/// `41 3 2026-11-22 12:03:11 10.0.0.9 WRITE to file 7, bytes 0-4095`: index, term, time, client, what.
fn line(entry: &DivergentEntry, moment: &Moment) -> String {
    let at = if entry.at_ns == 0 { "-".to_owned() } else { moment.full(entry.at_ns) };
    let client = if entry.client.is_empty() { "-" } else { &entry.client };
    format!("{} {} {at} {client} {}\n", entry.index, entry.term, entry.what)
}

fn to_json(node: &str, tail: &DivergentTail) -> Value {
    json!({
        "id": tail.id,
        "node": node,
        "export": tail.export,
        "export_id": tail.export_id,
        "saved_ns": tail.saved_ns,
        "why": tail.why,
        "first": tail.first,
        "last": tail.last,
        "committed": tail.committed,
        "bytes": tail.bytes,
        "whole_copy": tail.whole_copy,
        "directory": tail.directory,
    })
}

#[cfg(test)]
mod tests {
    //! Goal: an administrator sees what was lost, by whom and when. Method: fixed answers, exact text.
    use super::*;

    #[test]
    fn what_is_saved() {
        let tail = DivergentTail {
            id: "uuid-20010909T014640Z".into(),
            export: "/one".into(),
            saved_ns: 1_000_000_000_000_000_000,
            why: "because".into(),
            first: 11,
            last: 14,
            committed: 12,
            bytes: 4096,
            directory: "/data/divergent/uuid-20010909T014640Z".into(),
            ..DivergentTail::default()
        };
        let moment = Moment { now_ns: 1_000_000_060_000_000_000, utc_offset_s: 0 };
        let expected = "\
uuid-20010909T014640Z
  /one on node b, saved 2001-09-09 01:46:40: entries 11 to 14, 4.0 KiB, at least up to 12 committed, so clients had been told; of the last second nobody knows
  because
  /data/divergent/uuid-20010909T014640Z
";
        assert_eq!(page(&[("b".into(), tail)], &moment), expected);
        assert!(page(&[], &moment).starts_with("nothing is saved"));
        let entry =
            DivergentEntry { index: 11, term: 3, what: "a term begins".into(), ..DivergentEntry::default() };
        assert_eq!(line(&entry, &moment), "11 3 - - a term begins\n");
        let client = "10.0.0.9".to_owned();
        let entry = DivergentEntry { at_ns: 1_000_000_000_000_000_000, client, ..entry };
        assert_eq!(line(&entry, &moment), "11 3 2001-09-09 01:46:40 10.0.0.9 a term begins\n");
    }
}
