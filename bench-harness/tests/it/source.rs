//! The commit, and the versions of crates, that a program says it was built from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "../../build/commit.rs"]
mod commit;
#[path = "../../build/versions.rs"]
mod versions;

/// A checkout with two packages, removed in the end.
struct Checkout(PathBuf);

impl Checkout {
    fn new() -> Self {
        let root = std::env::temp_dir().join(format!("kraft-bench-it-commit-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let checkout = Self(root);
        for path in [
            "bench-harness/Cargo.toml",
            "bench-harness/src/main.rs",
            "kraft-core/Cargo.toml",
            "kraft-core/src/lib.rs",
            "docs/guide.md",
        ] {
            checkout.write(path, "as it was");
        }
        checkout
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("there is room");
        fs::write(path, text).expect("there is room");
    }

    fn package(&self) -> PathBuf {
        self.0.join("bench-harness")
    }

    #[track_caller]
    fn git(&self, words: &str) {
        let identity = [
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "-c",
            "commit.gpgsign=false",
        ];
        let output = Command::new("git")
            .current_dir(&self.0)
            .args(identity)
            .args(words.split_whitespace())
            .output()
            .expect("it is installed");
        assert!(
            output.status.success(),
            "{words}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_commit_is_called_clean_only_if_it_is() {
    if Command::new("git").arg("--version").output().is_err() {
        println!("SKIPPED: there is no git");
        return;
    }
    let checkout = Checkout::new();
    let of = || commit::of(&checkout.package());
    checkout.git("init -q");
    assert_eq!(of(), None, "nothing is committed");
    // Somebody else's repository, in which the sources merely lie.
    checkout.git("add docs");
    checkout.git("commit -q -m docs");
    assert_eq!(of(), None, "the sources are not tracked");
    checkout.git("add .");
    checkout.git("commit -q -m sources");
    let clean = of().expect("all is committed");
    assert!(
        clean.len() >= 12 && clean.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{clean}"
    );
    let dirty = Some(format!("{clean}+"));
    checkout.write("docs/guide.md", "changed");
    assert_eq!(of().as_ref(), Some(&clean), "no document is compiled");
    for path in ["bench-harness/src/main.rs", "kraft-core/src/lib.rs"] {
        checkout.write(path, "changed");
        assert_eq!(of(), dirty, "{path}");
        checkout.git("add .");
        assert_eq!(of(), dirty, "{path}, staged");
        checkout.git("reset -q --hard");
        assert_eq!(of().as_ref(), Some(&clean), "{path}, as it was");
    }
    checkout.write("kraft-core/src/new.rs", "nobody tracks it");
    assert_eq!(of(), dirty, "a new file");
}

#[test]
fn all_that_is_compiled_is_looked_at() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in commit::SOURCES {
        assert!(package.join(path).exists(), "{path}");
    }
    // In a copy of the sources without git there are none.
    for path in commit::traces(package) {
        assert!(path.ends_with("HEAD"), "{path}");
    }
}

#[test]
fn the_version_of_a_crate_is_the_one_that_is_depended_on() {
    let lock = "[[package]]\nname = \"a\"\nversion = \"9.0.0\"\ndependencies = [\n \"ring\",\n]\n\n\
                [[package]]\nname = \"bench\"\nversion = \"1.0.0\"\ndependencies = [\n \"a\",\n \"ring 0.7.1\",\n]\n\n\
                [[package]]\nname = \"ring\"\nversion = \"0.6.4\"\n\n[[package]]\nname = \"ring\"\nversion = \"0.7.1\"\n";
    let of = |krate| versions::locked(lock, "bench", krate);
    assert_eq!((of("a"), of("ring"), of("bench")), (Some("9.0.0"), Some("0.7.1"), None));
    assert_eq!(versions::locked("", "bench", "a"), None);
}

#[test]
fn every_crate_has_a_version_in_the_lock_file() {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let lock = fs::read_to_string(lock).expect("it is kept");
    for (_, krate) in versions::CRATES {
        let version = versions::locked(&lock, "kraft-bench", krate);
        assert!(
            version.is_some_and(|version| version.contains('.')),
            "{krate}: {version:?}"
        );
    }
}
