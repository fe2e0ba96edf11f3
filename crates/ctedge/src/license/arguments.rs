//! The options of `ctedge license`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::place::EdgeOptions;

#[derive(Debug, Subcommand)]
pub(crate) enum LicenseCommand {
    /// Make the pair of keys of whoever issues licenses
    ///
    /// Writes the private key into a file that nobody else may read, and prints the public key. The public key goes into
    /// the program when it is built (CTEDGE_LICENSE_PUBLIC_KEY) or, where none is built in, into the settings
    /// (license.public_key). Whoever has the private key can sign any license: keep it off every server.
    Keygen(KeygenOptions),
    /// Sign a license
    Sign(SignOptions),
    /// Say what a license is worth; ends with 0 if it is valid, with 3 if not
    Verify(JudgeOptions),
    /// Show what a license says, and what it is worth
    Show(JudgeOptions),
}

#[derive(Debug, Args)]
pub(crate) struct KeygenOptions {
    /// The file for the private key; it must not be there yet
    #[arg(long, value_name = "FILE", default_value = "license-private.key")]
    pub(crate) out: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SignOptions {
    /// The file of the private key
    #[arg(long, value_name = "FILE", default_value = "license-private.key")]
    pub(crate) key: PathBuf,
    /// Whom the license is given to
    #[arg(long, value_name = "NAME")]
    pub(crate) licensee: String,
    /// Simultaneous connections
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// The last day, to its end in UTC
    #[arg(long, value_name = "YYYY/MM/DD")]
    pub(crate) expiration: String,
    /// The host of the public URL of the server that it is for; none stands for any
    #[arg(long, value_name = "HOST", default_value = "none")]
    pub(crate) locator: String,
    /// How the file is written
    #[arg(long, value_enum, default_value = "properties")]
    pub(crate) format: Format,
    /// Where to write the license, in the place of what is there; standard output otherwise
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Java properties, like licensing.properties
    Properties,
    /// Shell assignments, like codetogether.config
    Shell,
}

#[derive(Debug, Args)]
pub(crate) struct JudgeOptions {
    /// The file of the license; without one, the license of the edge that runs here, or that one with these settings would find
    pub(crate) file: Option<PathBuf>,
    /// How the file is written [default: by its name, and properties for any but .config, .env and .sh]
    #[arg(long, value_enum, requires = "file")]
    pub(crate) format: Option<Format>,
    #[command(flatten)]
    pub(crate) edge: EdgeOptions,
    /// The public key to verify with [default: the one that is built in, or else that of the settings]
    #[arg(long, value_name = "KEY")]
    pub(crate) public_key: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
