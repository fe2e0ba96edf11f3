//! Sends figures to a StatsD server: each node its own, and the first of all nodes the sums, so that whoever draws them
//! gets one value for each and not one from each node.

use std::sync::Arc;
use std::time::Duration;

use ctedge_settings::{StatsdProtocol, StatsdSettings};
use ctedge_telemetry::{Naming, Protocol, Sender};
use tokio::time::{MissedTickBehavior, interval};

use crate::app::App;

/// How long a node that stops tries to send its last point.
const LAST_MAX: Duration = Duration::from_millis(500);

/// Sends until it is dropped.
pub(crate) async fn send(app: Arc<App>, settings: StatsdSettings) {
    let (mut sender, naming) = sender(&settings);
    let mut ticks = interval(settings.interval);
    // A point that is late is not followed by two at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if app.hub.status().is_stopping() {
            // The last point is sent; nothing may come behind it.
            continue;
        }
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

/// Sends the last point of a node that stops. A StatsD server repeats what a gauge had last, so that the sessions of a
/// node that is gone would be drawn for ever.
pub(crate) async fn send_last(app: &App) {
    let Some(settings) = &app.settings().metrics.statsd else { return };
    let (mut sender, naming) = sender(settings);
    let (own, sum) = app.last_figures().await;
    let mut lines = naming.of_node(&app.settings().id, &own);
    lines.extend(sum.iter().flat_map(|sum| naming.of_all(sum)));
    // A receiver that is away is no reason to stop late.
    let _ = tokio::time::timeout(LAST_MAX, sender.send(&lines)).await;
}

fn sender(settings: &StatsdSettings) -> (Sender, Naming) {
    let protocol = match settings.protocol {
        StatsdProtocol::Udp => Protocol::Udp,
        StatsdProtocol::Tcp => Protocol::Tcp,
    };
    let naming = Naming { prefix: settings.prefix.clone(), tags: settings.tags };
    (Sender::new(&settings.host, settings.port, protocol), naming)
}
