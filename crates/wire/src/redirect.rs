//! A node's answer 421 (Misdirected Request, RFC 9110 section 15.5.20): "not mine".
//!
//! A node that answers 421 has done nothing else, so that the balancer may send the request elsewhere whatever its
//! method. The answer is in the headers; its body is for people.

use std::net::SocketAddr;

use crate::headers;
use crate::key::Key;

/// Where a misdirected request belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirect {
    /// The request belongs to this key: place it again.
    Key(Key),
    /// The key is owned by that node: go there.
    Owner {
        /// The owner's id.
        node: String,
        /// The epoch of its ownership; a higher one is the fresher answer.
        epoch: u64,
        /// Where it listens, if the node that answered knows. A header that cannot be read is as good as none: the id
        /// alone still leads there.
        address: Option<SocketAddr>,
    },
}

impl Redirect {
    /// Reads the redirect of a 421 by `header`, which looks a header up by its lower-case name. `None` for a 421 that
    /// is not ours, which then goes to the client as it is.
    pub fn read<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        if let Some(node) = header(headers::REDIRECT_OWNER) {
            let epoch = header(headers::EPOCH)?.parse().ok()?;
            let address = header(headers::REDIRECT_ADDRESS).and_then(|address| address.parse().ok());
            return Some(Self::Owner { node: node.to_owned(), epoch, address });
        }
        header(headers::REDIRECT_KEY).and_then(|key| Key::parse(key).ok()).map(Self::Key)
    }

    /// The headers that carry the redirect.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Key(key) => vec![(headers::REDIRECT_KEY, key.to_string())],
            Self::Owner { node, epoch, address } => {
                let mut headers = vec![(headers::REDIRECT_OWNER, node.clone()), (headers::EPOCH, epoch.to_string())];
                headers.extend(address.map(|address| (headers::REDIRECT_ADDRESS, address.to_string())));
                headers
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_read_as_it_was_written() {
        let key = Redirect::Key(Key::parse("room").unwrap());
        let owner = Redirect::Owner { node: "node-2".into(), epoch: 3, address: None };
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 3002)));
        let reachable = Redirect::Owner { node: "node-2".into(), epoch: 3, address };
        for redirect in [key, owner, reachable] {
            let written = redirect.headers();
            let read = Redirect::read(|name| written.iter().find(|(n, _)| *n == name).map(|(_, value)| &**value));
            assert_eq!(read, Some(redirect));
        }
    }

    #[test]
    fn another_servers_421_is_no_redirect() {
        assert_eq!(Redirect::read(|_| None), None);
        assert_eq!(Redirect::read(|name| (name == headers::REDIRECT_OWNER).then_some("node-2")), None);
        assert_eq!(Redirect::read(|name| (name == headers::REDIRECT_KEY).then_some("not a key")), None);
    }
}
