use std::hash::{BuildHasher, RandomState};
use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};

use super::*;

fn content(segments: &Segments) -> Vec<u8> {
    segments.slices().flatten().copied().collect()
}

fn taken(outbox: &mut Outbox) -> Vec<u8> {
    let mut segments = Segments::new();
    outbox.take(&mut segments);
    outbox.settle(0);
    content(&segments)
}

#[test]
fn small_pieces_are_coalesced_and_large_ones_are_shared() {
    let payload = Bytes::from(vec![7; SHARE_MIN]);
    let mut outbox = Outbox::new(1 << 20);
    outbox.put(b"head").expect("it fits");
    outbox.put(b"er").expect("it fits");
    outbox.put_shared(&payload).expect("it fits");
    outbox.put_shared(&Bytes::from_static(b"small")).expect("it fits");
    outbox.put(b"!").expect("it fits");

    let mut segments = Segments::new();
    assert_eq!(outbox.take(&mut segments), 6 + SHARE_MIN + 6);
    let mut slices = [IoSlice::new(&[]); 8];
    assert_eq!(segments.io_slices(&mut slices), 3);
    assert_eq!(&slices[0][..], b"header");
    assert_eq!(slices[1].as_ptr(), payload.as_ptr(), "the payload was copied");
    assert_eq!(&slices[2][..], b"small!");
}

#[test]
fn a_put_past_the_limit_is_refused_and_changes_nothing() {
    let mut outbox = Outbox::new(10);
    outbox.put(b"12345678").expect("it fits");
    assert_eq!(outbox.put(b"abc"), Err(Full));
    assert_eq!(outbox.put_shared(&Bytes::from(vec![0; SHARE_MIN])), Err(Full));
    assert_eq!(outbox.len(), 8);
    assert_eq!(outbox.mark(), 8);
    outbox.put(b"ab").expect("exactly full");
    assert_eq!(taken(&mut outbox), b"12345678ab");
}

#[test]
fn what_is_in_flight_counts_until_it_is_settled() {
    let mut outbox = Outbox::new(10);
    outbox.put(&[1; 10]).expect("it fits");
    let mut segments = Segments::new();
    outbox.take(&mut segments);
    assert_eq!((outbox.len(), outbox.waiting()), (10, 0));
    assert_eq!(outbox.put(b"x"), Err(Full));
    segments.advance(4);
    outbox.settle(segments.len());
    assert_eq!(outbox.len(), 6);
    outbox.put(b"1234").expect("four are free");
}

#[test]
fn one_drained_follows_a_refusal_when_there_is_room() {
    let mut outbox = Outbox::new(100);
    outbox.put(&[0; 90]).expect("it fits");
    for _ in 0..3 {
        assert_eq!(outbox.put(&[0; 20]), Err(Full));
    }
    let mut segments = Segments::new();
    outbox.take(&mut segments);
    segments.advance(30);
    outbox.settle(segments.len());
    assert!(!outbox.has_news(), "60 of 100 are above low water");
    segments.advance(10);
    outbox.settle(segments.len());
    assert!(outbox.has_news());
    assert!(outbox.pop_drained());
    assert!(!outbox.pop_drained() && !outbox.has_news());
}

#[test]
fn drained_waits_until_what_was_refused_fits() {
    let mut outbox = Outbox::new(100);
    outbox.put(&[0; 30]).expect("it fits");
    assert_eq!(outbox.put(&[0; 80]), Err(Full));
    assert!(!outbox.pop_drained());
    outbox.take(&mut Segments::new());
    outbox.settle(20);
    assert!(outbox.pop_drained());
    outbox.put(&[0; 80]).expect("drained says that it fits");
}

#[test]
fn written_comes_once_for_each_mark_in_order() {
    let mut outbox = Outbox::new(100);
    assert_eq!(outbox.mark(), 0);
    assert_eq!(outbox.pop_written(), Some(0), "nothing stands before it");
    outbox.put(b"abc").expect("it fits");
    let first = outbox.mark();
    assert_eq!(outbox.mark(), first);
    outbox.put(b"de").expect("it fits");
    let second = outbox.mark();
    assert_eq!((first, second), (3, 5));
    let mut segments = Segments::new();
    outbox.take(&mut segments);
    outbox.put(b"later").expect("it fits");
    assert_eq!(outbox.pop_written(), None);
    segments.advance(4);
    outbox.settle(segments.len());
    assert_eq!(outbox.pop_written(), Some(3));
    assert_eq!(outbox.pop_written(), None);
    segments.advance(1);
    outbox.settle(segments.len());
    assert!(outbox.has_news());
    assert_eq!(outbox.pop_written(), Some(5));
    assert_eq!(outbox.pop_written(), None);
}

#[test]
fn a_failed_frame_leaves_the_outbox_as_it_was() {
    #[derive(Debug, PartialEq)]
    enum Failure {
        Full,
        Other,
    }
    impl From<Full> for Failure {
        fn from(_: Full) -> Self {
            Self::Full
        }
    }
    let payload = Bytes::from(vec![9; SHARE_MIN]);
    let mut outbox = Outbox::new(2 * SHARE_MIN);
    outbox.put(b"before").expect("it fits");

    let other = outbox.frame(|frame| {
        frame.put(b"grows the open piece")?;
        frame.put_shared(&payload)?;
        frame.put(b"behind it")?;
        Err::<(), _>(Failure::Other)
    });
    assert_eq!(other, Err(Failure::Other));
    assert!(!outbox.pop_drained(), "nothing was refused");
    let full = outbox.frame(|frame| {
        frame.put_shared(&payload)?;
        frame.put_shared(&payload)?;
        Ok::<_, Failure>(())
    });
    assert_eq!(full, Err(Failure::Full));
    let overlooked = outbox.frame(|frame| {
        let _ = frame.put(&[0; 3 * SHARE_MIN]);
        frame.put(b"rest")?;
        Ok::<_, Failure>(())
    });
    assert_eq!(overlooked, Err(Failure::Full));

    assert_eq!((outbox.len(), outbox.mark()), (6, 6));
    outbox.put(b" after").expect("it fits");
    assert_eq!(taken(&mut outbox), b"before after");
}

#[test]
fn patch_finds_its_bytes_around_shared_payloads() {
    let payload = Bytes::from(vec![9; SHARE_MIN]);
    let mut outbox = Outbox::new(1 << 20);
    outbox.put(b"before").expect("it fits");
    outbox
        .frame(|frame| {
            frame.put(b"....")?;
            frame.put_shared(&payload)?;
            frame.put(b"ab..ef")?;
            assert_eq!(frame.len(), 10 + SHARE_MIN);
            frame.patch(0, b"head");
            frame.patch(4 + SHARE_MIN + 2, b"cd");
            Ok::<_, Full>(())
        })
        .expect("it fits");
    let bytes = taken(&mut outbox);
    assert_eq!(&bytes[..10], b"beforehead");
    assert_eq!(&bytes[10 + SHARE_MIN..], b"abcdef");
}

#[test]
#[should_panic(expected = "not bytes that were put")]
fn patch_of_a_shared_payload_panics() {
    let payload = Bytes::from(vec![9; SHARE_MIN]);
    let mut outbox = Outbox::new(1 << 20);
    let _ = outbox.frame(|frame| {
        frame.put(b"..")?;
        frame.put_shared(&payload)?;
        frame.patch(1, b"xy");
        Ok::<_, Full>(())
    });
}

#[test]
fn nothing_is_put_behind_a_close() {
    let mut outbox = Outbox::new(100);
    outbox.put(b"last words").expect("it fits");
    let mark = outbox.mark();
    outbox.close();
    assert_eq!(outbox.put(b"too late"), Err(Full));
    assert_eq!(taken(&mut outbox), b"last words");
    assert!(!outbox.pop_drained(), "Closed stands in for it");
    assert_eq!(outbox.pop_written(), Some(mark));
}

#[test]
fn a_swap_of_two_outboxes_is_mended_by_the_next_settle() {
    let mut a = Outbox::new(100);
    let mut b = Outbox::new(100);
    a.put(&[1; 60]).expect("it fits");
    let mut in_flight_a = Segments::new();
    a.take(&mut in_flight_a);
    mem::swap(&mut a, &mut b);
    in_flight_a.advance(60);
    a.settle(in_flight_a.len());
    assert_eq!(a.pop_written(), None);
    b.settle(0);
    assert_eq!((a.len(), b.len()), (0, 0));
}

#[test]
fn debug_output_has_no_payload() {
    let mut outbox = Outbox::new(100);
    outbox.put(b"AAAA").expect("it fits");
    let text = format!("{outbox:?}");
    assert!(text.contains("len: 4") && !text.contains("65"), "{text}");
}

#[test]
fn buffers_go_round_in_a_steady_state() {
    let mut outbox = Outbox::new(1 << 20);
    let mut segments = Segments::new();
    let mut turn = |size: usize| {
        outbox.put(&vec![1; size]).expect("it fits");
        outbox.take(&mut segments);
        let pointer = segments.slices().next().expect("one piece").as_ptr();
        segments.advance(size);
        outbox.settle(0);
        (pointer, segments.capacity())
    };
    let (first, second) = (turn(500), turn(500));
    for _ in 0..10 {
        assert_eq!(turn(500), first);
        assert_eq!(turn(500), second);
    }
    assert!(turn(500_000).1 >= 500_000, "a large buffer that was used is kept");
    let shrunk = [turn(10), turn(10), turn(10)].map(|(_, capacity)| capacity);
    assert!(shrunk.iter().all(|&capacity| capacity <= 64 * 1024), "{shrunk:?}");
}

/// Against a plain byte vector, with random puts, frames, failures, takes and partial writes.
#[test]
fn any_sequence_delivers_what_was_accepted() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let source = Bytes::from((0..40_000_u32).map(|i| (i * 31 % 251) as u8).collect::<Vec<_>>());
    for _ in 0..50 {
        let limit = random.usize(1..60_000);
        let mut outbox = Outbox::new(limit);
        let mut segments = Segments::new();
        let (mut accepted, mut delivered) = (Vec::new(), Vec::new());
        let mut marks = VecDeque::new();
        for _ in 0..400 {
            let from = random.usize(..20_000);
            let count = if random.bool() {
                random.usize(..50)
            } else {
                random.usize(..20_000)
            };
            let piece = source.slice(from..from + count);
            match random.u8(..6) {
                0 if outbox.put(&piece).is_ok() => accepted.extend_from_slice(&piece),
                1 if outbox.put_shared(&piece).is_ok() => accepted.extend_from_slice(&piece),
                2 => {
                    let fails = random.bool();
                    let built = outbox.frame(|frame| {
                        frame.put(&[0; 8])?;
                        frame.put_shared(&piece)?;
                        frame.patch(0, &(count as u64).to_le_bytes());
                        if fails { Err(Full) } else { Ok(()) }
                    });
                    if built.is_ok() {
                        accepted.extend_from_slice(&(count as u64).to_le_bytes());
                        accepted.extend_from_slice(&piece);
                    }
                }
                3 => {
                    let mark = outbox.mark();
                    assert_eq!(mark, accepted.len() as u64);
                    if marks.back() != Some(&mark) {
                        marks.push_back(mark);
                    }
                }
                _ => {
                    if segments.is_empty() {
                        outbox.take(&mut segments);
                    }
                    let count = random.usize(..=segments.len());
                    delivered.extend(content(&segments).into_iter().take(count));
                    segments.advance(count);
                    outbox.settle(segments.len());
                }
            }
            while let Some(mark) = outbox.pop_written() {
                assert!(mark <= delivered.len() as u64);
                assert_eq!(marks.pop_front(), Some(mark));
            }
            assert_eq!(outbox.len(), accepted.len() - delivered.len());
            assert!(outbox.len() <= limit);
        }
        delivered.extend(content(&segments));
        delivered.extend(taken(&mut outbox));
        assert!(delivered == accepted, "bytes were lost, doubled or swapped");
    }
}

fn seed() -> u64 {
    let seed = match std::env::var("KRAFT_SEED") {
        Ok(seed) => seed.parse().expect("KRAFT_SEED is a number"),
        Err(_) => RandomState::new().hash_one(0),
    };
    println!("KRAFT_SEED={seed}");
    seed
}

#[test]
fn buffers_are_lent_where_nothing_waits_and_come_back_empty() {
    let payload = Bytes::from(vec![7; SHARE_MIN]);
    let mut outbox = Outbox::new(1 << 20);
    let mut spare = Vec::with_capacity(1000);
    let memory = spare.as_ptr();
    outbox.put(b"first").expect("it fits");
    assert!(!outbox.lend(&mut spare), "bytes wait");
    assert_eq!(taken(&mut outbox), b"first");
    assert!(outbox.lend(&mut spare));
    assert_ne!(spare.as_ptr(), memory, "it is the outbox's own");

    outbox.put(b"head").expect("it fits");
    outbox.put_shared(&payload).expect("it fits");
    outbox.put(b"tail").expect("it fits");
    outbox.take_back(&mut spare);
    assert_eq!((spare.as_ptr(), spare.len()), (memory, 0), "it is back");
    let whole = taken(&mut outbox);
    assert_eq!((&whole[..4], &whole[4 + SHARE_MIN..]), (&b"head"[..], &b"tail"[..]));
    assert_eq!(payload, whole[4..4 + SHARE_MIN]);
    assert!(payload.is_unique(), "a shared payload was copied or kept");
}

#[test]
fn a_lent_buffer_comes_back_from_what_was_sent() {
    let mut outbox = Outbox::new(1 << 20);
    let (mut spare, mut sending) = (Vec::with_capacity(1000), Segments::new());
    let memory = spare.as_ptr();
    assert!(outbox.lend(&mut spare));
    outbox.put(&[1; 1000]).expect("it fits");
    outbox.take(&mut sending);
    sending.advance(1000);
    outbox.settle(0);
    assert_eq!(outbox.take(&mut sending), 0);
    outbox.take_back(&mut spare);
    assert_eq!((spare.as_ptr(), spare.len()), (memory, 0));
}

#[test]
#[should_panic(expected = "what is exchanged is empty")]
fn a_buffer_with_bytes_is_not_lent() {
    Outbox::new(10).lend(&mut vec![1]);
}

#[test]
fn the_last_bytes_of_a_frame_can_be_looked_at() {
    let payload = Bytes::from(vec![9; SHARE_MIN]);
    let mut outbox = Outbox::new(1 << 20);
    outbox.put(b"before").expect("it fits");
    outbox
        .frame(|frame| {
            frame.put(b"head")?;
            assert_eq!(frame.last(4), b"head");
            frame.put_shared(&payload)?;
            assert_eq!(frame.last(0), b"");
            frame.put(b"ta")?;
            frame.put(b"il")?;
            assert_eq!(frame.last(3), b"ail");
            Ok::<_, Full>(())
        })
        .expect("it fits");
    let refused = outbox.frame(|frame| {
        frame.put(b"more")?;
        Err::<(), _>(Full)
    });
    assert_eq!(refused, Err(Full));
    assert_eq!(outbox.len(), 14 + SHARE_MIN);
    let bytes = taken(&mut outbox);
    assert_eq!(&bytes[..10], b"beforehead");
    assert_eq!(&bytes[10 + SHARE_MIN..], b"tail");
}

#[test]
fn pieces_are_put_all_or_none() {
    let mut outbox = Outbox::new(10);
    let put = outbox.frame(|frame| {
        frame.put_all(5, [&b"ab"[..], b"", b"cde"].into_iter())?;
        frame.put(b"f")
    });
    assert_eq!(put, Ok(()));
    let full = outbox.frame(|frame| frame.put_all(5, [[1; 4], [2; 4]].into_iter().map(|_| "none is asked for")));
    assert_eq!(full, Err(Full));
    assert_eq!(taken(&mut outbox), b"abcdef");
}

#[test]
fn what_is_filled_in_is_kept_as_far_as_it_goes_or_not_at_all() {
    let mut outbox = Outbox::new(8);
    let put = outbox.frame(|frame| {
        frame.put(b"ab")?;
        let count = frame.fill(|room: &mut [u8; 16]| {
            assert_eq!(room, &[0; 16]);
            room[..5].copy_from_slice(b"cdexx");
            3
        })?;
        assert_eq!((count, frame.len(), frame.last(3)), (3, 5, &b"cde"[..]));
        assert_eq!(frame.fill(|room: &mut [u8; 4]| room.len()), Err(Full));
        assert_eq!((frame.len(), frame.last(5)), (5, &b"abcde"[..]));
        Ok::<_, Full>(())
    });
    assert_eq!(put, Err(Full), "a refusal that was overlooked");
    let put = outbox.frame(|frame| {
        frame.fill(|_: &mut [u8; 64]| 0)?;
        frame.fill(|room: &mut [u8; 64]| {
            room[..8].copy_from_slice(b"as large");
            8
        })
    });
    assert_eq!(put, Ok(8));
    assert_eq!(taken(&mut outbox), b"as large");
}

#[test]
#[should_panic(expected = "pieces of a frame are as long as was said")]
fn pieces_are_as_long_as_was_said() {
    let mut outbox = Outbox::new(10);
    let _ = outbox.frame(|frame| frame.put_all(5, [b"abcd"].into_iter()));
}

#[test]
#[should_panic(expected = "the last 7 bytes of a frame")]
fn the_last_bytes_of_a_frame_are_its_own() {
    let mut outbox = Outbox::new(100);
    outbox.put(b"before").expect("it fits");
    let _ = outbox.frame(|frame| {
        frame.put(b"frame")?;
        let _ = frame.last(7);
        Ok::<_, Full>(())
    });
}

#[test]
fn a_frame_whose_builder_panics_leaves_the_outbox_as_it_was() {
    const BUG: &str = "a bug of the builder";
    #[track_caller]
    fn check(why: &str, build: impl FnOnce(&mut Frame<'_>) -> Result<(), Full>) {
        let mut outbox = Outbox::new(4 * SHARE_MIN);
        outbox.put(b"before").expect("it fits");
        let panicked = catch_unwind(AssertUnwindSafe(|| outbox.frame(build)));
        let panic = panicked.expect_err("it panics");
        assert_eq!(panic.downcast_ref(), Some(&why), "it panicked for another reason");
        assert_eq!((outbox.len(), outbox.mark()), (6, 6));
        outbox.put(b" after").expect("it fits");
        assert_eq!(taken(&mut outbox), b"before after");
    }
    check(BUG, |_| panic_any(BUG));
    check(BUG, |frame| {
        frame.put(b"half")?;
        panic_any(BUG);
    });
    check(BUG, |frame| {
        frame.put(b"half")?;
        frame.put_shared(&Bytes::from(vec![9; SHARE_MIN]))?;
        frame.put(b"and more")?;
        panic_any(BUG);
    });
    check(BUG, |frame| {
        let pieces = (0..2).map(|at| match at {
            0 => "half",
            _ => panic_any(BUG),
        });
        frame.put_all(8, pieces)
    });
    check(BUG, |frame| {
        frame.put(b"half")?;
        frame.fill(|room: &mut [u8; 16]| {
            room[..8].copy_from_slice(b"and more");
            panic_any(BUG);
        })?;
        Ok(())
    });
    check("no more bytes are kept than there are", |frame| {
        frame.put(b"half")?;
        frame.fill(|_: &mut [u8; 4]| 5)?;
        Ok(())
    });
}

#[test]
fn bytes_that_a_frame_had_no_room_for_count_once() {
    let mut outbox = Outbox::new(100);
    outbox.put(&[0; 40]).expect("it fits");
    let refused = outbox.frame(|frame| frame.fill(|_: &mut [u8; 64]| 64));
    assert_eq!(refused, Err(Full));
    let mut taken = Segments::new();
    outbox.take(&mut taken);
    outbox.settle(37);
    assert!(!outbox.pop_drained(), "64 bytes would not fit");
    outbox.settle(36);
    assert!(outbox.pop_drained());
}
