//! Small files that people can read: lines of `key = value`, and a checksum.

use std::fmt::Write;

/// The bytes of such a file.
pub(crate) fn encode(title: &str, lines: &[(String, String)]) -> Vec<u8> {
    let mut text = format!("# {title}\n");
    for (key, value) in lines {
        writeln!(text, "{key} = {value}").expect("a String takes all");
    }
    let crc = crc32c::crc32c(text.as_bytes());
    writeln!(text, "crc32c = {crc:08x}").expect("a String takes all");
    text.into_bytes()
}

/// The lines of such a file, or what is wrong with it.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<(String, String)>, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
    let (body, seal) = text.rsplit_once("crc32c = ").ok_or("it has no checksum")?;
    let is_sealed = seal == format!("{:08x}\n", crc32c::crc32c(body.as_bytes()));
    if !is_sealed || !body.ends_with('\n') {
        return Err("its checksum is wrong");
    }
    let mut lines = Vec::new();
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.split_once(" = ").ok_or("a line without ` = `")?;
        lines.push((key.to_owned(), value.to_owned()));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let lines = vec![("a".to_owned(), "1".to_owned()), ("b.2".to_owned(), "x = y".to_owned())];
        let bytes = encode("title", &lines);
        assert_eq!(decode(&bytes), Ok(lines));
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes).is_err(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }
}
