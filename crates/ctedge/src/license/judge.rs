//! `ctedge license verify` and `ctedge license show`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use ctedge_license::{Day, Field, FileKind, Found, Verdict, judge};
use ctedge_node::license::source::{Reading, find, find_in_file};
use serde_json::json;

use super::arguments::{Format, JudgeOptions};

/// A license that is not valid. Distinct from 1, so that a script can tell it from a command that failed.
const NOT_VALID: u8 = 3;

/// `ctedge license verify`
pub(super) fn verify(options: JudgeOptions) -> anyhow::Result<ExitCode> {
    let json = options.json;
    let judged = Judged::of(options)?;
    if json {
        println!("{:#}", judged.json());
    } else {
        println!("{}", judged.verdict);
    }
    Ok(match judged.verdict {
        Verdict::Valid { .. } => ExitCode::SUCCESS,
        _ => ExitCode::from(NOT_VALID),
    })
}

/// `ctedge license show`
pub(super) fn show(options: JudgeOptions) -> anyhow::Result<ExitCode> {
    let json = options.json;
    let judged = Judged::of(options)?;
    if json {
        println!("{:#}", judged.json());
    } else {
        print!("{}", judged.text());
    }
    Ok(ExitCode::SUCCESS)
}

/// A license with what it is worth.
struct Judged {
    reading: Reading,
    verdict: Verdict,
    /// The files that it was looked for in, without one that was named.
    places: [PathBuf; 2],
}

impl Judged {
    fn of(options: JudgeOptions) -> anyhow::Result<Self> {
        let place = options.edge.find()?;
        let (settings, reading) = match &options.file {
            Some(path) => (place.settings.license(), read_file(path, options.format)?),
            None => {
                let settings = place.expect_visible()?.license();
                let reading = find(&settings);
                (settings, reading)
            }
        };
        let key = match options.public_key {
            Some(key) => Some(key.parse().context("--public-key")?),
            None => super::public_key(settings.public_key)?,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock says a time before 1970")?;
        let verdict = judge(&reading.found, key.as_ref(), settings.host.as_deref(), Day::at(now));
        let places = [settings.file, settings.config];
        Ok(Self { reading, verdict, places })
    }

    /// What it says, believed or not.
    fn fields(&self) -> Vec<(Field, String)> {
        let Found::License(license) = &self.reading.found else { return Vec::new() };
        // The signature is worth money and tells a person nothing.
        let shown = Field::ALL.into_iter().filter(|field| *field != Field::Signature);
        shown.map(|field| (field, license.value(field))).collect()
    }

    fn json(&self) -> serde_json::Value {
        let fields = self.fields().into_iter().map(|(field, value)| (field.property().to_owned(), value.into()));
        let days_left = match &self.verdict {
            Verdict::Valid { days_left, .. } => Some(*days_left),
            _ => None,
        };
        json!({
            "verdict": self.verdict.as_str(),
            "message": self.verdict.to_string(),
            "allows_sessions": self.verdict.allows_sessions(),
            "seats": self.verdict.seats(),
            "days_left": days_left,
            "ends_soon": self.verdict.ends_soon(),
            "source": self.reading.source,
            "license": serde_json::Value::Object(fields.collect()),
        })
    }

    fn text(&self) -> String {
        let line = |name: &str, value: &str| format!("{name:<15} {value}\n");
        let source = self.reading.source.clone().unwrap_or_else(|| {
            let [file, config] = self
                .places
                .each_ref()
                .map(|place| std::path::absolute(place).unwrap_or_else(|_| place.clone()).display().to_string());
            format!("none, neither {file} nor {config}")
        });
        let mut text = line("source", &source);
        for (field, value) in self.fields() {
            text.push_str(&line(field.property(), &value));
        }
        text + &line("verdict", &self.verdict.to_string())
    }
}

fn read_file(path: &Path, format: Option<Format>) -> anyhow::Result<Reading> {
    if !path.exists() {
        bail!("{} is not there", path.display());
    }
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let kind = match format {
        Some(Format::Shell) => FileKind::Shell,
        None if ["config", "env", "sh"].contains(&extension) => FileKind::Shell,
        _ => FileKind::Properties,
    };
    Ok(Reading { found: find_in_file(path, kind), source: Some(path.display().to_string()) })
}
