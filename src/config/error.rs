//! What is wrong with a configuration file, in the form editors and people jump to: `file:line: key: what`.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Line in the file, from 1.
    pub line: usize,
    /// Full name of the key, as in `exports[0].vip`; empty where the text is not even TOML.
    pub key: String,
    /// What was found and what was expected.
    pub text: String,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error("read {}: {source}; name another with --config FILE, or make one with `hanfs init`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It can be read and something in it is wrong.
    #[error("{}", Listing { path, issues })]
    Invalid {
        /// The file.
        path: PathBuf,
        /// At least one, in the order of the file.
        issues: Vec<Issue>,
    },
}

struct Listing<'a> {
    path: &'a PathBuf,
    issues: &'a [Issue],
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, issue) in self.issues.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{}: ", self.path.display(), issue.line)?;
            if !issue.key.is_empty() {
                write!(f, "{}: ", issue.key)?;
            }
            f.write_str(&issue.text)?;
        }
        Ok(())
    }
}
