//! The order of tags.

use crate::clients::by_version;

/// Puts the newest version first. A version is what begins with a number, whatever rule it keeps to; behind the versions
/// come other names, like `latest`, and last what tools keep beside an image under its digest.
pub(super) fn newest_first(tags: &mut [String]) {
    tags.sort_by(|one, other| {
        let kinds = kind(one).cmp(&kind(other));
        kinds.then_with(|| by_version(plain(other), plain(one))).then_with(|| one.cmp(other))
    });
}

/// Whether the tag names the version `running`.
pub(super) fn is_same(tag: &str, running: &str) -> bool {
    tag == running || (kind(tag) == Kind::Version && plain(tag) == plain(running))
}

/// What a tag is. The order of these is the order of tags.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Version,
    Name,
    /// `sha256-…`, of signatures and attestations (cosign's "Signature Storage Specification").
    Digest,
}

fn kind(tag: &str) -> Kind {
    if plain(tag).starts_with(|first: char| first.is_ascii_digit()) {
        Kind::Version
    } else if tag.starts_with("sha256-") {
        Kind::Digest
    } else {
        Kind::Name
    }
}

/// Many repositories have a `v` before the version.
fn plain(tag: &str) -> &str {
    tag.strip_prefix('v').filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit())).unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_first_and_the_newest_before_all() {
        let ordered = [
            "2025.10.1",
            "2025.01.1",
            "25.3",
            "v2",
            "1.0",
            "0.10.1",
            "v0.10.0",
            "0.10.0-rc.10",
            "0.10.0-rc.1",
            "0.9.0",
            "vnext",
            "nightly",
            "latest",
            "sha256-ab.sig",
            "sha256-aa.att",
        ];
        let mut tags = ordered.map(str::to_owned).to_vec();
        tags.sort();
        newest_first(&mut tags);
        assert_eq!(tags, ordered);
    }

    #[test]
    fn a_version_is_known_with_and_without_the_letter_before_it() {
        assert!(is_same("0.1.0", "0.1.0") && is_same("v0.1.0", "0.1.0") && is_same("nightly", "nightly"));
        assert!(!is_same("0.1.0-rc.1", "0.1.0") && !is_same("latest", "0.1.0") && !is_same("0.1", "0.1.0"));
    }
}
