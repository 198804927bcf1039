//! Goal: the programs by which people judge a file system find nothing wrong with an export that a real Linux kernel client
//! has mounted, and neither do they while the node that serves it dies. Method: the lab (`tests/lab`), and in its client VM
//! the scripts of `tests/lab/suites`, one after the other; each one's first lines say what it asserts. After each of them both
//! replicas have to be the same. `docs/conformance.md` has the results, and what cannot pass over NFSv3.
//!
//! Needs root and some minutes: runs where HANFS_TEST_LAB is set (`tests/run` sets it). HANFS_SUITES=full takes each suite at its
//! full size (more than an hour); HANFS_SUITES_ONLY=fsx,git only those whose names begin like that.

use std::time::Instant;

use hanfs_tests::lab::{EXPORTS, Lab, text};

/// Longest time of one suite, s: small and full size. A hard mount waits for ever where the server does not answer.
const LIMIT_S: [u32; 2] = [900, 4 * 3600];

/// A script of `tests/lab/suites` with its arguments after the directory, small and full size.
struct Suite {
    name: &'static str,
    script: &'static str,
    arguments: [&'static str; 2],
}

const SUITES: [Suite; 8] = [
    Suite { name: "pjdfstest", script: "pjdfstest.sh", arguments: ["", ""] },
    Suite { name: "fsx", script: "fsx.sh", arguments: ["3000", "100000"] },
    Suite { name: "fsx O_DIRECT", script: "fsx.sh", arguments: ["1500 direct", "100000 direct"] },
    Suite { name: "fio", script: "fio.sh", arguments: ["8", "512"] },
    Suite { name: "dbench", script: "dbench.sh", arguments: ["10 4", "60 8"] },
    Suite { name: "git", script: "git.sh", arguments: ["20", "2000"] },
    Suite { name: "tree", script: "tree.sh", arguments: ["80", "3000"] },
    Suite { name: "sqlite", script: "sqlite.sh", arguments: ["300", "20000"] },
];

/// What a suite said: one line of figures, or what went wrong.
type Outcome = Result<String, String>;

#[test]
fn well_known_suites_find_nothing_wrong() {
    if std::env::var_os("HANFS_TEST_LAB").is_none() {
        println!("skipped: set HANFS_TEST_LAB=1 (needs root)");
        return;
    }
    let full = match std::env::var("HANFS_SUITES").as_deref() {
        Ok("full") => true,
        Err(_) | Ok("") => false,
        Ok(other) => panic!("HANFS_SUITES={other}: only \"full\" means something"),
    };
    let only = std::env::var("HANFS_SUITES_ONLY").unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || only.split(',').any(|prefix| name.starts_with(prefix));

    let lab = lab_with_client();
    let mut failed = Vec::new();
    let mut report = |name: &str, run: &dyn Fn() -> Outcome| {
        if !wanted(name) {
            return;
        }
        let started = Instant::now();
        let outcome = run();
        let seconds = started.elapsed().as_secs();
        match &outcome {
            Ok(figures) => println!("{name}: {seconds} s: {figures}"),
            Err(what) => println!("{name}: {seconds} s: FAILED\n{what}"),
        }
        lab.assert_replicas_equal(&format!("after {name}"));
        failed.extend(outcome.is_err().then(|| name.to_owned()));
    };
    for suite in &SUITES {
        report(suite.name, &|| in_the_client(&lab, suite, full));
    }
    report("fsx during a takeover", &|| fsx_during_a_takeover(&lab, if full { 20_000 } else { 800 }));
    report("coherence", &|| close_to_open(&lab, if full { 500 } else { 10 }));
    assert!(failed.is_empty(), "failed: {failed:?}\n{}", lab.describe());
    lab.client(120, "umount /mnt/one /mnt/two");
}

/// A whole pair, a client with both exports mounted and the scripts in place.
fn lab_with_client() -> Lab {
    let mut lab = Lab::up();
    lab.start_all();
    let image = lab.access("c1").run(60, "command -v pjdfstest fsx dbench fio git rsync sqlite3");
    assert!(image.status.success(), "the VM's image is an older one: tests/lab/image.sh\n{}", text(&image));
    prepare(&lab, "c1");
    lab
}

fn prepare(lab: &Lab, client: &str) {
    lab.put(client, "suites");
    for (path, _, vip) in EXPORTS {
        let mount = format!("mkdir -p /mnt{path} && mount -t nfs {vip}:{path} /mnt{path}");
        lab.on(client, 60, &mount);
    }
}

fn in_the_client(lab: &Lab, suite: &Suite, full: bool) -> Outcome {
    let size = usize::from(full);
    let directory = suite.script.trim_end_matches(".sh");
    let command = format!("/root/suites/{} /mnt/one/{directory} {}", suite.script, suite.arguments[size]);
    outcome(&lab.access("c1").run(LIMIT_S[size], &command))
}

/// The last line that a script printed, if it succeeded.
fn outcome(out: &std::process::Output) -> Outcome {
    if !out.status.success() {
        return Err(format!("{}\n{}", out.status, text(out)));
    }
    let said = String::from_utf8_lossy(&out.stdout);
    Ok(said.trim_end().lines().last().unwrap_or_default().to_owned())
}

/// fsx compares every read with what it has written: so a takeover that loses, repeats or reorders anything is seen. The server is
/// killed in the middle, and the export given back in the middle.
fn fsx_during_a_takeover(lab: &Lab, operations: u32) -> Outcome {
    let client = lab.access("c1");
    let command = format!("/root/suites/fsx.sh /mnt/one/fsx {operations} direct");
    let load = std::thread::spawn(move || client.run(LIMIT_S[1], &command));
    lab.wait("fsx has begun", || {
        lab.access("c1").run(60, "test -s /mnt/one/fsx/fsx.direct").status.success()
    });
    lab.kill_server("a");
    lab.wait_served("/one", "b", true);
    let out = lab.hanfs("a", &["giveback", "/one"]);
    assert!(out.status.success(), "{}\n{}", text(&out), lab.describe());
    lab.wait_served("/one", "a", true);
    let in_time = !load.is_finished();
    let said = outcome(&load.join().expect("the load ran"))?;
    if in_time { Ok(said) } else { Err(format!("over before the takeovers were: {said}")) }
}

/// Two clients take turns in changing and looking.
fn close_to_open(lab: &Lab, rounds: u32) -> Outcome {
    lab.start_client("c2");
    prepare(lab, "c2");
    let peer = lab.access("c2");
    let serving = std::thread::spawn(move || {
        peer.run(LIMIT_S[1], "timeout 3600 /root/suites/coherence.py serve /mnt/one/coherence")
    });
    lab.wait("the second client listens", || {
        lab.access("c2").run(30, "ss -Htln sport = :7799 | grep -q .").status.success()
    });
    let led = lab
        .access("c1")
        .run(LIMIT_S[1], &format!("/root/suites/coherence.py lead /mnt/one/coherence 10.77.0.22 {rounds}"));
    let served = serving.join().expect("the second client ran");
    outcome(&led).map_err(|what| format!("{what}\nthe other client: {}", text(&served)))
}
