//! Reads everything back through NFS and compares: names, sizes, links, every byte.

use std::sync::Arc;

use nfs3_client::nfs3_types::nfs3::{ftype3, nfs_fh3};

use super::content::{DirSpec, FileSpec, Tree, fill};
use crate::client::{ClientError, Patience, Session, Stats, Target};

/// Bytes of one READ.
const READ_BYTES: u32 = 1 << 20;
/// Differences told; more are counted.
const TOLD_MAX: usize = 5;

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Files read.
    pub files: u64,
    /// Bytes compared.
    pub bytes: u64,
    /// What is not as it was written.
    pub differences: Vec<String>,
}

impl Findings {
    /// The differences, cut short.
    pub fn told(&self) -> Vec<String> {
        let mut told: Vec<String> = self.differences.iter().take(TOLD_MAX).cloned().collect();
        let more = self.differences.len().saturating_sub(TOLD_MAX);
        if more > 0 {
            told.push(format!("and {more} more"));
        }
        told
    }

    fn expect(&mut self, same: bool, difference: impl FnOnce() -> String) {
        if !same {
            self.differences.push(difference());
        }
    }
}

/// Reads a whole tree.
pub async fn verify(target: &Target, tree: &Tree) -> Result<Findings, ClientError> {
    let stats = Arc::new(Stats::default());
    let mut session = Session::mount(target, Patience::default(), &stats).await?;
    let mut found = Findings::default();
    let root = session.root();
    names(&mut session, &root, &target.path, &tree.root_names(), &mut found).await?;
    for dir in &tree.dirs {
        directory(&mut session, &root, dir, &mut found).await?;
    }
    for file in &tree.large {
        regular(&mut session, &root, &file.name, file, 1, &mut found).await?;
    }
    Ok(found)
}

async fn names(
    session: &mut Session,
    dir: &nfs_fh3,
    name: &str,
    expected: &[String],
    found: &mut Findings,
) -> Result<(), ClientError> {
    let mut names: Vec<String> = session.list(dir).await?.into_iter().map(|entry| entry.name).collect();
    names.sort();
    for missing in expected.iter().filter(|n| !names.contains(n)) {
        found.differences.push(format!("{name}: {missing} is missing"));
    }
    for extra in names.iter().filter(|n| !expected.contains(n)) {
        found.differences.push(format!("{name}: {extra} should not be there"));
    }
    found.expect(names.windows(2).all(|w| w.first() != w.last()), || {
        format!("{name}: a name is listed twice")
    });
    Ok(())
}

async fn directory(
    session: &mut Session,
    root: &nfs_fh3,
    dir: &DirSpec,
    found: &mut Findings,
) -> Result<(), ClientError> {
    let handle = session.lookup(root, &dir.name).await?;
    names(session, &handle, &dir.name, &dir.names(), found).await?;
    for file in &dir.files {
        let links = 1 + u32::from(file.linked);
        regular(session, &handle, &file.name, file, links, found).await?;
        if file.linked {
            regular(session, &handle, &file.link_name(), file, links, found).await?;
        }
        if file.symlinked {
            let link = session.lookup(&handle, &file.symlink_name()).await?;
            let to = session.readlink(&link).await?;
            found.expect(to == file.name, || format!("{} points to {to}", file.symlink_name()));
        }
    }
    Ok(())
}

async fn regular(
    session: &mut Session,
    dir: &nfs_fh3,
    name: &str,
    file: &FileSpec,
    links: u32,
    found: &mut Findings,
) -> Result<(), ClientError> {
    let handle = session.lookup(dir, name).await?;
    let attributes = session.getattr(&handle).await?;
    found.files += 1;
    found.expect(attributes.type_ == ftype3::NF3REG, || format!("{name} is a {}", attributes.type_));
    found.expect(attributes.nlink == links, || format!("{name} has {} names, not {links}", attributes.nlink));
    if attributes.size != file.bytes {
        found.differences.push(format!("{name} has {} bytes, not {}", attributes.size, file.bytes));
        return Ok(());
    }
    let mut offset = 0;
    while offset < file.bytes {
        let (mut data, _) = session.read(&handle, offset, READ_BYTES).await?;
        if offset + (data.len() as u64) < file.bytes {
            // `fill` starts at multiples of 8; a server may answer with less than it was asked for.
            data.truncate(data.len() & !7);
        }
        let mut expected = vec![0; data.len()];
        fill(file.seed, offset, &mut expected);
        if data.is_empty() || data != expected {
            let at = data.iter().zip(&expected).position(|(a, b)| a != b).unwrap_or(0) as u64;
            found.differences.push(format!("{name} is not what was written, at byte {}", offset + at));
            return Ok(());
        }
        offset += data.len() as u64;
        found.bytes += data.len() as u64;
    }
    Ok(())
}
