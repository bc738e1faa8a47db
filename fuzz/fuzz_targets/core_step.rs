#![no_main]

kraft_fuzz::fuzz!(core_step);
