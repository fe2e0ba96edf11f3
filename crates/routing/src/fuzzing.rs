//! What holds for any request of a client. The fuzz target and the test command call the same function.

use ctedge_wire::Key;

use crate::{KeyFinder, KeyNames, KeySource, RequestView};

/// A request, a line for each of: method, path, query, header `ctstickiness`, header `x-oct-jwt`; then `Cookie` headers.
/// What is found in it is a key, and the cookie that is set can be read back.
pub fn finder(request: &[u8]) {
    let text = String::from_utf8_lossy(request);
    let mut lines = text.split('\n');
    let mut line = || lines.next().filter(|line| !line.is_empty());
    let (method, path, query) = (line().unwrap_or("GET"), line().unwrap_or("/"), line());
    let (header, token) = (line(), line());
    let cookies: Vec<&str> = lines.collect();
    let header = |name: &str| match name {
        "ctstickiness" => header,
        "x-oct-jwt" => token,
        _ => None,
    };
    let view = RequestView { method, path, query, header: &header, cookies: &cookies };
    let name = || Some("ctstickiness".to_owned());
    let finder = KeyFinder::new(KeyNames { header: name(), query: name(), cookie: name(), protocol: true });
    let finding = finder.find(&view);
    for key in finding.found.iter().map(|found| &found.key).chain(&finding.cookie) {
        assert_eq!(Key::parse(key.as_str()).as_ref(), Ok(key));
    }
    assert_eq!(finding.found.is_none(), finding.source() == KeySource::Minted);

    let minted = Key::mint(&[1; 32]);
    let key = finding.found.as_ref().map_or(&minted, |found| &found.key);
    let Some(cookie) = finder.cookie_to_set(&finding, key, true, "") else {
        assert!(!finding.cookie_is_due(key));
        return;
    };
    let pair = cookie.split(';').next().unwrap_or_default();
    let view = RequestView { method: "GET", path: "/", query: None, header: &|_| None, cookies: &[pair] };
    assert_eq!(finder.find(&view).cookie.as_ref(), Some(key));
}

#[cfg(test)]
mod tests {
    use ctedge_testing::hostile;

    #[test]
    fn no_request_breaks_the_finder() {
        hostile::check("finder", super::finder);
    }
}
