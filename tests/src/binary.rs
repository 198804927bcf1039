//! Where the program under test is.

use std::path::PathBuf;

/// The `hanfs` that cargo built beside this test; `HANFS_TEST_BINARY` names another one.
pub fn hanfs() -> PathBuf {
    if let Some(path) = std::env::var_os("HANFS_TEST_BINARY") {
        return path.into();
    }
    let mut dir = std::env::current_exe().expect("a test knows where it is");
    while dir.pop() {
        let candidate = dir.join("hanfs");
        if candidate.is_file() {
            return candidate;
        }
    }
    panic!("no hanfs beside this test: run `cargo build` first");
}
