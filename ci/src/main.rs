//! Every CI step as one program: `cargo ci STEP`.

fn main() {}
