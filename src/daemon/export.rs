//! One export on this node: its running group, or why none runs, and the copy that comes in.
//!
//! Events of the group go one way: to the peer's link, to the witness's link, or to the hub, which decides.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::RwLock;
use proto::peer::{GroupFrame, GroupHello};
use replica::group::{Group, GroupConfig, GroupEvent};
use replica::ids::ExportId;
use replica::image::{ImageProgress, Place};
use replica::node::Input;
use tokio::sync::mpsc;

use super::hub::HubInput;
use super::session::PeerLink;
use super::witness_link::WitnessLink;
use crate::config::model::Export as ExportConfig;

/// An export as this node has it.
pub struct Export {
    config: RwLock<Arc<ExportConfig>>,
    id: ExportId,
    /// This node's raft id in the group.
    pub me: u64,
    group: GroupConfig,
    state: RwLock<State>,
    edges: RwLock<Edges>,
    /// The running group has had the peer's first word in this session.
    greeted: AtomicBool,
    /// It was removed from the configuration: nothing starts it any more.
    retired: AtomicBool,
    hub: mpsc::UnboundedSender<HubInput>,
}

/// Where a group's messages go.
#[derive(Default, Clone)]
pub struct Edges {
    /// The other node; `None` in a cluster of one.
    pub peer: Option<Arc<PeerLink>>,
    /// The witness process, where there is one.
    pub witness: Option<Arc<WitnessLink>>,
}

/// What runs.
pub enum State {
    /// The group takes part.
    Running(Group),
    /// A copy comes in; this node has no vote meanwhile.
    Copying(ImageProgress),
    /// It does not run on this node: why.
    Stopped(String),
}

impl Export {
    /// An export that does not run yet.
    pub fn new(
        config: ExportConfig,
        me: u64,
        group: GroupConfig,
        hub: mpsc::UnboundedSender<HubInput>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: config.id,
            config: RwLock::new(Arc::new(config)),
            me,
            group,
            state: RwLock::new(State::Stopped("starting".into())),
            edges: RwLock::default(),
            greeted: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            hub,
        })
    }

    /// Connects it to the edges; before [`Self::start`].
    pub fn connect(&self, edges: Edges) {
        *self.edges.write() = edges;
    }

    /// Its id.
    pub fn id(&self) -> ExportId {
        self.id
    }

    /// What the configuration says of it now.
    pub fn config(&self) -> Arc<ExportConfig> {
        self.config.read().clone()
    }

    /// The configuration says something else of it: other options. What it *is* never changes.
    pub fn set_config(&self, config: ExportConfig) {
        *self.config.write() = Arc::new(config);
    }

    /// Its directory on this node.
    pub fn dir(&self) -> &PathBuf {
        &self.group.dir
    }

    /// Starts the group from what is on disk. The error says which file and what to do.
    pub fn start(self: &Arc<Self>) -> Result<(), String> {
        if self.retired.load(Ordering::SeqCst) {
            return Err("the export was removed".to_owned());
        }
        let this = Arc::downgrade(self);
        let events = Arc::new(move |event| {
            if let Some(export) = Weak::upgrade(&this) {
                export.event(event);
            }
        });
        let outcome = replica::image::install(&Place::of(&self.group.dir))
            .map_err(|e| e.to_string())
            .and_then(|_| Group::start(self.group.clone(), events).map_err(|e| e.to_string()));
        match outcome {
            Ok(group) => {
                let mut state = self.state.write();
                self.greeted.store(false, Ordering::SeqCst);
                *state = State::Running(group);
                Ok(())
            }
            Err(why) => {
                *self.state.write() = State::Stopped(why.clone());
                Err(why)
            }
        }
    }

    /// Stops the group cleanly and says what the export is now. Blocks while it stops.
    pub fn stop(&self, next: State) {
        let before = std::mem::replace(&mut *self.state.write(), next);
        if let State::Running(group) = before {
            group.stop();
        }
    }

    /// Stops it for good, cleanly, and says whether its directory is at rest: not while a copy comes in. Blocks while
    /// the group stops.
    pub fn retire(&self) -> bool {
        self.retired.store(true, Ordering::SeqCst);
        let copying = self.with(|state| matches!(state, State::Copying(_)));
        if !copying {
            self.stop(State::Stopped("the export was removed".to_owned()));
        }
        !copying
    }

    /// The peer's group says its first word: in the session's handshake, or because it began later.
    pub fn peer_up(&self, hello: GroupHello) {
        // A group that does not run yet hears it later, in answer to its own first word.
        self.with_group(|group| {
            self.greeted.store(true, Ordering::SeqCst);
            group.input(Input::PeerUp(hello));
        });
    }

    /// The session is over.
    pub fn peer_down(&self) {
        self.greeted.store(false, Ordering::SeqCst);
        self.input(Input::PeerDown);
    }

    /// The group began in the middle of a session: its first word.
    pub fn say_begin(&self) {
        if let Some(hello) = self.hello() {
            self.to_peer(GroupFrame { hello: Some(hello), begins: true, ..GroupFrame::default() });
        }
    }

    /// The peer's group began in the middle of a session, or answers to this one's having done so. The answer goes out
    /// before this node's group knows of the peer, so that what it says then comes after it.
    pub fn peer_begins(&self, hello: GroupHello, answers: bool) {
        if answers && self.greeted.load(Ordering::SeqCst) {
            return;
        }
        if !answers && let Some(own) = self.hello() {
            self.to_peer(GroupFrame { hello: Some(own), answers: true, ..GroupFrame::default() });
        }
        self.peer_up(hello);
    }

    /// From now on a copy comes in: the group that ran, to be stopped. `None` where none runs, so that one copy comes
    /// in at a time.
    pub fn begin_copy(&self) -> Option<Group> {
        let mut state = self.state.write();
        match std::mem::replace(&mut *state, State::Copying(ImageProgress::default())) {
            State::Running(group) => Some(group),
            other => {
                *state = other;
                None
            }
        }
    }

    /// A copy has come this far.
    pub fn copying(&self, progress: ImageProgress) {
        *self.state.write() = State::Copying(progress);
    }

    /// Something happened at the edge.
    pub fn input(&self, input: Input) {
        if let State::Running(group) = &*self.state.read() {
            group.input(input);
        }
    }

    /// Looks at what runs.
    pub fn with<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.state.read())
    }

    /// Looks at the group, if it runs.
    pub fn with_group<R>(&self, look: impl FnOnce(&Group) -> R) -> Option<R> {
        self.with(|state| match state {
            State::Running(group) => Some(look(group)),
            State::Copying(_) | State::Stopped(_) => None,
        })
    }

    /// What this node says of the group in a handshake. Nothing while it has no part in it.
    pub fn hello(&self) -> Option<GroupHello> {
        self.with_group(|group| {
            let mut hello = group.hello();
            hello.export = self.wire_id();
            hello
        })
    }

    fn wire_id(&self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(&self.id.0)
    }

    /// Sends the peer something of this group.
    pub fn to_peer(&self, mut frame: GroupFrame) {
        if let Some(peer) = &self.edges.read().peer {
            frame.export = self.wire_id();
            peer.send(frame);
        }
    }

    fn event(&self, event: GroupEvent) {
        match event {
            GroupEvent::ToPeer(frame) => self.to_peer(frame),
            GroupEvent::ToWitness(mut request) => {
                if let Some(witness) = &self.edges.read().witness {
                    request.export = self.wire_id();
                    request.from = self.me;
                    witness.call(self.id(), request);
                }
            }
            GroupEvent::ResetPeer(why) => {
                if let Some(peer) = &self.edges.read().peer {
                    peer.reset(&why);
                }
            }
            GroupEvent::PeerNeedsImage => {
                self.to_peer(GroupFrame { copy_from_me: true, ..GroupFrame::default() });
            }
            decided => {
                let _ = self.hub.send(HubInput::Group(self.id(), decided));
            }
        }
    }
}
