//! Connections to the other nodes: dialling, back-off.
