//! Whole nodes under attack and in accidents. A test that begins with `t` and a number is that row of the threats.
//!
//! Most run on mocks, in virtual time, so that deadlines are exact ([`lab`]); what the system has a part in runs on
//! sockets, disks and threads ([`live`]). The attacker speaks by hand, on a [`Line`](line::Line).

mod answers;
mod bytes;
mod changes;
mod clients;
mod connections;
mod fetches;
mod formats;
mod handles;
mod lab;
mod line;
mod live;
mod members;
mod peers;
mod snapshots;
mod sockets;
mod stopping;
mod tape;
mod transfers;
mod version_1;
