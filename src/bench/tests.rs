//! Goal: the figures can be trusted: they are the ones that were measured, of calls that a server understands
//! and whose replies were checked. Method: statistics on values made by hand; calls read back by the server's
//! own decoder; replies cut short and falsified.

use std::net::SocketAddr;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use nfsd::xdr::{Decoder, Encoder};

use super::machine::{cpu_ticks, file_system};
use super::report::{Report, Row, number};
use super::scene::Scene;
use super::script::{Procedure, Script};
use super::stats::{Sample, Summary, median, percentile};
use super::wire::{Call, Failure, NFS, Reply, record_bytes};
use super::workload::{BUSY, SHAPES, SINGLE, Unit, Workload};
use crate::config::Durability;

#[test]
fn percentiles_are_values_that_occurred_by_nearest_rank() {
    let hundred: Vec<u64> = (1..=100).collect();
    assert_eq!(
        (percentile(&hundred, 50), percentile(&hundred, 99), percentile(&hundred, 100)),
        (50, 99, 100)
    );
    assert_eq!((percentile(&[7], 50), percentile(&[7], 99)), (7, 7));
    assert_eq!(percentile(&[1, 2, 3], 50), 2);
    assert_eq!(percentile(&[1, 1000], 99), 1000, "one slow call in two is the 99th percentile");
    assert_eq!(percentile(&[], 99), 0);
}

#[test]
fn a_median_does_not_care_about_one_round_that_was_disturbed() {
    assert_eq!(median(vec![3.0, 1000.0, 1.0]), Some(3.0));
    assert_eq!(median(vec![4.0, 1.0, 2.0, 1000.0]), Some(3.0));
    assert_eq!(median(Vec::new()), None);
}

fn sample(calls: u64, seconds: f64, cpu: f64) -> Sample {
    Sample {
        calls,
        bytes: calls << 20,
        entries: calls * 100,
        seconds,
        p50_ns: 20_000,
        p99_ns: 90_000,
        primary_cpu_s: cpu,
        backup_cpu_s: Some(cpu / 2.0),
        load_cpu_s: cpu / 4.0,
    }
}

#[test]
fn cpu_time_is_per_the_work_that_was_done_in_it() {
    let samples = [sample(20_000, 2.0, 1.0), sample(5_000, 0.5, 1.0), sample(20_000, 1.0, 2.0)];
    let calls = Summary::of(&samples, Unit::Calls).unwrap();
    assert_eq!(calls.rates, [10_000.0, 10_000.0, 20_000.0]);
    assert_eq!((calls.rate, calls.primary_cpu, calls.backup_cpu), (10_000.0, 1.0, Some(0.5)));
    assert_eq!((calls.p50_us, calls.p99_us, calls.load_cpu), (20.0, 90.0, 0.25));

    let gib = Summary::of(&[sample(2048, 4.0, 3.0)], Unit::Mib).unwrap();
    assert_eq!((gib.rate, gib.primary_cpu), (512.0, 1.5), "MiB/s, and seconds per GiB");
    let entries = Summary::of(&[sample(1000, 1.0, 1.0)], Unit::Entries).unwrap();
    assert_eq!((entries.rate, entries.primary_cpu), (100_000.0, 0.1));
    assert!(Summary::of(&[], Unit::Calls).is_none(), "nothing measured is not zero");
}

fn report() -> Report {
    let row = |workload, shape| Row {
        workload,
        shape,
        unreplicated: vec![Sample { backup_cpu_s: None, ..sample(20_000, 1.0, 1.0) }],
        replicated: vec![sample(5_000, 1.0, 1.0), sample(15_000, 1.0, 1.0), sample(10_000, 1.0, 1.0)],
    };
    Report {
        machine: "a machine".to_owned(),
        fdatasync_us: (160.0, 270.0),
        durability: Durability::Disk,
        seconds: 1.0,
        rounds: 3,
        rows: vec![row(Workload::Null, BUSY), row(Workload::Seqread1m, SINGLE)],
        failures: Vec::new(),
    }
}

#[test]
fn the_ratio_is_that_of_the_medians_and_all_forms_agree() {
    let mut report = report();
    let json = report.json();
    let row = &json["rows"][0];
    assert_eq!((row["ratio"].as_f64(), row["replicated"]["rate"].as_f64()), (Some(0.5), Some(10_000.0)));
    assert_eq!((row["workload"].as_str(), row["window"].as_u64()), (Some("null"), Some(16)));
    assert!(row["unreplicated"]["backup_cpu"].is_null());
    let expected = ["null", "20000", "10000", "0.50"];
    let (text, markdown) = (report.text(), report.markdown());
    for form in [&text, &markdown] {
        let line = form.lines().find(|line| line.contains("null")).unwrap();
        assert!(expected.iter().all(|cell| line.contains(cell)), "{line}");
    }
    let pipes: Vec<usize> =
        markdown.lines().filter(|l| l.starts_with('|')).map(|l| l.matches('|').count()).collect();
    assert_eq!(pipes, [12; 6], "heads, rules and rows of two tables have the same columns");

    report.rows.iter_mut().for_each(|row| row.replicated.clear());
    report.failures.push("null, the pair".to_owned());
    assert!(report.json()["rows"][0]["ratio"].is_null());
    assert!(report.text().contains("FAILED: null, the pair"));
}

#[test]
fn numbers_have_the_digits_that_mean_something() {
    let shown: Vec<String> = [0.0, 0.0123, 0.1234, 1.234, 12.34, 123.4, 99.97].map(number).into();
    assert_eq!(shown, ["0.00", "0.012", "0.12", "1.23", "12.3", "123", "100"]);
}

#[test]
fn cpu_ticks_and_mounts_are_found_whatever_names_they_have() {
    let stat = "42 (a) R 1) S 1 42 42 0 -1 4194560 100 200 0 0 731 269 5 6 20 0 12 0 999";
    assert_eq!(cpu_ticks(stat), Some(1000));
    assert_eq!(cpu_ticks("42 (gone"), None);
    let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/x xfs rw 0 0\n";
    assert_eq!(file_system(mounts, Path::new("/tmp/x/y")), Some("xfs"));
    assert_eq!(file_system(mounts, Path::new("/tmp/xy")), Some("tmpfs"));
    assert_eq!(file_system(mounts, Path::new("/home")), Some("ext4"));
}

/// The server's decoder reads every field of a call where it belongs, and a payload that follows is counted.
#[test]
fn a_call_is_one_record_that_the_server_reads() {
    let mut out = BytesMut::new();
    Call::new(&mut out, 1, NFS, 0).end(0);
    let first = out.len();
    let mut call = Call::new(&mut out, 77, NFS, 7);
    call.opaque(b"handle!").u64(1 << 40).u32(5).u32(2);
    call.end(12);
    assert_eq!(record_bytes(&out).unwrap(), Some(first), "an empty call's mark counts what follows it");
    assert_eq!(record_bytes(&out[first..]).unwrap(), Some(out.len() - first + 12), "the payload too");
    assert_eq!(record_bytes(&out[..3]).unwrap(), None);
    assert!(record_bytes(&[0, 0, 0, 4]).is_err(), "fragments are refused, not misread");

    let record = out.freeze().slice(first + 4..);
    let mut d = Decoder::new(&record);
    let words: Vec<u32> = (0..6).map(|_| d.u32().unwrap()).collect();
    assert_eq!(words, [77, 0, 2, NFS, 3, 7], "xid, CALL, RPC version, program, version, procedure");
    assert_eq!(d.u32(), Ok(1), "AUTH_SYS");
    let body = d.opaque(400).unwrap();
    let mut cred = Decoder::new(&body);
    assert_eq!((cred.u32(), cred.string(255).unwrap()), (Ok(0), Bytes::from_static(b"bench")));
    let ids: Vec<u32> = (0..3).map(|_| cred.u32().unwrap()).collect();
    assert_eq!((ids, cred.remaining()), (vec![0, 0, 0], 0), "uid, gid, no groups, nothing else");
    assert_eq!((d.u32(), d.u32()), (Ok(0), Ok(0)), "AUTH_NONE");
    assert_eq!(d.opaque(64).unwrap(), Bytes::from_static(b"handle!"));
    assert_eq!((d.u64(), d.u32(), d.u32(), d.remaining()), (Ok(1 << 40), Ok(5), Ok(2), 0));
}

fn scene() -> Scene {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut scene = Scene::new(address, Bytes::from_static(b"work"), Bytes::from_static(b"files"));
    scene.files = (0..2).map(|n| (n, Bytes::from_static(b"file"))).collect();
    scene.data = vec![Bytes::from_static(b"data"); 2];
    scene
}

/// A reply with these results, as a record.
fn reply(results: impl FnOnce(&mut Encoder)) -> Vec<u8> {
    let mut e = Encoder::new();
    e.u32(9).u32(1).u32(0).u64(0).u32(0);
    results(&mut e);
    let mark = e.len() as u32 | 1 << 31;
    [&mark.to_be_bytes(), e.as_slice()].concat()
}

fn check(workload: Workload, record: &[u8]) -> Result<(u64, u64, bool), Failure> {
    let scene = scene();
    let mut script = Script::new(&scene, workload, 0, 1, None);
    script.next(0).expect("a first call");
    let (xid, mut reply) = Reply::new(record)?;
    assert_eq!(xid, 9);
    let done = script.check(0, &mut reply)?;
    Ok((done.bytes, done.entries, done.last))
}

fn read_reply(bytes: usize) -> Vec<u8> {
    reply(|e| {
        e.u32(0).bool(true).fixed(&[0; 84]).u32(bytes as u32).bool(false).opaque(&vec![7; bytes]);
    })
}

fn write_reply(count: u32, committed: u32) -> Vec<u8> {
    reply(|e| {
        e.u32(0).bool(true).fixed(&[0; 24]).bool(true).fixed(&[0; 84]).u32(count).u32(committed).u64(0);
    })
}

#[test]
fn a_server_that_does_less_than_it_was_asked_is_not_faster_but_wrong() {
    use Workload as W;
    assert_eq!(check(W::Randread4k, &read_reply(4096)).unwrap(), (4096, 0, true));
    assert!(matches!(check(W::Randread4k, &read_reply(4092)), Err(Failure::Wrong { .. })));
    assert_eq!(check(W::Randwrite4kSync, &write_reply(4096, 2)).unwrap(), (4096, 0, true));
    assert!(matches!(check(W::Randwrite4kSync, &write_reply(4096, 0)), Err(Failure::Wrong { .. })));
    assert!(matches!(check(W::Randwrite4kSync, &write_reply(4092, 2)), Err(Failure::Wrong { .. })));
    assert_eq!(check(W::Randwrite4k, &write_reply(4096, 0)).unwrap(), (4096, 0, true));

    let status = reply(|e| _ = e.u32(70));
    assert!(matches!(check(W::Rename, &status), Err(Failure::Status { procedure: "RENAME", status: 70 })));
    assert!(check(W::Null, &reply(|_| {})).is_ok());
    let mut refused = reply(|_| {});
    refused[27] = 1;
    assert!(matches!(check(W::Null, &refused), Err(Failure::Refused { accept: 1, .. })));
}

#[test]
fn a_listing_is_all_of_the_directory() {
    let listing = |names: &[&str], eof: bool| {
        reply(|e| {
            e.u32(0).bool(false).u64(0);
            for (cookie, name) in (1..).zip(names) {
                e.bool(true).u64(cookie).opaque(name.as_bytes()).u64(cookie);
                e.bool(true).fixed(&[0; 84]).bool(true).opaque(b"handle");
            }
            e.bool(false).bool(eof);
        })
    };
    let check = |record: &[u8]| check(Workload::Readdirplus, record);
    assert_eq!(check(&listing(&["f0", "f1"], true)).unwrap(), (0, 2, true));
    assert_eq!(check(&listing(&["f0"], false)).unwrap(), (0, 1, false), "there is more to come");
    assert!(check(&listing(&["f0"], true)).is_err(), "one is missing");
    assert!(check(&listing(&[], false)).is_err(), "this would never end");
}

#[test]
fn no_reply_that_is_cut_short_passes() {
    for (workload, whole) in
        [(Workload::Randread4k, read_reply(4096)), (Workload::Randwrite4k, write_reply(4096, 2))]
    {
        // Behind the committed field of WRITE comes the verifier, which nobody needs.
        let end = if workload == Workload::Randwrite4k { whole.len() - 8 } else { whole.len() };
        let scene = scene();
        let mut script = Script::new(&scene, workload, 0, 1, None);
        script.next(0).unwrap();
        for len in 4..end {
            let checked = Reply::new(&whole[..len]).and_then(|(_, mut reply)| script.check(0, &mut reply));
            assert!(checked.is_err(), "{} bytes of a {} reply", len, workload.name());
        }
    }
}

#[test]
fn sequences_are_whole_and_ask_for_what_their_names_say() {
    let scene = scene();
    let made = reply(|e| _ = e.u32(0).bool(true).opaque(b"new"));
    let size = |bytes: u64| reply(|e| _ = e.u32(0).u32(1).fixed(&[0; 16]).u64(bytes).fixed(&[0; 56]));
    let written = write_reply(8192, 2);
    let mut script = Script::new(&scene, Workload::Smallfile, 0, 1, None);
    let expected =
        [(Procedure::Create, &made), (Procedure::Write, &written), (Procedure::Getattr, &size(8192))];
    for (n, (procedure, record)) in expected.into_iter().enumerate() {
        let step = script.next(0).unwrap();
        assert_eq!((step.procedure, step.payload.is_some()), (procedure, procedure == Procedure::Write));
        let done = script.check(0, &mut Reply::new(record).unwrap().1).unwrap();
        assert_eq!(done.last, n == 2);
    }
    assert_eq!(script.next(0).unwrap().procedure, Procedure::Create, "and from the start again");
    assert_eq!(script.made.len(), 1, "what it made can be removed later");
    assert_eq!(script.made[0].1, Bytes::from_static(b"new"));
}

#[test]
fn what_is_to_be_removed_is_shared_out_and_removed_once() {
    let scene = scene();
    scene.removable.lock().extend(0..7);
    let mut all = scene.take_removable(0, 2);
    let rest = scene.take_removable(1, 2);
    assert_eq!((all.len(), rest.len()), (3, 4));
    all.extend(rest);
    all.sort_unstable();
    assert_eq!(all, (0..7).collect::<Vec<u64>>());

    let mut script = Script::new(&scene, Workload::Remove, 0, 1, None).with_removable(vec![5]);
    assert!(script.next(0).is_some());
    assert!(script.next(0).is_none(), "it ends when nothing is left");
}

#[test]
fn each_workload_is_measured_in_each_shape() {
    let rows = super::rows(&[]);
    assert_eq!(rows.len(), 14 * SHAPES.len());
    let only = super::rows(&[Workload::Null]);
    assert_eq!(only.iter().map(|row| row.shape).collect::<Vec<_>>(), SHAPES);
}
