//! Puts a client into its place in the clients folder, named so that the operators' counts of the access log find it.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ctedge_settings::{PortalLimits, PortalSettings};
use serde::Serialize;
use tempfile::NamedTempFile;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::about::About;
use super::archive::{Archive, Unfit, unfit};
use super::catalog::Artifact;
use super::vscode::{PACKAGE, with_server};
use super::{intellij, site, vscode};
use crate::ide::Ide;

/// How the names of plugins and extensions begin, for the documented counts of downloads.
const NAME: &str = "codetogether-onpremises-";

/// Everybody may read what everybody may download.
pub(super) const FILE_MODE: u32 = 0o644;

/// The same for folders.
pub(super) const FOLDER_MODE: u32 = 0o755;

/// What was added.
#[derive(Debug, Clone, Serialize)]
pub struct Added {
    /// The client, in its place. Of an update site, the files that stand for it.
    pub artifacts: Vec<Artifact>,
    /// Whether something else was in that place.
    pub replaced: bool,
    /// The server that the client connects to without being told, if that was written into it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_server: Option<String>,
}

/// Whether an extension of the Open Collaboration Tools keeps the server that its maker put into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptDefault {
    /// It gets this edge's public URL instead.
    No,
    /// It does.
    Yes,
}

/// Why a file was not added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// There is no such file, or it may not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error(
        "{} is no client: {reason}; clients are .vsix extensions of VS Code, plugins of IntelliJ (.zip or .jar with \
         META-INF/plugin.xml) and zipped update sites of Eclipse (with content.jar or content.xml)",
        path.display()
    )]
    NoClient {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        reason: Unfit,
    },
    /// It is larger than the settings allow.
    #[error("{} has more than {max} {what} (portal.limits.{setting})", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Of what it has too many.
        what: &'static str,
        /// How many it may have.
        max: u64,
        /// The setting that says so.
        setting: &'static str,
    },
    /// The extension should connect to this edge, whose URL is not known.
    #[error(
        "the extension is to connect to this server, but its public URL is not set: set server_url (CT_SERVER_URL), or \
         keep the server that the extension names with --keep-server"
    )]
    NoServerUrl,
    /// The archive names a file outside itself.
    #[error("the archive names a file that lies outside of it or is no plain file: {0:?}")]
    Astray(String),
    /// It could not be put in its place.
    #[error("cannot write to {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Adds the client in `file` to the clients folder of `settings`. Whoever looks at the folder meanwhile sees what was there
/// before, or the whole client.
pub fn add(file: &Path, settings: &PortalSettings, kept: KeptDefault) -> Result<Added, AddError> {
    let limits = &settings.limits;
    check_size(file, limits)?;
    let no_client = |reason| AddError::NoClient { path: file.to_owned(), reason };
    let mut archive = Archive::open(file).map_err(no_client)?;
    check_archive(file, &archive, limits)?;
    let names = archive.names();
    if names.iter().any(|name| name == PACKAGE) {
        let about = vscode::read(&mut archive).map_err(no_client)?;
        let package = changed_package(file, &mut archive, settings, kept)?;
        let default_server = package.as_ref().and(settings.server_url.as_ref()).map(|url| url.as_str().to_owned());
        let added = Added {
            default_server,
            ..place(Ide::VsCode, about, "vsix", settings, |target| match &package {
                Some(package) => rewrite(&mut archive, package, target),
                None => copy(file, target),
            })?
        };
        return Ok(added);
    }
    if let Some(top) = site::top_of(&names) {
        return site::unpack(file, archive, &top, settings);
    }
    let about = intellij::read(&mut archive).map_err(no_client)?;
    // A plugin that is a jar itself has its descriptor at the top.
    let ending = if names.iter().any(|name| name == intellij::DESCRIPTOR) { "jar" } else { "zip" };
    place(Ide::IntelliJ, about, ending, settings, |target| copy(file, target))
}

fn check_size(file: &Path, limits: &PortalLimits) -> Result<(), AddError> {
    let refused = |source| AddError::Read { path: file.to_owned(), source };
    let metadata = fs::metadata(file).map_err(refused)?;
    if !metadata.is_file() {
        return Err(refused(io::Error::other("it is no file; an update site is added as a zip")));
    }
    if metadata.len() > limits.client_bytes_max { Err(too_many_bytes(file, limits)) } else { Ok(()) }
}

fn check_archive<R: Read + Seek>(file: &Path, archive: &Archive<R>, limits: &PortalLimits) -> Result<(), AddError> {
    if archive.zip.len() > limits.client_files_max {
        let max = limits.client_files_max as u64;
        let setting = "client_files_max";
        return Err(AddError::TooLarge { path: file.to_owned(), what: "files", max, setting });
    }
    // What it says of itself, for an early answer; what is unpacked is counted again.
    let unpacked = archive.zip.decompressed_size().unwrap_or_default();
    if unpacked > u128::from(limits.client_bytes_max) { Err(too_many_bytes(file, limits)) } else { Ok(()) }
}

pub(super) fn too_many_bytes(file: &Path, limits: &PortalLimits) -> AddError {
    let (max, setting) = (limits.client_bytes_max, "client_bytes_max");
    AddError::TooLarge { path: file.to_owned(), what: "bytes", max, setting }
}

/// The description of an extension that has a setting for its server, with this edge in it.
fn changed_package<R: Read + Seek>(
    file: &Path,
    archive: &mut Archive<R>,
    settings: &PortalSettings,
    kept: KeptDefault,
) -> Result<Option<String>, AddError> {
    if kept == KeptDefault::Yes {
        return Ok(None);
    }
    let no_client = |reason| AddError::NoClient { path: file.to_owned(), reason };
    let package = archive.text(PACKAGE).map_err(no_client)?.unwrap_or_default();
    let url = settings.server_url.as_ref().map_or("", |url| url.as_str());
    let changed = with_server(&package, url).map_err(no_client)?;
    if changed.is_some() && url.is_empty() { Err(AddError::NoServerUrl) } else { Ok(changed) }
}

/// Writes a file by `write` and moves it to the place of the client `about`.
fn place(
    ide: Ide,
    about: About,
    ending: &str,
    settings: &PortalSettings,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<Added, AddError> {
    let folder = settings.clients_folder.join(ide.as_str());
    let failed = |source| AddError::Write { path: folder.clone(), source };
    make_folder(&folder, settings).map_err(failed)?;
    // A name with a dot is not served.
    let mut draft = tempfile::Builder::new().prefix(".adding-").tempfile_in(&folder).map_err(failed)?;
    write(draft.as_file_mut()).map_err(failed)?;
    let name = name(&folder, ide, &about, ending);
    let replaced = folder.join(&name).exists();
    let bytes = settle(draft, &folder.join(&name)).map_err(failed)?;
    let path = format!("{}/{name}", ide.as_str());
    Ok(Added { artifacts: vec![Artifact { ide, path, bytes, about }], replaced, default_server: None })
}

/// Makes `folder`, which is the clients folder or below it, where it is missing, readable for all whatever the umask is: what runs
/// the edge may be another user. What is missing above it is for the user alone who makes it, as a data folder is.
pub(super) fn make_folder(folder: &Path, settings: &PortalSettings) -> io::Result<()> {
    let is_ours = |folder: &&Path| folder.starts_with(&settings.clients_folder) && !folder.exists();
    let missing: Vec<_> = folder.ancestors().take_while(is_ours).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    missing.into_iter().try_for_each(|folder| fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE)))
}

/// Moves the draft to its place, readable for all.
fn settle(draft: NamedTempFile, place: &Path) -> io::Result<u64> {
    draft.as_file().set_permissions(Permissions::from_mode(FILE_MODE))?;
    draft.as_file().sync_all()?;
    let bytes = draft.as_file().metadata()?.len();
    draft.persist(place)?;
    Ok(bytes)
}

/// `codetogether-onpremises-VERSION.ENDING`; with the id in it where another client has that name.
fn name(folder: &Path, ide: Ide, about: &About, ending: &str) -> String {
    let platform = about.platform.as_ref().map(|platform| format!("-{platform}")).unwrap_or_default();
    let version = plain(&format!("{}{platform}", about.version));
    let short = format!("{NAME}{version}.{ending}");
    match About::read(ide, &folder.join(&short)) {
        Ok(other) if other.id != about.id => format!("{NAME}{}-{version}.{ending}", plain(&about.id)),
        _ => short,
    }
}

/// What stands in URLs and on command lines without any quoting.
fn plain(text: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "._+-".contains(character);
    text.chars().map(|character| if is_plain(character) { character } else { '_' }).collect()
}

fn copy(from: &Path, to: &mut File) -> io::Result<()> {
    io::copy(&mut File::open(from)?, to).map(|_| ())
}

/// Copies an extension with another description of itself. All else is copied as it is packed.
fn rewrite(archive: &mut Archive<BufReader<File>>, package: &str, to: &mut File) -> io::Result<()> {
    let mut writer = ZipWriter::new(BufWriter::new(to));
    for index in 0..archive.zip.len() {
        let entry = archive.zip.by_index_raw(index)?;
        if entry.name().ok().as_deref() != Some(PACKAGE) {
            writer.raw_copy_file(entry)?;
            continue;
        }
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        let modified = entry.last_modified();
        drop(entry);
        writer.start_file(PACKAGE, modified.map_or(options, |time| options.last_modified_time(time)))?;
        writer.write_all(package.as_bytes())?;
    }
    writer.finish().map_err(|error| io::Error::other(unfit(error)))?.flush()
}
