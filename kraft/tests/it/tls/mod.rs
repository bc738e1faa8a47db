//! TLS as an operator meets it: files, flags, and who is refused in which words.

mod certificates;
mod certs;
mod clients;
mod files;
mod lab;
mod peers;
mod plaintext;
mod renewal;
