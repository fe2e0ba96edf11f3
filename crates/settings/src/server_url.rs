//! The public URL that clients use.

use crate::value::{Value, Written};

/// The public URL, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    text: String,
    path_at: usize,
}

impl ServerUrl {
    /// The whole URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host, without its port.
    #[must_use]
    pub fn host(&self) -> &str {
        let authority = self.text[..self.path_at].split_once("://").map_or("", |(_, authority)| authority);
        match authority.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once(']').map_or(bracketed, |(host, _)| host),
            None => authority.split_once(':').map_or(authority, |(host, _)| host),
        }
    }

    /// The path below which the URL serves: `""` or `/like/this`.
    #[must_use]
    pub fn path_prefix(&self) -> &str {
        &self.text[self.path_at..]
    }
}

impl Written for ServerUrl {
    fn read(value: &Value) -> Result<Self, String> {
        let what = "the URL that clients use, like \"https://edge.example.com\"";
        let text = String::read(value)?.trim_end_matches('/').to_owned();
        let scheme = ["https://", "http://"].into_iter().find(|scheme| text.starts_with(scheme));
        let after_scheme = scheme.map_or(0, str::len);
        let path_at = text[after_scheme..].find('/').map_or(text.len(), |at| after_scheme + at);
        let host = &text[after_scheme..path_at];
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\\\"<>@%".contains(&byte));
        if scheme.is_some() && !host.is_empty() && plain && !text[path_at..].contains("//") {
            Ok(Self { text, path_at })
        } else {
            Err(format!("{text:?} is not {what}"))
        }
    }

    fn write(&self) -> String {
        crate::value::quoted(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, &str)>) {
        let url = ServerUrl::read(&Value::Text(text.into())).ok();
        assert_eq!(url.as_ref().map(|url| (url.host(), url.path_prefix())), expected, "{text}");
    }

    #[test]
    fn a_url_has_a_host_and_a_path_prefix() {
        check("https://edge.example", Some(("edge.example", "")));
        check("https://edge.example:8443/ct/", Some(("edge.example", "/ct")));
        check("http://[::1]:1080/a/b", Some(("::1", "/a/b")));
        for wrong in
            ["", "edge.example", "ftp://edge", "https://", "https:///x", "https://a//b", "https://a/?q", "https://u@a"]
        {
            check(wrong, None);
        }
    }
}
