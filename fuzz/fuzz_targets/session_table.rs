#![no_main]

kraft_fuzz::fuzz!(session_table);
