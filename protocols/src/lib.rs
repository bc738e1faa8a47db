//! Wire formats for Kraft, and the suite that judges them.

#![forbid(unsafe_code)]
