//! What a run found: for people as text, for scripts as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::processes::{CpuTime, Memory};

/// The longest latency that is told apart, one minute; what is longer counts as that.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// Everything that a run found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    pub(crate) target: String,
    /// What is counted: a request, a round trip, a delivery.
    pub(crate) operation: &'static str,
    /// How many of them fell into the measured time.
    pub(crate) operations: u64,
    pub(crate) measured_s: f64,
    pub(crate) per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_cpu: Option<CpuReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_cpu: Option<CpuReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<MemoryReport>,
    /// Other figures of the scenario.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// How many keys or rooms each node answered for, where the server says which node it was.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) nodes: BTreeMap<String, u64>,
    /// What each event did, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) events: Vec<EventReport>,
    /// What must be zero.
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// The first few of them in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) fault_examples: Vec<String>,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Latency {
    /// Whether every latency counts from the time at which its operation was due, however late it was sent. Without a
    /// schedule, a slow server slows the questions down as well, and the percentiles flatter it.
    pub(crate) from_schedule: bool,
    pub(crate) mean_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    /// How late the tool itself sent, at the 99th percentile: the part of the latency that is not the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) send_lag_p99_us: Option<f64>,
}

/// CPU time per operation in microseconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CpuReport {
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    pub(crate) total_us: f64,
    /// How many cores were busy on average.
    pub(crate) cores: f64,
}

/// What happened from one event of a churn run to the next.
#[derive(Debug, Default, Serialize)]
pub(crate) struct EventReport {
    pub(crate) event: String,
    pub(crate) at_s: f64,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// The longest silence that each peer of a session with a cut transport lived through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pause: Option<Latency>,
}

/// Memory of the server before the connections, with all of them idle, and per connection.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct MemoryReport {
    pub(crate) before: Memory,
    pub(crate) with_connections: Memory,
    pub(crate) connections: u64,
    pub(crate) pss_bytes_per_connection: f64,
    pub(crate) rss_bytes_per_connection: f64,
}

/// A histogram of latencies in nanoseconds, three digits exact.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, LATENCY_MAX_NS, 3).expect("the bounds are constants and valid")
}

/// Adds a latency.
pub(crate) fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1_000));
}

impl Latency {
    /// `None` of an empty histogram.
    pub(crate) fn of(
        latencies: &Histogram<u64>,
        from_schedule: bool,
        send_lags: Option<&Histogram<u64>>,
    ) -> Option<Self> {
        if latencies.is_empty() {
            return None;
        }
        let at = |histogram: &Histogram<u64>, quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Some(Self {
            from_schedule,
            mean_us: latencies.mean() / 1e3,
            p50_us: at(latencies, 0.5),
            p90_us: at(latencies, 0.9),
            p99_us: at(latencies, 0.99),
            p999_us: at(latencies, 0.999),
            max_us: latencies.max() as f64 / 1e3,
            send_lag_p99_us: send_lags.map(|lags| at(lags, 0.99)),
        })
    }
}

impl CpuReport {
    pub(crate) fn of(used: CpuTime, operations: u64, elapsed: Duration) -> Self {
        let per_operation = |time: Duration| time.as_secs_f64() * 1e6 / operations.max(1) as f64;
        let total = used.user + used.system;
        Self {
            user_us: per_operation(used.user),
            system_us: per_operation(used.system),
            total_us: per_operation(total),
            cores: total.as_secs_f64() / elapsed.as_secs_f64().max(1e-9),
        }
    }
}

impl MemoryReport {
    pub(crate) fn of(before: Memory, with_connections: Memory, connections: u64) -> Self {
        let per_connection = |after: u64, before: u64| (after as f64 - before as f64) / connections.max(1) as f64;
        Self {
            before,
            with_connections,
            connections,
            pss_bytes_per_connection: per_connection(with_connections.pss_bytes, before.pss_bytes),
            rss_bytes_per_connection: per_connection(with_connections.rss_bytes, before.rss_bytes),
        }
    }
}

/// How many faults are told in words.
const FAULT_EXAMPLES_MAX: usize = 5;

impl Report {
    /// Counts a fault and keeps the first few descriptions.
    pub(crate) fn fault(&mut self, name: &'static str, description: impl FnOnce() -> String) {
        *self.faults.entry(name).or_default() += 1;
        if self.fault_examples.len() < FAULT_EXAMPLES_MAX {
            self.fault_examples.push(description());
        }
    }

    /// Whether nothing went wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.faults.values().all(|count| *count == 0)
    }

    /// The measured part: operations in a time.
    pub(crate) fn set_operations(&mut self, operations: u64, measured: Duration) {
        self.operations = operations;
        self.measured_s = measured.as_secs_f64();
        self.per_second = operations as f64 / measured.as_secs_f64().max(1e-9);
    }

    /// The report for people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{} against {}", self.scenario, self.target)?;
        let (operations, seconds) = (self.operations, self.measured_s);
        writeln!(out, "  {operations} × {} in {seconds:.2} s = {:.0} per second", self.operation, self.per_second)?;
        if let Some(latency) = &self.latency {
            let Latency { mean_us, p50_us, p90_us, p99_us, p999_us, max_us, .. } = latency;
            let basis = if latency.from_schedule { "from the schedule" } else { "closed loop, no schedule" };
            writeln!(
                out,
                "  latency µs   mean {mean_us:.0}, p50 {p50_us:.0}, p90 {p90_us:.0}, p99 {p99_us:.0}, p99.9 {p999_us:.0}, max {max_us:.0} ({basis})"
            )?;
            if let Some(lag) = latency.send_lag_p99_us {
                writeln!(out, "  sent late µs p99 {lag:.0} (the tool's own part of the latency)")?;
            }
        }
        for (name, cpu) in [("server CPU", &self.server_cpu), ("tool CPU  ", &self.tool_cpu)] {
            if let Some(CpuReport { user_us, system_us, total_us, cores }) = cpu {
                let operation = self.operation;
                writeln!(
                    out,
                    "  {name}   {total_us:.2} µs per {operation} (user {user_us:.2}, system {system_us:.2}), {cores:.2} cores"
                )?;
            }
        }
        if let Some(memory) = &self.memory {
            let MemoryReport { connections, pss_bytes_per_connection: pss, rss_bytes_per_connection: rss, .. } = memory;
            writeln!(
                out,
                "  memory       {pss:.0} bytes (PSS), {rss:.0} (RSS) for each of {connections} idle connections"
            )?;
        }
        for (heading, counts) in [("counts", &self.counts), ("faults", &self.faults)] {
            let list: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            if !list.is_empty() {
                writeln!(out, "  {heading}       {}", list.join(", "))?;
            }
        }
        if !self.nodes.is_empty() {
            let list: Vec<String> = self.nodes.iter().map(|(node, count)| format!("{node} {count}")).collect();
            writeln!(out, "  by node      {}", list.join(", "))?;
        }
        for EventReport { event, at_s, counts, pause } in &self.events {
            let list: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            writeln!(out, "  {at_s:>6.1} s {event}: {}", list.join(", "))?;
            if let Some(Latency { p50_us, p99_us, max_us, .. }) = pause {
                let ms = |us: &f64| us / 1e3;
                writeln!(
                    out,
                    "           pause ms p50 {:.0}, p99 {:.0}, max {:.0}",
                    ms(p50_us),
                    ms(p99_us),
                    ms(max_us)
                )?;
            }
        }
        for example in &self.fault_examples {
            writeln!(out, "  fault: {example}")?;
        }
        writeln!(out, "  {}", if self.is_clean() { "all accounted for" } else { "FAULTY" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_clean_until_a_fault_is_counted() {
        let mut report = Report::default();
        report.faults.insert("lost", 0);
        assert!(report.is_clean());
        report.fault("lost", || "message 7".into());
        assert!(!report.is_clean());
        assert!(report.text().contains("FAULTY") && report.text().contains("message 7"));
    }

    #[test]
    fn cpu_is_told_per_operation_and_as_busy_cores() {
        let used = CpuTime { user: Duration::from_millis(200), system: Duration::from_millis(300) };
        let cpu = CpuReport::of(used, 1000, Duration::from_secs(1));
        assert!(
            (cpu.user_us - 200.0).abs() < 1e-6 && (cpu.total_us - 500.0).abs() < 1e-6 && (cpu.cores - 0.5).abs() < 1e-6
        );
    }
}
