#![no_main]

kraft_fuzz::fuzz!(roundtrip_protobuf);
