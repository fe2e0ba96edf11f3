//! What went wrong, in the form that clients show: a code that they may translate, and a text.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A message for the user of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// What clients translate by.
    pub code: InfoCode,
    /// What to put into the translated text.
    pub params: Vec<String>,
    /// The text for clients that do not know the code.
    pub message: String,
}

impl Info {
    /// An info without parameters.
    #[must_use]
    pub fn new(code: InfoCode, message: impl Into<String>) -> Self {
        Self { code, params: Vec::new(), message: message.into() }
    }
}

impl From<InfoCode> for Info {
    /// The info with the code's own text.
    fn from(code: InfoCode) -> Self {
        Self::new(code, code.message())
    }
}

/// The codes that this server sends. The protocol's own come first; clients show the text of those they do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum InfoCode {
    /// The login was not confirmed in time, or its poll token is unknown.
    AuthTimeout,
    /// The login failed on our side.
    AuthInternalError,
    /// No such session.
    RoomNotFound,
    /// No such join request.
    JoinRequestNotFound,
    /// The host did not answer in time.
    JoinTimeout,
    /// The host refused.
    JoinRejected,
    /// The host has not answered yet.
    WaitingForHost,
    /// Label of the form login.
    UnverifiedLoginLabel,
    /// Details of the form login.
    UnverifiedLoginDetails,
    /// Group of the form login.
    BuiltinsGroup,
    /// Label of the user's name.
    UsernameLabel,
    /// Hint in the field of the user's name.
    UsernamePlaceholder,
    /// Label of the user's address.
    EmailLabel,
    /// Hint in the field of the user's address.
    EmailPlaceholder,
    /// Group of the logins with a provider.
    ThirdParty,
    /// Ours: label of the login with a provider.
    SignOnLabel,
    /// Ours: no valid login.
    Forbidden,
    /// Ours: the request cannot be read.
    BadRequest,
    /// Ours: the session has as many peers or join requests as it may have.
    SessionFull,
    /// Ours: this node has as much of something as it may have.
    ServerFull,
    /// Ours: the server takes no new sessions at the moment.
    ServerDraining,
    /// Ours: nobody can answer at the moment.
    Unavailable,
    /// Ours: the server's license has ended.
    LicenseExpired,
    /// Ours: the server's license is not good.
    LicenseInvalid,
    /// Ours: as many people are connected as the server is licensed for.
    SeatsTaken,
}

impl InfoCode {
    /// The English text that goes with the code.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::AuthTimeout => "Authentication timed out",
            Self::AuthInternalError => "Internal authentication server error",
            Self::RoomNotFound => "Room not found",
            Self::JoinRequestNotFound => "Join request not found or request timed out",
            Self::JoinTimeout => "Join request has timed out",
            Self::JoinRejected => "Join request has been rejected",
            Self::WaitingForHost => "Waiting for host to accept join request",
            Self::UnverifiedLoginLabel => "Unverified",
            Self::UnverifiedLoginDetails => "Login with a user name and an optional email address",
            Self::BuiltinsGroup => "Builtins",
            Self::UsernameLabel => "Username",
            Self::UsernamePlaceholder => "Your user name that will be shown to all session participants",
            Self::EmailLabel => "Email",
            Self::EmailPlaceholder => "Your email that will be shown to the host when joining the session",
            Self::ThirdParty => "Third-party",
            Self::SignOnLabel => "Single sign-on",
            Self::Forbidden => "Please log in first",
            Self::BadRequest => "The request cannot be read",
            Self::SessionFull => "The session is full, please try again later",
            Self::ServerFull => "The server is full, please try again later",
            Self::ServerDraining => "The server takes no new sessions at the moment, please try again later",
            Self::Unavailable => "The server is not available at the moment, please try again later",
            Self::LicenseExpired => "The license of this server has ended. Please ask its operator to renew it",
            Self::LicenseInvalid => "The license of this server is not valid. Please tell its operator",
            Self::SeatsTaken => "All connections that this server is licensed for are in use",
        }
    }
}

impl fmt::Display for InfoCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}
