//! Bundles and features of Eclipse, and what in an update site stands for the whole client.

use std::path::Path;

use super::about::About;
use super::archive::Unfit;

/// The bundle that the operators of the original count downloads by.
const CORE: &str = "com.genuitec.eclipse.codetogether.core";

/// What an update site of Eclipse must have one of (Eclipse p2).
pub(super) const SITE_INDEXES: [&str; 9] = [
    "p2.index",
    "content.jar",
    "content.xml",
    "content.xml.xz",
    "compositeContent.jar",
    "compositeContent.xml",
    "artifacts.jar",
    "artifacts.xml",
    "site.xml",
];

/// The name of a bundle or a feature is `ID_VERSION.jar` in every site that Eclipse's tools build.
const NAMING: &str = "name like ID_VERSION.jar";

pub(super) fn read(path: &Path) -> Result<About, Unfit> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(Unfit::Missing(NAMING))?;
    let (id, version) = named(name).ok_or(Unfit::Missing(NAMING))?;
    Ok(About { id: id.to_owned(), name: id.to_owned(), version: version.to_owned(), ..About::default() })
}

/// `ID_VERSION.jar`: ids may have underscores, versions begin with a digit (OSGi Core, section 3.2.5).
fn named(name: &str) -> Option<(&str, &str)> {
    let stem = name.strip_suffix(".jar")?;
    let begins_version = |at: &usize| stem[at + 1..].starts_with(|first: char| first.is_ascii_digit());
    let at = stem.match_indices('_').map(|(at, _)| at).find(begins_version)?;
    Some((&stem[..at], &stem[at + 1..])).filter(|(id, _)| !id.is_empty())
}

/// What in an update site stands for the client: an installation loads many files, and one of them counts.
///
/// That is the core bundle of CodeTogether; in a site without it every feature, and in a site without features every
/// bundle.
pub(super) fn stand_for_client(files: &[&str]) -> Vec<bool> {
    let is_core = |file: &str| id_in("plugins", file) == Some(CORE);
    let is_feature = |file: &str| id_in("features", file).is_some();
    let is_bundle = |file: &str| id_in("plugins", file).is_some();
    let chosen: &dyn Fn(&str) -> bool = if files.iter().any(|file| is_core(file)) {
        &is_core
    } else if files.iter().any(|file| is_feature(file)) {
        &is_feature
    } else {
        &is_bundle
    };
    files.iter().map(|file| chosen(file)).collect()
}

/// The id of the bundle or feature `file`, if it lies in a folder of that name.
fn id_in<'a>(folder: &str, file: &'a str) -> Option<&'a str> {
    let (before, name) = file.rsplit_once('/')?;
    let is_there = before.rsplit('/').next() == Some(folder);
    named(name).filter(|_| is_there).map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_named_by_its_id_and_version() {
        assert_eq!(named("a.b_c_1.2.3.v2026_01.jar"), Some(("a.b_c", "1.2.3.v2026_01")));
        assert_eq!(named("com.genuitec.eclipse.codetogether.core_2025.1.jar"), Some((CORE, "2025.1")));
        for wrong in ["content.jar", "a_b.jar", "_1.jar", "a_1.zip", ""] {
            assert_eq!(named(wrong), None, "{wrong}");
        }
    }

    #[track_caller]
    fn check(files: &[&str], expected: &[bool]) {
        assert_eq!(stand_for_client(files), expected, "{files:?}");
    }

    #[test]
    fn one_kind_of_file_stands_for_a_site() {
        let core = "eclipse/plugins/com.genuitec.eclipse.codetogether.core_1.jar";
        check(&[core, "eclipse/plugins/a_1.jar", "eclipse/features/f_1.jar"], &[true, false, false]);
        check(&["eclipse/plugins/a_1.jar", "eclipse/features/f_1.jar"], &[false, true]);
        check(&["eclipse/plugins/a_1.jar", "eclipse/content.jar"], &[true, false]);
    }
}
