//! The client, free of I/O.
