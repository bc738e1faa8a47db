#![no_main]

kraft_fuzz::fuzz!(snapshot_open);
