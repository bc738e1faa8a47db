//! What a newer version of each format might send (law P11): the same messages, with fields that nobody knows yet.

use kraft_protocols::frame::HEADER;

use crate::forge::seal;

/// The fixed part longer by twelve bytes, the variable parts by seven. What this version leaves out where it is zero has
/// to stand before what comes after it.
pub(crate) fn binary(frame: &[u8]) -> Vec<u8> {
    let u32_at = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap());
    let (covered, payloads) = frame[HEADER..].split_at(u32_at(12) as usize);
    let fixed = usize::from(u16::from_le_bytes([covered[0], covered[1]]));
    let known = match u16::from_le_bytes([frame[6], frame[7]]) {
        1 => 96,
        19 => 56,
        33 => 80,
        34 => 64,
        37 => 128,
        _ => fixed,
    };
    let mut number = vec![0; known - fixed];
    number.extend_from_slice(b"a new number");
    let mut body = covered.to_vec();
    body[0..2].copy_from_slice(&u16::try_from(fixed + number.len()).unwrap().to_le_bytes());
    drop(body.splice(fixed..fixed, number));
    body.extend_from_slice(b"new text".first_chunk::<7>().unwrap());
    seal(frame, &body, payloads)
}

/// Fields of every wire type, groups in groups among them, in front of the known ones and behind them.
pub(crate) fn protobuf(frame: &[u8]) -> Vec<u8> {
    // Field 30: a varint. 31: eight bytes. 32: text. 33: four bytes. 34: a group with a field and a group in it.
    let front = [0xf0, 0x01, 0xff, 0x01, 0xf9, 0x01, 1, 2, 3, 4, 5, 6, 7, 8];
    let back = [
        0x82, 0x02, 3, b'n', b'e', b'w', 0x8d, 0x02, 1, 2, 3, 4, // 32, 33
        0x93, 0x02, 0x08, 0x01, 0x9b, 0x02, 0x9c, 0x02, 0x94, 0x02, // 34 { 1: 1, 35 {} }
    ];
    seal(frame, &[&front, &frame[HEADER..], &back].concat(), &[])
}

/// Values of every sort at keys that nobody knows yet.
pub(crate) fn msgpack(frame: &[u8]) -> Vec<u8> {
    let body = &frame[HEADER..];
    let length = match body[0] {
        fixed @ 0x80..=0x8f => u16::from(fixed & 0x0f),
        0xde => u16::from_be_bytes([body[1], body[2]]),
        other => panic!("a map begins with {other:#x}"),
    };
    let entries = if body[0] == 0xde { &body[3..] } else { &body[1..] };
    let more: [&[u8]; 9] = [
        &[30, 0xc0],                                                // nil
        &[31, 0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0],                  // 1.5
        &[0xcd, 0x03, 0xe8, 0xa3, b'n', b'e', b'w'],                // 1000: "new"
        &[33, 0x93, 1, 0x91, 2, 0x81, 0xa1, b'k', 0xc3],            // [1, [2], {"k": true}]
        &[34, 0xc4, 2, 7, 7],                                       // bin
        &[35, 0xdc, 0, 2, 0xd1, 0xff, 0x00, 0xff],                  // array16 of int16 and -1
        &[36, 0xde, 0, 1, 1, 0xd9, 1, b'x'],                        // map16 with a str8
        &[37, 0xdb, 0, 0, 0, 1, b'y'],                              // str32
        &[0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], // the largest key
    ];
    let count = length + u16::try_from(more.len()).unwrap();
    let (front, back) = more.split_at(4);
    let length = [0xde, count.to_be_bytes()[0], count.to_be_bytes()[1]];
    seal(
        frame,
        &[&length[..], &front.concat(), entries, &back.concat()].concat(),
        &[],
    )
}

/// Values of every sort under names that nobody knows yet, and white space.
pub(crate) fn json(frame: &[u8]) -> Vec<u8> {
    let body = str::from_utf8(&frame[HEADER..]).unwrap();
    let inner = &body[1..body.len() - 1];
    let comma = if inner.is_empty() { "" } else { "," };
    let front = r#" { "later" : [1, -2.5e3, {"deep": [null, true, "\"]}"]}],"#;
    let back = "\n\"l\\u00e4ter\":\t{\"of\":\"\",\"all\":{}}}\n";
    seal(frame, [front, inner, comma, back].concat().as_bytes(), &[])
}
