//! Where the license is, and what it is held against.

use std::path::PathBuf;

use ctedge_license::{Fields, PublicKey};

/// Where the license is looked for, in this order, and what it is held against.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LicenseSettings {
    /// What variables and the settings file itself say.
    pub fields: Fields,
    /// A file of Java properties. It need not be there.
    pub file: PathBuf,
    /// A file of shell assignments. It need not be there.
    pub config: PathBuf,
    /// The key to verify it with.
    pub public_key: Option<PublicKey>,
    /// The host of the public URL, which a locator is compared with.
    pub host: Option<String>,
}
