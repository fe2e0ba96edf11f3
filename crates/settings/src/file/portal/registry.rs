//! The settings of `[portal]` that say where this program's versions are published.

use std::path::PathBuf;

use crate::reader::{Reader, Section};
use crate::settled::RegistrySettings;

/// What stands in the file, before it is held against itself.
pub(super) struct Written {
    url: Option<String>,
    repository: Option<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
}

pub(super) fn read(section: &mut Section<'_>) -> Written {
    Written {
        url: section.read(
            "registry",
            "The OCI registry whose tags `ctedge versions` and the dashboard list, like \"https://ghcr.io\".",
            None,
            |url: &Option<String>| url.as_deref().map_or(Ok(()), check_url),
        ),
        repository: section.read(
            "repository",
            "The repository in the registry, like \"example/codetogether-edge\".",
            None,
            |name: &Option<String>| name.as_deref().map_or(Ok(()), check_repository),
        ),
        user: section.any(
            "registry_user",
            "Who asks the registry, and the file of that user's password or token; without these nobody in particular.",
            None,
        ),
        password_file: section.any("registry_password_file", "", None),
    }
}

impl Written {
    /// A registry has a repository, and a user a password.
    pub(super) fn whole(self, reader: &mut Reader) -> Option<RegistrySettings> {
        let pairs = [
            ("registry", self.url.is_some(), "repository", self.repository.is_some()),
            ("registry_user", self.user.is_some(), "registry_password_file", self.password_file.is_some()),
        ];
        for (one, has_one, other, has_other) in pairs {
            let (has, lacks) = if has_one { (one, other) } else { (other, one) };
            if has_one != has_other {
                reader.fault(&format!("portal.{has}"), format!("needs portal.{lacks} beside it"));
            }
        }
        Some(RegistrySettings {
            url: self.url?,
            repository: self.repository?,
            login: self.user.zip(self.password_file),
        })
    }
}

fn check_url(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let is_plain = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\\\"<>@%".contains(&byte));
    if rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && is_plain(rest)) {
        Ok(())
    } else {
        Err(format!("{url:?} is not the URL of a registry, like \"https://ghcr.io\""))
    }
}

/// Names of the OCI Distribution Specification, version 1.1: lower case, parts joined by slashes.
fn check_repository(name: &str) -> Result<(), String> {
    let is_part = |part: &str| {
        let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = [part.bytes().next(), part.bytes().last()];
        ends.iter().all(|end| end.is_some_and(|byte| is_plain(&byte)))
            && part.bytes().all(|byte| is_plain(&byte) || b"._-".contains(&byte))
    };
    if name.len() <= 255 && name.split('/').all(is_part) {
        Ok(())
    } else {
        Err(format!("{name:?} is not the name of a repository, like \"example/codetogether-edge\""))
    }
}
