//! `ctedge license`: making keys, signing licenses, and saying what a license is worth.
//!
//! - `arguments`: the options.
//! - `sign`: `keygen` and `sign`, for whoever issues licenses.
//! - `judge`: `verify` and `show`, for whoever runs an edge.
//! - `others`: what else stands in a `codetogether.config`.

pub(crate) mod arguments;
mod judge;
mod others;
mod sign;

use std::process::ExitCode;

use anyhow::Context;
use ctedge_license::PublicKey;

use arguments::LicenseCommand;
pub(crate) use others::warn_of_others;

/// Runs one of the commands.
pub(crate) fn run(command: LicenseCommand) -> anyhow::Result<ExitCode> {
    match command {
        LicenseCommand::Keygen(options) => sign::keygen(&options),
        LicenseCommand::Sign(options) => sign::sign(&options),
        LicenseCommand::Verify(options) => judge::verify(options),
        LicenseCommand::Show(options) => judge::show(options),
    }
}

/// The key that counts: the one built into this program, so that nobody who runs it can license himself, and `otherwise`
/// only where none is built in.
pub(crate) fn public_key(otherwise: Option<PublicKey>) -> anyhow::Result<Option<PublicKey>> {
    choose(option_env!("CTEDGE_LICENSE_PUBLIC_KEY"), otherwise)
}

fn choose(built_in: Option<&str>, otherwise: Option<PublicKey>) -> anyhow::Result<Option<PublicKey>> {
    match built_in.filter(|key| !key.is_empty()) {
        Some(key) => {
            let key = key.parse().context("CTEDGE_LICENSE_PUBLIC_KEY was wrong when this program was built")?;
            Ok(Some(key))
        }
        None => Ok(otherwise),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_license::PrivateKey;

    #[test]
    fn a_key_of_the_settings_counts_only_where_none_is_built_in() {
        let key = |seed| PrivateKey::from_random(&[seed; 32]).public_key();
        let built_in = key(1).to_string();
        assert_eq!(choose(Some(&built_in), Some(key(2))).unwrap(), Some(key(1)));
        assert_eq!(choose(Some(""), Some(key(2))).unwrap(), Some(key(2)));
        assert_eq!(choose(None, None).unwrap(), None);
        let error = choose(Some("nonsense"), Some(key(2))).unwrap_err().to_string();
        assert!(error.contains("CTEDGE_LICENSE_PUBLIC_KEY"), "{error}");
    }
}
