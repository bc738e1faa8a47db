//! What buffa makes of `protocols/schema/kraft.proto`; `cargo ci codegen` says whether it is current.

#![expect(
    clippy::derivable_impls,
    clippy::needless_borrow,
    clippy::needless_update,
    clippy::use_self,
    non_camel_case_types,
    unnameable_types,
    unreachable_pub,
    unused_imports,
    unused_qualifications,
    reason = "generated for everybody's use of any schema"
)]

include!("generated/kraft.v1.mod.rs");
