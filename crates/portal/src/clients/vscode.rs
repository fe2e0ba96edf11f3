//! Extensions of VS Code: `.vsix` archives.

use std::io::{Read, Seek};

use serde::Deserialize;

use super::about::About;
use super::archive::{Archive, Unfit};

/// Where an extension says what it is.
pub(super) const PACKAGE: &str = "extension/package.json";

/// Where its package says what it was built for.
const MANIFEST: &str = "extension.vsixmanifest";

#[derive(Deserialize)]
struct Package {
    name: String,
    publisher: String,
    version: String,
    #[serde(rename = "displayName")]
    display_name: Option<String>,
    #[serde(default)]
    engines: Engines,
}

#[derive(Default, Deserialize)]
struct Engines {
    vscode: Option<String>,
}

pub(super) fn read<R: Read + Seek>(archive: &mut Archive<R>) -> Result<About, Unfit> {
    let package = archive.text(PACKAGE)?.ok_or(Unfit::Missing(PACKAGE))?;
    let malformed = |error: serde_json::Error| Unfit::Malformed(PACKAGE, error.to_string());
    let package: Package = serde_json::from_str(&package).map_err(malformed)?;
    // A name between percent signs stands in a file of translations.
    let display_name = package.display_name.filter(|name| !name.is_empty() && !name.starts_with('%'));
    Ok(About {
        id: format!("{}.{}", package.publisher, package.name),
        name: display_name.unwrap_or(package.name),
        version: package.version,
        platform: archive.text(MANIFEST)?.and_then(|manifest| platform(&manifest)),
        requires: package.engines.vscode.map(|engine| format!("VS Code {engine}")),
        plugin: None,
    })
}

fn platform(manifest: &str) -> Option<String> {
    let document = roxmltree::Document::parse(manifest).ok()?;
    let identity = document.descendants().find(|node| node.tag_name().name() == "Identity")?;
    identity.attribute("TargetPlatform").filter(|platform| *platform != "universal").map(str::to_owned)
}
