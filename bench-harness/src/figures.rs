//! What a round shows: figures by name, each with a unit and a better side.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stats::Side;

/// One figure of a round. Its name in documents is that of the variant, in snake case unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Figure {
    MessagesPerSecond,
    /// Microseconds below which half of the answers came: from sending in closed loops, from when it was due in open
    /// ones.
    LatencyP50Us,
    LatencyP99Us,
    #[serde(rename = "latency_p99_9_us")]
    LatencyP999Us,
    /// In open loops, beside the latency: microseconds from when a message was sent.
    ServiceP50Us,
    ServiceP99Us,
    /// Where leaders are killed: milliseconds until a survivor noticed, until another one led, and until a write was
    /// acknowledged; of a round, the medians of its trials.
    DetectedMs,
    ElectedMs,
    FirstWriteMs,
    /// Likewise: writes around all deaths of a row that were acknowledged, and how many of those are gone.
    AcknowledgedWrites,
    LostWrites,
    /// CPU time of the server for a message, user and system.
    ServerCpuUsPerMessage,
    /// The share of a core that the server used.
    ServerCpuShare,
    /// How often the server's threads gave their core up or lost it, for a message.
    ContextSwitchesPerMessage,
    /// System calls of the server for a message: counted in a round of its own behind the others, since counting takes
    /// time.
    SyscallsPerMessage,
    /// What a ring of the server told for a message, counted likewise; servers without one have none.
    CompletionsPerMessage,
    /// How often the server asked for memory, new or more of it, for a message, counted likewise.
    AllocationsPerMessage,
    /// Memory of the server that is resident behind the measured span.
    ResidentBytes,
    /// Bytes by which idle connections made the server grow.
    GrowthBytes,
    /// The share of its time in which the load had something to do.
    LoadBusyShare,
    /// The share of a core that the load used.
    LoadCpuShare,
    /// Rounds of a cluster that were begun again, since its leader was deposed; of a row, those of all rounds together.
    RepeatedRounds,
}

/// The figures of a round; those that it does not tell are missing.
pub(crate) type Round = BTreeMap<Figure, f64>;

/// Figures of the slices of a round, in their order.
pub(crate) type Slices = BTreeMap<Figure, Vec<f32>>;

/// Which values are the better ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

/// All figures, in the order of columns.
pub(crate) const ALL: [Figure; 22] = [
    Figure::MessagesPerSecond,
    Figure::LatencyP50Us,
    Figure::LatencyP99Us,
    Figure::LatencyP999Us,
    Figure::ServiceP50Us,
    Figure::ServiceP99Us,
    Figure::DetectedMs,
    Figure::ElectedMs,
    Figure::FirstWriteMs,
    Figure::AcknowledgedWrites,
    Figure::LostWrites,
    Figure::ServerCpuUsPerMessage,
    Figure::ServerCpuShare,
    Figure::ContextSwitchesPerMessage,
    Figure::SyscallsPerMessage,
    Figure::CompletionsPerMessage,
    Figure::AllocationsPerMessage,
    Figure::ResidentBytes,
    Figure::GrowthBytes,
    Figure::LoadBusyShare,
    Figure::LoadCpuShare,
    Figure::RepeatedRounds,
];

const MIB: f64 = 1024.0 * 1024.0;

impl Figure {
    /// `None` of what is neither good nor bad.
    pub(crate) fn better(self) -> Option<Better> {
        match self {
            Self::MessagesPerSecond => Some(Better::More),
            Self::LatencyP50Us
            | Self::LatencyP99Us
            | Self::LatencyP999Us
            | Self::ServiceP50Us
            | Self::ServiceP99Us
            | Self::DetectedMs
            | Self::ElectedMs
            | Self::FirstWriteMs
            | Self::LostWrites
            | Self::ServerCpuUsPerMessage
            | Self::ContextSwitchesPerMessage
            | Self::SyscallsPerMessage
            | Self::CompletionsPerMessage
            | Self::AllocationsPerMessage
            | Self::ResidentBytes
            | Self::GrowthBytes => Some(Better::Less),
            Self::AcknowledgedWrites
            | Self::ServerCpuShare
            | Self::LoadBusyShare
            | Self::LoadCpuShare
            | Self::RepeatedRounds => None,
        }
    }

    /// What a comparison of it says.
    pub(crate) fn verdict(self, side: Side) -> Verdict {
        match (side, self.better()) {
            (Side::NotShown, _) | (_, None) => Verdict::NotShown,
            (Side::Above, Some(Better::More)) | (Side::Below, Some(Better::Less)) => Verdict::Better,
            (Side::Below, Some(Better::More)) | (Side::Above, Some(Better::Less)) => Verdict::Worse,
        }
    }

    /// A verdict about it in words.
    pub(crate) fn words(self, verdict: Verdict) -> &'static str {
        let is_time = matches!(
            self,
            Self::MessagesPerSecond
                | Self::LatencyP50Us
                | Self::LatencyP99Us
                | Self::LatencyP999Us
                | Self::ServiceP50Us
                | Self::ServiceP99Us
                | Self::DetectedMs
                | Self::ElectedMs
                | Self::FirstWriteMs
        );
        match (verdict, is_time) {
            (Verdict::NotShown, _) => "no difference shown",
            (Verdict::Better, true) => "faster",
            (Verdict::Worse, true) => "slower",
            (Verdict::Better, false) => "takes less",
            (Verdict::Worse, false) => "takes more",
        }
    }

    /// Its name as a heading, with the unit.
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::MessagesPerSecond => "messages/s",
            Self::LatencyP50Us => "p50 µs",
            Self::LatencyP99Us => "p99 µs",
            Self::LatencyP999Us => "p99.9 µs",
            Self::ServiceP50Us => "service p50 µs",
            Self::ServiceP99Us => "service p99 µs",
            Self::DetectedMs => "detected ms",
            Self::ElectedMs => "elected ms",
            Self::FirstWriteMs => "first write ms",
            Self::AcknowledgedWrites => "acknowledged",
            Self::LostWrites => "lost",
            Self::ServerCpuUsPerMessage => "CPU µs each",
            Self::ServerCpuShare => "server CPU",
            Self::ContextSwitchesPerMessage => "switches each",
            Self::SyscallsPerMessage => "syscalls each",
            Self::CompletionsPerMessage => "completions each",
            Self::AllocationsPerMessage => "allocations each",
            Self::ResidentBytes => "resident MiB",
            Self::GrowthBytes => "growth MiB",
            Self::LoadBusyShare => "load busy",
            Self::LoadCpuShare => "load CPU",
            Self::RepeatedRounds => "repeated",
        }
    }

    /// What its ratio is one of.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::MessagesPerSecond => "throughput",
            Self::LatencyP50Us => "p50",
            Self::LatencyP99Us => "p99",
            Self::LatencyP999Us => "p99.9",
            Self::ServiceP50Us => "service p50",
            Self::ServiceP99Us => "service p99",
            Self::DetectedMs => "detection",
            Self::ElectedMs => "election",
            Self::FirstWriteMs => "first write",
            Self::AcknowledgedWrites => "acknowledged writes",
            Self::LostWrites => "lost writes",
            Self::ServerCpuUsPerMessage => "CPU a message",
            Self::ServerCpuShare => "server CPU",
            Self::ContextSwitchesPerMessage => "switches",
            Self::SyscallsPerMessage => "syscalls",
            Self::CompletionsPerMessage => "completions",
            Self::AllocationsPerMessage => "allocations",
            Self::ResidentBytes => "memory",
            Self::GrowthBytes => "growth",
            Self::LoadBusyShare => "load busy",
            Self::LoadCpuShare => "load CPU",
            Self::RepeatedRounds => "repeated",
        }
    }

    /// Its name in documents.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::MessagesPerSecond => "messages_per_second",
            Self::LatencyP50Us => "latency_p50_us",
            Self::LatencyP99Us => "latency_p99_us",
            Self::LatencyP999Us => "latency_p99_9_us",
            Self::ServiceP50Us => "service_p50_us",
            Self::ServiceP99Us => "service_p99_us",
            Self::DetectedMs => "detected_ms",
            Self::ElectedMs => "elected_ms",
            Self::FirstWriteMs => "first_write_ms",
            Self::AcknowledgedWrites => "acknowledged_writes",
            Self::LostWrites => "lost_writes",
            Self::ServerCpuUsPerMessage => "server_cpu_us_per_message",
            Self::ServerCpuShare => "server_cpu_share",
            Self::ContextSwitchesPerMessage => "context_switches_per_message",
            Self::SyscallsPerMessage => "syscalls_per_message",
            Self::CompletionsPerMessage => "completions_per_message",
            Self::AllocationsPerMessage => "allocations_per_message",
            Self::ResidentBytes => "resident_bytes",
            Self::GrowthBytes => "growth_bytes",
            Self::LoadBusyShare => "load_busy_share",
            Self::LoadCpuShare => "load_cpu_share",
            Self::RepeatedRounds => "repeated_rounds",
        }
    }

    /// A value of it, in the unit of its heading.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::MessagesPerSecond if value < 10.0 => format!("{value:.2}"),
            Self::MessagesPerSecond => grouped(value),
            Self::LatencyP50Us | Self::LatencyP99Us | Self::LatencyP999Us | Self::ServiceP50Us | Self::ServiceP99Us => {
                if value >= 100.0 {
                    grouped(value)
                } else {
                    format!("{value:.1}")
                }
            }
            Self::DetectedMs | Self::ElectedMs | Self::FirstWriteMs => format!("{value:.1}"),
            Self::AcknowledgedWrites | Self::LostWrites | Self::RepeatedRounds => grouped(value),
            Self::ServerCpuUsPerMessage
            | Self::SyscallsPerMessage
            | Self::CompletionsPerMessage
            | Self::AllocationsPerMessage => format!("{value:.2}"),
            Self::ContextSwitchesPerMessage => format!("{value:.3}"),
            Self::ResidentBytes | Self::GrowthBytes => format!("{:.1}", value / MIB),
            Self::ServerCpuShare if value < 0.01 => format!("{:.2} %", value * 100.0),
            Self::ServerCpuShare | Self::LoadBusyShare | Self::LoadCpuShare => format!("{:.0} %", value * 100.0),
        }
    }
}

/// What a comparison says of a contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Better,
    Worse,
    /// The interval holds 1. Never said of a winner, however far the ratio is off.
    NotShown,
}

/// A whole number with its thousands apart.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::from(if number <= -0.5 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!(grouped(999.0), "999");
        assert_eq!(grouped(1_234_567.4), "1,234,567");
        assert_eq!(grouped(-4_000.0), "-4,000");
    }

    #[test]
    fn documents_name_figures_as_their_keys_do() {
        for figure in ALL {
            let name = serde_json::to_string(&figure).expect("a name is text");
            assert_eq!(name, format!("\"{}\"", figure.key()));
        }
    }

    #[test]
    fn less_of_a_cost_is_better() {
        let cpu = Figure::ServerCpuUsPerMessage;
        assert_eq!(cpu.words(cpu.verdict(Side::Below)), "takes less");
        assert_eq!(cpu.words(cpu.verdict(Side::Above)), "takes more");
        let rate = Figure::MessagesPerSecond;
        assert_eq!(rate.words(rate.verdict(Side::Above)), "faster");
        assert_eq!(rate.words(rate.verdict(Side::Below)), "slower");
        assert_eq!(rate.words(rate.verdict(Side::NotShown)), "no difference shown");
        assert_eq!(Figure::LoadBusyShare.verdict(Side::Above), Verdict::NotShown);
    }
}
