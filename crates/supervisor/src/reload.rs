//! Reading the settings again while everything runs.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{sleep, timeout};

use crate::edge::{BALANCER, Edge, LOOK};
use crate::plan::carry_out;

/// How long a reload waits for a child that was started, or for the balancer to let go of a node.
const RELOAD_MAX: Duration = Duration::from_secs(10);

impl Edge {
    /// Reads the settings again. Wrong ones change nothing.
    pub(crate) async fn reload(&self) {
        let planned = self.settler.lock().plan(self.around.load.as_ref(), &self.data);
        let plan = match planned.and_then(|plan| carry_out(&plan, &self.data).map(|_| plan)) {
            Ok(plan) => plan,
            Err(error) => {
                tracing::error!("the changed settings are not taken over, what runs goes on: {error:#}");
                return;
            }
        };
        let before = self.plan();
        let added: Vec<_> = plan.nodes.keys().filter(|id| !before.nodes.contains_key(*id)).cloned().collect();
        let removed: Vec<_> = before.nodes.keys().filter(|id| !plan.nodes.contains_key(*id)).cloned().collect();
        let addresses = plan.nodes.clone();
        self.set_plan(plan);

        for id in &added {
            if let Err(error) = self.start(id) {
                tracing::error!("{id} cannot be started: {error:#}");
                continue;
            }
            let _ = timeout(RELOAD_MAX, async {
                while tokio::net::TcpStream::connect(addresses[id]).await.is_err() {
                    sleep(LOOK).await;
                }
            })
            .await;
        }
        self.signal(BALANCER, Signal::HUP);
        for id in &removed {
            // The balancer lets go first, so that no request finds the node gone.
            let _ = timeout(RELOAD_MAX, async {
                while self.view().await.is_none_or(|view| view.nodes.contains_key(id)) {
                    sleep(LOOK).await;
                }
            })
            .await;
            self.stop_child(id).await;
            self.remove(id);
        }
        tracing::info!(?added, ?removed, "the settings were read again");
    }
}
