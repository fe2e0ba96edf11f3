//! What holds for any answer of a provider. The fuzz target and the test command call the same function.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ctedge_wire::{Key, KeyedToken};

use crate::{Attempt, Client, Endpoints, Expected, Identity, TokenAnswer};

/// More than any name or address that others see has.
const SHOWN_BYTES_MAX: usize = 512;

/// An answer is refused, or names somebody in one line of bounded length, or endpoints that are as encrypted as their issuer.
pub fn provider(answer: &[u8]) {
    let token = KeyedToken::mint(&Key::parse("room").expect("a key"), &[1; 32]);
    let attempt = Attempt::of(&[1; 32], &token);
    let issuer = Some("https://id.example");
    let expected = Expected { issuer, client_id: "edge", attempt: &attempt, now: 1_800_000_000 };
    let text = String::from_utf8_lossy(answer);
    assert!(!attempt.is_answered_by(&text) || text == attempt.state());
    let _ = serde_json::from_slice::<TokenAnswer>(answer);

    let as_claims = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(answer));
    for id_token in [&*text, &as_claims] {
        let Ok(identity) = Identity::of(id_token, &expected) else { continue };
        check_identity(&identity);
        if let Ok(informed) = identity.clone().with_user_info(answer) {
            assert_eq!((&informed.subject, &informed.issuer), (&identity.subject, &identity.issuer));
            check_identity(&informed);
        }
    }

    if let Ok(endpoints) = Endpoints::described("https://id.example/", answer) {
        assert!(endpoints.are_of("https://id.example"));
        let redirect_uri = "https://edge.example/api/login/callback".to_owned();
        let client = Client { id: "edge".to_owned(), secret: "secret".to_owned(), redirect_uri };
        assert!(client.authorization_url(&endpoints, &attempt).starts_with("https://"));
    }
}

fn check_identity(identity: &Identity) {
    for shown in [Some(identity.name()), identity.email(), Some(identity.subject.as_str())].into_iter().flatten() {
        assert!((1..=SHOWN_BYTES_MAX).contains(&shown.len()) && !shown.chars().any(char::is_control), "{shown:?}");
    }
}

#[cfg(test)]
mod tests {
    use ctedge_testing::hostile;

    #[test]
    fn no_answer_of_a_provider_breaks_the_sign_on() {
        hostile::check("provider", super::provider);
    }
}
