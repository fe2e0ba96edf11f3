//! Where the provider is asked.

use serde::Deserialize;

/// What follows an issuer's URL to where it describes itself (OpenID Connect Discovery 1.0, section 4).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// Where the provider is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// Where browsers sign on.
    pub authorization: String,
    /// Where codes become tokens.
    pub token: String,
    /// How the client says there who it is.
    pub login: ClientLogin,
    /// Where more is told of a user than the ID token says, if there is such a place.
    pub user_info: Option<String>,
    /// Whose ID tokens are expected; unknown where the endpoints were given one by one.
    pub issuer: Option<String>,
}

/// How the client says who it is (OpenID Connect Core 1.0, section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientLogin {
    /// In a header (`client_secret_basic`), as every provider takes it unless it says otherwise.
    Basic,
    /// In the body (`client_secret_post`).
    Post,
}

/// Why a provider's description of itself is of no use.
#[derive(Debug, thiserror::Error)]
pub enum EndpointsFault {
    /// It is no description.
    #[error("it is no provider's description: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// It describes another provider (section 4.3).
    #[error("it describes {0:?}; write the issuer exactly so")]
    OtherIssuer(String),
    /// A secret would go out in the clear.
    #[error("its endpoint {0:?} has no encryption")]
    Plain(String),
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    userinfo_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

impl Endpoints {
    /// Endpoints that the operator has given.
    pub fn fixed(authorization: impl Into<String>, token: impl Into<String>) -> Self {
        let (authorization, token) = (authorization.into(), token.into());
        Self { authorization, token, login: ClientLogin::Basic, user_info: None, issuer: None }
    }

    /// Where an issuer describes itself.
    #[must_use]
    pub fn description_of(issuer: &str) -> String {
        format!("{}{WELL_KNOWN}", issuer.trim_end_matches('/'))
    }

    /// Whether this issuer has described them.
    #[must_use]
    pub fn are_of(&self, issuer: &str) -> bool {
        self.issuer.as_deref().is_some_and(|own| is_same(own, issuer))
    }

    /// The endpoints that the description of `issuer` names. What is asked of an encrypted issuer stays encrypted.
    pub fn described(issuer: &str, json: &[u8]) -> Result<Self, EndpointsFault> {
        let metadata: Metadata = serde_json::from_slice(json)?;
        if !is_same(&metadata.issuer, issuer) {
            return Err(EndpointsFault::OtherIssuer(metadata.issuer));
        }
        let endpoints = [&metadata.authorization_endpoint, &metadata.token_endpoint];
        for endpoint in endpoints.into_iter().chain(&metadata.userinfo_endpoint) {
            if issuer.starts_with("https://") && !endpoint.starts_with("https://") {
                return Err(EndpointsFault::Plain(endpoint.clone()));
            }
        }
        let takes = |method: &str| metadata.token_endpoint_auth_methods_supported.iter().any(|taken| taken == method);
        let login = match takes("client_secret_post") && !takes("client_secret_basic") {
            true => ClientLogin::Post,
            false => ClientLogin::Basic,
        };
        Ok(Self {
            authorization: metadata.authorization_endpoint,
            token: metadata.token_endpoint,
            login,
            user_info: metadata.userinfo_endpoint,
            issuer: Some(metadata.issuer),
        })
    }
}

/// Providers and operators differ in whether a slash ends it.
fn is_same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(methods: &str, token: &str) -> String {
        format!(
            r#"{{"issuer":"https://id.example/","authorization_endpoint":"https://id.example/a",
                "token_endpoint":"{token}","userinfo_endpoint":"https://id.example/u"{methods}}}"#
        )
    }

    #[test]
    fn a_provider_describes_where_and_how_it_is_asked() {
        assert_eq!(
            Endpoints::description_of("https://id.example/realm/"),
            "https://id.example/realm/.well-known/openid-configuration"
        );
        let check = |methods: &str, expected| {
            let json = description(methods, "https://id.example/t");
            let endpoints = Endpoints::described("https://id.example", json.as_bytes()).unwrap();
            assert_eq!(
                (&*endpoints.authorization, &*endpoints.token),
                ("https://id.example/a", "https://id.example/t")
            );
            assert_eq!((endpoints.login, endpoints.issuer.as_deref()), (expected, Some("https://id.example/")));
        };
        check("", ClientLogin::Basic);
        check(r#","token_endpoint_auth_methods_supported":["client_secret_post"]"#, ClientLogin::Post);
        check(
            r#","token_endpoint_auth_methods_supported":["client_secret_post","client_secret_basic"]"#,
            ClientLogin::Basic,
        );
    }

    #[test]
    fn a_description_of_another_provider_or_without_encryption_is_refused() {
        let json = description("", "http://id.example/t");
        let fault = Endpoints::described("https://id.example", json.as_bytes()).unwrap_err();
        assert!(matches!(fault, EndpointsFault::Plain(endpoint) if endpoint == "http://id.example/t"));
        let fault = Endpoints::described("https://other.example", json.as_bytes()).unwrap_err();
        assert!(matches!(fault, EndpointsFault::OtherIssuer(_)));
        assert!(matches!(Endpoints::described("https://id.example", b"<html>"), Err(EndpointsFault::Unreadable(_))));
    }
}
