//! Extensions of VS Code: `.vsix` archives.

use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::about::About;
use super::archive::{Archive, Unfit};

/// Where an extension says what it is.
pub(super) const PACKAGE: &str = "extension/package.json";

/// Where the texts are that it names between percent signs.
const TRANSLATIONS: &str = "extension/package.nls.json";

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
    let display_name = match package.display_name {
        Some(name) if name.starts_with('%') => translated(archive.text(TRANSLATIONS)?, &name),
        name => name.filter(|name| !name.is_empty()),
    };
    Ok(About {
        id: format!("{}.{}", package.publisher, package.name),
        name: display_name.unwrap_or(package.name),
        version: package.version,
        platform: archive.text(MANIFEST)?.and_then(|manifest| platform(&manifest)),
        requires: package.engines.vscode.map(|engine| format!("VS Code {engine}")),
        plugin: None,
    })
}

/// The text for a name between percent signs; one without a translation is none.
fn translated(translations: Option<String>, name: &str) -> Option<String> {
    let texts: BTreeMap<String, serde_json::Value> = serde_json::from_str(&translations?).ok()?;
    // A text may come with a comment for translators.
    let text = texts.get(name.trim_matches('%'))?;
    let text = text.get("message").unwrap_or(text).as_str()?;
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// The setting of the Open Collaboration Tools that names the server.
const SERVER_URL: &str = "oct.serverUrl";

/// The text of `package` with `url` as the server that the extension knows without being told. `None` if it has no setting
/// for a server. Everything else stays as it is, to the byte.
pub(super) fn with_server(package: &str, url: &str) -> Result<Option<String>, Unfit> {
    let malformed = |error: serde_json::Error| Unfit::Malformed(PACKAGE, error.to_string());
    let Some(setting) = server_setting(package).map_err(malformed)? else { return Ok(None) };
    let url = serde_json::Value::from(url).to_string();
    let (range, text) = match member(setting, "default").map_err(malformed)? {
        Some(default) => (range_of(package, default.get()), url),
        None => {
            // Behind the brace that begins the object.
            let at = range_of(package, setting.get()).start + 1;
            let comma = if is_empty(setting).map_err(malformed)? { "" } else { "," };
            (at..at, format!("\"default\":{url}{comma}"))
        }
    };
    let mut changed = package.to_owned();
    changed.replace_range(range, &text);
    Ok(Some(changed))
}

/// `contributes.configuration` is one group of settings or a list of them.
fn server_setting(package: &str) -> serde_json::Result<Option<&RawValue>> {
    let Some(contributes) = member(serde_json::from_str(package)?, "contributes")? else { return Ok(None) };
    let Some(configuration) = member(contributes, "configuration")? else { return Ok(None) };
    let groups: Vec<&RawValue> = match configuration.get().starts_with('[') {
        true => serde_json::from_str(configuration.get())?,
        false => vec![configuration],
    };
    for group in groups {
        if let Some(properties) = member(group, "properties")?
            && let Some(setting) = member(properties, SERVER_URL)?
        {
            return Ok(Some(setting));
        }
    }
    Ok(None)
}

fn member<'a>(object: &'a RawValue, name: &str) -> serde_json::Result<Option<&'a RawValue>> {
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(object.get())?;
    Ok(members.remove(name))
}

fn is_empty(object: &RawValue) -> serde_json::Result<bool> {
    Ok(serde_json::from_str::<BTreeMap<String, &RawValue>>(object.get())?.is_empty())
}

/// Where `part`, which was borrowed from `whole`, stands in it.
fn range_of(whole: &str, part: &str) -> Range<usize> {
    let at = part.as_ptr().addr() - whole.as_ptr().addr();
    at..at + part.len()
}

fn platform(manifest: &str) -> Option<String> {
    let document = roxmltree::Document::parse(manifest).ok()?;
    let identity = document.descendants().find(|node| node.tag_name().name() == "Identity")?;
    identity.attribute("TargetPlatform").filter(|platform| *platform != "universal").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(package: &str, expected: Option<&str>) {
        assert_eq!(with_server(package, "https://a/\"b").unwrap().as_deref(), expected, "{package}");
    }

    #[test]
    fn the_server_is_put_into_its_setting_and_nowhere_else() {
        let package = |setting: &str| {
            format!(
                "{{ \"contributes\":\n {{\"configuration\": {{\"properties\":{{\"x\":1,\"oct.serverUrl\":{setting}}}}}}}, \"z\":1.0 }}"
            )
        };
        check(
            &package(r#"{"type":"string", "default" : "https://old/" }"#),
            Some(&package(r#"{"type":"string", "default" : "https://a/\"b" }"#)),
        );
        check(&package(r#"{"type":"string"}"#), Some(&package(r#"{"default":"https://a/\"b","type":"string"}"#)));
        check(&package("{}"), Some(&package(r#"{"default":"https://a/\"b"}"#)));
    }

    #[test]
    fn the_setting_is_found_in_any_group() {
        check(
            r#"{"contributes":{"configuration":[{"title":"a"},{"properties":{"oct.serverUrl":{"default":1}}}]}}"#,
            Some(
                r#"{"contributes":{"configuration":[{"title":"a"},{"properties":{"oct.serverUrl":{"default":"https://a/\"b"}}}]}}"#,
            ),
        );
        for other in ["{}", r#"{"contributes":{}}"#, r#"{"contributes":{"configuration":{"properties":{"x":{}}}}}"#] {
            check(other, None);
        }
        assert!(with_server(r#"{"contributes":[]}"#, "u").is_err());
    }
}
