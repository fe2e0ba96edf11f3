//! Which protocol versions understand each other.

/// The version that this server speaks; it stands in `/api/meta` and in every message of the server.
pub const PROTOCOL_VERSION: &str = "0.3.1";

/// Our own version, as numbers.
const OWN: (u64, u64) = (0, 3);

/// Whether a message of `version` can be understood: the same major and, below 1.0, the same minor version.
/// What is no version at all is not compatible.
#[must_use]
pub fn is_compatible(version: &str) -> bool {
    // Nearly every message carries exactly our version.
    version == PROTOCOL_VERSION || major_and_minor(version) == Some(OWN)
}

/// The first two numbers of a semantic version (<https://semver.org>), whose core has exactly three.
fn major_and_minor(version: &str) -> Option<(u64, u64)> {
    let core = version.split(['-', '+']).next()?;
    let mut parts = core.split('.').map(number);
    let (major, minor, patch) = (parts.next()??, parts.next()??, parts.next()?);
    (patch.is_some() && parts.next().is_none()).then_some((major, minor))
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: &str, expected: bool) {
        assert_eq!(is_compatible(version), expected, "{version:?}");
    }

    #[test]
    fn versions_of_the_same_minor_below_one_are_compatible() {
        check("0.3.1", true);
        check("0.3.0", true);
        check("0.3.99", true);
        check("0.3.2-beta.1+build", true);
        check("0.4.0", false);
        check("0.2.1", false);
        check("1.3.1", false);
    }

    #[test]
    fn what_is_no_version_is_not_compatible() {
        for version in ["", "0.3", "0.3.", "0.3.1.1", "0.3.x", "v0.3.1", "0.+3.1", "0.99999999999999999999.1"] {
            check(version, false);
        }
    }
}
