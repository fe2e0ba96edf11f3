//! Unpacks an update site of Eclipse into its place.

use std::fs::{self, File, Permissions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use ctedge_settings::PortalSettings;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::add::{AddError, Added, FILE_MODE, FOLDER_MODE, make_folder, too_many_bytes};
use super::archive::{Archive, unfit};
use super::catalog::Catalog;
use super::eclipse::SITE_INDEXES;
use crate::ide::Ide;

/// The folder of the archive that is an update site, `""` or ending with a slash. Many archives have all in one folder.
pub(super) fn top_of(names: &[String]) -> Option<String> {
    let tops = names.iter().filter_map(|name| {
        let (top, file) = name.rsplit_once('/').map_or(("", name.as_str()), |(top, file)| (top, file));
        let is_top = SITE_INDEXES.contains(&file) && !top.contains('/');
        is_top.then(|| if top.is_empty() { String::new() } else { format!("{top}/") })
    });
    tops.min_by_key(String::len)
}

/// Unpacks what lies below `top` and puts it in the place of the update site before.
pub(super) fn unpack(
    file: &Path,
    mut archive: Archive<BufReader<File>>,
    top: &str,
    settings: &PortalSettings,
) -> Result<Added, AddError> {
    let place = settings.clients_folder.join(Ide::Eclipse.as_str());
    let failed = |source: io::Error| AddError::Write { path: place.clone(), source };
    make_folder(&settings.clients_folder, settings).map_err(failed)?;
    let draft = tempfile::Builder::new().prefix(".adding-").tempdir_in(&settings.clients_folder).map_err(failed)?;
    let mut bytes_left = settings.limits.client_bytes_max;
    for index in 0..archive.zip.len() {
        let no_client = |error| AddError::NoClient { path: file.to_owned(), reason: unfit(error) };
        let entry = archive.zip.by_index(index).map_err(no_client)?;
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        let Some(below) = name.strip_prefix(top) else { continue };
        if entry.is_dir() || is_hidden(below) {
            continue;
        }
        let path = inside(below).filter(|_| !entry.is_symlink()).ok_or_else(|| AddError::Astray(name.clone()))?;
        let path = draft.path().join(path);
        let written = write(entry, &path, settings, bytes_left).map_err(failed)?;
        bytes_left = bytes_left.checked_sub(written).ok_or_else(|| too_many_bytes(file, &settings.limits))?;
    }
    fs::set_permissions(draft.path(), Permissions::from_mode(FOLDER_MODE)).map_err(failed)?;
    let replaced = settle(draft, &place).map_err(failed)?;
    let catalog = Catalog::read(&settings.clients_folder, settings.limits.client_files_max);
    let artifacts = catalog.of_ide(Ide::Eclipse).cloned().collect();
    Ok(Added { artifacts, replaced, default_server: None })
}

/// Writes the entry, but no more than one byte beyond `bytes_max`.
fn write(entry: impl Read, path: &Path, settings: &PortalSettings, bytes_max: u64) -> io::Result<u64> {
    if let Some(folder) = path.parent() {
        make_folder(folder, settings)?;
    }
    let mut file = File::create(path)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    io::copy(&mut entry.take(bytes_max.saturating_add(1)), &mut file)
}

/// The path, if it leads to below where it starts.
fn inside(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    let is_plain = !name.contains(['\\', '\0']) && path.components().all(|part| matches!(part, Component::Normal(_)));
    is_plain.then(|| path.to_owned())
}

/// Files with a dot are not served; Eclipse has no use for them either. What leads upwards is not just hidden.
fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.') && part != "..")
}

/// Moves the draft to `place`, or swaps it with what is there. Returns whether something was there.
fn settle(draft: tempfile::TempDir, place: &Path) -> io::Result<bool> {
    match renameat_with(CWD, draft.path(), CWD, place, RenameFlags::EXCHANGE) {
        // The draft is what was there before, and ends as drafts do.
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::NOENT) => {
            fs::rename(draft.path(), place)?;
            // There is nothing left to remove.
            let _ = draft.keep();
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_of_a_site_is_where_its_index_is() {
        let top = |names: &[&str]| top_of(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(top(&["plugins/a_1.jar", "content.jar"]).as_deref(), Some(""));
        assert_eq!(top(&["site/content.xml.xz", "site/plugins/a_1.jar"]).as_deref(), Some("site/"));
        assert_eq!(top(&["a/b/content.jar", "plugins/a_1.jar"]), None);
    }

    #[test]
    fn no_name_leads_out_of_the_site() {
        for astray in ["../a", "/a", "a/../../b", "a\\..\\b", "..", "a/.."] {
            assert_eq!(inside(astray), None, "{astray}");
        }
        assert_eq!(inside("plugins/a_1.jar"), Some("plugins/a_1.jar".into()));
    }
}
