//! Bundles and features of Eclipse, and what in an update site stands for the whole client.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::about::About;
use super::archive::{Archive, Unfit};

/// The bundle that the operators of the original count downloads by.
const CORE: &str = "com.genuitec.eclipse.codetogether.core";

/// Features of one site that are looked at for the one of a bundle.
const FEATURES_MAX: usize = 1_000;

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
    let name = feature_of(path, id, version).map_or_else(|| id.to_owned(), |feature| label(&feature));
    Ok(About { id: id.to_owned(), name, version: version.to_owned(), ..About::default() })
}

/// The feature that people install when they get the file at `path`: itself, or of those beside a bundle the one whose id
/// begins the bundle's.
fn feature_of(path: &Path, id: &str, version: &str) -> Option<PathBuf> {
    let folder = path.parent()?;
    if folder.ends_with("features") {
        return Some(path.to_owned());
    }
    let features = fs::read_dir(folder.parent()?.join("features")).ok()?;
    let fitting = features.take(FEATURES_MAX).filter_map(|entry| {
        let file = entry.ok()?.path();
        let (of, at) = named(file.file_name()?.to_str()?)?;
        let begins = id.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        begins.then(|| ((of.len(), at == version, at.to_owned()), file.clone()))
    });
    fitting.max().map(|(_, file)| file)
}

/// What a feature calls itself, or its id.
fn label(feature: &Path) -> String {
    let id = feature.file_name().and_then(|name| named(name.to_str()?)).map_or("", |(id, _)| id);
    labelled(feature).unwrap_or_else(|| id.to_owned())
}

/// The label in `feature.xml`; what begins with a percent sign is a key of `feature.properties` (Eclipse platform
/// documentation, "Feature manifest").
fn labelled(feature: &Path) -> Option<String> {
    let mut archive = Archive::open(feature).ok()?;
    let manifest = archive.text("feature.xml").ok()??;
    let document = roxmltree::Document::parse(&manifest).ok()?;
    let label = document.root_element().attribute("label")?.trim().to_owned();
    let Some(key) = label.strip_prefix('%') else { return Some(label).filter(|label| !label.is_empty()) };
    let properties = archive.text("feature.properties").ok()??;
    let value = properties.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    });
    value.filter(|value| !value.is_empty())
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
/// That is the core bundle of CodeTogether; in a site without it the feature with the shortest id, which others of a product
/// only add to, and in a site without features such a bundle. Sites of several releases may lie side by side.
pub(super) fn stand_for_client(files: &[&str]) -> Vec<bool> {
    let all: Vec<_> = files.iter().map(|file| ranked(file)).collect();
    let mut first: HashMap<&str, Rank<'_>> = HashMap::new();
    for (site, rank) in all.iter().flatten() {
        let least = first.entry(site).or_insert(*rank);
        *least = (*least).min(*rank);
    }
    all.iter().map(|file| file.is_some_and(|(site, rank)| first.get(site) == Some(&rank))).collect()
}

/// Whether it is the core bundle, a feature or a bundle; the length of its id, and that. The least stands for its site.
type Rank<'f> = (u8, usize, &'f str);

/// The site that a bundle or a feature belongs to, and its rank there.
fn ranked(file: &str) -> Option<(&str, Rank<'_>)> {
    let (folder, name) = file.rsplit_once('/')?;
    let (site, kind) = folder.rsplit_once('/').unwrap_or(("", folder));
    let (id, _) = named(name)?;
    let rank = match kind {
        "plugins" if id == CORE => 0,
        "features" => 1,
        "plugins" => 2,
        _ => return None,
    };
    Some((site, (rank, id.len(), id)))
}

/// Where the update site of the bundle or feature `file` is.
pub(super) fn site_of(file: &str) -> &str {
    ranked(file).map_or("", |(site, _)| site)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

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
    fn one_file_of_an_installation_stands_for_a_site() {
        let core = "eclipse/plugins/com.genuitec.eclipse.codetogether.core_1.jar";
        check(&[core, "eclipse/plugins/a_1.jar", "eclipse/features/f_1.jar"], &[true, false, false]);
        check(&["eclipse/plugins/a_1.jar", "eclipse/features/f_1.jar"], &[false, true]);
        check(&["eclipse/plugins/a_1.jar", "eclipse/content.jar"], &[true, false]);
        let features = ["eclipse/features/a.b.ui_1.jar", "eclipse/features/a.b_1.jar", "eclipse/features/a.b_2.jar"];
        check(&features, &[false, true, true]);
        check(&["eclipse/plugins/a.b_1.jar", "eclipse/plugins/a_1.jar"], &[false, true]);
        // Each release of a folder of its own has one.
        check(&["eclipse/1/features/a_1.jar", "eclipse/2/features/b_2.jar", core], &[true, true, true]);
    }

    #[test]
    fn a_bundle_is_called_like_its_feature() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, entries: &[(&str, &str)]| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
            for (name, text) in entries {
                zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
                zip.write_all(text.as_bytes()).unwrap();
            }
            zip.finish().unwrap();
            path
        };
        let bundle = put("plugins/a.b.core_1.0.jar", &[]);
        assert_eq!(read(&bundle).unwrap().name, "a.b.core");
        put("features/a_1.0.jar", &[("feature.xml", "<feature label='of others'/>")]);
        let label = "<feature label='%name'/>";
        let feature =
            put("features/a.b_1.0.jar", &[("feature.xml", label), ("feature.properties", "x=1\nname = Ours\n")]);
        put("features/a.b_0.9.jar", &[("feature.xml", "<feature label='before'/>")]);
        put("features/a.bc_1.0.jar", &[("feature.xml", "<feature label='of others'/>")]);
        assert_eq!(read(&bundle).unwrap().name, "Ours");
        let about = read(&feature).unwrap();
        assert_eq!((about.id.as_str(), about.name.as_str(), about.version.as_str()), ("a.b", "Ours", "1.0"));
        let plain = put("features/c_1.0.jar", &[("feature.xml", label)]);
        assert_eq!(read(&plain).unwrap().name, "c");
    }
}
