//! The measured part of a run: from its opening to its closing, how many operations there were and what they cost.

use std::time::Instant;

use anyhow::Result;

use crate::processes::{self, CpuTime, ServerArguments};
use crate::report::{CpuReport, Report};

/// The state of everything at the opening.
pub(crate) struct Window {
    opened: Instant,
    operations: u64,
    server: CpuTime,
    own: CpuTime,
}

impl Window {
    /// Opens it when `operations` have been completed.
    pub(crate) fn open(server: &ServerArguments, operations: u64) -> Result<Self> {
        Ok(Self { opened: Instant::now(), operations, server: server.cpu()?, own: processes::own_cpu()? })
    }

    /// Closes it when `operations` have been completed, and writes the differences into the report.
    pub(crate) fn close(self, server: &ServerArguments, operations: u64, report: &mut Report) -> Result<()> {
        let elapsed = self.opened.elapsed();
        let (server_used, own_used) = (server.cpu()?.since(self.server), processes::own_cpu()?.since(self.own));
        let operations = operations - self.operations;
        report.set_operations(operations, elapsed);
        if operations > 0 {
            report.tool_cpu = Some(CpuReport::of(own_used, operations, elapsed));
            report.server_cpu = server.is_known().then(|| CpuReport::of(server_used, operations, elapsed));
        }
        Ok(())
    }
}
