//! A closure that panics takes its event with it, and no memory: who catches the panic is still sent to.

use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use kraft_adapters::Config;
use kraft_core::adapter::{Adapter, Event, ListenOptions};

use crate::rig::{Rig, Said, on_every_backend};

/// More often than a connection, or a ring of the least size, has buffers.
const PANICS: usize = 20;

fn buffers_come_back_after_a_panic_of_the_closure<A: Adapter>(open: fn(&Config) -> io::Result<A>) {
    let config = Config {
        ring_bytes: 4096,
        ..Config::default()
    };
    let mut rig = Rig::over(open(&config).expect("it opens"), ListenOptions::default());
    let (mut peer, conn) = rig.peer();
    let (mut other, _) = rig.peer();
    let mut panics = 0;
    while panics < PANICS {
        peer.write_all(b"x").expect("it is connected");
        let turn = catch_unwind(AssertUnwindSafe(|| {
            rig.run(
                |event| {
                    assert!(!matches!(event, Event::Received { .. }), "on purpose");
                },
                |_| false,
            );
        }));
        let panic = turn.expect_err("it is never done");
        let text = panic.downcast_ref::<&str>().copied().unwrap_or_default();
        assert_eq!(text, "on purpose");
        panics += 1;
    }
    for (peer, text) in [(&mut peer, b"here"), (&mut other, b"also")] {
        rig.said.clear();
        peer.write_all(text).expect("it is connected");
        let mut answered = 0;
        rig.run(
            |event| {
                if let Event::Received { bytes, link, .. } = event {
                    link.outbox().put(bytes).expect("it fits");
                    answered += bytes.len();
                }
            },
            |said| said.iter().any(|said| matches!(said, Said::Received(..))),
        );
        rig.adapter.flush().expect("the adapter works");
        let mut answer = [0; 4];
        peer.read_exact(&mut answer[..answered.min(4)]).expect("it comes");
        assert_eq!(&answer[..answered], &text[..answered]);
    }
    assert!(rig.adapter.link(conn).is_some());
}

on_every_backend!(buffers_come_back_after_a_panic_of_the_closure);

mod what_stood_behind {
    use super::*;

    fn is_delivered_after_a_panic<A: Adapter>(open: fn(&Config) -> io::Result<A>) {
        let mut rig = Rig::over(open(&Config::default()).expect("it opens"), ListenOptions::default());
        let mut peers = [rig.peer().0, rig.peer().0];
        // Both are ready for one and the same wait.
        for peer in &mut peers {
            peer.write_all(b"x").expect("it is connected");
        }
        let is_received = |event: &Event<'_>| matches!(event, Event::Received { .. });
        let turn = catch_unwind(AssertUnwindSafe(|| {
            rig.run(|event| assert!(!is_received(event), "on purpose"), |_| false);
        }));
        turn.expect_err("it is never done");
        rig.said.clear();
        let mut others = 0;
        rig.run(
            |event| others += usize::from(is_received(event)),
            |said| said.iter().any(|said| matches!(said, Said::Received(..))),
        );
        assert_eq!(others, 1);
    }

    on_every_backend!(is_delivered_after_a_panic);
}
