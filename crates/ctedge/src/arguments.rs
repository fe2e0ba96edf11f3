//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ctedge_settings::DRAIN_DEADLINE_MAX;

use crate::clients::ClientsCommand;
use crate::doctor::DoctorOptions;
use crate::license::arguments::LicenseCommand;
use crate::versions::VersionsOptions;

/// The CodeTogether edge: one public endpoint that pins every session to one of several nodes.
///
/// `ctedge up` runs all of it on one machine. `ctedge balancer` and `ctedge node` run one role each. The other commands
/// ask or change what runs, or look at a settings file.
#[derive(Debug, Parser)]
#[command(name = "ctedge", version, propagate_version = true, subcommand_required = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed (the reason is on stderr), 2 the command line is wrong.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a balancer and nodes on this machine, and keep them running
    ///
    /// Makes what is missing (data folder, cluster secret, self-signed certificate), says where everything is, and
    /// then `ready`. SIGHUP, or a change of the file, reads the settings again; SIGUSR1 opens all log files again
    /// after a rotation; SIGTERM and Ctrl-C stop everything in order, a second one at once.
    Up(UpOptions),
    /// Run one balancer
    ///
    /// SIGHUP, or a change of the file, reads the settings again without dropping a connection; SIGUSR1 opens its
    /// log files again after a rotation; SIGTERM stops in order.
    Balancer(BalancerOptions),
    /// Run one node
    ///
    /// The node is one of those listed below [[nodes]] in the settings file. SIGHUP, or a change of the file, reads the settings
    /// again; SIGUSR1 opens its log files again after a rotation; SIGTERM stops in order.
    Node(NodeOptions),
    /// Look for faults in a settings file; all are shown, with their lines
    CheckConfig {
        /// The settings file
        file: PathBuf,
    },
    /// Print a settings file with every setting, its meaning and its default
    DefaultConfig,
    /// Show the balancer and its nodes
    Status(AdminOptions),
    /// Say which node a key goes to, and why
    Explain {
        /// The key: what clients send as ctstickiness, and a session's room id
        key: String,
        #[command(flatten)]
        admin: AdminOptions,
    },
    /// Let a node give its sessions up and end
    ///
    /// New sessions go elsewhere from the start on; those that the node has go on there until the deadline, and are then handed
    /// to other nodes without ending. At zero the node's process ends; `ctedge start NODE` brings it back. Until the
    /// handing over begins, `ctedge resume NODE` takes the order back.
    Drain {
        /// The node's id, as `ctedge status` shows it
        node: String,
        #[command(flatten)]
        drain: DrainOptions,
        #[command(flatten)]
        admin: AdminOptions,
    },
    /// Say beforehand what an order would touch
    #[command(subcommand)]
    Plan(PlanCommand),
    /// Let a node take no more sessions for a while
    Suspend {
        /// The node's id, as `ctedge status` shows it
        node: String,
        #[command(flatten)]
        admin: AdminOptions,
    },
    /// Let a node take sessions again
    Resume {
        /// The node's id, as `ctedge status` shows it
        node: String,
        #[command(flatten)]
        admin: AdminOptions,
    },
    /// Read the settings again
    ///
    /// Everything that runs looks at its settings file once a second; this does not wait for that, and says what is in force,
    /// and what only a restart brings into force. Under `ctedge up` it is the whole edge that reads again, otherwise the balancer
    /// alone: each node looks at its own file, or gets SIGHUP.
    Reload(AdminOptions),
    /// List the processes of this machine: what, since when, and where their logs are
    List(ProcessOptions),
    /// Start what has stopped or was drained
    Start {
        /// A node's id, or `balancer` [default: everything that does not run]
        name: Option<String>,
        #[command(flatten)]
        processes: ProcessOptions,
    },
    /// Stop in order; a node hands its sessions over
    Stop {
        /// A node's id, or `balancer` [default: everything, and `ctedge up` too]
        name: Option<String>,
        #[command(flatten)]
        processes: ProcessOptions,
    },
    /// Restart without ending a session, one process after the other
    ///
    /// Each node hands its sessions over, ends, and is started again; the next one waits until it serves. The balancer
    /// goes last: another one takes over its sockets, so that nobody is refused, and open tunnels stay in the one before
    /// (balancer.timeouts.retire). A newer program in the place of this one is what is started. A process that does not
    /// come back ends the restart, with the rest left alone.
    Restart {
        /// A node's id, or `balancer` [default: everything]
        name: Option<String>,
        #[command(flatten)]
        processes: ProcessOptions,
    },
    /// Add clients to the downloads at /clients, and show what there is
    #[command(subcommand)]
    Clients(ClientsCommand),
    /// List the published versions, the newest first; a star marks the one of this program
    Versions(VersionsOptions),
    /// Look for what is wrong with a deployment, and say what to do about it
    ///
    /// Ports, the certificate, requests, long polls and WebSockets through the public URL, whether two clients of one key
    /// come to one node and meet in one session, nodes, store, license, clocks. Also in front of another balancer: with
    /// --url alone nothing but that URL is looked at. Ends with 1 when something is wrong.
    Doctor(DoctorOptions),
    /// Make keys, sign licenses, and say what a license is worth
    #[command(subcommand)]
    License(LicenseCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// How many sessions and peers a drain of a node would move, and where to
    Drain {
        /// The node's id, as `ctedge status` shows it
        node: String,
        #[command(flatten)]
        admin: AdminOptions,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DrainOptions {
    /// How long sessions may go on there, like 30s, 10m or 2h, at most 240h; `none` waits for their end [default: node.drain.deadline]
    #[arg(long, value_name = "TIME", value_parser = deadline)]
    pub(crate) deadline: Option<Deadline>,
    /// Hand everything over at once
    #[arg(long, conflicts_with = "deadline")]
    pub(crate) now: bool,
    /// Wait until the node has ended, and show how far it is
    #[arg(long)]
    pub(crate) wait: bool,
}

/// When a draining node begins to hand its sessions over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deadline {
    Seconds(u64),
    None,
}

fn deadline(text: &str) -> Result<Deadline, String> {
    if text == "none" {
        return Ok(Deadline::None);
    }
    let units = [("s", 1), ("m", 60), ("h", 3600)];
    let seconds = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*seconds)
    });
    let seconds = seconds.ok_or("write a time like 30s, 10m or 2h, or none")?;
    let most = DRAIN_DEADLINE_MAX.as_secs();
    if seconds > most {
        return Err(format!("the longest is {}h; `none` waits for the end of all sessions", most / 3600));
    }
    Ok(Deadline::Seconds(seconds))
}

/// Where the supervisor of the processes is found.
#[derive(Debug, Args)]
pub(crate) struct ProcessOptions {
    /// The data folder of the edge [default: what the balancer at --admin says, or else ctedge-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) admin: AdminOptions,
}

/// Each option counts more than the same setting of the file.
#[derive(Debug, Args)]
pub(crate) struct UpOptions {
    /// The settings file; without one everything has its default
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How many nodes to run [default: 3]
    #[arg(long, value_name = "N")]
    pub(crate) nodes: Option<u16>,
    /// The folder of everything that is written [default: ctedge-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Where clients reach plain HTTP [default: 0.0.0.0:1080]; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<SocketAddr>,
    /// Where clients reach HTTPS [default: 0.0.0.0:1443]; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub(crate) https: Option<SocketAddr>,
    /// Where the operator's commands reach the balancer [default: 127.0.0.1:1090]
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,
    /// The port of the first node, the others follow [default: 3001]; 0 takes free ones
    #[arg(long, value_name = "PORT")]
    pub(crate) node_base_port: Option<u16>,
    /// Tell clients in a header `x-ctedge-node` which node answered
    #[arg(long)]
    pub(crate) expose_node: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BalancerOptions {
    /// The settings file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The process id of the supervisor that started this one
    #[arg(long, hide = true)]
    pub(crate) supervisor: Option<u32>,
    /// Accept from the sockets that the supervisor put into the standard input
    #[arg(long, hide = true, requires = "supervisor")]
    pub(crate) inherit: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NodeOptions {
    /// The settings file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Which of the nodes below [[nodes]] this one is
    #[arg(long, value_name = "ID")]
    pub(crate) id: String,
    /// The process id of the supervisor that started this one
    #[arg(long, hide = true)]
    pub(crate) supervisor: Option<u32>,
    /// The number that tells this process from all others of the node [default: a random one]
    #[arg(long, hide = true, value_name = "N")]
    pub(crate) incarnation: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct AdminOptions {
    /// The balancer's admin API
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1090")]
    pub(crate) admin: SocketAddr,
    /// The admin API's token, where it asks for one
    #[arg(long, value_name = "TOKEN", env = "CTEDGE_ADMIN_TOKEN", hide_env_values = true)]
    pub(crate) admin_token: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_deadline_has_a_unit() {
        assert_eq!(deadline("90s"), Ok(Deadline::Seconds(90)));
        assert_eq!(deadline("10m"), Ok(Deadline::Seconds(600)));
        assert_eq!(deadline("2h"), Ok(Deadline::Seconds(7200)));
        assert_eq!(deadline("none"), Ok(Deadline::None));
        for wrong in ["", "10", "m", "-1s", "1d", "99999999999999999999h", "18446744073709551615h"] {
            assert!(deadline(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(deadline("240h"), Ok(Deadline::Seconds(864_000)));
        for long in ["864001s", "241h", "18446744073709551615s"] {
            assert!(deadline(long).is_err_and(|error| error.contains("240h")), "{long:?}");
        }
    }

    #[test]
    fn operators_reach_the_default_admin_address_unless_told_otherwise() {
        let Command::Status(admin) = Arguments::parse_from(["ctedge", "status"]).command else { panic!("not status") };
        assert_eq!(admin.admin.to_string(), "127.0.0.1:1090");
        let arguments = Arguments::parse_from(["ctedge", "explain", "room", "--admin", "127.0.0.1:7", "--json"]);
        let Command::Explain { key, admin } = arguments.command else { panic!("not explain") };
        assert_eq!((key.as_str(), admin.admin.port(), admin.json), ("room", 7, true));
    }
}
