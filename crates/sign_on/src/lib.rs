//! OpenID Connect sign-on, as decisions: what is asked of the provider, and what its answers are worth. Sockets and
//! the clock are the node's.
//!
//! It is the authorization code flow (OpenID Connect Core 1.0, section 3.1) with PKCE (RFC 7636):
//!
//! - [`Attempt`]: one login under way. All of it is derived from the login's poll token, so that any node goes on with it.
//! - [`Client`]: how this edge is known to the provider, and the two requests that follow from it.
//! - [`Endpoints`]: where the provider is asked.
//! - [`Identity`]: who has signed on, as an ID token says.

mod attempt;
mod client;
mod endpoints;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod identity;

pub use attempt::Attempt;
pub use client::{Client, TokenAnswer, TokenRequest};
pub use endpoints::{ClientLogin, Endpoints, EndpointsFault};
pub use identity::{Expected, Identity, IdentityFault};
