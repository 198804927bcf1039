//! The network: the session of the two servers, calls to the witness, and clients' TCP connections to the addresses.
//!
//! TCP is modelled by the record: what a kernel acknowledges, sends again, resets and forgets, as `LINUX-CLIENT` measured
//! it. A frame between two servers arrives in order or the session ends, as with any stream.

use bytes::Bytes;
use proto::peer::{WitnessReply, WitnessRequest};
use replica::node::Input;

use crate::client::Link;
use crate::host::Socket;
use crate::queue::{Down, Event, PeerFrame, Tuple, Up};
use crate::rng::Rng;
use crate::world::{MS, World};

/// TCP's first retransmission, and its longest pause.
const RTO_NS: u64 = 200 * MS;
const RTO_MAX_NS: u64 = 120_000 * MS;
/// Linux gives a connection up that has had unacknowledged data so long (`TCP_USER_TIMEOUT` of the NFS client).
const TCP_DEAD_NS: u64 = 180_000 * MS;
/// A SYN is sent again after so long, by tries.
const SYN_AGAIN_NS: [u64; 3] = [1_000 * MS, 2_000 * MS, 4_000 * MS];
/// A call that was sent is sent again on a living connection after so long.
const CALL_AGAIN_NS: u64 = 60_000 * MS;

/// What is wrong with the wires.
pub struct Net {
    /// The two nodes do not reach each other until then.
    pub nodes_cut_until: u64,
    /// Only in this direction (from that host) is it so; the other way still works.
    pub one_way_until: [u64; 2],
    /// A host does not reach the witness until then.
    pub witness_cut_until: [u64; 2],
    /// A client does not reach a host until then: by client, by host.
    pub client_cut_until: Vec<[u64; 2]>,
    /// Everything between the nodes takes so much longer until then.
    pub clogged_until: u64,
    /// One packet in so many of a client's is lost; 0: none.
    pub client_loss: u64,
    /// One call to the witness in so many is lost, and one in so many arrives twice; 0: none.
    pub witness_loss: u64,
    /// The fence works.
    pub fence_works: bool,
    now: u64,
}

impl Net {
    /// All is well.
    pub fn new(clients: usize) -> Self {
        Self {
            nodes_cut_until: 0,
            one_way_until: [0; 2],
            witness_cut_until: [0; 2],
            client_cut_until: vec![[0; 2]; clients],
            clogged_until: 0,
            client_loss: 0,
            witness_loss: 0,
            fence_works: true,
            now: 0,
        }
    }

    /// Both ways?
    pub fn nodes_reach(&self, now: u64) -> bool {
        now >= self.nodes_cut_until && self.one_way_until.iter().all(|until| now >= *until)
    }

    /// What a frame between the nodes takes.
    pub fn node_delay(&self, rng: &mut Rng) -> u64 {
        let usual = rng.between(30_000, 400_000);
        if self.now < self.clogged_until { usual + rng.between(5, 120) * MS } else { usual }
    }

    /// Time goes on.
    pub fn tick(&mut self, now: u64) {
        self.now = now;
    }
}

/// The two servers' session.
#[derive(Default)]
pub struct Session {
    /// Odd: it is up.
    pub number: u64,
    /// It looks alive, and nothing arrives.
    pub silent: bool,
    /// By receiver.
    arrives: [u64; 2],
}

/// A TCP connection of a client's, as the client sees it.
pub struct Conn {
    /// Its client, port, address.
    pub tuple: Tuple,
    next_seq: u64,
    /// Sent and not acknowledged, with the time of the first sending.
    unacked: std::collections::BTreeMap<u64, (Bytes, u64)>,
    /// Received by the host's kernel.
    received: std::collections::BTreeSet<u64>,
    /// Not ended, as far as the client knows.
    pub alive: bool,
    tickled: u64,
}

impl World {
    // The session of the two servers.

    /// The dialling node tries.
    pub fn connect(&mut self) {
        let wait = 200 * MS;
        self.at(wait, Event::Connect);
        let up = self.hosts.iter().all(|h| h.process.is_some() && h.on && self.now >= h.paused_until);
        if self.session.number % 2 == 1 || !up || !self.net.nodes_reach(self.now) {
            return;
        }
        self.session.number += 1;
        self.session.silent = false;
        self.session.arrives = [self.now; 2];
        self.trace.say(self.now, "the session is up");
        let lives = [self.hosts[0].life, self.hosts[1].life];
        for h in 0..2 {
            if let Some(process) = self.hosts[h].process.as_mut() {
                process.peer_process = lives[1 - h];
            }
        }
        for export in 0..self.setup.exports {
            let hellos: Vec<_> =
                (0..2).map(|h| self.group(h, export).map(|run| run.parts.group.hello())).collect();
            for h in 0..2 {
                if let Some(mut hello) = hellos[1 - h].clone() {
                    hello.export = Bytes::copy_from_slice(&crate::host::server::export_id(export).0);
                    self.group_input(h, export, Input::PeerUp(hello));
                }
            }
        }
        for h in 0..2 {
            let own = self.hosts[h].process.as_ref().map(|p| p.own.iter().copied().collect::<Vec<_>>());
            for tuple in own.unwrap_or_default() {
                self.to_peer(h, PeerFrame::Tuple(tuple, None));
            }
        }
    }

    /// The session ends; each side hears of it a little later.
    pub fn disconnect(&mut self) {
        if self.session.number.is_multiple_of(2) {
            return;
        }
        self.session.number += 1;
        self.session.silent = false;
        let number = self.session.number;
        self.say("the session ends");
        for h in 0..2 {
            let delay = self.rng.between(20_000, 20 * MS);
            self.at(delay, Event::SessionDown(h, number));
        }
    }

    /// One side hears of it.
    pub fn session_down(&mut self, h: usize, number: u64) {
        if self.session.number != number && self.session.number != number + 1 {
            return;
        }
        if self.session.number == number {
            for export in 0..self.setup.exports {
                self.group_input(h, export, Input::PeerDown);
            }
        }
        let known = self.hosts[h].process.as_ref().map(|p| p.unconfirmed.keys().copied().collect::<Vec<_>>());
        for conn in known.unwrap_or_default() {
            self.tuple_known(h, conn);
        }
    }

    /// From a server to the other one.
    pub fn to_peer(&mut self, from: usize, frame: PeerFrame) {
        if self.session.number.is_multiple_of(2) || self.session.silent {
            return;
        }
        let lost = self.now < self.net.nodes_cut_until || self.now < self.net.one_way_until[from];
        if lost {
            // A stream that loses something stands still, until somebody ends it.
            self.session.silent = true;
            self.say("nothing passes on the session any more");
            let session = self.session.number;
            let until = self.net.nodes_cut_until.max(self.net.one_way_until[from]);
            // Either the path comes back and TCP goes on (here: anew), or keepalive finds out.
            let delay = (until - self.now).min(self.rng.between(1_000, 4_000) * MS);
            self.at(delay, Event::SessionDown(2, session));
            return;
        }
        let to = 1 - from;
        let delay = self.net.node_delay(&mut self.rng);
        let at = (self.now + delay).max(self.session.arrives[to] + 1);
        self.session.arrives[to] = at;
        let session = self.session.number;
        self.stats.frames += 1;
        self.queue.push(at, Event::Frame { to, session, frame });
    }

    /// A session that stands still is found out.
    pub fn session_found_out(&mut self, session: u64) {
        if self.session.number == session {
            self.disconnect();
        }
    }

    // The witness.

    /// A call to it.
    pub fn ask_witness(&mut self, h: usize, export: usize, request: WitnessRequest) {
        if self.now < self.net.witness_cut_until[h] || self.rng.one_in(self.net.witness_loss) {
            return;
        }
        let life = self.hosts[h].life;
        let delay = self.rng.between(50_000, 3 * MS);
        if self.net.witness_loss != 0 && self.rng.one_in(self.net.witness_loss) {
            self.at(delay + 20 * MS, Event::ToWitness(h, life, export, request.clone()));
        }
        self.at(delay, Event::ToWitness(h, life, export, request));
    }

    /// Its answer comes.
    pub fn witness_answers(&mut self, h: usize, life: u64, export: usize, reply: WitnessReply) {
        if !self.runs(h, life) || self.now < self.net.witness_cut_until[h] {
            return;
        }
        if self.now < self.hosts[h].paused_until {
            let until = self.hosts[h].paused_until;
            self.queue.push(until, Event::FromWitness(h, life, export, reply));
            return;
        }
        self.group_input(h, export, Input::Witness(reply));
    }

    // Clients' connections.

    /// A client makes a connection.
    pub fn dial(&mut self, client: usize, mount: usize) {
        let m = &mut self.clients[client].mounts[mount];
        if m.link != Link::Idle {
            return;
        }
        let conn = self.next_conn;
        self.next_conn += 1;
        m.link = Link::Connecting(conn);
        let tuple = Tuple { client, port: m.port, export: m.export };
        self.conns.insert(
            conn,
            Conn {
                tuple,
                next_seq: 0,
                unacked: Default::default(),
                received: Default::default(),
                alive: true,
                tickled: 0,
            },
        );
        self.packet(conn, Up::Syn);
        self.at(SYN_AGAIN_NS[0], Event::SynAgain(conn, 1));
    }

    /// Still no answer to the SYN.
    pub fn syn_again(&mut self, conn: u64, tries: u32) {
        let Some(c) = self.conns.get(&conn) else { return };
        let (client, mount) = (c.tuple.client, self.mount_of(c.tuple));
        if self.clients[client].mounts[mount].link != Link::Connecting(conn) {
            return;
        }
        let index = usize::try_from(tries).unwrap_or(usize::MAX).min(SYN_AGAIN_NS.len() - 1);
        self.packet(conn, Up::Syn);
        self.at(SYN_AGAIN_NS[index], Event::SynAgain(conn, tries + 1));
    }

    /// A client's mount of that export.
    pub fn mount_of(&self, tuple: Tuple) -> usize {
        tuple.export
    }

    /// A packet on its way to the address.
    fn packet(&mut self, conn: u64, packet: Up) {
        if self.rng.one_in(self.net.client_loss) {
            return;
        }
        let delay = self.rng.between(40_000, 500_000);
        self.at(delay, Event::Up(conn, packet));
    }

    /// A packet has come to whichever host has the address, as far as the network knows.
    pub fn arrives(&mut self, conn: u64, packet: Up) {
        let Some(c) = self.conns.get(&conn) else { return };
        let tuple = c.tuple;
        let h = self.route[tuple.export];
        let cut = self.now < self.net.client_cut_until[tuple.client][h];
        if cut || !self.hosts[h].on || !self.hosts[h].guardian.addresses[tuple.export].up {
            return;
        }
        let socket = self.hosts[h].sockets.get(&tuple).copied();
        match (packet, socket) {
            (Up::Syn, None) => {
                self.hosts[h].sockets.insert(tuple, (conn, Socket::Waiting));
                self.to_client(h, conn, Down::SynAck);
                self.established(h, tuple);
            }
            (Up::Syn, Some((open, _))) if open == conn => self.to_client(h, conn, Down::SynAck),
            // An old connection of the same port: the client's reset of the challenge ends it, its next SYN comes.
            (Up::Syn, Some((open, _))) => self.forget_socket(h, tuple, open),
            (Up::Data(seq, record), Some((open, socket))) if open == conn => {
                self.to_client(h, conn, Down::Ack(seq));
                let Some(c) = self.conns.get_mut(&conn) else { return };
                if !c.received.insert(seq) {
                    return;
                }
                self.stats.calls += 1;
                match socket {
                    Socket::Server(_) => self.received(h, tuple, conn, record),
                    // The kernel has it; nobody reads it until somebody accepts the connection.
                    Socket::Waiting => {
                        if let Some(process) = self.hosts[h].process.as_mut() {
                            process.unread.entry(conn).or_default().push(record);
                        }
                    }
                    Socket::Parked => {}
                }
            }
            (Up::Challenge, Some((open, _))) if open == conn => {}
            (Up::Data(..) | Up::Challenge, _) => self.to_client(h, conn, Down::Rst),
        }
    }

    fn forget_socket(&mut self, h: usize, tuple: Tuple, conn: u64) {
        self.hosts[h].sockets.remove(&tuple);
        if let Some(process) = self.hosts[h].process.as_mut() {
            process.unread.remove(&conn);
            process.unconfirmed.remove(&conn);
        }
    }

    /// A connection that is established waits to be accepted: by the server, or by the guardian in its place.
    fn established(&mut self, h: usize, tuple: Tuple) {
        match self.hosts[h].process.as_ref().map(|p| p.fronts[tuple.export].is_some()) {
            Some(true) if self.now >= self.hosts[h].paused_until => self.accept(h, tuple),
            Some(_) => {}
            None => self.guardian_parks(h, tuple),
        }
    }

    /// From a host to a client.
    pub fn to_client(&mut self, h: usize, conn: u64, packet: Down) {
        let Some(c) = self.conns.get(&conn) else { return };
        let tuple = c.tuple;
        if !self.hosts[h].guardian.addresses[tuple.export].up {
            return;
        }
        let boot = self.hosts[h].boot;
        let lost =
            self.rng.one_in(self.net.client_loss) || self.now < self.net.client_cut_until[tuple.client][h];
        // Data is sent again by the host's kernel, as long as it has the connection.
        let delay = self.rng.between(40_000, 500_000);
        match packet {
            Down::Data(_) if lost => self.at(delay + RTO_NS, Event::Down(conn, h, boot, packet)),
            _ if lost => {}
            _ => self.at(delay, Event::Down(conn, h, boot, packet)),
        }
    }

    /// A tickle: SYN|ACK with numbers that fit nothing.
    pub fn tickle(&mut self, h: usize, tuple: Tuple) {
        let mount = self.mount_of(tuple);
        if self.now < self.net.client_cut_until[tuple.client][h] || self.rng.one_in(self.net.client_loss) {
            return;
        }
        let conn = match self.clients[tuple.client].mounts[mount].link {
            Link::Up(conn) | Link::Connecting(conn) => conn,
            Link::Idle => return,
        };
        if self.conns.get(&conn).is_none_or(|c| c.tuple != tuple) {
            return;
        }
        let boot = self.hosts[h].boot;
        let delay = self.rng.between(40_000, 500_000);
        self.at(delay, Event::Down(conn, h, boot, Down::Tickle));
    }

    /// A packet has come to a client.
    pub fn client_hears(&mut self, conn: u64, h: usize, boot: u64, packet: Down) {
        let Some(c) = self.conns.get_mut(&conn).filter(|c| c.alive) else { return };
        let tuple = c.tuple;
        let (client, mount) = (tuple.client, tuple.export);
        if let Down::Data(_) = &packet {
            // Sent again only by a kernel that still has the connection, and under the address.
            let there = self.hosts[h].on && self.hosts[h].boot == boot;
            if self.now < self.net.client_cut_until[client][h] {
                if there && self.hosts[h].sockets.get(&tuple).is_some_and(|(open, _)| *open == conn) {
                    self.at(RTO_NS, Event::Down(conn, h, boot, packet));
                }
                return;
            }
        }
        let link = self.clients[client].mounts[mount].link;
        match packet {
            Down::SynAck if link == Link::Connecting(conn) => {
                self.clients[client].mounts[mount].link = Link::Up(conn);
                let waiting: Vec<u32> = self.clients[client].mounts[mount].calls.keys().copied().collect();
                for xid in waiting {
                    self.send_call(client, mount, xid);
                }
            }
            Down::SynAck => {}
            Down::Ack(seq) => {
                c.unacked.remove(&seq);
            }
            Down::Data(reply) => self.reply(client, mount, &reply),
            Down::Rst => self.reset(conn),
            Down::Tickle if link == Link::Connecting(conn) => self.packet(conn, Up::Syn),
            Down::Tickle => {
                // At most one challenge in 500 ms and socket.
                if self.now >= c.tickled + 500 * MS || c.tickled == 0 {
                    c.tickled = self.now;
                    self.packet(conn, Up::Challenge);
                }
            }
        }
    }

    /// The connection is reset: a new one at once.
    fn reset(&mut self, conn: u64) {
        let Some(c) = self.conns.get_mut(&conn) else { return };
        c.alive = false;
        let (client, mount) = (c.tuple.client, c.tuple.export);
        let m = &mut self.clients[client].mounts[mount];
        if m.link == Link::Up(conn) || m.link == Link::Connecting(conn) {
            m.link = Link::Idle;
            self.stats.resets += 1;
            let delay = self.rng.between(100_000, 2 * MS);
            self.at(delay, Event::Dial(client, mount));
        }
    }

    /// Sends a call on the connection, if there is one; else it is sent when there is.
    pub fn send_call(&mut self, client: usize, mount: usize, xid: u32) {
        let m = &mut self.clients[client].mounts[mount];
        let Link::Up(conn) = m.link else {
            if m.link == Link::Idle {
                self.dial(client, mount);
            }
            return;
        };
        let Some(call) = m.calls.get_mut(&xid) else { return };
        call.sent += 1;
        if call.sent > 1 {
            self.stats.retransmissions += 1;
        }
        let (sent, record) = (call.sent, call.record.clone());
        let Some(c) = self.conns.get_mut(&conn) else { return };
        let seq = c.next_seq;
        c.next_seq += 1;
        c.unacked.insert(seq, (record.clone(), self.now));
        self.packet(conn, Up::Data(seq, record));
        self.at(RTO_NS, Event::Rto(conn, seq, 1));
        self.at(CALL_AGAIN_NS, Event::CallAgain(client, mount, xid, sent));
    }

    /// TCP's timer: what was not acknowledged is sent again.
    pub fn rto(&mut self, conn: u64, seq: u64, tries: u32) {
        let Some(c) = self.conns.get(&conn).filter(|c| c.alive) else { return };
        let Some((record, first)) = c.unacked.get(&seq).cloned() else { return };
        if self.now >= first + TCP_DEAD_NS {
            self.reset(conn);
            return;
        }
        self.packet(conn, Up::Data(seq, record));
        let wait = (RTO_NS << tries.min(16)).min(RTO_MAX_NS);
        self.at(wait, Event::Rto(conn, seq, tries + 1));
    }

    /// A call that was acknowledged and not answered for a minute.
    pub fn call_again(&mut self, client: usize, mount: usize, xid: u32, sent: u64) {
        let m = &self.clients[client].mounts[mount];
        if m.calls.get(&xid).is_some_and(|call| call.sent == sent) && matches!(m.link, Link::Up(_)) {
            self.send_call(client, mount, xid);
        }
    }
}
