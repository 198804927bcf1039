//! Goal: byte-range locks of real kernel clients simply stay, whatever happens to the primary: no holder loses one, nobody gets a
//! conflicting one, a waiter gets its lock when it is free, and nobody waits for a grace period. Method: the lab with two client
//! VMs and plain mounts; programs on both take overlapping locks and look past their caches at what the others wrote, and
//! SQLite writes rows to one database from both.
//!
//! HANFS_TAKEOVERS=20 says how often each kind of takeover (1 where HANFS_TEST_LAB is set and it is not), HANFS_TAKEOVER_KINDS
//! which. Needs root.

use std::time::{Duration, Instant};

use hanfs_tests::lab::{EXPORTS, Lab, kinds, text};

/// How long the contenders run around each takeover, seconds.
const CONTEND_S: u32 = 8;
/// A waiter that is called back has its lock long before this; one that is not polls after 30 s. Milliseconds.
const GRANT_MS_MAX: u64 = 10_000;
/// A client that is told of a grace period sleeps for 5 s. Milliseconds.
const NEW_LOCK_MS_MAX: u64 = 4_500;

#[test]
fn locks_of_kernel_clients_survive_every_takeover() {
    let Some(times) = hanfs_tests::lab::times(1) else { return };
    let mut lab = Lab::up();
    lab.start_client("c2");
    lab.start_all();
    lab.mount_all(&["c1", "c2"]);
    for client in ["c1", "c2"] {
        lab.put(client, "locker.py");
    }
    lab.client(
        60,
        "sqlite3 /mnt/one/rows.db 'create table rows (client, event, n, primary key (client, event, n))'",
    );
    let mut rows = 0;
    hold(&lab, "c1", "held", 0, 100, "ex");
    hold(&lab, "c1", "held", 200, 100, "sh");
    assert_holders_keep(&lab, "before anything happened");
    for kind in kinds() {
        for i in 0..times {
            rows += contend_through(&mut lab, &format!("{} {i}", kind.what), |lab| {
                (kind.happen)(lab);
                lab.wait_served("/one", "b", false);
                assert_no_grace(lab, &format!("{}-{i}", kind.name));
                (kind.mend)(lab);
            });
            lab.wait_served("/one", "b", true);
            lab.wait_served("/two", "b", true);
            assert_holders_keep(&lab, kind.what);
            rows += contend_through(&mut lab, &format!("giveback after {} {i}", kind.what), |lab| {
                lab.give_back()
            });
            assert_holders_keep(&lab, "giveback");
        }
        lab.assert_replicas_equal(kind.what);
    }
    let said =
        lab.on("c2", 120, "sqlite3 /mnt/one/rows.db 'pragma integrity_check; select count(*) from rows'");
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["ok", &rows.to_string()], "the database");
    println!("SQLite: {rows} rows written from both clients");
    a_waiter_survives_a_takeover(&mut lab);
    a_client_that_lost_its_power_frees_its_locks_and_no_others(&mut lab);
    lab.assert_replicas_equal("at the end");
}

fn locker(client: &str, lab: &Lab, timeout_s: u32, args: &str) -> String {
    let out = lab.access(client).run(timeout_s, &format!("python3 /root/locker.py {args}"));
    assert!(out.status.success(), "{client}: locker {args}: {}\n{}", text(&out), lab.describe());
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// A process on the client holds a lock on a file of `/one` until [`release`].
fn hold(lab: &Lab, client: &str, name: &str, start: u64, length: u64, kind: &str) {
    let script = format!(
        "rm -f /root/{name}-{start}.*
         (setsid python3 /root/locker.py hold /mnt/one/{name} {start} {length} {kind} /root/{name}-{start}.ready \
             /root/{name}-{start}.release >/dev/null 2>&1 </dev/null &)
         for i in $(seq 300); do [ -e /root/{name}-{start}.ready ] && exit 0; sleep 0.1; done; exit 1"
    );
    let out = lab.access(client).run(60, &script);
    assert!(out.status.success(), "{client} takes {name}:\n{}\n{}", text(&out), lab.describe());
}

fn release(lab: &Lab, client: &str, name: &str, start: u64) {
    let out = lab.access(client).run(30, &format!("touch /root/{name}-{start}.release"));
    assert!(out.status.success(), "{}", text(&out));
}

/// What c1 holds since the beginning is still its own, as c2 sees it.
fn assert_holders_keep(lab: &Lab, when: &str) {
    for (range, kind, expected) in [
        ("99 1", "sh", "taken"),
        ("200 100", "ex", "taken"),
        ("200 100", "sh", "free"),
        ("100 100", "ex", "free"),
    ] {
        let said = locker("c2", lab, 60, &format!("try /mnt/one/held {range} {kind}"));
        assert!(
            said.starts_with(expected),
            "{when}: {kind} lock on {range} is {said}, expected {expected}\n{}",
            lab.describe()
        );
    }
}

/// A lock that nobody holds is had at once.
fn assert_no_grace(lab: &Lab, name: &str) {
    let said = locker("c2", lab, 60, &format!("try /mnt/one/new-{name} 0 10 ex"));
    let ms: u64 = said.split_whitespace().nth(1).and_then(|ms| ms.parse().ok()).expect("a time");
    assert!(
        said.starts_with("free") && ms < NEW_LOCK_MS_MAX,
        "{name}: a new lock: {said}\n{}",
        lab.describe()
    );
}

/// Contenders on both clients, by fcntl and by flock, and SQLite's, while `event` happens. How many rows SQLite acknowledged.
fn contend_through(lab: &mut Lab, what: &str, event: impl FnOnce(&mut Lab)) -> u64 {
    let mut contenders = Vec::new();
    for client in ["c1", "c2"] {
        let access = lab.access(client);
        let script = format!(
            "contend() {{ python3 /root/locker.py contend /mnt/one/$1 {client}-$2 {CONTEND_S} $3; }}
             rows() {{
                 n=0; end=$((SECONDS + {CONTEND_S}))
                 while [ $SECONDS -lt $end ]; do
                     sqlite3 -cmd '.timeout 60000' /mnt/one/rows.db \"insert into rows values ('{client}', '{what}', $n)\" || return 1
                     n=$((n + 1))
                 done
                 echo \"{{\\\"rows\\\": $n}}\"
             }}
             contend ranges 0 & a=$!; contend ranges 1 & b=$!; contend whole 2 flock & c=$!; rows & d=$!
             wait $a && wait $b && wait $c && wait $d"
        );
        contenders.push((client, std::thread::spawn(move || access.run(CONTEND_S + 120, &script))));
    }
    std::thread::sleep(Duration::from_secs(3));
    event(lab);
    let mut longest = 0;
    let (mut taken, mut rows) = (0, 0);
    for (client, contender) in contenders {
        let out = contender.join().expect("the contender ran");
        assert!(out.status.success(), "{what}: {client}: {}\n{}", text(&out), lab.describe());
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let figures: Vec<serde_json::Value> =
            said.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        assert_eq!(figures.len(), 4, "{what}: {client}: {said}");
        for figure in figures {
            if let Some(n) = figure["rows"].as_u64() {
                rows += n;
                continue;
            }
            taken += figure["taken"].as_u64().expect("a count");
            longest = longest.max(figure["wait_ms"].as_u64().expect("a time"));
        }
    }
    println!("{what}: {taken} locks taken, longest wait {longest} ms, {rows} rows");
    assert!(longest < GRANT_MS_MAX, "{what}: a lock was waited for {longest} ms\n{}", lab.describe());
    rows
}

/// c2 waits for what c1 holds; the primary goes and comes back; c1 lets go, and c2 has it.
fn a_waiter_survives_a_takeover(lab: &mut Lab) {
    hold(lab, "c1", "waited", 0, 50, "ex");
    let access = lab.access("c2");
    let waiter = std::thread::spawn(move || {
        let out = access.run(200, "python3 /root/locker.py wait /mnt/one/waited 10 10 ex");
        (out, Instant::now())
    });
    std::thread::sleep(Duration::from_secs(3));
    lab.kill_server("a");
    lab.wait_served("/one", "b", true);
    assert!(!waiter.is_finished(), "the waiter has a lock that another holds\n{}", lab.describe());
    let released = Instant::now();
    release(lab, "c1", "waited", 0);
    let (out, granted) = waiter.join().expect("the waiter ran");
    assert!(out.status.success(), "{}\n{}", text(&out), lab.describe());
    let ms = granted.saturating_duration_since(released).as_millis() as u64;
    println!("a waiter over a takeover has its lock {ms} ms after its release");
    assert!(ms < GRANT_MS_MAX, "granted after {ms} ms\n{}", lab.describe());
    lab.give_back();
}

/// Its statd says so when it is back, as after any boot; until then its locks stay.
fn a_client_that_lost_its_power_frees_its_locks_and_no_others(lab: &mut Lab) {
    hold(lab, "c2", "others", 0, 10, "ex");
    lab.power_cycle("c1", |lab| {
        let said = locker("c2", lab, 60, "try /mnt/one/held 0 10 ex");
        assert!(said.starts_with("taken"), "without a word of its client a lock is {said}");
    });
    lab.wait("the locks of c1 are free", || {
        locker("c2", lab, 60, "try /mnt/one/held 0 300 ex").starts_with("free")
    });
    for (path, _, vip) in EXPORTS {
        lab.client(60, &format!("mkdir -p /mnt{path} && mount -t nfs {vip}:{path} /mnt{path}"));
    }
    lab.put("c1", "locker.py");
    let said = locker("c1", lab, 60, "try /mnt/one/others 0 10 ex");
    assert!(said.starts_with("taken"), "the lock of the client that lived is {said}\n{}", lab.describe());
    release(lab, "c2", "others", 0);
}
