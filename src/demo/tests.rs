//! Goal: the demo's verdict can be trusted: what is compared is what was written, nothing is forgotten. Method:
//! the content on its own.

use std::collections::BTreeSet;

use super::content::{Tree, fill};

/// Files are written and read in pieces of different sizes.
#[test]
fn a_piece_of_a_file_has_the_bytes_of_the_whole() {
    let mut whole = vec![0; 4096];
    fill(7, 0, &mut whole);
    for (offset, bytes) in [(0, 1), (8, 100), (1024, 3072), (4088, 8)] {
        let mut piece = vec![0; bytes];
        fill(7, offset as u64, &mut piece);
        assert_eq!(piece, whole[offset..offset + bytes]);
    }
    let mut other = vec![0; 4096];
    fill(8, 0, &mut other);
    assert_ne!(whole, other, "files with each other's content are noticed");
    let distinct: BTreeSet<&[u8]> = whole.chunks(8).collect();
    assert_eq!(distinct.len(), 512, "a piece at the wrong offset is noticed");
}

#[test]
fn a_tree_is_what_was_promised_and_the_same_each_time() {
    let tree = Tree::new(1);
    assert_eq!(tree, Tree::new(1));
    assert_ne!(tree, Tree::new(2));
    assert_eq!((tree.dirs.len(), tree.files()), (40, 603));
    assert!(tree.large.iter().all(|f| (16 << 20..=64 << 20).contains(&f.bytes)));
    for dir in &tree.dirs {
        let names = dir.names();
        let distinct: BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert!(names.len() >= dir.files.len());
        assert!(dir.files.iter().all(|f| (1..=24 << 10).contains(&f.bytes)));
    }
    let kinds = tree.dirs.iter().flat_map(|d| &d.files);
    assert!(
        kinds.clone().any(|f| f.linked)
            && kinds.clone().any(|f| f.symlinked)
            && kinds.clone().any(|f| f.scratch)
    );
}
