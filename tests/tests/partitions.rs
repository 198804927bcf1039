//! Goal: whatever path is cut, one way or both, alone or with another, and whoever stands still: one server at a time answers, nothing
//! that was acknowledged is lost, whoever can go on with a second vote does, and all is well again when the cut heals, by itself.
//! Method: real nodes and a witness in network namespaces, no VM. Three probes (`hanfs_tests::probe`): a client on the network, and
//! one on each node's own host that asks that node alone, behind all cuts. Who is to serve follows from a rule (`Cell::server`), not
//! from a list; a table says what happened.
//!
//! A selection runs where HANFS_TEST_LAB is set; HANFS_MATRIX=full runs all. Needs root.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hanfs_tests::lab::Lab;
use hanfs_tests::probe::{Board, Probe, VipWatch, within};

const PATH: &str = "/one";
const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
const HOSTS: [(&str, Ipv4Addr); 2] =
    [("a", Ipv4Addr::new(10, 77, 0, 11)), ("b", Ipv4Addr::new(10, 77, 0, 12))];
/// The probes' numbers on the board: those of the hosts are 0 and 1.
const CLIENT: usize = 2;

/// How long a cut lasts at least: several times what a takeover needs.
const HOLD: Duration = Duration::from_millis(2500);
/// At its end, who may not answer has not answered for this long: a lease (0.5 s) ended long before.
const QUIET: Duration = Duration::from_millis(1000);
/// Until who is to serve serves: far longer than it takes, for the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// An address on both hosts at once. Lease and promise leave no time for it; the guardian's own deadline is kept by a process on a
/// machine that may be busy.
const FENCING_MAX: Duration = Duration::from_millis(250);

/// Something that fails. `a` is the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// What a node hears from somebody, says to them, or both: `in`, `out`, `both`.
    Block(&'static str, &'static str, &'static str),
    /// A node from everybody.
    Isolate(&'static str),
    /// SIGSTOP to a node's server; SIGCONT at the end.
    Stop(&'static str),
}

use Cut::{Block, Isolate, Stop};

impl Cut {
    fn name(self) -> String {
        match self {
            Block(node, whom, "both") => format!("{node} - {whom}"),
            Block(node, whom, "in") => format!("{node} <- {whom}"),
            Block(node, whom, _) => format!("{node} -> {whom}"),
            Isolate(node) => format!("{node} isolated"),
            Stop(node) => format!("{node} stopped"),
        }
    }

    /// The witness first and the peer last: in between nobody may have a reason to go on alone.
    fn order(self) -> usize {
        match self {
            Block(_, "witness", _) => 0,
            Block(_, "clients", _) => 1,
            Isolate(_) | Stop(_) => 2,
            Block(..) => 3,
        }
    }

    fn apply(self, lab: &Lab) {
        match self {
            Block(node, whom, way) => lab.net(&["block", node, whom, way]),
            Isolate(node) => lab.net(&["cut", node]),
            Stop(node) => lab.stop_server(node),
        }
    }
}

/// One or two cuts, in a cluster with a witness or, second, without.
struct Cell(Vec<Cut>, bool);

impl Cell {
    fn name(&self) -> String {
        self.0.iter().map(|cut| cut.name()).collect::<Vec<_>>().join(", ")
    }

    fn runs(&self, node: &'static str) -> bool {
        !self.0.contains(&Stop(node))
    }

    /// A path is a TCP connection: a cut of one direction is a cut.
    fn reaches(&self, node: &'static str, whom: &str) -> bool {
        !self
            .0
            .iter()
            .any(|cut| matches!(cut, Block(n, w, _) if *n == node && *w == whom) || *cut == Isolate(node))
    }

    fn peers_meet(&self) -> bool {
        HOSTS.iter().all(|(node, _)| self.reaches(node, "peer"))
    }

    /// Who is to serve. The primary stays while it runs and a second voter hears it; the backup follows where the witness hears
    /// it and the primary is not heard any more, by either of them.
    fn server(&self) -> Option<usize> {
        let witness = |node| self.1 && self.reaches(node, "witness");
        let second = |node, other| witness(node) || (self.peers_meet() && self.runs(other));
        if self.runs("a") && second("a", "b") {
            return Some(0);
        }
        (self.runs("b") && second("b", "a")).then_some(1)
    }

    /// Clients reach who serves.
    fn served(&self) -> bool {
        self.server().is_some_and(|host| self.reaches(HOSTS[host].0, "clients"))
    }
}

/// Each cut alone, and those pairs of whole cuts that are not one in the other.
fn full() -> Vec<Cell> {
    let whole = [
        Block("a", "peer", "both"),
        Block("a", "clients", "both"),
        Block("b", "clients", "both"),
        Block("a", "witness", "both"),
        Block("b", "witness", "both"),
        Isolate("a"),
        Isolate("b"),
        Stop("a"),
    ];
    let one_way = [("a", "peer"), ("a", "witness"), ("a", "clients"), ("b", "witness")];
    let one_way = one_way.iter().flat_map(|(node, whom)| ["in", "out"].map(|way| Block(node, whom, way)));
    let mut cells: Vec<Cell> =
        whole.into_iter().chain(one_way).chain([Stop("b")]).map(|cut| Cell(vec![cut], true)).collect();
    for (i, first) in whole.iter().enumerate() {
        for second in &whole[i + 1..] {
            if !contains(*second, *first) && !contains(*first, *second) {
                cells.push(Cell(vec![*first, *second], true));
            }
        }
    }
    // The primary says it still leads, and cannot hear that it does: nobody else may, until the witness has lost it too.
    cells.push(Cell(vec![Block("a", "peer", "both"), Block("a", "witness", "in")], true));
    cells.push(Cell(vec![Block("a", "peer", "in"), Block("a", "witness", "out")], true));
    cells
}

/// An isolated node reaches nobody anyway.
fn contains(larger: Cut, smaller: Cut) -> bool {
    matches!((larger, smaller), (Isolate(node), Block(n, whom, _)) if n == node || whom == "peer")
}

/// One cell for each branch of the rule.
fn selection() -> Vec<Cell> {
    let peer = Block("a", "peer", "both");
    vec![
        Cell(vec![peer], true),
        Cell(vec![Isolate("a")], true),
        Cell(vec![Stop("a")], true),
        Cell(vec![Block("a", "clients", "both")], true),
        Cell(vec![peer, Block("a", "witness", "both")], true),
        Cell(vec![Block("b", "witness", "both"), Stop("a")], true),
        Cell(vec![Block("a", "peer", "in"), Block("a", "witness", "out")], true),
    ]
}

/// Without a witness and without a verdict nobody goes on alone, and nobody needs to be told when the other is back.
fn without_a_witness() -> Vec<Cell> {
    let cuts = [
        Block("a", "peer", "both"),
        Block("a", "peer", "out"),
        Isolate("a"),
        Isolate("b"),
        Stop("a"),
        Stop("b"),
    ];
    let behind_them = [Block("a", "clients", "both"), Block("b", "clients", "both")];
    cuts.into_iter().chain(behind_them).map(|cut| Cell(vec![cut], false)).collect()
}

struct Matrix {
    lab: Lab,
    board: Arc<Board>,
    vip: VipWatch,
}

impl Matrix {
    fn wait(&self, what: &str, patience: Duration, mut done: impl FnMut() -> bool) {
        let until = Instant::now() + patience;
        while !done() {
            assert!(
                Instant::now() < until,
                "{what}: not within {patience:?}; wrong so far: {:?}\n{}",
                self.board.wrong(),
                self.lab.describe()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// When the first call that a probe sent after this instant was answered, counted from it.
    fn first_answer(&self, probe: usize, since: Instant) -> Option<Duration> {
        self.board.acks_since(probe, since).iter().map(|ack| ack.answered - since).min()
    }

    /// The cuts fall, last, and heal. A row of the table.
    fn run(&mut self, cell: &Cell) -> String {
        let name = cell.name();
        let mut cuts = cell.0.clone();
        cuts.sort_by_key(|cut| cut.order());
        let began = Instant::now();
        cuts.iter().for_each(|cut| cut.apply(&self.lab));
        let cut = Instant::now();
        let server = cell.server();
        let expected = server.map_or("nobody".to_owned(), |host| HOSTS[host].0.to_owned());
        if let Some(host) = server {
            self.wait(&format!("{name}: {expected} serves"), PATIENCE, || {
                self.first_answer(host, cut).is_some()
            });
            self.wait(&format!("{name}: clients are served: {}", cell.served()), PATIENCE, || {
                !cell.served() || self.first_answer(CLIENT, cut).is_some()
            });
        }
        std::thread::sleep(HOLD.saturating_sub(cut.elapsed()));
        // Who is not to answer is silent by now; who is to answer goes on.
        let look = Instant::now();
        std::thread::sleep(QUIET);
        for (probe, (who, may)) in
            [("a", server == Some(0)), ("b", server == Some(1)), ("clients", cell.served())]
                .into_iter()
                .enumerate()
        {
            let answers = self.board.acks_since(probe, look).len();
            let right = if may { answers > 0 } else { !self.board.is_answered_since(probe, look) };
            assert!(
                right,
                "{name}: {who} may be answered: {may}; {answers} writes were\n{}",
                self.lab.describe()
            );
        }
        let outage = self.first_answer(if cell.served() { CLIENT } else { server.unwrap_or(CLIENT) }, cut);
        let both = self.vip.on_both_since(began);
        let (healed, home) = self.heal(cell);
        let wrong = self.board.wrong();
        assert!(wrong.is_empty(), "{name}: {wrong:?}\n{}", self.lab.describe());
        let both = both.max(self.vip.on_both_since(began));
        assert!(both <= FENCING_MAX, "{name}: the address was on both hosts for {both:?}");
        let ms = |time: Option<Duration>| time.map_or("-".to_owned(), |time| time.as_millis().to_string());
        let clients = if cell.served() { "yes" } else { "no" };
        format!(
            "| {name} | {expected} | {clients} | {} | {} | {} | {} |",
            ms(outage),
            ms(healed),
            ms(Some(home)),
            both.as_millis()
        )
    }

    /// Heals everything and waits until all is as before: clients are served, both replicas are there; then it goes home. How
    /// long clients waited, and until it was protected.
    fn heal(&mut self, cell: &Cell) -> (Option<Duration>, Duration) {
        let name = cell.name();
        let began = Instant::now();
        for cut in &cell.0 {
            if let Stop(node) = cut {
                self.lab.continue_server(node);
            }
        }
        self.lab.net(&["heal"]);
        let healed = Instant::now();
        self.wait(&format!("{name}: clients are served after it healed"), PATIENCE, || {
            self.first_answer(CLIENT, healed).is_some()
        });
        let mut primary = "";
        self.wait(&format!("{name}: protected after it healed"), PATIENCE, || {
            let by = ["a", "b"].into_iter().find(|node| self.lab.is_served(PATH, node, true));
            primary = by.unwrap_or(primary);
            by.is_some()
        });
        let protected = began.elapsed();
        if primary == "b" {
            self.lab.give_back();
        }
        (self.first_answer(CLIENT, healed), protected)
    }
}

#[test]
fn matrix() {
    if hanfs_tests::lab::times(1).is_none() {
        return;
    }
    let whole = std::env::var("HANFS_MATRIX").is_ok_and(|v| v == "full");
    try_all(true, &if whole { full() } else { selection() });
    let cells = without_a_witness();
    try_all(false, if whole { &cells } else { &cells[..1] });
}

fn try_all(witness: bool, cells: &[Cell]) {
    let mut lab = Lab::without_clients(witness);
    lab.start_all();
    let board = within("net", || Board::new(PATH, VIP, &["on a", "on b", "client"])).expect("mount");
    let mut probes = Vec::new();
    for (number, (node, address)) in HOSTS.into_iter().enumerate() {
        probes.push(Probe::start(&board, number, node, Some(address)));
    }
    probes.push(Probe::start(&board, CLIENT, "net", None));
    let mut matrix = Matrix { lab, board, vip: VipWatch::start(VIP) };
    let third = if witness { "with a witness" } else { "without a witness" };
    let mut table = format!(
        "| cut, {third}, a is the primary | to serve | clients reach it | first answer ms | after healing ms | protected ms | \
         address on both ms |\n| --- | --- | --- | --- | --- | --- | --- |\n"
    );
    let began = Instant::now();
    for cell in cells {
        let row = matrix.run(cell);
        println!("{:>4} s {row}", began.elapsed().as_secs());
        table += &format!("{row}\n");
    }
    drop(probes);
    let acks = within("net", || matrix.board.verify()).expect("read back");
    matrix.lab.assert_replicas_equal("at the end");
    println!(
        "{table}{} cells, {acks} acknowledgements by {} primaries",
        cells.len(),
        matrix.board.primaries()
    );
}
