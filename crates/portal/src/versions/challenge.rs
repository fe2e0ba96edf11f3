//! What a registry wants to know of whoever asks: the `WWW-Authenticate` header (RFC 9110, section 11.6.1).

/// A way to say who one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With the password itself.
    Basic,
    /// With a token that another server gives (Distribution, "Token Authentication Specification").
    Bearer {
        /// Where it is had.
        realm: String,
        /// For whom it is.
        service: Option<String>,
        /// For what it is.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best of the challenges in these headers that we know: a token rather than the password itself.
    pub(super) fn best<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let all: Vec<_> = headers.flat_map(challenges).collect();
        let is_bearer = |challenge: &&Self| matches!(challenge, Self::Bearer { .. });
        all.iter().find(is_bearer).or(all.first()).cloned()
    }
}

fn challenges(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = header;
    while let Some((scheme, parameters, after)) = challenge(rest) {
        rest = after;
        let value = |name: &str| {
            let named = parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            named.map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = value("realm")
        {
            found.push(Challenge::Bearer { realm, service: value("service"), scope: value("scope") });
        }
    }
    found
}

type Parameters = Vec<(String, String)>;

/// One challenge, and what follows it.
fn challenge(text: &str) -> Option<(&str, Parameters, &str)> {
    let text = text.trim_start_matches([' ', ',']);
    let end = text.find([' ', ',']).unwrap_or(text.len());
    let (scheme, mut rest) = text.split_at(end);
    if scheme.is_empty() {
        return None;
    }
    let mut parameters = Vec::new();
    while let Some((parameter, after)) = parameter(rest) {
        parameters.push(parameter);
        rest = after;
    }
    Some((scheme, parameters, rest))
}

/// `name=value` or `name="value"`, and what follows it.
fn parameter(text: &str) -> Option<((String, String), &str)> {
    let text = text.trim_start_matches([' ', ',']);
    let (name, value) = text.split_once('=')?;
    if name.is_empty() || name.contains([' ', ',', '"']) {
        return None;
    }
    let Some(quoted) = value.strip_prefix('"') else {
        let end = value.find([' ', ',']).unwrap_or(value.len());
        return Some(((name.to_owned(), value[..end].to_owned()), &value[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some(((name.to_owned(), value), &quoted[at + 1..])),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            plain => value.push(plain),
        }
    }
    None
}

/// What holds for any headers of a registry, one a line: of several challenges it is the best that is taken.
#[cfg(any(test, fuzzing))]
pub(crate) fn hold_for(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let best = Challenge::best(text.split('\n'));
    let all: Vec<_> = text.split('\n').flat_map(challenges).collect();
    assert_eq!(best.is_none(), all.is_empty());
    let has_bearer = all.iter().any(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    assert_eq!(has_bearer, matches!(best, Some(Challenge::Bearer { .. })));
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_testing::hostile;

    #[track_caller]
    fn check(headers: &[&str], expected: Option<Challenge>) {
        assert_eq!(Challenge::best(headers.iter().copied()), expected, "{headers:?}");
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope) })
    }

    #[test]
    fn a_challenge_says_what_a_registry_wants() {
        check(&["Basic realm=\"Registry, \\\"ours\\\"\""], Some(Challenge::Basic));
        check(
            &["Bearer realm=\"https://auth/token\",service=\"registry\", scope=\"repository:a/b:pull,push\""],
            bearer("https://auth/token", Some("registry"), Some("repository:a/b:pull,push")),
        );
        check(&["Basic realm=\"x\", Bearer realm=https://t"], bearer("https://t", None, None));
        check(&["Basic realm=x", "bearer Realm=\"t\""], bearer("t", None, None));
        check(&["Negotiate, Basic realm=\"x\""], Some(Challenge::Basic));
        for none in ["", "Digest realm=\"x\"", "Bearer", "Bearer realm=\"open", ","] {
            check(&[none], None);
        }
    }

    #[test]
    fn no_header_makes_the_reading_go_on_for_ever() {
        hostile::check("challenge", hold_for);
    }
}
