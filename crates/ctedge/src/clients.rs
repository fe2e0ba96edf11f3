//! `ctedge clients`: what the edge offers for download.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use ctedge_portal::clients::{Added, Artifact, Catalog, KeptDefault, add};
use ctedge_settings::PortalSettings;
use serde_json::json;

use crate::place::EdgeOptions;
use crate::table::table;

#[derive(Debug, Subcommand)]
pub(crate) enum ClientsCommand {
    /// Put a client into its place, for everybody to download at /clients
    ///
    /// Takes a .vsix extension of VS Code, a plugin of IntelliJ (.zip or .jar), or a zipped update site of Eclipse, which takes the
    /// place of the one before. An extension of the Open Collaboration Tools gets this server's public URL (server_url,
    /// CT_SERVER_URL) as the server that it connects to without being told.
    Add {
        /// The client
        file: PathBuf,
        /// Leave the server that the extension names as it is
        #[arg(long)]
        keep_server: bool,
        #[command(flatten)]
        place: ClientsOptions,
    },
    /// Show what there is
    List(ClientsOptions),
}

#[derive(Debug, Args)]
pub(crate) struct ClientsOptions {
    #[command(flatten)]
    edge: EdgeOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs one of the commands.
pub(crate) fn run(command: ClientsCommand) -> anyhow::Result<ExitCode> {
    let text = match command {
        ClientsCommand::Add { file, keep_server, place } => {
            let kept = if keep_server { KeptDefault::Yes } else { KeptDefault::No };
            let settings = settings(&place)?;
            let added = add(&file, &settings, kept)?;
            if place.json { format!("{:#}\n", json!(added)) } else { said(&added, &settings) }
        }
        ClientsCommand::List(place) => {
            let settings = settings(&place)?;
            let catalog = Catalog::read(&settings.clients_folder, settings.limits.client_files_max);
            if place.json { format!("{:#}\n", json!(catalog.artifacts)) } else { listed(&catalog, &settings) }
        }
    };
    // Whoever reads may stop reading, like `head`.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn settings(options: &ClientsOptions) -> anyhow::Result<PortalSettings> {
    Ok(options.edge.find()?.expect_folder()?.portal())
}

fn said(added: &Added, settings: &PortalSettings) -> String {
    let mut text = String::new();
    for Artifact { ide, path, about, .. } in &added.artifacts {
        let place = settings.clients_folder.join(path);
        text.push_str(&format!("{} {} for {} is at {}\n", about.id, about.version, ide.name(), place.display()));
    }
    if added.artifacts.is_empty() {
        text.push_str("the update site is in its place, but no bundle or feature lies in it\n");
    }
    if added.replaced {
        text.push_str("it took the place of what was there before\n");
    }
    if let Some(server) = &added.default_server {
        text.push_str(&format!("it connects to {server} without being told\n"));
    }
    if !settings.clients {
        text.push_str("downloads are switched off: portal.clients is false, or CT_NOCLIENTS is set\n");
    }
    text
}

fn listed(catalog: &Catalog, settings: &PortalSettings) -> String {
    if catalog.artifacts.is_empty() && catalog.unfit.is_empty() {
        return format!("no clients in {}\n", settings.clients_folder.display());
    }
    let row = |artifact: &Artifact| {
        let Artifact { ide, path, bytes, about } = artifact;
        vec![ide.as_str().to_owned(), about.name.clone(), about.version.clone(), bytes.to_string(), path.clone()]
    };
    let rows: Vec<_> = catalog.artifacts.iter().map(row).collect();
    let mut text = table(&["IDE", "CLIENT", "VERSION", "BYTES", "FILE"], &rows);
    for (path, reason) in &catalog.unfit {
        text.push_str(&format!("{path} is no client: {reason}\n"));
    }
    text
}
