//! `[license]`.

use std::path::PathBuf;

use ctedge_license::{Field, Fields, PublicKey};

use super::not_empty;
use crate::reader::{Reader, Section};
use crate::settled::LicenseSettings;
use crate::value::{Value, Written, quoted};

pub(super) fn license(reader: &mut Reader) -> LicenseSettings {
    let mut section = reader.section(
        "license",
        "The license. It is looked for here (and in the variables CT_LICENSEE, CT_MAXCONNECTIONS, CT_EXPIRATION, CT_LOCATOR and \
         CT_SIGNATURE), then in `file`, then in `config`; the first that has one counts. Both files are read again when they \
         change. Without a license the edge has 25 seats, for an evaluation.",
    );
    let values = Field::ALL.map(|field| value(&mut section, field));
    let file = section.read(
        "file",
        "A file of Java properties: licensee, maxconnections, expiration, locator, signature.",
        PathBuf::from("licensing.properties"),
        |path: &PathBuf| not_empty(path),
    );
    let config = section.read(
        "config",
        "A file of shell assignments, like export CT_LICENSEE=\"Example Corp\". It is read, not executed.",
        PathBuf::from("codetogether.config"),
        |path: &PathBuf| not_empty(path),
    );
    let public_key = section.any(
        "public_key",
        "The key that licenses are verified with, as `ctedge license keygen` prints it. It counts only where none is built \
         into the program. CTEDGE_LICENSE_PUBLIC_KEY overrides it.",
        None,
    );
    LicenseSettings {
        fields: Fields::from_values(|field| Some(values[field as usize].0.clone())),
        file,
        config,
        public_key,
        host: None,
    }
}

/// What is wrong in a license is told where licenses are judged: a server with a wrong one starts and says so.
fn value(section: &mut Section<'_>, field: Field) -> LicenseValue {
    let none = LicenseValue::default();
    match field {
        Field::Licensee => section.any("licensee", "Whom it was given to.", none),
        Field::MaxConnections => section.any("max_connections", "Simultaneous connections.", none),
        Field::Expiration => section.any("expiration", "The last day, like \"2027/12/31\", to its end in UTC.", none),
        Field::Locator => section.any(
            "locator",
            "The host of the public URL (server_url) that it is for; \"none\" and \"\" stand for any.",
            none,
        ),
        Field::Signature => section.any("signature", "The signature over the others.", none),
    }
}

/// A part of a license as text. A number may be written without quotes.
#[derive(Clone, Default)]
struct LicenseValue(String);

impl Written for LicenseValue {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) => Ok(Self(text.clone())),
            Value::Integer(number) => Ok(Self(number.to_string())),
            // The value itself stays out of the fault: it may be a signature.
            _ => Err("a part of a license stands in quotes".to_owned()),
        }
    }

    fn write(&self) -> String {
        quoted(&self.0)
    }
}

impl Written for PublicKey {
    fn read(value: &Value) -> Result<Self, String> {
        let text = String::read(value)?;
        text.parse().map_err(|fault| format!("{fault}"))
    }

    fn write(&self) -> String {
        quoted(&self.to_string())
    }
}
