//! What is wrong with the settings: where, what, and what to write instead.

use std::fmt;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of the settings file, counted from 1.
    Line(usize),
    /// An option of the command line or an environment variable, by its name.
    Named(String),
    /// Nowhere: the setting is missing, or has its default.
    Default,
}

/// One fault of the settings. A file with several faults is reported with all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where the value comes from.
    pub origin: Origin,
    /// The setting's full name, like `balancer.limits.tunnels_max`; empty where the file is no TOML.
    pub setting: String,
    /// What is wrong, and what to write instead.
    pub problem: String,
}

impl Fault {
    /// The order in which faults are shown: by line, then what is not in the file.
    #[must_use]
    pub(crate) fn rank(&self) -> usize {
        match self.origin {
            Origin::Line(line) => line,
            Origin::Named(_) | Origin::Default => usize::MAX,
        }
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Line(line) => write!(formatter, "line {line}: ")?,
            Origin::Named(name) => write!(formatter, "{name}: ")?,
            Origin::Default => {}
        }
        if !self.setting.is_empty() {
            write!(formatter, "{}: ", self.setting)?;
        }
        formatter.write_str(&self.problem)
    }
}
