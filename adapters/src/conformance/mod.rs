//! The laws of an [`Adapter`], one function each, for every backend there is and for
//! those of other crates.
//!
//! # How to judge an adapter of one's own
//!
//! With this crate's feature `conformance` among the dev-dependencies, in an integration test:
//!
//! ```
//! # #[cfg(all(feature = "epoll", target_os = "linux"))]
//! # mod tests {
//! # use kraft_adapters::Epoll as Mine;
//! use kraft_adapters::conformance::Sockets;
//!
//! kraft_adapters::suite!(mine, || Sockets::new(Mine::open));
//! # }
//! # fn main() {}
//! ```
//!
//! This makes a module `mine` with one `#[test]` for each law, named like `a06_data_before_fin`. The laws are listed,
//! by number, at the trait. What must be given is an [`Environment`]: it opens adapters, and the other sides that a law
//! needs besides. [`Sockets`] is the one for adapters that use the operating system's sockets. Where [`Counting`] is the
//! test binary's global allocator it also knows how many allocations there were, without which law A22 is skipped. The
//! mock has one of its own, in virtual time.
//!
//! The laws open adapters with a [`Config`](crate::Config) of this crate, and rely on these of its fields being heeded:
//! `max_connections`, `read_buffer`, `write_queue_max`, `connect_timeout` and `linger`.
//!
//! `docs/custom-adapters.md` is the guide, from the first line to the last law.
//!
//! # What a law is
//!
//! - A law that the adapter's `capabilities()` names is skipped, and says so with the reason. So is what the machine
//!   lacks (IPv6, descriptors); with `KRAFT_NO_SKIP=1` that fails.
//! - Each is judged by two adapters in one thread, or by an adapter and a [`Remote`], which can do what an adapter never
//!   does: end what it sends and go on reading, or reset. Beneath all of them the order of events of every connection is
//!   checked (laws A1, A3, A4, A5, A17).
//! - Times are exact in virtual time. Else only lower bounds, counts and CPU time are checked: how long something may
//!   take at most says more about the machine than about the adapter. A law in which nothing happens for ten seconds
//!   is taken to hang, and fails.
//! - What a law does to its whole process (limits, signals, counting descriptors) it does in a process of its own: the
//!   test binary is started again for that law alone, with `KRAFT_LAW` set.
//! - Randomised laws print their seed and take it from `KRAFT_SEED`.

mod child;
mod connecting;
mod counting;
mod descriptors;
mod ending;
mod environment;
mod flow;
mod loops;
mod meddling;
mod party;
mod peers;
mod ring;
mod scripts;
mod soak;
mod stream;
mod time;
mod wires;

use kraft_core::adapter::Adapter;

pub use self::connecting::{
    a01_begins_once_and_first, a05_reused_slots_have_new_ids, a07_failed_connects_end_in_closed,
    a31_address_families_behave_the_same, a33_puts_before_connected_are_sent_first,
};
pub use self::counting::Counting;
pub use self::descriptors::{
    a21_drop_leaves_nothing_open, a22_steady_turns_do_not_allocate, a25_idle_uses_no_cpu,
    a26_emfile_neither_spins_nor_kills_the_listener, a27_more_than_the_limit_are_turned_away,
};
pub use self::ending::{
    a03_closed_comes_once_and_last, a04_nothing_follows_closed, a06_data_before_fin, a09_close_flush_delivers_all,
    a28_a_reset_peer_is_closed, a32_closing_through_any_link_is_safe, a34_replies_after_ended_are_sent,
};
pub use self::environment::{Environment, Remote, Silent, Socket, Sockets};
pub use self::flow::{
    a08_a_full_outbox_refuses_whole_and_drains_once, a10_pause_stops_and_resume_loses_nothing,
    a18_a_busy_connection_starves_no_other, a29_written_comes_for_each_mark_in_order,
};
pub use self::loops::{
    a13_a_wake_ends_a_wait, a16_interruptions_are_invisible, a23_poll_fd_is_readable_while_there_is_work,
    a24_two_adapters_do_not_disturb_each_other,
};
pub use self::meddling::{a_descriptor_closed_behind_its_back_harms_nobody_else, refused_endpoints_are_named};
pub use self::peers::{
    a_byte_at_a_time_is_a_stream, a_reset_in_every_state_is_closed, half_open_peers_are_let_go,
    silent_peers_cost_nobody_anything,
};
pub use self::ring::a30_buffer_exhaustion_only_slows;
pub use self::scripts::random_scripts_end_as_on_the_mock;
pub use self::soak::ten_thousand_connections_leave_nothing_behind;
pub use self::stream::{
    a02_bytes_arrive_in_order_once, a19_a_thousand_connections_keep_their_bytes, a20_a_slow_reader_gets_64_mib,
};
pub use self::time::{
    a11_timers_are_in_order_and_never_early, a12_a_repeating_timer_neither_drifts_nor_bursts,
    a14_a_past_deadline_does_not_block, a15_poll_returns_at_its_deadline_and_not_before,
    a17_now_is_monotone_and_constant_in_a_turn,
};
pub use self::wires::Wires;

/// Makes a module of tests, one for each law. See [`conformance`](crate::conformance).
///
/// `suite!(NAME, MAKE)`: the module's name, and a function without arguments that returns an
/// [`Environment`](crate::conformance::Environment), called once for each law. It sees the names that are in scope where
/// the macro stands.
#[macro_export]
macro_rules! suite {
    ($name:ident, $make:expr) => {
        mod $name {
            use super::*;

            $crate::suite! { @laws $make;
                a01_begins_once_and_first,
                a02_bytes_arrive_in_order_once,
                a03_closed_comes_once_and_last,
                a04_nothing_follows_closed,
                a05_reused_slots_have_new_ids,
                a06_data_before_fin,
                a07_failed_connects_end_in_closed,
                a08_a_full_outbox_refuses_whole_and_drains_once,
                a09_close_flush_delivers_all,
                a10_pause_stops_and_resume_loses_nothing,
                a11_timers_are_in_order_and_never_early,
                a12_a_repeating_timer_neither_drifts_nor_bursts,
                a13_a_wake_ends_a_wait,
                a14_a_past_deadline_does_not_block,
                a15_poll_returns_at_its_deadline_and_not_before,
                a16_interruptions_are_invisible,
                a17_now_is_monotone_and_constant_in_a_turn,
                a18_a_busy_connection_starves_no_other,
                a19_a_thousand_connections_keep_their_bytes,
                a20_a_slow_reader_gets_64_mib,
                a21_drop_leaves_nothing_open,
                a22_steady_turns_do_not_allocate,
                a23_poll_fd_is_readable_while_there_is_work,
                a24_two_adapters_do_not_disturb_each_other,
                a25_idle_uses_no_cpu,
                a26_emfile_neither_spins_nor_kills_the_listener,
                a27_more_than_the_limit_are_turned_away,
                a28_a_reset_peer_is_closed,
                a29_written_comes_for_each_mark_in_order,
                a30_buffer_exhaustion_only_slows,
                a31_address_families_behave_the_same,
                a32_closing_through_any_link_is_safe,
                a33_puts_before_connected_are_sent_first,
                a34_replies_after_ended_are_sent,
                silent_peers_cost_nobody_anything,
                a_byte_at_a_time_is_a_stream,
                half_open_peers_are_let_go,
                a_reset_in_every_state_is_closed,
                a_descriptor_closed_behind_its_back_harms_nobody_else,
                refused_endpoints_are_named,
                random_scripts_end_as_on_the_mock,
                ten_thousand_connections_leave_nothing_behind,
            }
        }
    };
    (@laws $make:expr; $($law:ident,)*) => {
        $(
            #[test]
            fn $law() {
                let path = concat!(module_path!(), "::", stringify!($law));
                $crate::conformance::check(path, ($make)(), $crate::conformance::$law);
            }
        )*
    };
}

/// Laws that do something to their whole process, and so have one of their own.
const OWN_PROCESS: [u8; 7] = [16, 20, 21, 22, 25, 26, 28];

/// Tests beyond the laws that have one too.
const BEYOND_OWN_PROCESS: [&str; 2] = [
    "a_descriptor_closed_behind_its_back_harms_nobody_else",
    "ten_thousand_connections_leave_nothing_behind",
];

/// Judges one law: what every test of [`suite!`](crate::suite) does.
///
/// `path` is the test's full name, `crate::module::a06_data_before_fin`.
///
/// # Panics
///
/// If the law is broken: the text names the backend, the law, the reason, and the seed of a randomised law.
pub fn check<E: Environment>(path: &str, environment: E, law: fn(&E)) {
    let name = path.rsplit("::").next().unwrap_or(path);
    // What goes beyond the laws has no number.
    let number = name.get(1..3).and_then(|digits| digits.parse::<u8>().ok());
    let adapter = environment.open(&crate::Config::default()).expect("the adapter opens");
    let (backend, cannot) = (adapter.name(), adapter.capabilities().cannot);
    drop(adapter);
    if let Some((_, reason)) = cannot.iter().find(|(law, _)| Some(*law) == number) {
        return party::say_skipped(&format!("{backend}: {name}"), reason);
    }
    let has_own_process = match number {
        Some(number) => OWN_PROCESS.contains(&number),
        None => BEYOND_OWN_PROCESS.contains(&name),
    };
    if has_own_process && !child::is_one() {
        return child::run(path);
    }
    party::judge(backend, name, || law(&environment));
}
