//! What it was measured on, and whether it was idle.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::json::Json;
use crate::pin;

/// The machine, as far as it tells.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    cpu: String,
    kernel: String,
    governor: Option<String>,
    load: Option<f64>,
    /// The share of all cores that others used while we looked.
    used_by_others: Option<f64>,
    /// Cores that this process may use.
    pub(crate) cores: Vec<usize>,
}

/// How long it is looked at before the run.
const LOOK: Duration = Duration::from_millis(300);

/// Others' share from which on a run is warned about: a thirtieth of two cores is one part in fifteen of the server's,
/// more than the differences that are looked for.
const OTHERS_MAX: f64 = 0.03;

impl Machine {
    /// Looks for a moment.
    pub(crate) fn look() -> Self {
        let before = busy_and_total();
        thread::sleep(LOOK);
        let after = busy_and_total();
        let used = before.zip(after).map(|(before, after)| {
            let total = after.1.saturating_sub(before.1).max(1);
            after.0.saturating_sub(before.0) as f64 / total as f64
        });
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        Self {
            cpu: cpu_model().unwrap_or_else(|| std::env::consts::ARCH.into()),
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(|| std::env::consts::OS.into()),
            governor: governor.map(|text| text.trim().to_owned()),
            load: read("/proc/loadavg").and_then(|text| text.split_whitespace().next()?.parse().ok()),
            used_by_others: used,
            cores: pin::cores(),
        }
    }

    /// What makes figures of this machine, at this time, doubtful.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(used) = self.used_by_others.filter(|used| *used > OTHERS_MAX) {
            warnings.push(format!("not idle: others use {:.0} % of the CPUs", used * 100.0));
        }
        if let Some(governor) = self.governor.as_deref().filter(|governor| *governor != "performance") {
            warnings.push(format!(
                "the frequency governor is `{governor}`; `performance` measures the same twice"
            ));
        }
        match self.cores.len() {
            0 => warnings.push("server and load are not bound to cores: this system has no way that we know".into()),
            1 => warnings.push("one core: server and load share it, so latencies and ratios say little".into()),
            _ => {}
        }
        if cfg!(debug_assertions) {
            warnings.push("built without optimisation: use --release".into());
        }
        warnings
    }

    /// In a line.
    pub(crate) fn line(&self) -> String {
        let mut parts = vec![
            self.cpu.clone(),
            format!("{} cores", self.cores.len()),
            self.kernel.clone(),
        ];
        parts.extend(self.governor.iter().map(|governor| format!("governor {governor}")));
        parts.extend(self.load.map(|load| format!("load {load:.2}")));
        parts.join(", ")
    }

    pub(crate) fn json(&self) -> Json {
        Json::Object(vec![
            ("cpu", Json::text(&self.cpu)),
            ("cores", Json::Integer(self.cores.len() as u64)),
            ("kernel", Json::text(&self.kernel)),
            ("governor", Json::or_null(self.governor.as_ref(), Json::text)),
            ("load", Json::or_null(self.load, Json::Number)),
            ("used_by_others", Json::or_null(self.used_by_others, Json::Number)),
            (
                "warnings",
                Json::Array(self.warnings().into_iter().map(Json::Text).collect()),
            ),
        ])
    }
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim_end().to_owned())
}

fn cpu_model() -> Option<String> {
    let text = read("/proc/cpuinfo")?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Ticks of all cores: busy, and all.
fn busy_and_total() -> Option<(u64, u64)> {
    parse_stat(&read("/proc/stat")?)
}

/// The first line of proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; what a guest used is in user
/// already.
fn parse_stat(text: &str) -> Option<(u64, u64)> {
    let fields: Option<Vec<u64>> = text
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(|f| f.parse().ok())
        .collect();
    let fields = fields.filter(|fields| fields.len() >= 5)?;
    let total: u64 = fields.iter().sum();
    Some((total - fields[3] - fields[4], total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_cores_are_not_busy() {
        let text = "cpu  10 1 20 1000 5 2 3 4 7 0\ncpu0 5 0 0 0 0 0 0 0 0 0\n";
        assert_eq!(parse_stat(text), Some((40, 1045)));
        assert_eq!(parse_stat("cpu 1 2"), None);
    }
}
