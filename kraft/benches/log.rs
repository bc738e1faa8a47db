//! Appends and syncs batches through the log, against a loop that writes and syncs the same bytes.

fn main() {}
