#![no_main]

kraft_fuzz::fuzz!(wal_open);
