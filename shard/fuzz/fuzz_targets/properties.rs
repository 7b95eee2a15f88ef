#![no_main]

use conflux_shard_fuzz::{format::Format, parses};

libfuzzer_sys::fuzz_target!(|content: &[u8]| parses(Format::Properties, content));
