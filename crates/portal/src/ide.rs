//! The editors that clients are offered for.

use serde::{Deserialize, Serialize};

/// An editor that clients are offered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ide {
    /// Eclipse: an update site.
    Eclipse,
    /// IntelliJ and its relatives: a plugin repository.
    IntelliJ,
    /// VS Code and its relatives: `.vsix` files.
    VsCode,
}

impl Ide {
    /// All of them, in the order in which people are shown them.
    pub const ALL: [Self; 3] = [Self::Eclipse, Self::IntelliJ, Self::VsCode];

    /// The word of paths, metrics and the journal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eclipse => "eclipse",
            Self::IntelliJ => "intellij",
            Self::VsCode => "vscode",
        }
    }

    /// As people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Eclipse => "Eclipse",
            Self::IntelliJ => "IntelliJ",
            Self::VsCode => "VS Code",
        }
    }

    /// The editor by its word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ide| ide.as_str() == word)
    }
}
