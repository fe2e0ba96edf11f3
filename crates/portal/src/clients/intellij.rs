//! Plugins of IntelliJ and its relatives: a jar, or a zip with jars in its `lib` folder.

use std::io::{Read, Seek};

use roxmltree::{Document, Node, ParsingOptions};

use super::about::About;
use super::archive::{Archive, Unfit};

/// Where a plugin says what it is.
pub(super) const DESCRIPTOR: &str = "META-INF/plugin.xml";

/// Jars of one plugin that are searched for its descriptor.
const JARS_MAX: usize = 500;

/// What a plugin says beside its name and version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plugin {
    /// The first build of the IDE that it works with.
    pub since_build: Option<String>,
    /// The last one, often with a star.
    pub until_build: Option<String>,
    /// Who makes it.
    pub vendor: Option<String>,
    /// What it is for, as HTML.
    pub description: Option<String>,
    /// What has changed, as HTML.
    pub change_notes: Option<String>,
}

pub(super) fn read<R: Read + Seek>(archive: &mut Archive<R>) -> Result<About, Unfit> {
    if let Some(descriptor) = archive.text(DESCRIPTOR)? {
        return about(&descriptor);
    }
    let is_library = |name: &String| {
        let mut parts = name.split('/').rev();
        parts.next().is_some_and(|file| file.ends_with(".jar")) && parts.next() == Some("lib")
    };
    let mut jars: Vec<_> = archive.names().into_iter().filter(is_library).collect();
    // The plugin's own jar is named like its folder, as a rule; to look there first saves unpacking the others.
    jars.sort_by_key(|name| (!is_named_like_its_folder(name), name.len()));
    for jar in jars.iter().take(JARS_MAX) {
        // A library that is no sound archive is not what makes this a plugin.
        let Ok(mut inner) = archive.inner(jar) else { continue };
        if let Some(descriptor) = inner.text(DESCRIPTOR)? {
            return about(&descriptor);
        }
    }
    Err(Unfit::Missing(DESCRIPTOR))
}

fn is_named_like_its_folder(jar: &str) -> bool {
    let Some((folder, file)) = jar.split_once("/lib/") else { return false };
    let plain = |text: &str| text.to_lowercase().replace([' ', '_'], "-");
    plain(file).starts_with(&plain(folder))
}

/// What a `plugin.xml` says (IntelliJ Platform SDK, "Plugin Configuration File").
fn about(descriptor: &str) -> Result<About, Unfit> {
    let malformed = |error: String| Unfit::Malformed(DESCRIPTOR, error);
    // Old ones name a document type. The parser bounds what entities may become.
    let options = ParsingOptions { allow_dtd: true, nodes_limit: 100_000, ..ParsingOptions::default() };
    let document = Document::parse_with_options(descriptor, options).map_err(|error| malformed(error.to_string()))?;
    let root = document.root_element();
    if root.tag_name().name() != "idea-plugin" {
        return Err(malformed("it does not begin with <idea-plugin>".to_owned()));
    }
    let child = |name: &str| root.children().find(|node| node.tag_name().name() == name);
    let text = |name: &str| child(name).and_then(text_of);
    let build = |name: &str| child("idea-version").and_then(|node| node.attribute(name)).map(str::to_owned);
    let name = text("name");
    // "If the <id> element is not specified, the plugin name is used as the ID."
    let id = text("id").or_else(|| name.clone()).ok_or_else(|| malformed("it has no <id>".to_owned()))?;
    let version = text("version").ok_or_else(|| malformed("it has no <version>".to_owned()))?;
    let plugin = Plugin {
        since_build: build("since-build"),
        until_build: build("until-build"),
        vendor: text("vendor"),
        description: text("description"),
        change_notes: text("change-notes"),
    };
    let requires = match (&plugin.since_build, &plugin.until_build) {
        (Some(since), Some(until)) => Some(format!("builds {since} to {until}")),
        (Some(since), None) => Some(format!("build {since} or later")),
        (None, Some(until)) => Some(format!("builds up to {until}")),
        (None, None) => None,
    };
    let name = name.unwrap_or_else(|| id.clone());
    Ok(About { id, name, version, platform: None, requires, plugin: Some(Box::new(plugin)) })
}

/// All of an element's text: some of it may stand in CDATA sections.
fn text_of(node: Node<'_, '_>) -> Option<String> {
    let text: String = node.descendants().filter_map(|node| node.is_text().then(|| node.text()).flatten()).collect();
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_says_what_a_plugin_is() {
        let about = about(
            "<!DOCTYPE idea-plugin><idea-plugin><name>Together</name><version> 1.2 </version>\
             <idea-version since-build='231.1' until-build='253.*'/><vendor url='x'>Ours</vendor>\
             <description><![CDATA[<b>All</b>]]> of us</description></idea-plugin>",
        )
        .unwrap();
        let plugin = about.plugin.clone().unwrap();
        assert_eq!((about.id.as_str(), about.name.as_str(), about.version.as_str()), ("Together", "Together", "1.2"));
        assert_eq!(about.requires.as_deref(), Some("builds 231.1 to 253.*"));
        assert_eq!(plugin.description.as_deref(), Some("<b>All</b> of us"));
    }

    #[test]
    fn a_descriptor_that_explodes_is_refused() {
        let mut bomb = String::from("<!DOCTYPE x [<!ENTITY a0 'boom'>");
        for level in 1..12 {
            let references = format!("&a{};", level - 1).repeat(10);
            bomb.push_str(&format!("<!ENTITY a{level} '{references}'>"));
        }
        bomb.push_str("]><idea-plugin><id>&a11;</id><version>1</version></idea-plugin>");
        assert!(matches!(about(&bomb), Err(Unfit::Malformed(..))));
    }

    #[test]
    fn a_descriptor_without_a_version_or_of_something_else_is_refused() {
        for wrong in
            ["<idea-plugin><id>x</id></idea-plugin>", "<plugin><id>x</id><version>1</version></plugin>", "nothing"]
        {
            assert!(matches!(about(wrong), Err(Unfit::Malformed(..))), "{wrong}");
        }
    }
}
