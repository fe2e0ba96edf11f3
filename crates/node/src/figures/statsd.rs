//! Sends figures to a StatsD server: each node its own, and the first of all nodes the sums, so that whoever draws them
//! gets one value for each and not one from each node.

use std::sync::Arc;

use ctedge_settings::{StatsdProtocol, StatsdSettings};
use ctedge_telemetry::{Naming, Protocol, Sender};
use tokio::time::{MissedTickBehavior, interval};

use crate::app::App;

/// Sends until it is dropped.
pub(crate) async fn send(app: Arc<App>, settings: StatsdSettings) {
    let StatsdSettings { host, port, protocol, prefix, tags, interval: pause } = settings;
    let protocol = match protocol {
        StatsdProtocol::Udp => Protocol::Udp,
        StatsdProtocol::Tcp => Protocol::Tcp,
    };
    let naming = Naming { prefix, tags };
    let mut sender = Sender::new(&host, port, protocol);
    let mut ticks = interval(pause);
    // A point that is late is not followed by two at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let own = app.own_figures();
        let mut lines = naming.of_node(&app.settings().id, &own);
        if let Some(sum) = app.sum_to_tell(&own).await {
            lines.extend(naming.of_all(&sum));
        }
        let dropped = sender.lines_dropped();
        sender.send(&lines).await;
        app.hub.metrics().statsd_lines_dropped.inc_by(sender.lines_dropped() - dropped);
    }
}
