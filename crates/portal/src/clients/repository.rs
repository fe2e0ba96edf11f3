//! The list of plugins that IntelliJ reads: `updatePlugins.xml` (IntelliJ Platform SDK, "Custom Plugin Repository").

use std::fmt::Write as _;

use super::catalog::{Artifact, Catalog};
use crate::ide::Ide;
use crate::page::encode;
use crate::page::escape;

/// Where it is below the clients folder.
pub(super) const UPDATE_PLUGINS: &str = "intellij/updatePlugins.xml";

/// The list for a server at `url`.
pub(super) fn update_plugins(catalog: &Catalog, url: &str) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plugins>\n");
    for artifact in catalog.of_ide(Ide::IntelliJ) {
        plugin(&mut xml, artifact, url);
    }
    xml.push_str("</plugins>\n");
    xml
}

fn plugin(xml: &mut String, artifact: &Artifact, url: &str) {
    let about = &artifact.about;
    let path: Vec<_> = artifact.path.split('/').map(encode).collect();
    let _ = writeln!(
        xml,
        "  <plugin id=\"{}\" url=\"{}/clients/{}\" version=\"{}\">",
        escape(&about.id),
        escape(url),
        escape(&path.join("/")),
        escape(&about.version),
    );
    let plugin = about.plugin.clone().unwrap_or_default();
    let builds = [("since-build", &plugin.since_build), ("until-build", &plugin.until_build)];
    let builds = builds.into_iter().filter_map(|(name, build)| {
        let build = escape(build.as_deref()?);
        Some(format!(" {name}=\"{build}\""))
    });
    // The element has to be there, with or without limits.
    let _ = writeln!(xml, "    <idea-version{}/>", builds.collect::<String>());
    let texts = [
        ("name", Some(&about.name)),
        ("vendor", plugin.vendor.as_ref()),
        ("description", plugin.description.as_ref()),
        ("change-notes", plugin.change_notes.as_ref()),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            let _ = writeln!(xml, "    <{name}>{}</{name}>", escape(text));
        }
    }
    xml.push_str("  </plugin>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::about::About;
    use crate::clients::intellij::Plugin;

    #[test]
    fn the_list_names_each_plugin_with_its_builds() {
        let plugin =
            Plugin { since_build: Some("231".into()), description: Some("<b>&</b>".into()), ..Plugin::default() };
        let about = About {
            id: "a&b".into(),
            name: "A".into(),
            version: "1".into(),
            plugin: Some(Box::new(plugin)),
            ..About::default()
        };
        let artifact = Artifact { ide: Ide::IntelliJ, path: "intellij/a b.zip".into(), bytes: 1, about };
        let catalog = Catalog { artifacts: vec![artifact], ..Catalog::default() };
        let xml = update_plugins(&catalog, "https://edge.example/ct");
        let document = roxmltree::Document::parse(&xml).unwrap();
        let plugin = document.descendants().find(|node| node.tag_name().name() == "plugin").unwrap();
        assert_eq!(plugin.attribute("id"), Some("a&b"));
        assert_eq!(plugin.attribute("url"), Some("https://edge.example/ct/clients/intellij/a%20b.zip"));
        let child = |name: &str| plugin.children().find(|node| node.tag_name().name() == name).unwrap();
        assert_eq!(child("idea-version").attribute("since-build"), Some("231"));
        assert_eq!(child("idea-version").attribute("until-build"), None);
        assert_eq!(child("description").text(), Some("<b>&</b>"));
    }
}
