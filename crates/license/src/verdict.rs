//! What a license is worth on this day at this server.

use std::fmt;

use crate::day::Day;
use crate::fields::Malformed;
use crate::key::PublicKey;
use crate::license::License;
use crate::terms::{Locator, Terms};

/// Seats of a server without a license: enough to try it with a team.
pub const EVALUATION_SEATS: u32 = 25;

/// From how many days before the end on an operator is warned.
pub const WARNING_DAYS: u32 = 30;

/// What the sources of a license gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// None of them has a license.
    Nothing,
    /// The first that has one.
    License(License),
    /// The first that has one has it written wrong, or cannot be read.
    Malformed(Malformed),
}

/// What a license is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is good.
    Valid {
        /// What it says.
        terms: Terms,
        /// Whole days that follow this one; 0 on the last day.
        days_left: u32,
    },
    /// There is none: [`EVALUATION_SEATS`] for trying the server.
    Evaluation,
    /// Its last day is over.
    Expired {
        /// What it says.
        terms: Terms,
    },
    /// Another key signed it, or something of it was changed.
    Forged,
    /// It is written wrong.
    Malformed(Malformed),
    /// It is for another server.
    OtherLocator {
        /// What it says.
        terms: Terms,
        /// The host that the locator names.
        licensed: String,
        /// The host of this server's public URL, where one is set.
        host: Option<String>,
    },
    /// There is a license, but no public key to verify it with.
    Unverifiable,
}

/// Judges what was `found` with the public key of whoever sells licenses, at the server whose public URL has `host`.
#[must_use]
pub fn judge(found: &Found, key: Option<&PublicKey>, host: Option<&str>, today: Day) -> Verdict {
    let license = match found {
        Found::Nothing => return Verdict::Evaluation,
        Found::Malformed(malformed) => return Verdict::Malformed(malformed.clone()),
        Found::License(license) => license,
    };
    let Some(key) = key else { return Verdict::Unverifiable };
    if !license.is_signed_by(key) {
        return Verdict::Forged;
    }
    let terms = license.terms().clone();
    if let Locator::Host(licensed) = terms.locator()
        && !terms.locator().allows(host)
    {
        let licensed = licensed.clone();
        return Verdict::OtherLocator { terms, licensed, host: host.map(str::to_owned) };
    }
    match u32::try_from(terms.expiration().since(today)) {
        Ok(days_left) => Verdict::Valid { terms, days_left },
        Err(_) => Verdict::Expired { terms },
    }
}

impl Verdict {
    /// Whether new sessions may begin.
    #[must_use]
    pub fn allows_sessions(&self) -> bool {
        matches!(self, Self::Valid { .. } | Self::Evaluation)
    }

    /// Simultaneous connections. Sessions that run go on under any verdict, within the seats that somebody did sign; of
    /// what nobody signed not even the number is believed.
    #[must_use]
    pub fn seats(&self) -> u32 {
        self.terms().map_or(EVALUATION_SEATS, Terms::connections_max)
    }

    /// What a genuine license says.
    #[must_use]
    pub fn terms(&self) -> Option<&Terms> {
        match self {
            Self::Valid { terms, .. } | Self::Expired { terms } | Self::OtherLocator { terms, .. } => Some(terms),
            Self::Evaluation | Self::Forged | Self::Malformed(_) | Self::Unverifiable => None,
        }
    }

    /// Whether the end is so near that an operator is warned.
    #[must_use]
    pub fn ends_soon(&self) -> bool {
        matches!(self, Self::Valid { days_left, .. } if *days_left <= WARNING_DAYS)
    }

    /// One word for metrics, health reports and programs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Valid { .. } => "valid",
            Self::Evaluation => "evaluation",
            Self::Expired { .. } => "expired",
            Self::Forged => "forged",
            Self::Malformed(_) => "malformed",
            Self::OtherLocator { .. } => "other-locator",
            Self::Unverifiable => "unverifiable",
        }
    }

    /// All words of [`Self::as_str`].
    pub const WORDS: [&'static str; 7] =
        ["valid", "evaluation", "expired", "forged", "malformed", "other-locator", "unverifiable"];
}

impl fmt::Display for Verdict {
    /// One line for the operator: what it is, and what to do.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid { terms, days_left } => write!(
                formatter,
                "the license is valid for {} connections to the end of {} UTC, {}",
                terms.connections_max(),
                terms.expiration(),
                match days_left {
                    0 => "which is today".to_owned(),
                    1 => "1 day from today".to_owned(),
                    days => format!("{days} days from today"),
                }
            ),
            Self::Evaluation => {
                write!(formatter, "there is no license: this is an evaluation with {EVALUATION_SEATS} connections")
            }
            Self::Expired { terms } => {
                write!(formatter, "the license has expired: its last day was {} UTC; renew it", terms.expiration())
            }
            Self::Forged => formatter.write_str(
                "the license is forged: its signature does not fit what it says; take it over as it was issued",
            ),
            Self::Malformed(malformed) => write!(formatter, "the license cannot be read: {malformed}"),
            Self::OtherLocator { licensed, host: Some(host), .. } => write!(
                formatter,
                "the license is for another server: for {licensed}, but CT_SERVER_URL (server_url) has the host {host}"
            ),
            Self::OtherLocator { licensed, host: None, .. } => write!(
                formatter,
                "the license is for the server {licensed}: set CT_SERVER_URL (server_url) to its public URL"
            ),
            Self::Unverifiable => formatter.write_str(
                "the license cannot be verified: no public key is built in and CTEDGE_LICENSE_PUBLIC_KEY \
                 (license.public_key) is not set",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;

    fn key() -> PrivateKey {
        PrivateKey::from_random(&[3; 32])
    }

    fn found(expiration: &str, locator: &str) -> Found {
        let (expiration, locator) = (expiration.parse().unwrap(), locator.parse().unwrap());
        Found::License(License::sign(Terms::new("Example Corp", 250, expiration, locator).unwrap(), &key()))
    }

    fn check(found: &Found, host: Option<&str>, today: &str, word: &str, line: &str) -> Verdict {
        let verdict = judge(found, Some(&key().public_key()), host, today.parse().unwrap());
        assert_eq!((verdict.as_str(), verdict.to_string().as_str()), (word, line));
        assert!(Verdict::WORDS.contains(&word));
        verdict
    }

    #[test]
    fn a_license_is_valid_to_the_end_of_its_last_day() {
        let license = found("2026/11/24", "none");
        let line = "the license is valid for 250 connections to the end of 2026/11/24 UTC, which is today";
        assert_eq!(check(&license, None, "2026/11/24", "valid", line).seats(), 250);
        let line = "the license has expired: its last day was 2026/11/24 UTC; renew it";
        let expired = check(&license, None, "2026/11/25", "expired", line);
        assert!(!expired.allows_sessions());
        assert_eq!(expired.seats(), 250, "what runs goes on within what was signed");
    }

    #[test]
    fn an_operator_is_warned_from_thirty_days_before_the_end() {
        let verdict =
            |today: &str| judge(&found("2026/12/31", "none"), Some(&key().public_key()), None, today.parse().unwrap());
        assert!(!verdict("2026/11/30").ends_soon());
        assert!(verdict("2026/12/01").ends_soon());
        assert!(verdict("2026/12/31").ends_soon());
        assert!(!verdict("2027/01/01").ends_soon(), "what has ended is no longer to end");
    }

    #[test]
    fn a_license_for_another_server_names_both() {
        let license = found("2027/12/31", "edge.example.com");
        let line = "the license is for another server: for edge.example.com, but CT_SERVER_URL (server_url) has the host other.example.com";
        check(&license, Some("other.example.com"), "2026/11/24", "other-locator", line);
        let line = "the license is for the server edge.example.com: set CT_SERVER_URL (server_url) to its public URL";
        check(&license, None, "2026/11/24", "other-locator", line);
        let line = "the license is valid for 250 connections to the end of 2027/12/31 UTC, 402 days from today";
        check(&license, Some("EDGE.example.com"), "2026/11/24", "valid", line);
    }

    #[test]
    fn a_forged_number_of_seats_is_not_believed() {
        let license = found("2027/12/31", "none");
        let other = PrivateKey::from_random(&[4; 32]).public_key();
        let verdict = judge(&license, Some(&other), None, "2026/11/24".parse().unwrap());
        assert_eq!((&verdict, verdict.seats(), verdict.allows_sessions()), (&Verdict::Forged, EVALUATION_SEATS, false));
    }

    #[test]
    fn a_server_without_a_license_is_an_evaluation() {
        let line = "there is no license: this is an evaluation with 25 connections";
        let verdict = check(&Found::Nothing, None, "2026/11/24", "evaluation", line);
        assert_eq!((verdict.seats(), verdict.allows_sessions()), (25, true));
    }

    #[test]
    fn a_license_without_a_key_is_no_evaluation() {
        let verdict = judge(&found("2027/12/31", "none"), None, None, "2026/11/24".parse().unwrap());
        assert_eq!((&verdict, verdict.allows_sessions()), (&Verdict::Unverifiable, false));
        assert!(verdict.to_string().contains("CTEDGE_LICENSE_PUBLIC_KEY"));
    }

    #[test]
    fn a_malformed_license_says_where() {
        let malformed = Found::Malformed(Malformed::new("CT_EXPIRATION", "is missing"));
        let line = "the license cannot be read: CT_EXPIRATION: is missing";
        check(&malformed, None, "2026/11/24", "malformed", line);
    }
}
