//! `hanfs reload` and `hanfs export`: changes of the configuration while the nodes run.

use std::process::ExitCode;

use proto::admin::change_export_request::Kind;
use proto::admin::{
    ChangeExportRequest, ExportStatus, NodeChanges, ReloadReply, ReloadRequest, Setting, StatusReply,
};

use super::admin::{AdminLink, Severity, refused};
use super::args::{ExportAddArgs, ExportCommand, ExportRemoveArgs, ExportSetArgs, ReloadArgs};
use super::print;
use super::setup::Setup;

/// The node that is asked reads its own file.
pub async fn reload(setup: &Setup, args: &ReloadArgs) -> anyhow::Result<ExitCode> {
    let link = AdminLink::open(setup)?;
    let node = link.first().to_owned();
    let mut client = link.connect(&node).await?;
    let request = ReloadRequest { push: args.push, force: args.force, destroy_data: args.destroy_data };
    match client.reload(request).await {
        Ok(reply) => Ok(show(&reply.into_inner())),
        Err(status) => Ok(not_done(&node, &status)),
    }
}

/// `hanfs export ...`.
pub async fn export(setup: &Setup, command: &ExportCommand) -> anyhow::Result<ExitCode> {
    let request = match command {
        ExportCommand::List => return list(setup).await,
        ExportCommand::Add(args) => add(args),
        ExportCommand::Set(args) => set(args),
        ExportCommand::Remove(args) => remove(args),
    };
    let link = AdminLink::open(setup)?;
    let (node, mut client, note) = link.connect_any().await?;
    if let Some(note) = note {
        eprintln!("hanfs: {note}");
    }
    match client.change_export(request).await {
        Ok(reply) => Ok(show(&reply.into_inner())),
        Err(status) => Ok(not_done(&node, &status)),
    }
}

fn setting(key: &str, value: &str) -> Setting {
    Setting { key: key.to_owned(), value: value.to_owned() }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Keys that were given, in the order of the file that `hanfs init` writes.
fn add(args: &ExportAddArgs) -> ChangeExportRequest {
    let clients: Vec<toml::Value> = args.clients.iter().cloned().map(toml::Value::String).collect();
    let clients = if clients.is_empty() { None } else { Some(toml::Value::Array(clients).to_string()) };
    let keys = [
        ("id", args.id.as_deref().map(quoted)),
        ("home", Some(quoted(&args.home))),
        ("vip", Some(quoted(&args.vip))),
        ("interface", args.interface.as_deref().map(quoted)),
        ("durability", args.durability.map(|d| quoted(d.as_str()))),
        ("clients", clients),
        ("quota", args.quota.as_deref().map(quoted)),
    ];
    let given = keys.into_iter().filter_map(|(key, value)| Some(setting(key, &value?)));
    let more = args.settings.iter().map(|(key, value)| setting(key, value));
    ChangeExportRequest {
        kind: Kind::Add.into(),
        path: args.path.clone(),
        settings: given.chain(more).collect(),
        ..ChangeExportRequest::default()
    }
}

fn set(args: &ExportSetArgs) -> ChangeExportRequest {
    ChangeExportRequest {
        kind: Kind::Set.into(),
        path: args.path.clone(),
        settings: args.settings.iter().map(|(key, value)| setting(key, value)).collect(),
        ..ChangeExportRequest::default()
    }
}

fn remove(args: &ExportRemoveArgs) -> ChangeExportRequest {
    ChangeExportRequest {
        kind: Kind::Remove.into(),
        path: args.path.clone(),
        force: args.force,
        destroy_data: args.destroy_data,
        ..ChangeExportRequest::default()
    }
}

/// `KEY=VALUE` as it was typed.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("expected KEY=VALUE, as in read_only=true; KEY= alone goes back to the default".to_owned()),
    }
}

fn show(reply: &ReloadReply) -> ExitCode {
    print(&changes(&reply.nodes));
    let failed = reply.nodes.iter().any(|node| !node.problems.is_empty());
    if failed { Severity::Critical.into() } else { Severity::Ok.into() }
}

/// A refusal changes nothing, which is the first that anybody wants to know.
fn not_done(node: &str, status: &tonic::Status) -> ExitCode {
    if status.code() != tonic::Code::FailedPrecondition {
        eprintln!("hanfs: {:#}", refused(node, status));
        return Severity::Unknown.into();
    }
    eprintln!("hanfs: refused by node {node}:\n{}", status.message());
    Severity::Unknown.into()
}

/// What was done, node by node.
pub fn changes(nodes: &[NodeChanges]) -> String {
    let mut text = String::new();
    for node in nodes {
        if node.changes.is_empty() && node.problems.is_empty() {
            text.push_str(&format!("{}: nothing differs\n", node.node));
        }
        for change in &node.changes {
            text.push_str(&format!("{}: {change}\n", node.node));
        }
        for problem in &node.problems {
            text.push_str(&format!("{}: FAILED: {problem}\n", node.node));
        }
    }
    text
}

async fn list(setup: &Setup) -> anyhow::Result<ExitCode> {
    let link = AdminLink::open(setup)?;
    let views = link.views().await;
    let mut errors = Vec::new();
    for view in views {
        match view.status {
            Ok(status) => {
                print(&exports(&status));
                return Ok(Severity::Ok.into());
            }
            Err(error) => errors.push(error),
        }
    }
    anyhow::bail!(errors.join("; "))
}

/// One line an export.
pub fn exports(status: &StatusReply) -> String {
    let row = |e: &ExportStatus| {
        [e.path.clone(), e.vip.clone(), e.home.clone(), e.durability.clone(), e.options.clone(), e.id.clone()]
    };
    let titles = ["PATH", "ADDRESS", "HOME", "DURABILITY", "OPTIONS", "ID"].map(str::to_owned);
    let mut sorted: Vec<&ExportStatus> = status.exports.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let rows: Vec<[String; 6]> = std::iter::once(titles).chain(sorted.into_iter().map(row)).collect();
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; 6]| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    //! Goal: what an administrator types arrives as he meant it, and what was done is told per node. Method: command
    //! lines and texts.

    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn parsed(line: &str) -> Result<ExportCommand, String> {
        let cli = Cli::try_parse_from(line.split(' ')).map_err(|e| e.to_string())?;
        match cli.command {
            Command::Export { command } => Ok(command),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn an_order_to_add_names_the_keys_of_the_file() {
        let line = "hanfs export add /three --home b --vip 10.0.0.3/24 --durability memory --client 10.0.0.0/24(rw) \
                    --client *(ro) --quota 500G squash=all";
        let Ok(ExportCommand::Add(args)) = parsed(line) else { panic!("not an order to add") };
        let keys: Vec<(String, String)> = add(&args).settings.into_iter().map(|s| (s.key, s.value)).collect();
        let expected = [
            ("home", "\"b\""),
            ("vip", "\"10.0.0.3/24\""),
            ("durability", "\"memory\""),
            ("clients", "[\"10.0.0.0/24(rw)\", \"*(ro)\"]"),
            ("quota", "\"500G\""),
            ("squash", "all"),
        ];
        assert_eq!(keys, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn wrong_orders_are_refused_with_a_reason() {
        assert!(parsed("hanfs export add /three --home b").unwrap_err().contains("--vip"));
        assert!(parsed("hanfs export set /three").unwrap_err().contains("KEY=VALUE"));
        assert!(parsed("hanfs export set /three readonly").unwrap_err().contains("as in read_only=true"));
        let Ok(ExportCommand::Set(args)) = parsed("hanfs export set /three squash=") else {
            panic!("not a set")
        };
        assert_eq!(args.settings, [("squash".to_owned(), String::new())]);
    }

    #[test]
    fn what_was_done_is_told_node_by_node() {
        let nodes = [
            NodeChanges { node: "a".into(), changes: vec!["added /x".into()], problems: vec![] },
            NodeChanges { node: "b".into(), changes: vec![], problems: vec!["/x: no disk".into()] },
            NodeChanges { node: "c".into(), ..NodeChanges::default() },
        ];
        assert_eq!(changes(&nodes), "a: added /x\nb: FAILED: /x: no disk\nc: nothing differs\n");
    }
}
