//! The JSON bodies of the HTTP interface.

use serde::{Deserialize, Serialize};

use ctedge_wire::{Key, KeyedToken};

use crate::info::{Info, InfoCode};
use crate::peer::{Peer, Workspace};
use crate::token::{LoginToken, RoomToken};
use crate::version::PROTOCOL_VERSION;

/// The path of the form login.
pub const SIMPLE_LOGIN_PATH: &str = "/api/login/simple";

/// The path that sends a browser to the sign-on provider; clients append the poll token as a query.
pub const SIGN_ON_PATH: &str = "/api/login/sso";

/// The path to which the sign-on provider sends browsers back, and the one after a logout there. Operators of the original
/// have them registered.
pub const SIGN_ON_CALLBACK_PATH: &str = "/sso/authorization-code/callback";
/// See [`SIGN_ON_CALLBACK_PATH`].
pub const SIGN_ON_LOGOUT_PATH: &str = "/sso/logout";

/// The `authProvider` of users of the form login.
pub const SIMPLE_LOGIN_PROVIDER: &str = "Unverified";

/// The header, and query parameter, that carries a login or room token.
pub const TOKEN_HEADER: &str = "x-oct-jwt";

/// The cookie that carries a login token.
pub const TOKEN_COOKIE: &str = "oct-jwt";

/// The header that carries a client's public key.
pub const PUBLIC_KEY_HEADER: &str = "x-oct-public-key";

/// The header that carries a client's name and version.
pub const CLIENT_HEADER: &str = "x-oct-client";

/// The header that carries what a client can unpack.
pub const COMPRESSION_HEADER: &str = "x-oct-compression";

/// `GET /api/meta`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Meta<'a> {
    /// Who runs the server.
    pub owner: &'a str,
    /// The protocol version.
    pub version: &'static str,
    /// The transports, best first.
    pub transports: &'static [&'static str],
}

impl<'a> Meta<'a> {
    /// What a server of `owner` says of itself.
    #[must_use]
    pub fn new(owner: &'a str) -> Self {
        Self { owner, version: PROTOCOL_VERSION, transports: &["socket.io"] }
    }
}

/// `POST /api/login/initial`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginInitial {
    /// What to poll with, and what the login page confirms.
    pub poll_token: String,
    /// The ways to log in.
    pub auth: AuthMetadata,
}

/// The ways to log in.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthMetadata {
    /// The page that shows them; a path is relative to the server's public URL.
    pub login_page_url: String,
    /// For clients that show them themselves.
    pub providers: Vec<AuthProvider>,
    /// Where the login page goes afterwards; empty for nowhere.
    pub default_success_url: String,
}

impl LoginInitial {
    /// The answer for a login that waits under `poll_token`. The token needs no escaping in a query.
    #[must_use]
    pub fn new(poll_token: &KeyedToken, providers: Vec<AuthProvider>) -> Self {
        let poll_token = poll_token.as_str().to_owned();
        let login_page_url = format!("/login.html?token={poll_token}");
        Self { poll_token, auth: AuthMetadata { login_page_url, providers, default_success_url: String::new() } }
    }
}

/// One way to log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum AuthProvider {
    /// The client or the login page asks for fields and posts them.
    Form {
        /// Its name.
        name: &'static str,
        /// Where to post the fields.
        endpoint: &'static str,
        /// What to show.
        label: Info,
        /// Under which heading.
        group: Info,
        /// More to show.
        #[serde(skip_serializing_if = "Option::is_none")]
        details: Option<Info>,
        /// What to ask for.
        fields: Vec<FormField>,
    },
    /// The client opens a page.
    Web {
        /// Its name.
        name: String,
        /// The page.
        endpoint: &'static str,
        /// What to show.
        label: Info,
        /// Under which heading.
        group: Info,
    },
}

/// A field of a form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FormField {
    /// Its name in the post.
    pub name: &'static str,
    /// Whether it must be given.
    pub required: bool,
    /// What to show.
    pub label: Info,
    /// A hint to show while it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place_holder: Option<Info>,
}

impl AuthProvider {
    /// The sign-on with a provider of this name.
    #[must_use]
    pub fn sign_on(provider: &str) -> Self {
        Self::Web {
            name: provider.to_owned(),
            endpoint: SIGN_ON_PATH,
            label: Info::new(InfoCode::SignOnLabel, format!("Log in with {provider}")),
            group: InfoCode::ThirdParty.into(),
        }
    }

    /// The form login: a name, and an address if the user likes.
    #[must_use]
    pub fn simple() -> Self {
        let field = |name, required, label: InfoCode, hint: InfoCode| FormField {
            name,
            required,
            label: label.into(),
            place_holder: Some(hint.into()),
        };
        Self::Form {
            name: "unverified",
            endpoint: SIMPLE_LOGIN_PATH,
            label: InfoCode::UnverifiedLoginLabel.into(),
            group: InfoCode::BuiltinsGroup.into(),
            details: Some(InfoCode::UnverifiedLoginDetails.into()),
            fields: vec![
                field("user", true, InfoCode::UsernameLabel, InfoCode::UsernamePlaceholder),
                field("email", false, InfoCode::EmailLabel, InfoCode::EmailPlaceholder),
            ],
        }
    }
}

/// `POST /api/login/simple`, as JSON or as a form.
#[derive(Debug, Clone, Deserialize)]
pub struct SimpleLogin {
    /// The poll token to confirm.
    pub token: String,
    /// The user's name.
    pub user: String,
    /// The user's address.
    #[serde(default)]
    pub email: Option<String>,
}

/// `POST /api/login/poll/{token}`, 200.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginPoll {
    /// The login token.
    pub login_token: LoginToken,
}

/// `POST /api/login/validate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LoginValidate {
    /// Whether the login token is valid.
    pub valid: bool,
}

/// `POST /api/session/create`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionCreated {
    /// The session's key.
    pub room_id: Key,
    /// The host's room token.
    pub room_token: RoomToken,
}

/// `POST /api/session/join/{room}`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinStarted {
    /// What to poll with.
    pub poll_token: String,
    /// The session's key.
    pub room_id: Key,
}

impl JoinStarted {
    /// The answer for a join request that waits under `poll_token`.
    #[must_use]
    pub fn new(poll_token: &KeyedToken, room_id: Key) -> Self {
        Self { poll_token: poll_token.as_str().to_owned(), room_id }
    }
}

/// `POST /api/session/poll/{token}`, 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum JoinPoll {
    /// The host agreed.
    #[serde(rename_all = "camelCase")]
    Joined {
        /// The session's key.
        room_id: Key,
        /// The guest's room token.
        room_token: RoomToken,
        /// What the host shares.
        workspace: Workspace,
        /// The host.
        host: Peer,
    },
    /// The host did not, or not yet.
    Info {
        /// What to tell the user.
        #[serde(flatten)]
        info: Info,
        /// Whether that is the end of it.
        failure: bool,
    },
}

impl JoinPoll {
    /// The host has not answered yet: go on polling.
    #[must_use]
    pub fn waiting() -> Self {
        Self::Info { info: InfoCode::WaitingForHost.into(), failure: false }
    }

    /// There will be no other answer.
    #[must_use]
    pub fn failed(code: InfoCode) -> Self {
        Self::Info { info: code.into(), failure: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(body: impl Serialize, expected: Value) {
        assert_eq!(serde_json::to_value(body).unwrap(), expected);
    }

    #[test]
    fn bodies_have_the_json_form_that_clients_read() {
        let key = Key::parse("room").unwrap();
        let token = KeyedToken::mint(&key, &[0; 32]);
        check(Meta::new("Us"), json!({"owner": "Us", "version": "0.3.1", "transports": ["socket.io"]}));
        check(LoginValidate { valid: true }, json!({"valid": true}));
        check(JoinStarted::new(&token, key), json!({"pollToken": "room.000000000000000000000000", "roomId": "room"}));
        check(
            JoinPoll::waiting(),
            json!({"code": "WaitingForHost", "params": [], "message": "Waiting for host to accept join request", "failure": false}),
        );
        check(
            JoinPoll::failed(InfoCode::JoinRejected),
            json!({"code": "JoinRejected", "params": [], "message": "Join request has been rejected", "failure": true}),
        );
    }

    #[test]
    fn the_form_login_is_described_as_clients_expect_it() {
        let login =
            LoginInitial::new(&KeyedToken::mint(&Key::parse("k").unwrap(), &[0; 32]), vec![AuthProvider::simple()]);
        let body = serde_json::to_value(login).unwrap();
        assert_eq!(body["auth"]["loginPageUrl"], "/login.html?token=k.000000000000000000000000");
        let provider = &body["auth"]["providers"][0];
        assert_eq!(provider["type"], "form");
        assert_eq!(provider["endpoint"], "/api/login/simple");
        assert_eq!(provider["label"]["code"], "UnverifiedLoginLabel");
        assert_eq!(provider["fields"][0]["name"], "user");
        assert_eq!(provider["fields"][0]["placeHolder"]["code"], "UsernamePlaceholder");
        assert_eq!(provider["fields"][1]["required"], false);
    }
}
