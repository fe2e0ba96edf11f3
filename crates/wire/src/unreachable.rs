//! The value of [`crate::headers::UNREACHABLE`]: the names of nodes, separated by commas.

/// How many nodes are named at most, so that the header stays short in a cluster that is mostly down. Those that the request
/// itself could not reach come first.
pub const UNREACHABLE_MAX: usize = 32;

/// The header's value, or `None` where there is nobody to name. A name that would not be read as it is written is left out.
#[must_use]
pub fn write_unreachable(names: &[String]) -> Option<String> {
    let is_sound = |name: &&str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    let named: Vec<&str> = names.iter().map(String::as_str).filter(is_sound).take(UNREACHABLE_MAX).collect();
    if named.is_empty() { None } else { Some(named.join(",")) }
}

/// The names in the header's value; not more than are written.
pub fn read_unreachable(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|name| !name.is_empty()).take(UNREACHABLE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes `names`, and reads them again.
    fn check(names: &[&str], expected: &[&str]) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let written = write_unreachable(&names);
        assert_eq!(written.is_none(), expected.is_empty(), "{written:?}");
        assert_eq!(read_unreachable(&written.unwrap_or_default()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn names_are_read_as_they_were_written() {
        check(&["node-1", "node-2"], &["node-1", "node-2"]);
        check(&[], &[]);
        check(&["", "a,b", "two words", "line\nfeed", "ö"], &[]);
        check(&["a,b", "node-1"], &["node-1"]);
        assert_eq!(read_unreachable(" node-1 ,, node-2").collect::<Vec<_>>(), ["node-1", "node-2"]);
    }

    #[test]
    fn as_many_are_read_as_are_written() {
        let many: Vec<String> = (0..100).map(|number| format!("node-{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(&many, &many[..UNREACHABLE_MAX]);
        assert_eq!(read_unreachable(&many.join(",")).count(), UNREACHABLE_MAX);
    }
}
