//! Putting clients into their places.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by the lint")]

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use ctedge_portal::clients::{AddError, Added, Catalog, KeptDefault, add};
use ctedge_settings::{PortalSettings, parse};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

/// A data folder, and files to add.
struct Fixture {
    folder: tempfile::TempDir,
    settings: PortalSettings,
}

impl Fixture {
    fn new(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = format!("data = {:?}\n{settings}", folder.path().join("data"));
        let settings = parse(&settings, &|_| None).unwrap().portal();
        Self { folder, settings }
    }

    fn add(&self, entries: &[(&str, &str)]) -> Result<Added, AddError> {
        self.add_kept(entries, KeptDefault::No)
    }

    fn add_kept(&self, entries: &[(&str, &str)], kept: KeptDefault) -> Result<Added, AddError> {
        let file = self.folder.path().join("given");
        let mut zip = ZipWriter::new(fs::File::create(&file).unwrap());
        for (name, text) in entries {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        add(&file, &self.settings, kept)
    }

    fn place(&self, path: &str) -> PathBuf {
        self.settings.clients_folder.join(path)
    }

    fn catalog(&self) -> Vec<String> {
        let catalog = Catalog::read(&self.settings.clients_folder, 100);
        catalog.artifacts.into_iter().map(|artifact| artifact.path).collect()
    }

    /// Drafts and whatever else is left over, by path.
    fn hidden(&self) -> Vec<PathBuf> {
        let folders = ["", "eclipse", "intellij", "vscode"].map(|folder| self.place(folder));
        let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.file_name().unwrap().as_encoded_bytes().starts_with(b".")).collect()
    }
}

fn paths(added: &Added) -> Vec<&str> {
    added.artifacts.iter().map(|artifact| artifact.path.as_str()).collect()
}

fn packed(archive: &Path, name: &str) -> String {
    let mut text = String::new();
    let mut zip = ZipArchive::new(fs::File::open(archive).unwrap()).unwrap();
    zip.by_name(name).unwrap().read_to_string(&mut text).unwrap();
    text
}

const PACKAGE: &str = "extension/package.json";
const EXTENSION: &str = r#"{"name":"n","publisher":"p","version":"1.0"}"#;
const OCT: &str = r#"{"name":"oct","publisher":"p","version":"2.0",
    "contributes":{"configuration":{"properties":{"oct.serverUrl":{"type":"string","default":"https://elsewhere/"}}}}}"#;

#[test]
fn an_extension_is_named_so_that_the_documented_count_finds_it() {
    let fixture = Fixture::new("");
    let added = fixture.add(&[(PACKAGE, EXTENSION)]).unwrap();
    assert_eq!((paths(&added), added.replaced), (vec!["vscode/codetogether-onpremises-1.0.vsix"], false));
    assert!(fixture.add(&[(PACKAGE, EXTENSION)]).unwrap().replaced);
    // Another extension of that version must not push it out.
    let other = fixture.add(&[(PACKAGE, &EXTENSION.replace("\"n\"", "\"o/o\""))]).unwrap();
    assert_eq!((paths(&other), other.replaced), (vec!["vscode/codetogether-onpremises-p.o_o-1.0.vsix"], false));
    let manifest = r#"<PackageManifest><Metadata><Identity TargetPlatform="linux-x64"/></Metadata></PackageManifest>"#;
    let platform = fixture.add(&[(PACKAGE, EXTENSION), ("extension.vsixmanifest", manifest)]).unwrap();
    assert_eq!(paths(&platform), ["vscode/codetogether-onpremises-1.0-linux-x64.vsix"]);
    assert_eq!(fixture.catalog().len(), 3);
    assert_eq!(fixture.hidden(), [] as [PathBuf; 0]);
}

#[test]
fn an_extension_of_the_open_collaboration_tools_gets_this_server() {
    let fixture = Fixture::new("server_url = \"https://edge.example/ct\"\n");
    let added = fixture.add(&[("other", "kept"), (PACKAGE, OCT), ("last", "kept too")]).unwrap();
    assert_eq!(added.default_server.as_deref(), Some("https://edge.example/ct"));
    let place = fixture.place(paths(&added)[0]);
    assert_eq!(packed(&place, PACKAGE), OCT.replace("https://elsewhere/", "https://edge.example/ct"));
    assert_eq!((packed(&place, "other"), packed(&place, "last")), ("kept".to_owned(), "kept too".to_owned()));

    let kept = fixture.add_kept(&[(PACKAGE, OCT)], KeptDefault::Yes).unwrap();
    assert_eq!((kept.default_server.as_ref(), packed(&place, PACKAGE).as_str()), (None, OCT));
    let other = fixture.add(&[(PACKAGE, EXTENSION)]).unwrap();
    assert_eq!(other.default_server, None);
}

/// An extension as its makers write it today: settings between many other things, each text a key of `package.nls.json`.
/// `configuration` is what its one or more groups of settings are.
fn whole_package(configuration: &str) -> String {
    format!(
        "{{\n\t\"name\": \"open-collaboration-tools\",\n\t\"displayName\": \"%displayName%\",\n\t\"version\": \"0.3.6\",\n\
         \t\"publisher\": \"typefox\",\n\t\"description\": \"%oct.serverUrl% – “live”, über \\u0022all\\u0022\",\n\
         \t\"engines\": {{ \"node\": \">=20\", \"vscode\": \"^1.73.0\" }},\n\t\"l10n\": \"./l10n\",\n\t\"contributes\": {{\n\
         \t\t\"menus\": {{ \"commandPalette\": [{{ \"command\": \"oct.serverUrl\", \"when\": \"oct.connection && !a\" }}] }},\n\
         \t\t\"configuration\": {configuration},\n\
         \t\t\"colors\": [{{ \"id\": \"oct.user\", \"defaults\": {{ \"default\": \"https://elsewhere/\" }} }}]\n\t}},\n\
         \t\"scripts\": {{ \"default\": \"https://elsewhere/\" }}\n}}\n"
    )
}

#[test]
fn a_whole_extension_is_changed_in_its_one_setting_alone() {
    let fixture = Fixture::new("server_url = \"https://edge.example\"\n");
    let setting = |url: &str| {
        format!(
            "{{ \"title\": \"%title%\", \"properties\": {{\n\
             \"oct.alwaysAsk\": {{ \"type\": \"boolean\", \"default\": true, \"description\": \"%oct.alwaysAsk%\" }},\n\
             \"oct.serverUrl\": {{ \"description\": \"%oct.serverUrl%\", \"type\": \"string\", \"default\": \"{url}\" }},\n\
             \"oct.webClientUrl\": {{ \"default\": \"https://elsewhere/?room=${{roomId}}\" }},\n\
             \"oct.allowlist\": {{ \"type\": \"array\", \"items\": {{ \"type\": \"string\" }}, \"default\": [] }} }} }}"
        )
    };
    let other = "{ \"title\": \"Other\", \"properties\": { \"oct.joinAcceptMode\": { \"enum\": [\"a\"], \"default\": \"a\" } } }";
    let as_object = |url: &str| whole_package(&setting(url));
    let as_array = |url: &str| whole_package(&format!("[\n{other},\n{}\n]", setting(url)));
    let translations = "{ \"displayName\": \"Open Collaboration Tools\", \"oct.serverUrl\": \"https://elsewhere/\" }";
    for package in [&as_object as &dyn Fn(&str) -> String, &as_array] {
        let given = package("https://elsewhere/");
        let nls = "extension/package.nls.json";
        let added =
            fixture.add(&[("extension.vsixmanifest", "<PackageManifest/>"), (nls, translations), (PACKAGE, &given)]);
        let added = added.unwrap();
        let about = &added.artifacts[0].about;
        assert_eq!((about.id.as_str(), about.version.as_str()), ("typefox.open-collaboration-tools", "0.3.6"));
        assert_eq!(about.name, "Open Collaboration Tools");
        let place = fixture.place(paths(&added)[0]);
        assert_eq!(packed(&place, PACKAGE), package("https://edge.example"));
        assert_eq!(packed(&place, nls), translations);
    }
}

#[test]
fn without_a_public_url_such_an_extension_is_not_added_by_mistake() {
    let fixture = Fixture::new("");
    assert!(matches!(fixture.add(&[(PACKAGE, OCT)]), Err(AddError::NoServerUrl)));
    assert_eq!(fixture.catalog(), [] as [&str; 0]);
    assert!(fixture.add_kept(&[(PACKAGE, OCT)], KeptDefault::Yes).is_ok());
}

#[test]
fn a_plugin_keeps_its_form() {
    let fixture = Fixture::new("");
    let descriptor = "<idea-plugin><id>p</id><version>3.1</version></idea-plugin>";
    let added = fixture.add(&[("META-INF/plugin.xml", descriptor)]).unwrap();
    assert_eq!(paths(&added), ["intellij/codetogether-onpremises-3.1.jar"]);
}

#[test]
fn an_update_site_takes_the_place_of_the_one_before() {
    let fixture = Fixture::new("");
    let core = "plugins/com.genuitec.eclipse.codetogether.core_";
    let first = fixture.add(&[("content.jar", ""), (&format!("{core}1.0.jar"), ""), (".git/config", "")]).unwrap();
    assert_eq!((paths(&first), first.replaced), (vec![&*format!("eclipse/{core}1.0.jar")], false));
    assert!(!fixture.place("eclipse/.git").exists());
    let second = fixture.add(&[("site/content.xml", "c"), (&format!("site/{core}2.0.jar"), "")]).unwrap();
    assert_eq!((paths(&second), second.replaced), (vec![&*format!("eclipse/{core}2.0.jar")], true));
    assert_eq!(fixture.catalog(), [format!("eclipse/{core}2.0.jar")]);
    assert!(!fixture.place("eclipse/content.jar").exists());
    assert_eq!(fixture.hidden(), [] as [PathBuf; 0]);
}

#[test]
fn an_archive_that_leads_out_of_itself_changes_nothing() {
    let fixture = Fixture::new("");
    fixture.add(&[("content.jar", "before")]).unwrap();
    for astray in ["../out", "plugins/../../out", "/out", "a\\..\\out"] {
        let result = fixture.add(&[("content.jar", "after"), (astray, "")]);
        assert!(matches!(result, Err(AddError::Astray(_))), "{astray}: {result:?}");
    }
    assert_eq!(fs::read_to_string(fixture.place("eclipse/content.jar")).unwrap(), "before");
    assert!(!fixture.place("out").exists());
    assert_eq!(fixture.hidden(), [] as [PathBuf; 0]);
}

#[test]
fn what_is_no_client_or_too_large_is_refused() {
    let fixture = Fixture::new("[portal.limits]\nclient_bytes_max = \"1MiB\"\nclient_files_max = 2\n");
    let error = fixture.add(&[("readme", "")]).unwrap_err().to_string();
    assert!(error.contains("is no client") && error.contains(".vsix"), "{error}");
    let large = "x".repeat(2 << 20);
    let error = fixture.add(&[("content.jar", &large)]).unwrap_err().to_string();
    assert!(error.contains("portal.limits.client_bytes_max"), "{error}");
    let error = fixture.add(&[("content.jar", ""), ("b", ""), ("c", "")]).unwrap_err().to_string();
    assert!(error.contains("portal.limits.client_files_max"), "{error}");
    let text = fixture.folder.path().join("text.vsix");
    fs::write(&text, "text").unwrap();
    for wrong in [&text, &fixture.folder.path().join("none"), &fixture.folder.path().to_owned()] {
        assert!(add(wrong, &fixture.settings, KeptDefault::No).is_err(), "{}", wrong.display());
    }
}
