//! Terms with a signature.

use crate::fields::{Field, Fields, FileKind, Malformed};
use crate::key::{PrivateKey, PublicKey, Signature};
use crate::terms::{Locator, Terms, connections};
use crate::{properties, shell};

/// Terms with a signature, which may be of anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct License {
    terms: Terms,
    signature: Signature,
}

impl License {
    /// Signs `terms`.
    #[must_use]
    pub fn sign(terms: Terms, key: &PrivateKey) -> Self {
        let signature = key.sign(&terms.canonical());
        Self { terms, signature }
    }

    /// The license that `fields` write. The first fault in the order of the fields is told.
    pub fn read(fields: &Fields) -> Result<Self, Malformed> {
        let at = |field, problem: &dyn ToString| Malformed::new(fields.place(field), problem.to_string());
        let required = |field| fields.value(field).ok_or_else(|| at(field, &"is missing"));
        let licensee = required(Field::Licensee)?;
        let connections_max = connections(required(Field::MaxConnections)?);
        let connections_max = connections_max.map_err(|fault| at(Field::MaxConnections, &fault))?;
        let expiration = required(Field::Expiration)?.parse().map_err(|fault| at(Field::Expiration, &fault))?;
        let locator = fields.value(Field::Locator).map_or(Ok(Locator::Anywhere), str::parse);
        let locator = locator.map_err(|fault| at(Field::Locator, &fault))?;
        let signature = required(Field::Signature)?.parse().map_err(|fault| at(Field::Signature, &fault))?;
        let terms = Terms::new(licensee, connections_max, expiration, locator);
        Ok(Self { terms: terms.map_err(|fault| at(Field::Licensee, &fault))?, signature })
    }

    /// What it says. It is to be believed only once [`crate::judge`] has found it not to be forged.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Whether `key` signed it.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.verifies(&self.terms.canonical(), &self.signature)
    }

    /// The value of a field as it is written.
    #[must_use]
    pub fn value(&self, field: Field) -> String {
        match field {
            Field::Licensee => self.terms.licensee().to_owned(),
            Field::MaxConnections => self.terms.connections_max().to_string(),
            Field::Expiration => self.terms.expiration().to_string(),
            Field::Locator => self.terms.locator().to_string(),
            Field::Signature => self.signature.to_string(),
        }
    }

    /// The text of a file that holds it.
    #[must_use]
    pub fn write(&self, kind: FileKind) -> String {
        let line = |field: Field| match kind {
            FileKind::Properties => format!("{}={}\n", field.property(), properties::escape(&self.value(field))),
            FileKind::Shell => format!("export {}={}\n", field.variable(), shell::quote(&self.value(field))),
        };
        Field::ALL.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn signed(licensee: &str) -> License {
        let locator = "edge.example.com".parse().unwrap();
        let terms = Terms::new(licensee, 250, "2027/12/31".parse().unwrap(), locator).unwrap();
        License::sign(terms, &PrivateKey::from_random(&[1; 32]))
    }

    fn read_properties(text: &str) -> Result<License, Malformed> {
        License::read(&Fields::from_file("f", FileKind::Properties, text)?)
    }

    #[test]
    fn a_wrong_field_is_named_with_its_place() {
        let text = signed("Example Corp").write(FileKind::Properties);
        let check = |from: &str, to: &str, expected: &str| {
            let fault = read_properties(&text.replace(from, to)).unwrap_err().to_string();
            assert!(fault.starts_with(expected), "{fault}");
        };
        check("=250", "=lots", "f line 2 (maxconnections): \"lots\" is no number of connections");
        check("2027/12/31", "2027/02/29", "f line 3 (expiration): \"2027/02/29\" is no day");
        check("edge.example.com", "https://edge", "f line 4 (locator): \"https://edge\" is no locator");
        check("=v1.", "=v2.", "f line 5 (signature): this is no signature");
        check("signature", "sig", "f (signature): is missing");
        let variables = Fields::from_values(|field| (field != Field::Expiration).then(|| "1".to_owned()));
        assert_eq!(
            License::read(&variables).unwrap_err().to_string(),
            "CT_EXPIRATION (license.expiration): is missing"
        );
    }

    #[test]
    fn a_change_of_any_field_breaks_the_signature() {
        let key = PrivateKey::from_random(&[1; 32]).public_key();
        let text = signed("Example Corp").write(FileKind::Properties);
        assert!(read_properties(&text).unwrap().is_signed_by(&key));
        let changes =
            [("Corp", "Corq"), ("=250", "=251"), ("12/31", "12/30"), ("edge.", "fdge."), ("edge.example.com", "none")];
        for (from, to) in changes {
            assert!(!read_properties(&text.replace(from, to)).unwrap().is_signed_by(&key), "{from} to {to}");
        }
    }

    #[test]
    fn how_a_value_is_written_does_not_matter() {
        let key = PrivateKey::from_random(&[1; 32]).public_key();
        let text = signed("Example Corp").write(FileKind::Properties);
        let other =
            text.replace("=250", "   :  0250").replace("edge.example", "EDGE.Example").replace("Corp", "Corp\\t");
        assert!(read_properties(&other).unwrap().is_signed_by(&key));
    }

    proptest! {
        #[test]
        fn a_license_is_read_as_it_was_written(licensee in "\\PC{1,40}") {
            prop_assume!(!licensee.trim().is_empty() && !licensee.chars().any(char::is_control));
            let license = signed(&licensee);
            for kind in [FileKind::Properties, FileKind::Shell] {
                let fields = Fields::from_file("f", kind, &license.write(kind)).unwrap();
                prop_assert_eq!(License::read(&fields), Ok(license.clone()));
            }
            let fields = Fields::from_values(|field| Some(license.value(field)));
            prop_assert_eq!(License::read(&fields), Ok(license));
        }
    }
}
