//! Rows 11 and 12 of the threats: JSON that is none, or none of the schema's.

use kraft_core::handshake::Kind;
use kraft_core::protocol::{DecodeError, Limits, Protocol};
use kraft_protocols::conformance::LIMITS;
use kraft_protocols::{Format, Json, TEXT_MAX};

use crate::forge::{self, made};

/// The body is malformed where `^` stands before it.
#[track_caller]
fn malformed(kind: Kind, marked: &str) {
    let offset = marked.find('^').expect("the place is marked");
    let body = marked.replacen('^', "", 1);
    forge::expect_malformed_body(Format::Json, kind, body.as_bytes(), offset);
}

#[track_caller]
fn message(kind: Kind, body: &str) -> String {
    forge::judge(Format::Json, kind, body.as_bytes()).unwrap()
}

#[track_caller]
fn too_large(kind: Kind, body: &str, limits: &Limits) {
    let frame = made(Format::Json, kind, body.as_bytes());
    let mut scratch = Vec::new();
    let decoded = Json.decode(&frame, limits, &mut scratch);
    assert_eq!(decoded, Err(DecodeError::TooLarge));
}

#[test]
fn row12_numbers_are_whole_and_exact() {
    for bad in [
        "1.0",
        "1e3",
        "1E3",
        "0.5",
        "-1",
        "-0",
        "null",
        "true",
        "[]",
        "{}",
        "\"\"",
        "\" 1\"",
        "\"1 \"",
        "\"01\"",
        "\"00\"",
        "\"+1\"",
        "\"-1\"",
        "\"1.0\"",
        "\"0x1\"",
        "\"\\u0031\"",
        "\"١\"",
        "\"one\"",
        // 2^53 + 1 is no double: whoever wrote it as a number may have meant another one.
        "9007199254740993",
        "18446744073709551615",
        "18446744073709551616",
        "\"18446744073709551616\"",
    ] {
        malformed(Kind::Status, &format!(r#"{{"group":1,"from":^{bad}}}"#));
    }
    let digits = "9".repeat(1_000_000);
    malformed(Kind::Status, &format!(r#"{{"from":^"{digits}"}}"#));
    for (good, number) in [
        ("0", 0),
        ("\"0\"", 0),
        ("7", 7),
        ("\"7\"", 7),
        ("9007199254740992", 1 << 53),
        ("\"9007199254740993\"", (1 << 53) + 1),
        ("\"18446744073709551615\"", u64::MAX),
    ] {
        assert_eq!(
            message(Kind::Transfer, &format!(r#"{{"to":{good}}}"#)),
            format!("Transfer(Transfer {{ to: NodeId({number}) }})")
        );
    }
    malformed(Kind::Status, r#"{"group":^4294967296}"#);
    malformed(Kind::Welcome, r#"{"version":^65536}"#);
    // No syntax of JSON's: at the byte that is none of it.
    malformed(Kind::Status, r#"{"from":0^1}"#);
    malformed(Kind::Status, r#"{"from":^NaN}"#);
    malformed(Kind::Status, r#"{"from":^Infinity}"#);
    malformed(Kind::Status, r#"{"from":^+1}"#);
    malformed(Kind::Status, r#"{"from":1^_0}"#);
}

#[test]
fn row11_syntax_is_strict() {
    for bad in [
        "^",
        "^\u{feff}{}",
        "{}^{}",
        "{}^,",
        "{} ^x",
        "^[]",
        "^null",
        "^1",
        r#"{"from":1,^}"#,
        r#"{^from:1}"#,
        r#"{^'from':1}"#,
        r#"{"from"^=1}"#,
        r#"{^/* no */"from":1}"#,
        "{\n\"group\": 1,\n \"from\": 1 ^2\n}",
    ] {
        malformed(Kind::Status, bad);
    }
    // What ends too early ends at its last byte.
    for bad in [
        "{",
        r#"{"from""#,
        r#"{"from":"#,
        r#"{"from":1"#,
        r#"{"from":"1"#,
        r#"{"x":[[1]"#,
        "{\n\n",
    ] {
        let judged = forge::judge(Format::Json, Kind::Status, bad.as_bytes());
        let Err(DecodeError::Malformed { offset }) = judged else {
            panic!("{bad}: {judged:?}");
        };
        assert!((24..=24 + bad.len()).contains(&offset), "{bad}: {offset}");
    }
}

#[test]
fn row11_names_come_once() {
    malformed(Kind::Status, r#"{"from":1,"from":^1}"#);
    malformed(Kind::Status, r#"{"from":1,"fr\u006fm":^2}"#);
    malformed(Kind::Append, r#"{"entries":[{"kind":"noop","kind":^"noop"}]}"#);
    // Twice the same name that nobody knows: skipped, as one is.
    assert_eq!(message(Kind::Status, r#"{"later":1,"later":2}"#), "Status");
}

#[test]
fn row11_nesting_is_bounded() {
    let nested = |depth: usize| format!(r#"{{"later":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(message(Kind::Status, &nested(16)), "Status");
    malformed(Kind::Status, &nested(17).replacen("[", "^[", 1));
    malformed(Kind::Status, &nested(100_000).replacen("[", "^[", 1));
    malformed(
        Kind::Status,
        &nested(100_000).replace("later", "from").replacen("[", "^[", 1),
    );
    malformed(
        Kind::Append,
        &nested(100_000).replace("later", "entries").replacen("[[", "[^[", 1),
    );
    let objects = format!(r#"{{"later":^{}1{}}}"#, r#"{"a":"#.repeat(17), "}".repeat(17));
    malformed(Kind::Status, &objects);
    // Brackets in a text are none.
    assert_eq!(
        message(Kind::Status, &format!(r#"{{"later":"{}\"["}}"#, "[".repeat(99))),
        "Status"
    );
    // Nothing but beginnings: they are not followed down.
    let bomb = format!(r#"{{"later":{}"#, "[".repeat(1_000_000));
    let judged = forge::judge(Format::Json, Kind::Status, bomb.as_bytes());
    assert!(matches!(judged, Err(DecodeError::Malformed { .. })), "{judged:?}");
}

#[test]
fn row11_texts_are_unicode() {
    assert_eq!(
        message(
            Kind::Goaway,
            r#"{"reason":"malformed","detail":"a\ud83d\ude00\n\"\\\/"}"#
        ),
        "Goaway(Goaway { reason: Malformed, detail: \"a😀\\n\\\"\\\\/\" })"
    );
    // Where it goes wrong within the text.
    malformed(
        Kind::Goaway,
        r#"{"reason":"malformed","detail":"\ud8^00"}"#.replace("d8^00", "d800^").as_str(),
    );
    for bad in [
        r#""\ud800x""#,
        r#""\udc00""#,
        r#""\ud800\u0041""#,
        r#""\x""#,
        r#""\u12""#,
        "\"\n\"",
        "\"\0\"",
    ] {
        let body = format!(r#"{{"reason":"malformed","detail":{bad}}}"#);
        let judged = forge::judge(Format::Json, Kind::Goaway, body.as_bytes());
        let Err(DecodeError::Malformed { offset }) = judged else {
            panic!("{bad}: {judged:?}");
        };
        assert!(offset >= 24 + body.find(bad).unwrap(), "{bad}: {offset}");
    }
    malformed(Kind::Goaway, r#"{"reason":"malformed","detail":^1}"#);
    malformed(Kind::Goaway, r#"{"reason":"malformed","detail":^null}"#);
    // Bytes that are no UTF-8, wherever they are.
    for at in [0, 1, 5, 40] {
        let mut body = br#"{"reason":"malformed","detail":"abcdefghijklmnop"}"#.to_vec();
        body[at] = 0xff;
        forge::expect_malformed_body(Format::Json, Kind::Goaway, &body, at);
    }
}

#[test]
fn row12_payloads_are_base64() {
    for (good, bytes) in [
        ("", "[]"),
        ("AA==", "[0]"),
        ("+/8=", "[251, 255]"),
        ("AAEC", "[0, 1, 2]"),
        (r"+\/8=", "[251, 255]"),
        (r"\u0041A==", "[0]"),
    ] {
        let read = message(Kind::Read, &format!(r#"{{"query":"{good}"}}"#));
        assert_eq!(
            read,
            format!("Read(Read {{ query: {bytes}, consistency: Linearizable }})")
        );
    }
    for bad in [
        "A^", "AA^", "AAA^", "AA=^", "AAECAA^", // cut, or without padding
        "A^-8=", "A^_8=", "AA^ ==", "AA=^A", // another alphabet, blanks, something behind the padding
        "A^B==", "AA^B=", // bits that are in no byte
    ] {
        let body = format!(r#"{{"query":"{}"}}"#, bad.replace('^', ""));
        let judged = forge::judge(Format::Json, Kind::Read, body.as_bytes());
        let Err(DecodeError::Malformed { offset }) = judged else {
            panic!("{bad}: {judged:?}");
        };
        let text = 24 + r#"{"query":""#.len();
        assert!((text..=text + bad.len() - 1).contains(&offset), "{bad}: {offset}");
    }
    malformed(Kind::Read, r#"{"query":"AA^*A"}"#);
    malformed(Kind::Read, r#"{"query":^null}"#);
    malformed(Kind::Read, r#"{"query":^[0]}"#);
    malformed(Kind::Read, r#"{"query":^7}"#);
}

#[test]
fn row11_choices_and_flags_are_those_of_the_schema() {
    for bad in [
        "\"boss\"",
        "\"\"",
        "1",
        "null",
        "\"Peer\"",
        "\"\\u0070eer\"",
        "true",
        "[\"peer\"]",
    ] {
        malformed(Kind::Hello, &format!(r#"{{"role":^{bad}}}"#));
    }
    for bad in ["1", "\"true\"", "null", "0"] {
        malformed(Kind::Vote, &format!(r#"{{"pre":^{bad}}}"#));
    }
    for bad in ["{}", "null", "7", "\"\""] {
        malformed(Kind::Append, &format!(r#"{{"entries":^{bad}}}"#));
    }
    for bad in ["[]", "null", "7", "\"\""] {
        malformed(Kind::Append, &format!(r#"{{"entries":[{{"kind":"noop"}},^{bad}]}}"#));
    }
    malformed(Kind::Append, r#"{"entries":[{"kind":"noop"},^{}]}"#);
    malformed(Kind::Append, r#"{"entries":[{"kind":"noop","term":^"x"}]}"#);
    malformed(Kind::Goaway, "^{}");
    malformed(Kind::Read, r#"{"age_max_ms":^1}"#);
    malformed(Kind::Reply, r#"{"outcome":"committed","detail":^"x"}"#);
    let damaged = r#"{"entries":[{"kind":"noop","payload":"AA=="}]}"#;
    let judged = forge::judge(Format::Json, Kind::Append, damaged.as_bytes());
    assert_eq!(judged, Err(DecodeError::BadChecksum));
}

#[test]
fn row09_lists_and_texts_above_the_limit_are_refused() {
    let entries = |count| format!(r#"{{"entries":[{}]}}"#, vec![r#"{"kind":"noop"}"#; count].join(","));
    message(Kind::Append, &entries(LIMITS.entries_max));
    too_large(Kind::Append, &entries(LIMITS.entries_max + 1), &LIMITS);
    too_large(Kind::Append, &entries(1), &Limits::BEFORE_HELLO);

    let members = |count| format!(r#"{{"state":"leader","members":[{}]}}"#, vec!["{}"; count].join(","));
    message(Kind::StatusReply, &members(256));
    too_large(Kind::StatusReply, &members(257), &LIMITS);

    let goaway = |text: &str| format!(r#"{{"reason":"malformed","detail":"{text}"}}"#);
    for (letter, count) in [("x", 1), ("ü", 2), (r"\n", 1), (r"\u0000", 1), (r"\u00fc", 2)] {
        message(Kind::Goaway, &goaway(&letter.repeat(TEXT_MAX / count)));
        too_large(Kind::Goaway, &goaway(&letter.repeat(TEXT_MAX / count + 1)), &LIMITS);
    }
}
