//! Instructions to make bytes of a message, and back: the contenders of the benchmark `formats` of `kraft-protocols`.

#[expect(dead_code, reason = "some are timed alone, and tables have names")]
#[path = "../../protocols/benches/formats/contenders.rs"]
mod contenders;
#[path = "../../protocols/benches/formats/plain.rs"]
mod plain;
#[expect(dead_code, reason = "tables have names")]
#[path = "../../protocols/benches/formats/shapes.rs"]
mod shapes;

use gungraun::{library_benchmark, library_benchmark_group, main};

use crate::contenders::{Contender, Name};
use crate::shapes::{SHAPES, Shape};

/// With its buffers grown, and what is found out about the processor found out.
fn warm(name: Name, shape: Shape) -> Box<dyn Contender> {
    let mut contender = name.with(shape);
    contender.encode_times(2);
    contender.decode_times(2);
    contender
}

macro_rules! encoder {
    ($name:ident $encode:ident) => {
        #[library_benchmark(setup = warm)]
        #[bench::heartbeat(Name::$name, SHAPES[0])]
        #[bench::one(Name::$name, SHAPES[1])]
        #[bench::batch(Name::$name, SHAPES[2])]
        #[bench::bulk(Name::$name, SHAPES[3])]
        fn $encode(mut contender: Box<dyn Contender>) -> Box<dyn Contender> {
            contender.encode();
            contender
        }
    };
}

macro_rules! decoder {
    ($name:ident $decode:ident) => {
        #[library_benchmark(setup = warm)]
        #[bench::heartbeat(Name::$name, SHAPES[0])]
        #[bench::one(Name::$name, SHAPES[1])]
        #[bench::batch(Name::$name, SHAPES[2])]
        #[bench::bulk(Name::$name, SHAPES[3])]
        fn $decode(mut contender: Box<dyn Contender>) -> Box<dyn Contender> {
            contender.decode();
            contender
        }
    };
}

encoder!(Binary binary_encode);
decoder!(Binary binary_decode);
encoder!(Protobuf protobuf_encode);
decoder!(Protobuf protobuf_decode);
encoder!(Msgpack msgpack_encode);
decoder!(Msgpack msgpack_decode);
encoder!(Json json_encode);
decoder!(Json json_decode);
encoder!(Prost prost_encode);
decoder!(Prost prost_decode);
decoder!(ProstShared prost_shared_decode);
encoder!(Rmp rmp_encode);
decoder!(Rmp rmp_decode);
decoder!(RmpLent rmp_lent_decode);

library_benchmark_group!(
    name = ours,
    benchmarks = [
        binary_encode,
        binary_decode,
        protobuf_encode,
        protobuf_decode,
        msgpack_encode,
        msgpack_decode,
        json_encode,
        json_decode
    ]
);

library_benchmark_group!(
    name = rivals,
    benchmarks = [
        prost_encode,
        prost_decode,
        prost_shared_decode,
        rmp_encode,
        rmp_decode,
        rmp_lent_decode
    ]
);

main!(library_benchmark_groups = [ours, rivals]);
