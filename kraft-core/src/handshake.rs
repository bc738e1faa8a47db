//! Who may say what on a connection: hello, roles, goaway.
