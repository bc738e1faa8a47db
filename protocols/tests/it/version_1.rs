//! The golden vectors as version 1 was released with them.
//!
//! Law P9 compares them with what is encoded today, and `KRAFT_REWRITE=1` writes them anew, which is how a new one comes
//! to be. Those of version 1 are out there: here is their sum, which nothing writes.

use std::fs;

use kraft_protocols::conformance::golden;

use crate::golden as folder;

const CURE: &str = "nodes and clients of version 1 send these bytes: undo what was done to the files, and let the program \
                    go on with them. What is new is an optional field (law P11), a kind of its own (law P8), or a version \
                    that the hello negotiates; each with golden vectors of its own, under other names";

/// Every message of version 1, by the name of its file.
const NAMES: &[&str] = &[
    "append",
    "append-matched",
    "append-probe",
    "append-rejected",
    "change-add",
    "change-add-promote",
    "change-move",
    "change-promote",
    "change-remove",
    "change-replace",
    "command",
    "command-async",
    "command-leader",
    "fetch",
    "fetch-new",
    "fetch-reply",
    "goaway",
    "goaway-removed",
    "goaway-violation",
    "heartbeat",
    "heartbeat-reply",
    "heartbeat-reply-promise",
    "hello-client",
    "hello-membership",
    "hello-peer",
    "open-session",
    "read",
    "read-index",
    "read-index-at",
    "read-index-refused",
    "read-lease",
    "read-stale",
    "reply-committed",
    "reply-leader",
    "reply-lease",
    "reply-received",
    "reply-refused",
    "reply-refused-timed-out",
    "reply-refused-too-stale",
    "reply-stale",
    "reply-unknown",
    "snapshot",
    "snapshot-damaged",
    "snapshot-no-space",
    "snapshot-question",
    "snapshot-received",
    "status",
    "status-reply",
    "status-reply-standings",
    "timeout-now",
    "transfer",
    "vote",
    "vote-granted",
    "vote-pre",
    "vote-pre-refused",
    "welcome",
];

/// CRC32C over names and frames.
const SUMS: &[(&str, u32)] = &[
    ("binary", 0xbdc5_5684),
    ("protobuf", 0x2dcd_9843),
    ("msgpack", 0x3e13_a6f0),
    ("json", 0xa8d9_f097),
];

#[test]
fn golden_vectors_of_version_1_are_as_they_were() {
    for &(format, expected) in SUMS {
        let mut sum = 0;
        for name in NAMES {
            let path = folder(format).join(name).with_extension("hex");
            assert!(
                fs::exists(&path).is_ok_and(|is_there| is_there),
                "{} is gone: {CURE}",
                path.display()
            );
            sum = crc32c::crc32c_append(crc32c::crc32c_append(sum, name.as_bytes()), &golden::read(&path));
        }
        assert_eq!(sum, expected, "{format}: {CURE}");
    }
}
