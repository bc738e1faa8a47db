//! Histories by hand. A line is `CLIENT BEGIN END KEY ACTION -> ANSWER`, as histories are written.

use super::super::{Budget, Contradiction, History, Verdict};

pub(super) fn history(lines: &str) -> History {
    let text = format!("# kraft history 1\n{}\n", lines.replace("    ", ""));
    History::read(text.as_bytes()).expect("a history")
}

#[track_caller]
fn good(lines: &str) {
    let verdict = history(lines).check(Budget::default());
    assert!(verdict.is_linearizable(), "{verdict}");
}

/// What the checker says of it.
#[track_caller]
fn bad(lines: &str) -> String {
    match history(lines).check(Budget::default()) {
        Verdict::NotLinearizable(contradiction) => contradiction.to_string(),
        verdict => panic!("{verdict}:\n{lines}"),
    }
}

#[test]
fn histories_known_to_be_good() {
    good("");
    good("1 1 2 k get -> not-found");
    // One after the other, every action and every answer.
    good(
        "1 1 2 k put a -> done
        1 3 4 k get -> value a
        1 5 6 k cas a b -> done
        1 7 8 k cas a c -> mismatch b
        1 9 10 k increment 1 -> not-a-number
        1 11 12 k delete -> done
        1 13 14 k delete -> not-found
        1 15 16 k cas b c -> mismatch ~
        1 17 18 k increment 5 -> number 5
        1 19 20 k increment 9223372036854775807 -> overflow
        1 21 22 k cas ~ x -> mismatch 5
        1 23 24 k get -> value 5
        1 25 26 k put 007 -> done
        1 27 28 k increment 1 -> number 8
        1 29 30 k put % -> done
        1 31 32 k get -> value %",
    );
    // Reads at once with a write see either; what was seen stays.
    good(
        "1 1 9 k put a -> done
        2 2 3 k get -> not-found
        3 4 5 k get -> value a
        2 6 7 k get -> value a",
    );
    // The order of writes is that of the reads, not of their beginnings.
    good(
        "1 1 9 k put a -> done
        2 2 9 k put b -> done
        3 10 11 k get -> value a",
    );
    // Sums out of the order in which they were asked for.
    good(
        "1 1 9 n increment 1 -> number 2
        2 2 9 n increment 1 -> number 1
        3 3 4 n get -> value 1",
    );
    // What ends as another begins is at once with it.
    good(
        "1 1 5 k put a -> done
        2 5 6 k get -> not-found",
    );
}

#[test]
fn what_is_unknown_may_have_happened_at_any_time_or_never() {
    good(
        "1 1 - k put a -> unknown
        2 5 6 k get -> not-found",
    );
    good(
        "1 1 - k put a -> unknown
        2 5 6 k get -> value a",
    );
    // It appears late.
    good(
        "1 1 - k put a -> unknown
        2 5 6 k get -> not-found
        2 7 8 k put b -> done
        2 9 10 k get -> value b
        2 11 12 k get -> value a",
    );
    // Each may have happened, and the last one need not.
    good(
        "1 1 - n increment 1 -> unknown
        1 2 - n increment 1 -> unknown
        1 3 - n increment 1 -> unknown
        2 5 6 n increment 1 -> number 3
        2 7 8 n get -> value 3",
    );
    // A chain of them.
    good(
        "1 1 - k put a -> unknown
        1 2 - k cas a b -> unknown
        1 3 - k cas b c -> unknown
        2 5 6 k get -> value c",
    );
    good(
        "1 1 - k delete -> unknown
        2 5 6 k put a -> done
        2 7 8 k get -> not-found",
    );
    // Nobody saw what was removed.
    good(
        "1 1 - k put a -> unknown
        2 5 6 k delete -> done
        2 7 8 k get -> not-found",
    );
    good(
        "1 1 - k put 9223372036854775807 -> unknown
        2 5 6 k increment 1 -> overflow
        3 7 - k put word -> unknown
        2 9 10 k increment 1 -> not-a-number",
    );
    // A number that comes back by an addition.
    good(
        "1 1 2 k put 1 -> done
        1 3 4 k get -> value 1
        1 5 6 k put 0 -> done
        2 3 - k increment 1 -> unknown
        1 7 8 k get -> value 1",
    );
    // The word is needed later, so that what was removed was the number.
    good(
        "1 1 - k put word -> unknown
        1 2 - k put 7 -> unknown
        2 5 6 k delete -> done
        2 7 8 k increment 1 -> not-a-number",
    );
    // A read without an answer, and a refused write that nobody saw.
    good(
        "1 1 - k get -> unknown
        1 2 - k put a -> refused
        2 5 6 k get -> not-found",
    );
}

#[test]
fn a_stale_read_is_seen() {
    let said = bad("1 1 2 k put a -> done
        1 3 4 k put b -> done
        2 5 6 k get -> value a");
    assert!(said.contains("fits nowhere:\n    2 5 6 k get -> value a\n"), "{said}");
    bad("1 1 2 k put a -> done
        2 3 4 k get -> not-found");
    bad("1 1 2 n increment 1 -> number 1
        2 3 4 n get -> not-found");
    bad("1 1 2 k put a -> done
        1 3 4 k delete -> done
        2 5 6 k get -> value a");
}

#[test]
fn a_lost_update_is_seen() {
    bad("1 1 2 k put a -> done
        2 5 6 k get -> not-found");
    bad("1 1 2 n increment 1 -> number 1
        2 3 4 n increment 1 -> number 1");
    // Both were told that theirs went in.
    bad("1 1 5 k cas ~ a -> done
        2 1 5 k cas ~ b -> done");
    bad("1 1 2 k put a -> done
        1 3 4 k delete -> not-found");
}

#[test]
fn what_is_applied_twice_is_seen() {
    bad("1 1 2 n increment 1 -> number 2");
    bad("1 1 2 n increment 1 -> number 1
        2 3 4 n get -> value 2");
    // One of unknown outcome makes up for one, not for two.
    good(
        "1 1 - n increment 1 -> unknown
        2 3 4 n get -> value 1",
    );
    bad("1 1 - n increment 1 -> unknown
        2 3 4 n get -> value 2");
    // An unknown write that appears, is overwritten, and appears again.
    bad("1 1 - k put a -> unknown
        2 3 4 k get -> value a
        2 5 6 k put b -> done
        2 7 8 k get -> value a");
    bad("1 1 - k delete -> unknown
        2 3 4 k put a -> done
        2 5 6 k get -> not-found
        2 7 8 k put b -> done
        2 9 10 k get -> not-found");
}

#[test]
fn what_nobody_wrote_is_seen() {
    let said = bad("1 1 2 k put a -> done
        2 1 2 k get -> value b");
    assert!(
        said.ends_with("no operation says that it wrote what this one saw"),
        "{said}"
    );
    bad("1 1 2 k get -> value 1");
    // Refused, and yet there.
    let said = bad("1 1 - k put a -> refused
        2 5 6 k get -> value a");
    assert!(said.contains("written by:\n    1 1 - k put a -> refused"), "{said}");
    bad("1 1 - n increment 1 -> refused
        2 5 6 n increment 1 -> number 2");
    // Seen before anybody asked for it.
    bad("2 1 2 k get -> value a
        1 5 6 k put a -> done");
    bad("2 1 2 k get -> value a
        1 5 - k put a -> unknown");
    // The compare-and-set cannot have happened.
    bad("1 1 - k cas x a -> unknown
        2 5 6 k get -> value a");
}

#[test]
fn a_read_that_goes_back_is_seen() {
    bad("1 1 20 k put a -> done
        2 2 3 k get -> value a
        3 4 5 k get -> not-found");
    bad("1 1 2 k put a -> done
        2 3 20 k put b -> done
        3 4 5 k get -> value b
        4 6 7 k get -> value a");
    // Two readers, two orders.
    bad("1 1 20 k put a -> done
        2 1 20 k put b -> done
        3 2 3 k get -> value a
        3 4 5 k get -> value b
        3 6 7 k get -> value a");
}

#[test]
fn anomalies_of_compare_and_set_are_seen() {
    bad("1 1 2 k put a -> done
        2 3 4 k cas b c -> done");
    bad("1 1 2 k put a -> done
        2 3 4 k cas a c -> mismatch b");
    bad("1 1 2 k put a -> done
        2 3 4 k cas a c -> mismatch a");
    bad("1 1 2 k put a -> done
        2 3 4 k cas a c -> mismatch ~");
    // It said no and did it.
    bad("1 1 2 k put a -> done
        2 3 4 k cas x c -> mismatch a
        2 5 6 k get -> value c");
    // Of three that take the same value one can win.
    bad("1 1 2 k put a -> done
        1 3 9 k cas a b -> done
        2 3 9 k cas a c -> mismatch b
        3 3 9 k cas a d -> done");
    bad("1 1 2 k get -> done");
}

#[test]
fn keys_are_judged_alone_and_a_bad_one_is_named() {
    let said = bad("1 1 2 a put x -> done
        1 3 4 b put x -> done
        2 5 6 a get -> value x
        2 7 8 b get -> not-found");
    assert!(
        said.starts_with("no order explains what clients saw of key b\n"),
        "{said}"
    );
}

#[test]
fn an_explanation_that_stopped_for_the_budget_says_so() {
    let history = history(
        "1 1 2 k put a -> done
        1 3 4 k put b -> done
        2 5 6 k get -> value a
        2 7 8 k get -> value b",
    );
    let operations: Vec<_> = history.operations().iter().collect();
    let told = |budget| Contradiction::find(b"k", &operations, budget).to_string();
    let says_so = |told: &str| told.contains("the budget was used up");
    assert!(!says_so(&told(1000)) && says_so(&told(0)));
}

#[test]
fn a_contradiction_is_told_as_the_shortest_beginning_that_has_it() {
    let mut lines = String::new();
    for at in 0..50 {
        lines += &format!("1 {} {} k put v{at} -> done\n", 10 * at, 10 * at + 5);
    }
    lines += "2 600 700 k get -> value v40\n1 650 - k put w -> unknown\n2 800 900 k get -> value v49\n";
    let said = bad(&lines);
    let expected = "\
no order explains what clients saw of key k
(client, begin, end, key, action -> answer)
this is one for what had ended before, and leaves v49:
    (42 more)
    1 420 425 k put v42 -> done
    1 430 435 k put v43 -> done
    1 440 445 k put v44 -> done
    1 450 455 k put v45 -> done
    1 460 465 k put v46 -> done
    1 470 475 k put v47 -> done
    1 480 485 k put v48 -> done
    1 490 495 k put v49 -> done
then this one ended, and fits nowhere:
    2 600 700 k get -> value v40
these were under way, or their outcome is unknown:
    1 650 - k put w -> unknown
what it saw was written by:
    1 400 405 k put v40 -> done
";
    assert_eq!(said, expected);
}

#[test]
fn a_budget_that_is_used_up_decides_nothing() {
    let lines = "1 1 9 k put a -> done
        1 1 9 k put b -> done
        2 10 11 k get -> value a";
    let verdict = history(lines).check(Budget { steps: 3 });
    assert!(matches!(verdict, Verdict::Undecided { .. }), "{verdict}");
    assert!(verdict.to_string().contains("key k has 3 operations"), "{verdict}");
    // A key that is known to be bad counts for more than one that is not decided.
    let lines = format!("{lines}\n1 1 2 z get -> value q");
    let verdict = history(&lines).check(Budget { steps: 3 });
    assert!(matches!(verdict, Verdict::NotLinearizable(_)), "{verdict}");
}

/// As many known operations, with more and more kinds of unknown outcome: each point remembers how many of each kind
/// were used.
#[test]
fn what_a_point_remembers_counts_by_its_size() {
    let is_decided = |kinds: u64| {
        let mut lines = String::new();
        for at in 0..100 {
            lines += &format!("1 {} {} k put {at} -> done\n", 10 * at, 10 * at + 5);
        }
        for by in 1..=kinds {
            lines += &format!("2 0 - k increment {by} -> unknown\n");
        }
        history(&lines).check(Budget { steps: 2000 }).is_linearizable()
    };
    assert!(is_decided(8));
    assert!(!is_decided(800));
}
