//! `ctedge check-config` and `ctedge default-config`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::settings_file::SettingsFile;

/// Looks for faults in `file`.
pub(crate) fn check_config(file: &Path) -> anyhow::Result<ExitCode> {
    SettingsFile::new(Some(file.to_owned()), vec![]).load(vec![])?;
    println!("{} has no fault", file.display());
    Ok(ExitCode::SUCCESS)
}

/// Prints every setting.
pub(crate) fn default_config() -> anyhow::Result<ExitCode> {
    // Whoever reads may stop reading, like `head`.
    let _ = std::io::stdout().write_all(ctedge_settings::default_config().as_bytes());
    Ok(ExitCode::SUCCESS)
}
