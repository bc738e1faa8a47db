#![no_main]

kraft_fuzz::fuzz!(hello_state_machine);
