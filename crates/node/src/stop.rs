//! A switch that is thrown once, and the signals that wait for it.

use tokio::sync::watch;

/// Throws the switch.
#[derive(Debug)]
pub struct StopSwitch(watch::Sender<bool>);

/// Waits for the switch. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StopSignal(watch::Receiver<bool>);

impl StopSwitch {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    pub(crate) fn signal(&self) -> StopSignal {
        StopSignal(self.0.subscribe())
    }

    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.0.borrow()
    }
}

impl StopSignal {
    /// Completes when the switch has been thrown; at once when it was thrown before. Cancel safe.
    pub async fn stopped(&mut self) {
        // An error means that the switch is gone, and with it what it stops.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }

    /// Whether the switch has been thrown.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.0.borrow()
    }
}
