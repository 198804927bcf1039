//! Reading the configuration anew, and changing it on both nodes.
//!
//! The file is the only truth; there is one on each node, with the same text. A reload checks the whole file, then
//! whether everything in it can change while the node runs, and only then does anything. A change of an export goes to
//! the other node first: that one takes it only if its own file is the text that the new one was made from, so two
//! administrators never overwrite each other. A crash in between leaves two files that differ, which both nodes say in
//! `hanfs status`, and `hanfs reload --push` mends.
//!
//! One change at a time on each node; a second one is refused, not queued, so that two nodes never wait for each other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proto::admin::admin_client::AdminClient;
use proto::admin::change_export_request::Kind;
use proto::admin::put_config_reply::Kind as Put;
use proto::admin::{ChangeExportRequest, NodeChanges, PutConfigReply, PutConfigRequest, ReloadRequest};
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Endpoint;

use super::current::Current;
use super::data_dir::DataDir;
use super::export::{Edges, Export, State};
use super::guardian;
use super::hub::{Exports, HubInput, HubView};
use super::identity::Identity;
use super::server::{group_config, policy_export};
use super::session::root_cause;
use crate::config::diff::Diff;
use crate::config::{Config, edit, model};
use crate::events::{Events, Level};
use failover::link::GuardianLink;
use replica::ids::voter;

/// The other node answers within this, or counts as not reachable: connecting, and writing a file.
const PEER_MAX: Duration = Duration::from_secs(5);
/// Applying a change there may take this long: groups stop and start.
const PEER_APPLIES_MAX: Duration = Duration::from_secs(60);
/// An address that cannot be given up does not hold up the removal of its export; the guardian goes on trying.
const REMOVE_MAX: Duration = Duration::from_secs(5);

/// See the module.
pub struct Reloader {
    /// This node's name.
    pub node: String,
    /// What it runs with.
    pub current: Arc<Current>,
    /// Its data.
    pub data: Arc<DataDir>,
    /// Who it is.
    pub identity: Identity,
    /// All exports.
    pub exports: Arc<Exports>,
    /// Where a new export's messages go.
    pub edges: Edges,
    /// Who decides.
    pub hub: mpsc::UnboundedSender<HubInput>,
    /// What it shows.
    pub view: Arc<Mutex<HubView>>,
    /// Sockets and addresses.
    pub guardian: Arc<GuardianLink>,
    /// History.
    pub events: Arc<Events>,
    /// The other node's name and where it takes orders.
    pub peer: Option<(String, Endpoint)>,
    /// Held while a change is under way.
    pub busy: Arc<tokio::sync::Mutex<()>>,
}

/// What may be done beyond what is harmless.
#[derive(Debug, Clone, Copy, Default)]
pub struct Consent {
    /// Remove exports although clients are connected.
    pub force: bool,
    /// Delete their data.
    pub destroy_data: bool,
}

/// A new text that can be applied here.
struct Plan {
    text: String,
    config: Config,
    diff: Diff,
    consent: Consent,
}

impl Reloader {
    /// On SIGHUP: nobody waits for an answer, so it goes to the log and the history.
    pub async fn reload_on_signal(self: Arc<Self>) {
        if let Err(why) = self.reload(&ReloadRequest::default()).await {
            tracing::error!("the configuration is not reloaded: {why}");
            self.events.append(Level::Error, "", format!("the configuration is not reloaded: {why}"));
        }
    }

    /// Reads this node's file anew and applies it; with `push`, on both nodes. The error says why nothing was changed.
    pub async fn reload(&self, request: &ReloadRequest) -> Result<Vec<NodeChanges>, String> {
        let _busy = self.busy.try_lock().map_err(|_| self.is_busy())?;
        let consent = Consent { force: request.force, destroy_data: request.destroy_data };
        let text = self.read().await?;
        let plan = self.plan(text, consent)?;
        if request.push {
            self.both(plan, bytes::Bytes::new()).await
        } else {
            Ok(vec![self.apply(plan).await])
        }
    }

    /// Changes an export in the files of both nodes and applies that. The error says why nothing was changed.
    pub async fn change_export(&self, request: &ChangeExportRequest) -> Result<Vec<NodeChanges>, String> {
        let _busy = self.busy.try_lock().map_err(|_| self.is_busy())?;
        let text = self.read().await?;
        let mut settings: Vec<(String, String)> =
            request.settings.iter().map(|s| (s.key.clone(), s.value.clone())).collect();
        let path = &request.path;
        let new = match request.kind() {
            Kind::Add => {
                if !settings.iter().any(|(key, value)| key == "id" && !value.is_empty()) {
                    settings.insert(0, ("id".to_owned(), uuid::Uuid::new_v4().to_string()));
                }
                edit::add_export(&text, path, &settings)?
            }
            Kind::Set => edit::set_export(&text, path, &settings)?,
            Kind::Remove => edit::remove_export(&text, path)?,
            Kind::None => return Err("neither add, set nor remove: upgrade the older hanfs".to_owned()),
        };
        let consent = Consent { force: request.force, destroy_data: request.destroy_data };
        let plan = self.plan(new, consent)?;
        self.both(plan, bytes::Bytes::copy_from_slice(&edit::digest(&text))).await
    }

    /// The other node's text takes the place of this node's and is applied. The answers come on `replies`; an error
    /// says why nothing was changed.
    pub async fn put(
        self: &Arc<Self>,
        request: PutConfigRequest,
        replies: mpsc::Sender<Result<PutConfigReply, tonic::Status>>,
    ) -> Result<(), String> {
        let busy = self.busy.clone().try_lock_owned().map_err(|_| self.is_busy())?;
        let own = self.read().await?;
        let other = self.peer.as_ref().map_or("the other node", |(name, _)| name.as_str());
        if !request.base.is_empty() && edit::digest(&own)[..] != request.base[..] && own != request.text {
            return Err(format!(
                "its configuration file is another text than that of node {other}: see which one is right, and say `hanfs \
                 reload --push` on that node"
            ));
        }
        let consent = Consent { force: request.force, destroy_data: request.destroy_data };
        let plan = self.plan(request.text, consent)?;
        self.write(&plan.text).await?;
        let this = self.clone();
        // Written is written: it is applied whether or not the other node waits for the outcome.
        tokio::spawn(async move {
            let _busy = busy;
            let _ = replies.send(Ok(PutConfigReply { kind: Some(Put::Written(true)) })).await;
            let applied = this.apply(plan).await;
            let _ = replies.send(Ok(PutConfigReply { kind: Some(Put::Applied(applied)) })).await;
        });
        Ok(())
    }

    fn is_busy(&self) -> String {
        format!("another change of the configuration is under way on node {}: try again", self.node)
    }

    /// The file behind whatever links lead to it.
    fn path(&self) -> PathBuf {
        let path = self.current.config().path.clone();
        std::fs::canonicalize(&path).unwrap_or(path)
    }

    async fn read(&self) -> Result<String, String> {
        let path = self.path();
        let read = tokio::task::spawn_blocking(move || Config::read(&path).map_err(|e| e.to_string()));
        read.await.map_err(|e| e.to_string())?
    }

    /// Writes the file, unless it holds this text already.
    async fn write(&self, text: &str) -> Result<(), String> {
        let (path, text) = (self.path(), text.to_owned());
        let write = move || {
            if std::fs::read_to_string(&path).is_ok_and(|now| now == text) {
                return Ok(());
            }
            edit::replace_file(&path, &text).map_err(|e| format!("write {}: {e}", path.display()))
        };
        tokio::task::spawn_blocking(write).await.map_err(|e| e.to_string())?
    }

    /// Checks a text as a whole, and whether all of it can change here and now.
    fn plan(&self, text: String, consent: Consent) -> Result<Plan, String> {
        let current = self.current.config();
        let config = Config::parse(&current.path, &text).map_err(|e| e.to_string())?;
        let diff = Diff::between(&current, &config).map_err(|keys| keys.join("\n"))?;
        for export in &diff.removed {
            let clients = self.view.lock().connections.get(&export.id).copied().unwrap_or(0);
            if clients > 0 && !consent.force {
                return Err(format!(
                    "{}: {clients} client connections on node {}: unmount it there first, or say --force",
                    export.path, self.node
                ));
            }
            let copying =
                self.exports.get(export.id).is_some_and(|e| e.with(|s| matches!(s, State::Copying(_))));
            if copying {
                return Err(format!(
                    "{} is being copied to node {}: wait until that is done",
                    export.path, self.node
                ));
            }
        }
        Ok(Plan { text, config, diff, consent })
    }

    /// The other node first, then this one. `base`: what the text was made from; empty: whatever the other one has goes.
    async fn both(&self, plan: Plan, base: bytes::Bytes) -> Result<Vec<NodeChanges>, String> {
        let Some((name, endpoint)) = &self.peer else {
            self.write(&plan.text).await.map_err(|why| format!("{why}: nothing was changed"))?;
            return Ok(vec![self.apply(plan).await]);
        };
        let request = PutConfigRequest {
            text: plan.text.clone(),
            base,
            force: plan.consent.force,
            destroy_data: plan.consent.destroy_data,
        };
        let put = async {
            let channel = endpoint.connect().await.map_err(|e| {
                format!(
                    "node {name} is not reachable ({}): nothing was changed, for both nodes change or none",
                    root_cause(&e)
                )
            })?;
            let mut client = AdminClient::new(channel);
            let replies = client.put_config(request).await;
            let mut replies = replies
                .map_err(|s| format!("node {name}: {}: nothing was changed", s.message()))?
                .into_inner();
            match replies.message().await {
                Ok(Some(PutConfigReply { kind: Some(Put::Written(true)) })) => Ok(replies),
                _ => Err(format!(
                    "node {name} did not say whether it wrote its file: see `hanfs status`; if the nodes' files differ, say \
                     `hanfs reload --push` on the node whose file is right"
                )),
            }
        };
        let mut replies = tokio::time::timeout(PEER_MAX, put).await.map_err(|_| {
            format!(
                "node {name} did not answer within {} s: see `hanfs status` whether the nodes' files differ",
                PEER_MAX.as_secs()
            )
        })??;
        self.write(&plan.text).await.map_err(|why| {
            format!("{why}; node {name} has the new file: mend this, then say `hanfs reload --push` on node {name}")
        })?;
        let theirs = async {
            let said = tokio::time::timeout(PEER_APPLIES_MAX, replies.message()).await;
            match said {
                Ok(Ok(Some(PutConfigReply { kind: Some(Put::Applied(changes)) }))) => changes,
                _ => NodeChanges {
                    node: name.clone(),
                    problems: vec!["its file is written; it did not say what came of it".to_owned()],
                    ..NodeChanges::default()
                },
            }
        };
        let (ours, theirs) = tokio::join!(self.apply(plan), theirs);
        Ok(vec![ours, theirs])
    }

    /// Does what the plan says. What fails is said, and the rest is done: the file says what is wanted, and a further
    /// reload tries again.
    async fn apply(&self, plan: Plan) -> NodeChanges {
        let Plan { text, config, diff, consent } = plan;
        let mut changes = NodeChanges { node: self.node.clone(), ..NodeChanges::default() };
        for export in &diff.removed {
            self.remove(export, consent, &mut changes).await;
        }
        // Also where nothing differs: an address that could not be had before is tried again.
        if let Err(why) = self.guardian.exports(guardian::exports(&config)).await {
            changes.problems.push(why);
        }
        // Also what could not be started or added before.
        for export in self.exports.all() {
            if export.with(|state| matches!(state, State::Stopped(_))) {
                self.start(export, "started", &mut changes).await;
            }
        }
        for export in config.exports.iter().filter(|e| self.exports.get(e.id).is_none()) {
            self.add(&config, export, &mut changes).await;
        }
        for (old, new) in &diff.changed {
            if let Some(export) = self.exports.get(new.id) {
                export.set_config(new.clone());
                let (done, in_force) = oneshot::channel();
                let _ = self.hub.send(HubInput::Options(new.id, done));
                // Else a client would still meet the old ones when the order has been answered.
                let _ = in_force.await;
            }
            changes.changes.push(format!("{}: {} (was: {})", new.path, options(new), options(old)));
        }
        self.current.set(config, &text);
        if let Some(peer) = &self.edges.peer {
            peer.say_config(self.current.digest());
        }
        for change in &changes.changes {
            tracing::info!("reload: {change}");
            self.events.append(Level::Info, "", format!("reload: {change}"));
        }
        for problem in &changes.problems {
            tracing::error!("reload: {problem}");
            self.events.append(Level::Error, "", format!("reload: {problem}"));
        }
        changes
    }

    async fn add(&self, config: &Config, export: &model::Export, changes: &mut NodeChanges) {
        let restored = match self.data.restore_export(export.id) {
            Ok(restored) => restored,
            Err(error) => {
                changes.problems.push(format!("{}: bring its data back: {error}", export.path));
                return;
            }
        };
        let me = if export.home == self.node { voter::HOME } else { voter::MIRROR };
        let group = group_config(config, export, &self.node, me, &self.data, &self.identity);
        let added = Export::new(export.clone(), me, group, self.hub.clone());
        added.connect(self.edges.clone());
        // The policy knows it before its group says anything.
        let _ = self.hub.send(HubInput::Added(policy_export(export, &self.node), Box::new(export.clone())));
        self.exports.insert(added.clone());
        let word = if restored { "added, with the data that was set aside," } else { "added" };
        self.start(added, word, changes).await;
    }

    /// Starts an export's group and lets it say its first word.
    async fn start(&self, export: Arc<Export>, word: &str, changes: &mut NodeChanges) {
        let (starting, path) = (export.clone(), export.config().path.clone());
        let started = tokio::task::spawn_blocking(move || starting.start()).await;
        match started.map_err(|e| e.to_string()).and_then(|started| started) {
            Ok(()) => {
                export.say_begin();
                changes.changes.push(format!("{word} {path}"));
            }
            Err(why) => changes.problems.push(format!("{path}: {why}")),
        }
    }

    async fn remove(&self, gone: &model::Export, consent: Consent, changes: &mut NodeChanges) {
        let Some(export) = self.exports.remove(gone.id) else { return };
        let (done, closed) = oneshot::channel();
        let _ = self.hub.send(HubInput::Removed(gone.id, done));
        if tokio::time::timeout(REMOVE_MAX, closed).await.is_err() {
            changes.problems.push(format!("{}: its address is not off this host yet", gone.path));
        }
        let (data, id) = (self.data.clone(), gone.id);
        let stop = move || {
            if export.retire() {
                data.remove_export(id, consent.destroy_data)
            } else {
                Ok(Some(export.dir().clone()))
            }
        };
        let path = &gone.path;
        match tokio::task::spawn_blocking(stop).await.map_err(std::io::Error::other).and_then(|r| r) {
            Ok(Some(dir)) => {
                changes.changes.push(format!("removed {path}; its data is kept in {}", dir.display()))
            }
            Ok(None) => changes.changes.push(format!("removed {path} and its data")),
            Err(error) => changes.problems.push(format!("{path} is removed; set its data aside: {error}")),
        }
    }
}

/// An entry of the access list with all that it means.
fn client(client: &model::Client) -> String {
    let access = &client.access;
    let mode = if access.read_only { "ro" } else { "rw" };
    let squash = match access.squash {
        model::Squash::Root => "root_squash",
        model::Squash::All => "all_squash",
        model::Squash::None => "no_root_squash",
    };
    let secure = if access.secure { ",secure" } else { "" };
    let (uid, gid) = (access.anon_uid, access.anon_gid);
    format!("{}({mode},{squash},anonuid={uid},anongid={gid}{secure})", client.group)
}

/// What may change of an export while it runs, as the file says it.
pub fn options(export: &model::Export) -> String {
    let squash = match export.squash {
        model::Squash::Root => "root",
        model::Squash::All => "all",
        model::Squash::None => "none",
    };
    let mut text = format!(
        "read_only={} squash={squash} anon_uid={} anon_gid={} secure={}",
        export.read_only, export.anon_uid, export.anon_gid, export.secure
    );
    if let Some(clients) = &export.clients {
        let shown: Vec<String> = clients.iter().map(client).collect();
        text.push_str(&format!(" clients={}", shown.join(" ")));
    }
    if export.quota_bytes > 0 {
        text.push_str(&format!(" quota={}", export.quota_bytes));
    }
    if export.quota_inodes > 0 {
        text.push_str(&format!(" quota_inodes={}", export.quota_inodes));
    }
    if let Some(seconds) = export.giveback_after_s {
        text.push_str(&format!(" giveback_after_s={seconds}"));
    }
    text
}
