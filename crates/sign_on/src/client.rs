//! How this edge is known to the provider, and the two requests that follow from it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::{Serializer, byte_serialize};
use serde::Deserialize;

use crate::attempt::Attempt;
use crate::endpoints::{ClientLogin, Endpoints};

/// What is asked to be known of a user: who it is, the name, the address.
const SCOPE: &str = "openid profile email";

/// This edge, as the provider knows it.
#[derive(Clone)]
pub struct Client {
    /// The client id.
    pub id: String,
    /// The client secret.
    pub secret: String,
    /// Where the provider sends browsers back to; it must be registered there to the letter.
    pub redirect_uri: String,
}

/// The request that turns a code into an ID token. Send it to the token endpoint by POST, as
/// `application/x-www-form-urlencoded`.
#[derive(Clone)]
pub struct TokenRequest {
    /// The `Authorization` header, where the client says there who it is.
    pub authorization: Option<String>,
    /// The body.
    pub body: String,
}

/// What the token endpoint answered.
#[derive(Deserialize)]
pub struct TokenAnswer {
    /// The ID token, if there is one.
    pub id_token: Option<String>,
    /// What the user's information is asked for with.
    pub access_token: Option<String>,
    /// Why there is none (RFC 6749, section 5.2): one of the codes of the standard.
    pub error: Option<String>,
    /// The provider's words for it.
    pub error_description: Option<String>,
}

impl Client {
    /// Where a browser is sent to sign on.
    #[must_use]
    pub fn authorization_url(&self, endpoints: &Endpoints, attempt: &Attempt) -> String {
        let mut query = Serializer::new(String::new());
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.id)
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("scope", SCOPE)
            .append_pair("state", attempt.state())
            .append_pair("nonce", attempt.nonce())
            .append_pair("code_challenge", &attempt.challenge())
            .append_pair("code_challenge_method", "S256");
        // RFC 6749, section 3.1: an endpoint may have a query of its own.
        let joint = if endpoints.authorization.contains('?') { '&' } else { '?' };
        format!("{}{joint}{}", endpoints.authorization, query.finish())
    }

    /// What turns the code of the provider's answer into an ID token.
    #[must_use]
    pub fn token_request(&self, login: ClientLogin, attempt: &Attempt, code: &str) -> TokenRequest {
        let mut body = Serializer::new(String::new());
        body.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("code_verifier", attempt.verifier());
        let authorization = match login {
            ClientLogin::Basic => Some(self.basic()),
            ClientLogin::Post => {
                body.append_pair("client_id", &self.id).append_pair("client_secret", &self.secret);
                None
            }
        };
        TokenRequest { authorization, body: body.finish() }
    }

    /// RFC 6749, section 2.3.1: both are form-encoded before they are joined.
    fn basic(&self) -> String {
        let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(&self.id), encoded(&self.secret))))
    }
}

/// Without the secret, so that it reaches no log.
impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_wire::{Key, KeyedToken};

    fn client() -> Client {
        let redirect_uri = "https://edge.example/sso/authorization-code/callback".to_owned();
        Client { id: "edge".into(), secret: "p:w %".into(), redirect_uri }
    }

    fn attempt() -> Attempt {
        Attempt::of(&[1; 32], &KeyedToken::mint(&Key::parse("room").unwrap(), &[1; 32]))
    }

    #[test]
    fn a_browser_is_sent_with_everything_that_the_provider_needs() {
        let attempt = attempt();
        let check = |endpoint: &str, start: &str| {
            let url = client().authorization_url(&Endpoints::fixed(endpoint, "https://id.example/token"), &attempt);
            assert!(url.starts_with(start), "{url}");
            let query = url.rsplit_once("response_type=code&").unwrap().1;
            let find = |name: &str| form_urlencoded::parse(query.as_bytes()).find(|(n, _)| n == name).unwrap().1;
            assert_eq!(find("client_id"), "edge");
            assert_eq!(find("redirect_uri"), "https://edge.example/sso/authorization-code/callback");
            assert_eq!(find("scope"), "openid profile email");
            assert_eq!(find("state"), attempt.state());
            assert_eq!(find("nonce"), attempt.nonce());
            assert_eq!(find("code_challenge"), attempt.challenge());
            assert!(!url.contains(attempt.verifier()));
        };
        check("https://id.example/authorize", "https://id.example/authorize?response_type=code&");
        check("https://id.example/authorize?tenant=a", "https://id.example/authorize?tenant=a&response_type=code&");
    }

    #[test]
    fn a_code_is_redeemed_with_the_verifier_and_the_clients_secret() {
        let request = client().token_request(ClientLogin::Basic, &attempt(), "c&1");
        // "edge" and "p%3Aw+%25", joined by a colon.
        assert_eq!(request.authorization.as_deref(), Some("Basic ZWRnZTpwJTNBdyslMjU="));
        assert!(request.body.starts_with("grant_type=authorization_code&code=c%261&redirect_uri=https%3A%2F%2F"));
        assert!(request.body.ends_with(&format!("&code_verifier={}", attempt().verifier())));

        let request = client().token_request(ClientLogin::Post, &attempt(), "c");
        assert!(request.authorization.is_none());
        assert!(request.body.ends_with("&client_id=edge&client_secret=p%3Aw+%25"), "{}", request.body);
    }

    #[test]
    fn the_secret_is_never_shown() {
        assert!(!format!("{:?}", client()).contains("p:w"));
    }
}
