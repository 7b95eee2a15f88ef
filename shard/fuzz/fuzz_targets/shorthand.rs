#![no_main]

use conflux_shard_fuzz::{format::Format, schema::violations};

// A shorthand that is taken must be one that contents can be held against.
libfuzzer_sys::fuzz_target!(|schema: &str| {
    if !schema.trim_start().starts_with('{') && violations(Format::KeyValue, b"", schema).is_ok() {
        violations(Format::Ini, b"a=1\n[b]\nc=2\n", schema).expect("the schema was taken");
    }
});
