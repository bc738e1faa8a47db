//! The fields of each kind of message as `protobuf`, `msgpack` and `json` know them, by number and by name, and what
//! bounds them.
//!
//! `protocols/schema/kraft.proto` says the same; a test compares the two.

/// Places for numbers of fields, from 1 on.
pub const SLOTS: usize = 19;

/// The most members that a status reply may have: a configuration has 31.
pub const MEMBERS_MAX: usize = 256;

/// Levels of nesting within a field that is not known here, which is skipped.
pub const DEPTH_MAX: u32 = 16;

/// Calls a macro with every kind, its fields and what they hold.
macro_rules! kinds {
    ($use:ident) => {
        $use! {
            Hello {
                6 role ROLE, 7 to U64, 8 incarnation FIXED64, 9 nonce FIXED64, 10 version_min U16, 11 version_max U16,
                12 features U64, 13 frame_max U32, 14 cluster_name TEXT0, 15 membership U64,
            }
            Welcome { 6 version U16, 7 frame_max U32, 8 incarnation FIXED64, 9 nonce FIXED64, 10 features U64, }
            Goaway { 6 reason GOAWAY_REASON, 7 detail TEXT0, }
            Append { 6 prev_index U64, 7 prev_term U64, 8 commit U64, 9 round U64, 10 entries ENTRIES, }
            AppendReply { 6 round U64, 7 result APPEND_RESULT, 8 index U64, 9 hint_index U64, 10 hint_term U64, }
            Heartbeat { 6 commit U64, 7 round U64, }
            HeartbeatReply { 6 round U64, 7 promise_us U64, }
            Vote { 6 pre FLAG, 7 by_transfer FLAG, 8 campaign_term U64, 9 last_index U64, 10 last_term U64, }
            VoteReply { 6 pre FLAG, 7 granted FLAG, 8 campaign_term U64, }
            ReadIndex {}
            ReadIndexReply { 6 result READ_INDEX_RESULT, 7 index U64, }
            Snapshot { 6 index U64, 7 snapshot_term U64, 8 bytes U64, 9 crc FIXED32, 10 offset U64, 11 data BYTES, }
            SnapshotReply {
                6 index U64, 7 snapshot_term U64, 8 bytes U64, 9 crc FIXED32, 10 offset U64, 11 result SNAPSHOT_RESULT,
            }
            TimeoutNow {}
            OpenSession {}
            Command {
                6 session U64, 7 sequence U64, 8 first_unanswered U64, 9 commit COMMIT, 10 command BYTES,
            }
            Read { 6 consistency CONSISTENCY, 7 age_max_ms U64, 8 query BYTES, }
            Change { 6 change CHANGE_KIND, 7 node U64, 8 address TEXT0, 9 promote FLAG, 10 by U64, }
            Transfer { 6 to U64, }
            Fetch { 6 index U64, 7 snapshot_term U64, 8 bytes U64, 9 crc FIXED32, 10 offset U64, }
            FetchReply { 6 index U64, 7 snapshot_term U64, 8 bytes U64, 9 crc FIXED32, 10 offset U64, 11 data BYTES, }
            Reply {
                6 outcome OUTCOME, 7 why REFUSAL, 8 leader U64, 9 detail TEXT0, 10 basis BASIS, 11 age_ms U64,
                12 answer BYTES,
            }
            Status {}
            StatusReply {
                6 state NODE_STATE, 7 leader U64, 8 commit U64, 9 applied U64, 10 first U64, 11 last U64,
                12 durable U64, 13 snapshot U64, 14 membership U64, 15 uptime_ms U64, 16 version TEXT0,
                17 backend TEXT1, 18 members MEMBERS,
            }
        }
    };
}

pub(crate) use kinds;
