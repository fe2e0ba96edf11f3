//! What a license says, and the canonical form that is signed.

use std::fmt;
use std::str::FromStr;

use crate::day::{Day, NoDay};

/// Longer names of licensees are mistakes.
const LICENSEE_BYTES_MAX: usize = 256;

/// The longest host name (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// What was agreed with the licensee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    licensee: String,
    connections_max: u32,
    expiration: Day,
    locator: Locator,
}

/// Which server a license is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Locator {
    /// `none`: any server.
    Anywhere,
    /// The server whose public URL (`CT_SERVER_URL`) has this host, in lower case. The port and the path do not count.
    Host(String),
}

/// What a part of a license may not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TermFault {
    /// The licensee's name.
    #[error("a licensee has a name of one line and at most {LICENSEE_BYTES_MAX} bytes")]
    Licensee,
    /// The number of connections.
    #[error("{0:?} is no number of connections; write it like 250")]
    Connections(String),
    /// The last day.
    #[error(transparent)]
    Expiration(#[from] NoDay),
    /// The server.
    #[error("{0:?} is no locator; write the host of the server's URL, or none")]
    Locator(String),
}

impl Terms {
    /// Terms of these parts; only the licensee's name can be wrong.
    pub fn new(licensee: &str, connections_max: u32, expiration: Day, locator: Locator) -> Result<Self, TermFault> {
        let licensee = licensee.trim();
        let fits = (1..=LICENSEE_BYTES_MAX).contains(&licensee.len()) && !licensee.chars().any(char::is_control);
        if !fits {
            return Err(TermFault::Licensee);
        }
        if connections_max == 0 {
            return Err(TermFault::Connections("0".to_owned()));
        }
        Ok(Self { licensee: licensee.to_owned(), connections_max, expiration, locator })
    }

    /// Whom it was given to.
    #[must_use]
    pub fn licensee(&self) -> &str {
        &self.licensee
    }

    /// Simultaneous connections.
    #[must_use]
    pub fn connections_max(&self) -> u32 {
        self.connections_max
    }

    /// The last day, to its end in UTC.
    #[must_use]
    pub fn expiration(&self) -> Day {
        self.expiration
    }

    /// The server that it is for.
    #[must_use]
    pub fn locator(&self) -> &Locator {
        &self.locator
    }

    /// What is signed: UTF-8, one line for the form and its version, then one line a field. Before each value stands its
    /// length in bytes, so that no value can pose as the beginning of the next field.
    ///
    /// ```text
    /// ctedge license 1
    /// licensee 12 Example Corp
    /// maxconnections 3 250
    /// expiration 10 2027/12/31
    /// locator 4 none
    /// ```
    ///
    /// Every line ends with one line feed. A number has no zeros before it, a day has all of them, a host is in lower case,
    /// and no value has white space around it: two licenses that say the same have the same form.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut form = "ctedge license 1\n".to_owned();
        let values = [
            ("licensee", self.licensee.clone()),
            ("maxconnections", self.connections_max.to_string()),
            ("expiration", self.expiration.to_string()),
            ("locator", self.locator.to_string()),
        ];
        for (name, value) in values {
            form.push_str(&format!("{name} {} {value}\n", value.len()));
        }
        form
    }
}

/// Reads a number of connections, 1 at least.
pub(crate) fn connections(text: &str) -> Result<u32, TermFault> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten().filter(|number| *number > 0);
    number.ok_or_else(|| TermFault::Connections(text.to_owned()))
}

impl Locator {
    /// Whether it lets a server serve whose public URL has `host`; `None` is a server that has no public URL set.
    #[must_use]
    pub fn allows(&self, host: Option<&str>) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Host(licensed) => host.is_some_and(|host| host.eq_ignore_ascii_case(licensed)),
        }
    }
}

impl FromStr for Locator {
    type Err = TermFault;

    fn from_str(text: &str) -> Result<Self, TermFault> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self::Anywhere);
        }
        if (1..=HOST_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with(['.', '-']) {
            return Ok(Self::Host(text.to_ascii_lowercase()));
        }
        Err(TermFault::Locator(text.to_owned()))
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anywhere => formatter.write_str("none"),
            Self::Host(host) => formatter.write_str(host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_form_is_stable() {
        let locator = "Edge.Example.com".parse().unwrap();
        let terms = Terms::new(" Example Corp ", 250, "2027/1/31".parse().unwrap(), locator).unwrap();
        let form = "ctedge license 1\nlicensee 12 Example Corp\nmaxconnections 3 250\n\
                    expiration 10 2027/01/31\nlocator 16 edge.example.com\n";
        assert_eq!(terms.canonical(), form);
    }

    #[test]
    fn a_licensee_has_one_line() {
        let day = "2027/01/31".parse().unwrap();
        for wrong in ["", " ", "A\nlocator 4 none", "A\u{0}", &"x".repeat(257)] {
            assert_eq!(Terms::new(wrong, 1, day, Locator::Anywhere), Err(TermFault::Licensee), "{wrong:?}");
        }
    }

    #[test]
    fn connections_are_a_plain_number() {
        assert_eq!(connections("250"), Ok(250));
        for wrong in ["", "0", "-1", "+5", "1e3", "2 50", "4294967296", "٣"] {
            assert_eq!(connections(wrong), Err(TermFault::Connections(wrong.to_owned())));
        }
    }

    #[test]
    fn a_locator_is_compared_with_the_host_alone() {
        let host: Locator = "Edge.example.COM".parse().unwrap();
        assert!(host.allows(Some("edge.example.com")) && host.allows(Some("EDGE.example.com")));
        assert!(!host.allows(Some("example.com")) && !host.allows(None));
        let anywhere: Locator = "None".parse().unwrap();
        assert!(anywhere.allows(None) && anywhere.allows(Some("edge.example.com")));
        for wrong in ["", "https://edge.example.com", "a b", "edge/x", ".example.com", "é"] {
            assert!(wrong.parse::<Locator>().is_err(), "{wrong:?}");
        }
    }
}
