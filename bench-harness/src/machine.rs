//! What it was measured on, and whether it was idle.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pin;

/// The machine, as far as it tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) architecture: String,
    /// The cores that this process may use.
    pub(crate) cores: Vec<usize>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) system: String,
    pub(crate) kernel: String,
    /// What the kernel does about the processor's faults, by their names; those that it does not have are left out.
    pub(crate) mitigations: BTreeMap<String, String>,
    pub(crate) governor: Option<String>,
    /// Limits that engines meet, by their names.
    pub(crate) limits: BTreeMap<String, String>,
    pub(crate) load: Option<f64>,
    /// The share of all cores that others used while we looked.
    pub(crate) used_by_others: Option<f64>,
    /// The share of all cores that the host gave to others during the run, though we wanted it.
    #[serde(default)]
    pub(crate) stolen: Option<f64>,
    pub(crate) warnings: Vec<String>,
}

/// How long it is looked at before the run.
const LOOK: Duration = Duration::from_millis(300);

/// Others' share from which on a run is warned about: a thirtieth of two cores is one part in fifteen of the server's,
/// more than the differences that are looked for.
const OTHERS_MAX: f64 = 0.03;

/// The share that a host takes from which on a run is warned about: what is looked for is a few per cent.
const STOLEN_MAX: f64 = 0.01;

impl Machine {
    /// Looks for a moment.
    pub(crate) fn look() -> Self {
        let before = Ticks::now();
        thread::sleep(LOOK);
        let used = before.and_then(|before| before.share(Ticks::now()?, |ticks| ticks.busy));
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        let mut machine = Self {
            cpu: cpu_model().unwrap_or_else(|| std::env::consts::ARCH.into()),
            architecture: std::env::consts::ARCH.into(),
            cores: pin::cores(),
            memory_bytes: memory(),
            system: std::env::consts::OS.into(),
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into()),
            mitigations: mitigations(),
            governor: governor.map(|text| text.trim().to_owned()),
            limits: limits(),
            load: read("/proc/loadavg").and_then(|text| text.split_whitespace().next()?.parse().ok()),
            used_by_others: used,
            stolen: None,
            warnings: Vec::new(),
        };
        machine.warnings = machine.doubts();
        machine
    }

    /// Notes that something did not go as it should.
    pub(crate) fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    /// Notes what share the host took during the run.
    pub(crate) fn end(&mut self, stolen: Option<f64>) {
        self.stolen = stolen;
        if let Some(stolen) = self.stolen.filter(|stolen| *stolen > STOLEN_MAX) {
            self.warn(format!(
                "the host took {:.1} % of the time away while it was measured: rounds that it took more of are off",
                stolen * 100.0
            ));
        }
    }

    /// What makes figures of this machine, at this time, doubtful.
    fn doubts(&self) -> Vec<String> {
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
            match self.cores.len() {
                0 => "cores unknown".into(),
                count => format!("{count} cores"),
            },
            format!("{} {}", self.system, self.kernel),
        ];
        parts.extend(self.governor.iter().map(|governor| format!("governor {governor}")));
        parts.extend(self.load.map(|load| format!("load {load:.2}")));
        parts.join(", ")
    }
}

#[cfg(test)]
impl Machine {
    /// One of which nothing is known.
    pub(crate) fn unknown() -> Self {
        Self {
            cpu: "a processor".into(),
            architecture: "x".into(),
            cores: vec![0, 1],
            memory_bytes: None,
            system: "a system".into(),
            kernel: "1.0".into(),
            mitigations: BTreeMap::new(),
            governor: None,
            limits: BTreeMap::new(),
            load: None,
            used_by_others: None,
            stolen: None,
            warnings: Vec::new(),
        }
    }
}

/// What the kernel says of each fault that processors are known for.
fn mitigations() -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return BTreeMap::new();
    };
    let all = entries.flatten().filter_map(|entry| {
        let text = read(entry.path().to_str()?)?;
        Some((entry.file_name().into_string().ok()?, text))
    });
    all.filter(|(_, text)| text != "Not affected").collect()
}

/// Limits of this process and of the network.
fn limits() -> BTreeMap<String, String> {
    let mut limits = BTreeMap::new();
    for name in ["core.somaxconn", "ipv4.tcp_mem", "ipv4.tcp_rmem", "ipv4.tcp_wmem"] {
        if let Some(text) = read(&format!("/proc/sys/net/{}", name.replace('.', "/"))) {
            limits.insert(
                format!("net.{name}"),
                text.split_whitespace().collect::<Vec<_>>().join(" "),
            );
        }
    }
    let text = read("/proc/self/limits").unwrap_or_default();
    for name in ["Max open files", "Max locked memory"] {
        // Columns: soft, hard, unit.
        if let Some(rest) = text.lines().find_map(|line| line.strip_prefix(name)) {
            let values: Vec<&str> = rest.split_whitespace().take(2).collect();
            limits.insert(name.to_lowercase(), values.join(" / "));
        }
    }
    limits
}

fn memory() -> Option<u64> {
    let text = read("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim_end().to_owned())
}

fn cpu_model() -> Option<String> {
    let text = read("/proc/cpuinfo")?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Ticks of all cores since the system started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticks {
    busy: u64,
    /// Of the busy ones those that the host gave to others.
    stolen: u64,
    total: u64,
}

impl Ticks {
    /// `None` where the system does not tell.
    pub(crate) fn now() -> Option<Self> {
        Self::parse(&read("/proc/stat")?)
    }

    /// The share that the host took of what passed since.
    pub(crate) fn stolen_since(self) -> Option<f64> {
        self.share(Self::now()?, |ticks| ticks.stolen)
    }

    /// The share that something has of what passed until `now`.
    fn share(self, now: Self, of: fn(Self) -> u64) -> Option<f64> {
        let total = now.total.saturating_sub(self.total).max(1);
        Some(of(now).saturating_sub(of(self)) as f64 / total as f64)
    }

    /// The first line of proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; what a guest used is in
    /// user already.
    fn parse(text: &str) -> Option<Self> {
        let fields = text.lines().next()?.split_whitespace().skip(1).take(8);
        let fields: Option<Vec<u64>> = fields.map(|field| field.parse().ok()).collect();
        let fields = fields.filter(|fields| fields.len() >= 5)?;
        let total: u64 = fields.iter().sum();
        Some(Self {
            busy: total - fields[3] - fields[4],
            stolen: fields.get(7).copied().unwrap_or(0),
            total,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_cores_are_not_busy() {
        let text = "cpu  10 1 20 1000 5 2 3 4 7 0\ncpu0 5 0 0 0 0 0 0 0 0 0\n";
        let expected = Ticks {
            busy: 40,
            stolen: 4,
            total: 1045,
        };
        assert_eq!(Ticks::parse(text), Some(expected));
        assert_eq!(Ticks::parse("cpu 1 2"), None);
    }

    #[test]
    fn a_host_that_takes_time_is_warned_of() {
        let began = Ticks {
            busy: 10,
            stolen: 1,
            total: 1000,
        };
        let after = |stolen| {
            let mut machine = Machine::unknown();
            let (busy, stolen, total) = (began.busy, began.stolen + stolen, began.total + 1000);
            machine.end(began.share(Ticks { busy, stolen, total }, |ticks| ticks.stolen));
            (machine.stolen, machine.warnings.len())
        };
        assert_eq!(after(10), (Some(0.01), 0));
        assert_eq!(after(30), (Some(0.03), 1));
    }
}
