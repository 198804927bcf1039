//! A new cluster's files: a commented configuration and the keys of everybody in it.
//!
//! `plan` says what the cluster is to be, `template` writes it as TOML, `keys` makes certificates. Writing
//! never replaces a file: a cluster's keys are made once.

mod keys;
mod plan;
mod template;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigError};
use crate::tls::Principal;

pub use plan::{Plan, PlanError, PlanExport, PlanNode};
pub use template::render;

/// Why nothing, or not everything, was written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The plan makes no valid configuration.
    #[error("this makes no valid configuration:\n{0}")]
    Config(#[from] ConfigError),
    /// Something is there already.
    #[error("{} exists; nothing was written: move it away, or name another directory with --dir", .0.display())]
    Exists(PathBuf),
    /// A file could not be written.
    #[error("write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("make the certificate of {who}: {source}")]
    Key {
        /// Whose.
        who: String,
        /// Why.
        source: rcgen::Error,
    },
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// The configuration.
    pub config: PathBuf,
    /// The keys' directory.
    pub keys: PathBuf,
    /// Everybody who has a certificate now.
    pub principals: Vec<Principal>,
}

/// Writes `hanfs.toml` and `keys/` into `dir`, which is made if it is not there.
pub fn write(plan: &Plan, dir: &Path) -> Result<Written, InitError> {
    let config = dir.join("hanfs.toml");
    let keys = dir.join("keys");
    for path in [&config, &keys] {
        if path.symlink_metadata().is_ok() {
            return Err(InitError::Exists(path.clone()));
        }
    }
    let text = render(plan);
    Config::parse(&config, &text)?;
    let files = keys::make(plan)?;

    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| InitError::Write { path, source }
    };
    fs::create_dir_all(dir).map_err(failed(dir))?;
    fs::DirBuilder::new().mode(0o700).create(&keys).map_err(failed(&keys))?;
    for file in &files {
        let path = keys.join(&file.name);
        let mode = if file.secret { 0o600 } else { 0o644 };
        write_new(&path, &file.text, mode).map_err(failed(&path))?;
    }
    write_new(&config, &text, 0o644).map_err(failed(&config))?;
    Ok(Written { config, keys, principals: plan.principals() })
}

fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// What to copy where, for a person.
pub fn instructions(written: &Written) -> String {
    let mut text = format!(
        "Wrote {} and {}/.\n\nCopy, with the same names:\n",
        written.config.display(),
        written.keys.display()
    );
    for who in &written.principals {
        let name = who.file_name();
        let to = match who {
            Principal::Node(node) => format!("box {node}"),
            Principal::Witness => "the witness's box".to_owned(),
            Principal::Admin => "where you administer from, if not on the nodes".to_owned(),
        };
        text.push_str(&format!("  to {to}: hanfs.toml keys/ca.pem keys/{name}.pem keys/{name}.key\n"));
    }
    text.push_str(
        "\nkeys/ca.key signs new certificates and no box needs it: keep it offline, and keep it.\n\
         Then, on each node: `hanfs config check` and `hanfs serve`; on the witness's box: `hanfs witness`.\n",
    );
    text
}
