//! Event loops for Kraft, and the suite that judges them.
