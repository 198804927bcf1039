//! Goal: a client that walks a directory while others change it sees each entry that stays exactly once, and
//! its walk ends. Method: walks in small steps, with removals, additions and renames in between.

use super::harness::{Export, create, handle, mkdir, remove, rename, rmdir, root, user};
use crate::fs::Status;
use crate::ids::Handle;

fn step(export: &Export, dir: Handle, cookie: u64, most: usize) -> (Vec<(u64, String)>, bool) {
    let mut entries = Vec::new();
    let read = export.fs.readdir(&root(), dir, cookie, &mut |entry| {
        if entries.len() == most {
            return false;
        }
        entries.push((entry.cookie, String::from_utf8(entry.name.to_vec()).unwrap()));
        true
    });
    (entries, read.unwrap().1)
}

#[test]
fn walk_survives_changes() {
    let mut export = Export::new();
    let dir = export.make(mkdir(export.root(), "d", 0o755));
    for n in 0..200 {
        export.make(create(dir, &format!("f{n}"), None));
    }
    let (first, end) = step(&export, dir, 0, 52);
    assert!(!end);
    assert_eq!(first[..2], [(1, ".".to_owned()), (2, "..".to_owned())]);
    for n in (0..200).step_by(3) {
        assert_eq!(export.status(remove(dir, &format!("f{n}"))), Status::Ok);
    }
    export.make(create(dir, "new", None));
    let mut seen: Vec<String> = first.iter().skip(2).map(|(_, name)| name.clone()).collect();
    let mut cookie = first.last().unwrap().0;
    loop {
        let (more, end) = step(&export, dir, cookie, 7);
        assert!(more.iter().all(|(its, _)| *its > cookie), "cookies rise");
        cookie = more.last().map_or(cookie, |(its, _)| *its);
        seen.extend(more.into_iter().map(|(_, name)| name));
        if end {
            break;
        }
    }
    for n in (0..200).filter(|n| n % 3 != 0) {
        let name = format!("f{n}");
        assert_eq!(seen.iter().filter(|seen| **seen == name).count(), 1, "{name}");
    }
    assert_eq!(seen.last().unwrap(), "new");
}

#[test]
fn renaming_while_reading_ends() {
    let mut export = Export::new();
    let root_dir = export.root();
    for n in 0..20 {
        export.make(create(root_dir, &format!("f{n}"), None));
    }
    let (mut cookie, mut renamed) = (2, 0);
    loop {
        let (more, _) = step(&export, root_dir, cookie, 1);
        let Some((its, name)) = more.into_iter().next() else { break };
        assert_eq!(export.status(rename(root_dir, &name, root_dir, &format!("{name}.bak"))), Status::Ok);
        (cookie, renamed) = (its, renamed + 1);
    }
    assert_eq!(renamed, 20);
}

/// As `rm -r` does it: a page, then all of its names, and on from the page's last cookie.
#[test]
fn a_hundred_thousand_are_removed_while_they_are_read() {
    const ENTRIES: usize = 100_000;
    let mut export = Export::new();
    let dir = export.make(mkdir(export.root(), "d", 0o755));
    for n in 0..ENTRIES {
        export.make(create(dir, &n.to_string(), None));
    }
    let (mut cookie, mut removed) = (0, 0);
    loop {
        let (page, end) = step(&export, dir, cookie, 1_000);
        cookie = page.last().map_or(cookie, |(its, _)| *its);
        for (_, name) in page.iter().filter(|(its, _)| *its > 2) {
            assert_eq!(export.status(remove(dir, name)), Status::Ok, "{name}");
            removed += 1;
        }
        if end {
            break;
        }
    }
    assert_eq!(removed, ENTRIES);
    assert_eq!(export.list(dir).len(), 2);
    assert_eq!(export.status(rmdir(export.root(), "d")), Status::Ok);
}

#[test]
fn cookies_are_never_given_twice() {
    let mut export = Export::new();
    let root_dir = export.root();
    let mut last = 2;
    for _ in 0..5 {
        export.make(create(root_dir, "f", None));
        let cookie = export.list(root_dir).last().unwrap().cookie;
        assert!(cookie > last);
        last = cookie;
        export.run(remove(root_dir, "f"));
    }
}

#[test]
fn dots_name_the_directory_and_its_parent() {
    let mut export = Export::new();
    let root_dir = export.root();
    let upper = export.make(mkdir(root_dir, "u", 0o755));
    let lower = export.make(mkdir(upper, "l", 0o700));
    let dots: Vec<Handle> = export.list(lower).iter().map(|entry| handle(&entry.attr)).collect();
    assert_eq!(dots, [lower, upper]);
    assert_eq!(export.run(rename(upper, "l", root_dir, "l")).status, 0);
    assert_eq!(export.lookup(lower, ".."), Ok(root_dir));
    assert_eq!(export.lookup(root_dir, ".."), Ok(root_dir));
    let refused = export.fs.readdir(&user(5), lower, 0, &mut |_| true).unwrap_err();
    assert_eq!(refused.status, Status::Acces);
    let file = export.make(create(root_dir, "f", None));
    assert_eq!(export.fs.readdir(&root(), file, 0, &mut |_| true).unwrap_err().status, Status::NotDir);
}
