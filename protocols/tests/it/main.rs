//! The formats of this crate before the suite, and under attack.

mod bad_json;
mod bad_msgpack;
mod bad_protobuf;
mod counting;
mod documented;
mod forge;
mod fuzz;
mod limits;
mod mangled;
mod standard;
mod threats;
mod tomorrow;
mod version_1;

use std::path::{Path, PathBuf};

use kraft_protocols::conformance::Subject;
use kraft_protocols::{Any, Binary, Format, Json, Msgpack, Protobuf};

fn golden(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format)
}

kraft_protocols::suite!(binary, || {
    Subject::from(Binary)
        .golden(golden("binary"))
        .newer(tomorrow::binary)
        .allocated(counting::allocated)
});

kraft_protocols::suite!(protobuf, || {
    Subject::from(Protobuf)
        .golden(golden("protobuf"))
        .newer(tomorrow::protobuf)
        .allocated(counting::allocated)
});

kraft_protocols::suite!(msgpack, || {
    Subject::from(Msgpack)
        .golden(golden("msgpack"))
        .newer(tomorrow::msgpack)
        .allocated(counting::allocated)
});

kraft_protocols::suite!(json, || {
    Subject::from(Json)
        .golden(golden("json"))
        .newer(tomorrow::json)
        .allocated(counting::allocated)
        .copies()
});

// Two formats as they are chosen by name; their golden vectors are the formats' own.
kraft_protocols::suite!(any_binary, || {
    Subject::from(Any::new(Format::Binary))
        .newer(tomorrow::binary)
        .allocated(counting::allocated)
});

kraft_protocols::suite!(any_protobuf, || {
    Subject::from(Any::new(Format::Protobuf))
        .newer(tomorrow::protobuf)
        .allocated(counting::allocated)
});
