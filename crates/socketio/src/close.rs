//! Why a session is over.

/// Why a session is over. A stranger's mistake is a value of this, never a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CloseReason {
    /// The peer closed the Engine.IO session, or its transport.
    #[error("the peer closed the transport")]
    ClosedByPeer,
    /// The peer sent a Socket.IO DISCONNECT.
    #[error("the peer disconnected")]
    Disconnected,
    /// No pong in time.
    #[error("the peer did not answer a ping in time")]
    PingTimeout,
    /// No CONNECT in time.
    #[error("the peer connected to no namespace in time")]
    ConnectTimeout,
    /// The server refused the CONNECT.
    #[error("the connect was refused")]
    Refused,
    /// Two polling requests of one kind at once, which leaves the order of their contents open.
    #[error("two polling requests overlapped")]
    Overlap,
    /// The peer broke the protocol.
    #[error("malformed input: {0}")]
    Malformed(Fault),
}

/// What was wrong with the peer's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// An empty packet, or a type that does not exist or that only a server may send.
    #[error("unexpected Engine.IO packet")]
    EngineType,
    /// In Engine.IO 4 the server pings.
    #[error("a ping from the client")]
    Heartbeat,
    /// A Socket.IO packet type that does not exist or that only a server may send.
    #[error("unexpected Socket.IO packet")]
    SocketType,
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    Utf8,
    /// A packet whose JSON cannot be read or does not fit its type.
    #[error("unreadable JSON in a packet")]
    Json,
    /// A missing, zero or unreadable number of attachments.
    #[error("unreadable number of attachments")]
    Attachments,
    /// More than [`crate::ATTACHMENTS_MAX`] attachments.
    #[error("more than {} attachments", crate::ATTACHMENTS_MAX)]
    TooManyAttachments,
    /// A packet while attachments of the one before are still to come.
    #[error("a packet in place of an attachment")]
    AttachmentMissing,
    /// Binary data that no packet announced.
    #[error("an attachment without its packet")]
    AttachmentUnannounced,
    /// Binary data in a payload that is not Base64.
    #[error("unreadable Base64")]
    Base64,
    /// A namespace that is too long or has control characters.
    #[error("unusable namespace")]
    Namespace,
    /// A packet of a namespace that the peer is not connected to.
    #[error("a packet outside a connected namespace")]
    NotConnected,
    /// More CONNECTs to further namespaces than are answered, because nobody fetches the answers.
    #[error("too many connects to further namespaces")]
    TooManyConnects,
    /// A CONNECT larger than [`crate::CONNECT_BYTES_MAX`].
    #[error("an oversized CONNECT")]
    ConnectTooLarge,
}

impl From<Fault> for CloseReason {
    fn from(fault: Fault) -> Self {
        Self::Malformed(fault)
    }
}

impl CloseReason {
    /// A word for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClosedByPeer => "closed_by_peer",
            Self::Disconnected => "disconnected",
            Self::PingTimeout => "ping_timeout",
            Self::ConnectTimeout => "connect_timeout",
            Self::Refused => "refused",
            Self::Overlap => "overlap",
            Self::Malformed(_) => "malformed",
        }
    }
}
