//! The order of tags.

use std::cmp::Ordering;

use semver::Version;

use crate::clients::by_version;

/// Puts the newest version first (Semantic Versioning 2.0), and behind the versions whatever else there is, like `latest`.
pub(super) fn newest_first(tags: &mut [String]) {
    tags.sort_by(|one, other| match (version(one), version(other)) {
        (Some(one_version), Some(other_version)) => other_version.cmp(&one_version).then_with(|| one.cmp(other)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => by_version(other, one).then_with(|| one.cmp(other)),
    });
}

/// Whether the tag names the version `running`.
pub(super) fn is_same(tag: &str, running: &str) -> bool {
    tag == running || version(tag).is_some_and(|tag| Some(tag) == version(running))
}

/// Many repositories have a `v` before the version.
fn version(tag: &str) -> Option<Version> {
    Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_first_and_the_newest_before_all() {
        let mut tags =
            ["0.9.0", "latest", "v0.10.0", "0.10.0-rc.1", "1.0", "nightly", "0.10.1", "2"].map(str::to_owned).to_vec();
        newest_first(&mut tags);
        assert_eq!(tags, ["0.10.1", "v0.10.0", "0.10.0-rc.1", "0.9.0", "nightly", "latest", "2", "1.0"]);
    }

    #[test]
    fn a_version_is_known_with_and_without_the_letter_before_it() {
        assert!(is_same("0.1.0", "0.1.0") && is_same("v0.1.0", "0.1.0") && is_same("nightly", "nightly"));
        assert!(!is_same("0.1.0-rc.1", "0.1.0") && !is_same("latest", "0.1.0") && !is_same("0.1", "0.1.0"));
    }
}
