#![no_main]

kraft_fuzz::fuzz!(split_stream);
