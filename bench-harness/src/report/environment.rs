//! What a run was measured with and where, from which it can be measured again.

use crate::record::{Build, Record};

/// All of it: names and values.
pub(crate) fn environment(record: &Record) -> Vec<(String, String)> {
    let (machine, build) = (&record.machine, &record.build);
    let mut lines: Vec<(&str, String)> = vec![
        ("processor", format!("{} ({})", machine.cpu, machine.architecture)),
        ("cores", format!("{:?}", machine.cores)),
        ("system", format!("{} {}", machine.system, machine.kernel)),
        ("governor", known(&machine.governor)),
        ("version", format!("{}, commit {}", build.version, known(&build.commit))),
        ("compiler", known(&build.compiler)),
        ("command", command(record)),
        (
            "began, took",
            format!("{} s after 1970, {:.0} s", record.began, record.took_seconds),
        ),
    ];
    let built = build.versions.iter().map(|(name, version)| format!("{name} {version}"));
    let built: Vec<String> = built.collect();
    if !built.is_empty() {
        lines.push(("built with", built.join(", ")));
    }
    if let Some(bytes) = machine.memory_bytes {
        lines.push(("memory", format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))));
    }
    if let Some(share) = machine.used_by_others {
        lines.push(("used by others", format!("{:.1} %", share * 100.0)));
    }
    if let Some(share) = machine.stolen {
        lines.push(("taken by the host", format!("{:.1} %", share * 100.0)));
    }
    let mut lines: Vec<_> = lines
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    lines.extend(machine.limits.iter().map(|(name, value)| (name.clone(), value.clone())));
    let mitigations = machine.mitigations.iter();
    lines.extend(mitigations.map(|(name, value)| (name.replace('_', " "), value.clone())));
    lines
}

/// The program, in a line.
pub(super) fn program(build: &Build) -> String {
    let optimised = if build.optimised { "" } else { ", not optimised" };
    format!(
        "kraft-bench {}, commit {}, {}{optimised}",
        build.version,
        known(&build.commit),
        build.compiler.as_deref().unwrap_or("compiler unknown")
    )
}

/// As one would type it; where the program was is nobody's business.
pub(super) fn command(record: &Record) -> String {
    let words = record.command.iter().skip(1).map(String::as_str);
    std::iter::once("kraft-bench")
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

fn known(text: &Option<String>) -> String {
    text.clone().unwrap_or_else(|| "unknown".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;

    #[test]
    fn a_run_can_be_tied_to_what_it_was_measured_with() {
        let mut record = sample();
        record.build = Build {
            version: "1.2.3".into(),
            commit: Some("0123456789ab+".into()),
            compiler: None,
            optimised: true,
            versions: [("mio".into(), "1.2.5".into()), ("tokio".into(), "1.54.1".into())].into(),
        };
        record.machine.mitigations = [("spectre_v2".into(), "Mitigation: IBRS".into())].into();
        record.command[0] = "/somewhere/kraft-bench".into();
        let lines = environment(&record);
        let of = |wanted: &str| {
            let line = lines.iter().find(|(name, _)| name == wanted);
            line.map(|(_, value)| value.as_str())
        };
        assert_eq!(of("version"), Some("1.2.3, commit 0123456789ab+"));
        assert_eq!(of("built with"), Some("mio 1.2.5, tokio 1.54.1"));
        assert_eq!((of("governor"), of("compiler")), (Some("unknown"), Some("unknown")));
        assert_eq!(of("spectre v2"), Some("Mitigation: IBRS"));
        assert_eq!(of("command"), Some("kraft-bench run"));
        assert_eq!(
            program(&record.build),
            "kraft-bench 1.2.3, commit 0123456789ab+, compiler unknown"
        );
        // Documents of old have no versions.
        record.build.versions.clear();
        assert!(environment(&record).iter().all(|(name, _)| name != "built with"));
    }
}
