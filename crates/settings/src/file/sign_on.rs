//! `[sign_on]`: OpenID Connect.

use crate::reader::{Reader, Section};
use crate::server_url::ServerUrl;
use crate::settled::{Password, ProviderEndpoints, SignOnSettings};

/// What buttons and people say where the provider has no name.
const NAMELESS: &str = "single sign-on";

pub(super) fn sign_on(reader: &mut Reader, server_url: Option<&ServerUrl>) -> Option<SignOnSettings> {
    let mut section = reader.section(
        "sign_on",
        "Sign-on with an OpenID Connect provider, in the place of just giving a name. At the provider, register \
         server_url with /sso/authorization-code/callback behind it as the redirect, and with /sso/logout as the place to \
         go after a logout.",
    );
    let url = endpoint(
        &mut section,
        "url",
        "The provider's authorization endpoint; without token_endpoint its issuer, which then says where both are. \
         CT_SSO_SYSTEM_BASE_URL and CT_SSO_AUTHORIZATION_ENDPT override it.",
    );
    let token_endpoint =
        endpoint(&mut section, "token_endpoint", "The provider's token endpoint. CT_SSO_TOKEN_ENDPT overrides it.");
    let client_id =
        section.any("client_id", "How the provider calls this edge. CT_SSO_CLIENT_ID overrides it.", None::<String>);
    let client_secret = section.any(
        "client_secret",
        "The secret that the provider has given it. CT_SSO_CLIENT_SECRET overrides it.",
        None::<Password>,
    );
    let provider = section.read(
        "provider",
        "What people call the provider, like \"Okta\". CT_SSO_PROVIDER overrides it.",
        None,
        |name: &Option<String>| name.as_deref().map_or(Ok(()), check_name),
    );

    let parts = [
        ("sign_on.url", "CT_SSO_SYSTEM_BASE_URL", url.is_some()),
        ("sign_on.client_id", "CT_SSO_CLIENT_ID", client_id.is_some()),
        ("sign_on.client_secret", "CT_SSO_CLIENT_SECRET", client_secret.is_some()),
        ("sign_on.token_endpoint", "CT_SSO_TOKEN_ENDPT", token_endpoint.is_some()),
        ("sign_on.provider", "CT_SSO_PROVIDER", provider.is_some()),
        ("server_url", "CT_SERVER_URL", server_url.is_some()),
    ];
    let [needed @ .., _, _, public] = parts;
    let given = parts[..5].iter().find(|(.., is_given)| *is_given)?;
    let missing = needed.iter().chain([&public]).filter(|(.., is_given)| !is_given);
    let missing: Vec<_> = missing.map(|(setting, variable, _)| format!("{setting} ({variable})")).collect();
    if !missing.is_empty() {
        reader.fault(given.0, format!("needs {} beside it", missing.join(", ")));
    }
    let url = url?;
    Some(SignOnSettings {
        endpoints: match token_endpoint {
            Some(token) => ProviderEndpoints::Given { authorization: url, token },
            None => ProviderEndpoints::OfIssuer(url),
        },
        client_id: client_id?,
        client_secret: client_secret?,
        provider: provider.unwrap_or_else(|| NAMELESS.to_owned()),
        server_url: server_url?.clone(),
    })
}

fn endpoint(section: &mut Section<'_>, name: &'static str, doc: &str) -> Option<String> {
    section.read(name, doc, None, |url: &Option<String>| url.as_deref().map_or(Ok(()), check_endpoint))
}

/// The secret and the tokens must go out encrypted, and the answer is believed because of the server's certificate.
/// Only within this machine is there nobody else to read or to answer.
fn check_endpoint(url: &str) -> Result<(), String> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\\\"<>@".contains(&byte));
    if !["https", "http"].contains(&scheme) || host.is_empty() || !is_plain {
        return Err(format!("{url:?} is not the URL of a provider, like \"https://id.example.com/authorize\""));
    }
    if scheme == "http" && !is_this_machine(host) {
        return Err(format!("{url:?} has no encryption; write it with https://"));
    }
    Ok(())
}

fn is_this_machine(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    ["localhost", "127.0.0.1", "[::1]"].contains(&name)
}

fn check_name(name: &str) -> Result<(), String> {
    if name.len() <= 64 && !name.trim().is_empty() && !name.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(format!("{name:?} is no name for a button; write one like \"Okta\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_encrypted_or_on_this_machine() {
        for right in [
            "https://id.example.com/oauth2/v1/authorize",
            "https://id.example.com/authorize?tenant=a%20b",
            "http://127.0.0.1:4000/token",
            "http://[::1]:4000",
            "http://localhost",
        ] {
            check_endpoint(right).unwrap();
        }
        for wrong in
            ["", "id.example.com", "https://", "https://a b", "https://u@id.example.com", "ftp://id.example.com"]
        {
            assert!(check_endpoint(wrong).unwrap_err().contains("like \"https://"), "{wrong}");
        }
        for plain in ["http://id.example.com", "http://127.0.0.1.example.com/", "http://localhost.example:80"] {
            assert!(check_endpoint(plain).unwrap_err().contains("no encryption"), "{plain}");
        }
    }
}
