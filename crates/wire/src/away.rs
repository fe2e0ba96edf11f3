//! What a balancer says within a client's WebSocket.

/// The payload of a ping, put between two frames of the client: the node is to send this client away, as it does when a
/// session moves, and reads on until the client has closed. So nothing is lost that a balancer's own close frame would
/// have crossed. A server that does not know the word answers a pong, which no client minds. Who sends it without being a
/// balancer harms nobody else.
pub const SEND_AWAY: &[u8] = b"ctedge send away";
