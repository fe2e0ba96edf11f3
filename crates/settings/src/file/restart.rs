//! `[restart]`: how the processes of a machine are restarted.

use super::units::{hours, minutes, seconds};
use crate::cron::CronPattern;
use crate::reader::Reader;
use crate::settled::RestartSettings;
use crate::value::{Value, Written};

pub(super) fn restart(reader: &mut Reader) -> RestartSettings {
    let mut section = reader.section(
        "restart",
        "How `ctedge restart` and the periodic restart replace the processes of `ctedge up`, one after the other, \
         without ending a session.",
    );
    let schedule = section.read(
        "schedule",
        "When everything is restarted by itself, like \"0 4 * * 0\" for Sundays at 4: a crontab's minute, hour, day of \
         month, month and weekday, in log.time_zone. Minutes in a row are one occasion: \"* 11 * * 0\" restarts once, at \
         11:00. \"\" switches it off. CT_AUTO_RESTART_CRON_PATTERN overrides it.",
        None,
        |schedule: &Option<CronPattern>| match schedule {
            Some(pattern) if pattern.names_every_minute() => {
                Err("names every minute, so that there is no occasion to restart at; write one like \"0 4 * * 0\"".into())
            }
            _ => Ok(()),
        },
    );
    let disabled = section.any(
        "disabled",
        "Whether the schedule is switched off, whatever it says. CT_AUTO_RESTART_DISABLED overrides it.",
        false,
    );
    RestartSettings {
        schedule: schedule.filter(|_| !disabled),
        handoff: section.within(
            "handoff",
            "How long a node may go on without handing a session off until it is told to stop. Many sessions take longer in all, \
             at the pace of node.drain.handoffs_per_second.",
            minutes(2),
            seconds(0)..=hours(1),
        ),
        ready: section.within(
            "ready",
            "How long a process that was started may take until it serves; then the restart ends there.",
            minutes(1),
            seconds(1)..=hours(1),
        ),
    }
}

impl Written for CronPattern {
    fn read(value: &Value) -> Result<Self, String> {
        String::read(value)?.parse()
    }

    fn write(&self) -> String {
        self.as_str().to_owned().write()
    }
}
