//! What holds for any bytes between balancer and node. The fuzz target and the test command call the same function.

use crate::{HealthReport, Key, KeyedToken, Redirect, headers};

/// Keys, tokens, redirects and health reports are refused, or are the same when they are written and read again.
pub fn wire(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(key) = Key::parse(&text) {
        assert_eq!(key.as_str(), text);
    }
    if let Some(token) = KeyedToken::parse(&text) {
        assert!(text.starts_with(token.key().as_str()));
    }
    if let Ok(report) = serde_json::from_slice::<HealthReport>(bytes) {
        let written = serde_json::to_vec(&report).expect("a report can be written");
        serde_json::from_slice::<HealthReport>(&written).expect("what we write we can read");
    }
    redirect(&text);
}

/// A redirect from a header in each line, `name: value`.
fn redirect(text: &str) {
    let given: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(": ")).collect();
    let Some(redirect) = Redirect::read(|name| find(&given, name)) else { return };
    let written = redirect.headers();
    let written: Vec<(&str, &str)> = written.iter().map(|(name, value)| (*name, &**value)).collect();
    assert_eq!(Redirect::read(|name| find(&written, name)), Some(redirect));
    assert!(written.iter().all(|(name, _)| {
        [headers::REDIRECT_KEY, headers::REDIRECT_OWNER, headers::EPOCH, headers::REDIRECT_ADDRESS].contains(name)
    }));
}

fn find<'a>(headers: &[(&str, &'a str)], wanted: &str) -> Option<&'a str> {
    headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use ctedge_testing::hostile;

    #[test]
    fn no_bytes_break_what_balancer_and_node_say() {
        hostile::check("wire", super::wire);
    }
}
