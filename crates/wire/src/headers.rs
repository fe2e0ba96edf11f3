//! Header names between clients, balancer and node. All lower-case, as HTTP/2 has them.

/// The stickiness value, from IDE clients to the balancer and from the balancer to the node.
/// The cookie and the query parameter of browsers have the same name.
pub const KEY: &str = "ctstickiness";

/// On a 421: the key that the request belongs to. The balancer places the request again by it.
pub const REDIRECT_KEY: &str = "x-ctedge-key";

/// On a 421: the id of the node that owns the key.
pub const REDIRECT_OWNER: &str = "x-ctedge-owner";

/// On a 421 with an owner: where the owner listens, `IP:PORT`, so that a balancer whose list of nodes is stale still
/// gets there.
pub const REDIRECT_ADDRESS: &str = "x-ctedge-address";

/// The epoch of an ownership, a decimal number: on a 421 with an owner that owner's, and on what a node answers as the
/// owner of a key its own.
pub const EPOCH: &str = "x-ctedge-epoch";

/// On what a node answers as the owner of a key: the node's id. The balancer takes it off again, except where the
/// operator wants clients to see which node answered (`--expose-node`).
pub const NODE: &str = "x-ctedge-node";

/// From the balancer to a node: the ids of the nodes that it could not connect to, as [`crate::unreachable`] writes them.
/// A node that would send the request on to one of them waits until that one has proven to be gone instead.
pub const UNREACHABLE: &str = "x-ctedge-unreachable";

/// What a download is, for whoever owns the client's socket: that end alone can know whether the client has it all. On a
/// request it says that the balancer will tell; on the answer it is what the balancer then posts to [`DOWNLOADED_PATH`], in
/// this header, of whichever node.
pub const DOWNLOAD: &str = "x-ctedge-download";

/// On a request of a client that polls, from a balancer that ends: the node is to send the client away, for it would find a
/// closed port with what it says later.
pub const LEAVING: &str = "x-ctedge-leaving";

/// On a node's refusal of a connection for want of room: whose it is, in the words of logs. Others learn from it that the lease
/// lives.
pub const LEASE: &str = "x-ctedge-lease";

/// The access token of the nodes' control endpoints below [`CONTROL_PATH`].
pub const CONTROL_TOKEN: &str = "x-ctedge-control";

/// The one id of a request, from the balancer to the node and into both logs.
pub const REQUEST_ID: &str = "x-request-id";

/// Every header with this prefix is internal: the balancer removes it from what clients send.
pub const INTERNAL_PREFIX: &str = "x-ctedge-";

/// The path prefix of the nodes' control endpoints. The balancer never lets it through from outside.
pub const CONTROL_PATH: &str = "/ct-control/";

/// Where a balancer tells that a client has the whole of a download.
pub const DOWNLOADED_PATH: &str = "/ct-control/downloaded";

/// The path prefix of what may be downloaded.
pub const CLIENTS_PATH: &str = "/clients/";

/// Where a balancer asks a node whether a key is its own, with [`KEY`], [`UNREACHABLE`] and the query of the request that it
/// is about to send: 204 says that the request may come (the key is the node's, or nobody's), 421 whose it is, 503 that
/// nobody can say.
pub const OWNER_PATH: &str = "/ct-control/owner";

/// Where a balancer that ends tells a node to send a client away that polls, with the query of the request that waits there:
/// see [`LEAVING`].
pub const LEAVE_PATH: &str = "/ct-control/leave";

/// The path of liveness and readiness, on balancer and node.
pub const HEALTH_PATH: &str = "/ct-health/";
