//! Which libuv the system's linker found.

use std::ffi::c_uint;

// A number that the library was compiled with, the same as in `uv_version_string()`.
unsafe extern "C" {
    safe fn uv_version() -> c_uint;
}

/// As people write it: "1.51.0".
pub(crate) fn text() -> String {
    let [_, major, minor, patch] = uv_version().to_be_bytes();
    format!("{major}.{minor}.{patch}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_version_that_has_all_that_is_called() {
        let text = text();
        let mut numbers = text.split('.').map(|number| number.parse().expect("a number"));
        // As `build.rs` asks for it.
        assert!((numbers.next(), numbers.next()) >= (Some(1), Some(19)), "{text}");
    }
}
