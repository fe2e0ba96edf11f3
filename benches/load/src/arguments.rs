//! What all scenarios take from the command line.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use crate::endpoint::parse_header;
use crate::processes::ServerArguments;

/// Options of every scenario.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// How long to measure, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) duration: Duration,
    /// The header of answers that names the node
    #[arg(long, value_name = "NAME", default_value = "x-ctedge-node")]
    pub(crate) node_header: String,
    /// A further header for every request, NAME: VALUE; may be repeated
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// Take any certificate; required for HTTPS, because the tool has no roots to verify one with
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerArguments,
}

impl Common {
    /// The further headers as lines of a request's head.
    pub(crate) fn header_lines(&self) -> Result<String> {
        let mut lines = String::new();
        for header in &self.headers {
            let (name, value) = parse_header(header)?;
            lines.push_str(&format!("{name}: {value}\r\n"));
        }
        Ok(lines)
    }
}

/// A duration as seconds with or without a fraction. Bounded, because every run must end.
pub(crate) fn seconds(text: &str) -> Result<Duration> {
    let seconds: f64 = text.parse()?;
    ensure!((0.0..=86_400.0).contains(&seconds), "a duration is between 0 s and a day");
    Ok(Duration::from_secs_f64(seconds))
}
