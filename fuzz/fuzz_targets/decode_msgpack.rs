#![no_main]

kraft_fuzz::fuzz!(decode_msgpack);
