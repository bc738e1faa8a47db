#![no_main]

kraft_fuzz::fuzz!(config_parse);
