//! What a node receives to let people sign on with a provider.

use super::Password;
use crate::server_url::ServerUrl;

/// An OpenID Connect provider, and how this edge is known to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignOnSettings {
    /// Where the provider is asked.
    pub endpoints: ProviderEndpoints,
    /// How the provider calls this edge.
    pub client_id: String,
    /// The secret that it has given it.
    pub client_secret: Password,
    /// What people call it.
    pub provider: String,
    /// The public URL, to which it sends browsers back.
    pub server_url: ServerUrl,
}

/// Where a provider is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderEndpoints {
    /// There, as the operator says.
    Given {
        /// Where browsers sign on.
        authorization: String,
        /// Where codes become tokens.
        token: String,
    },
    /// Where this issuer says.
    OfIssuer(String),
}
