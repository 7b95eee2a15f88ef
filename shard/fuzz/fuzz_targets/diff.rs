#![no_main]

use conflux_shard_fuzz::{
    diff::{Kind, MAX_CHANGES, Side, diff},
    format::{Format, Limits, parse},
};

// Two contents, parted by the first zero byte. What the diff says of values must be so.
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some(at) = input.iter().position(|b| *b == 0) else { return };
    let (from, to) = (&input[..at], &input[at + 1..]);
    for format in [Format::Yaml, Format::Xml] {
        let side = |content| Side { name: "x", format, content };
        let difference = diff(side(from), side(to));
        let Some(values) = difference.values else { continue };
        assert!(values.changes.len() <= MAX_CHANGES);
        let limits = Limits::default();
        let (old, new) = (parse(format, from, &limits).expect("read"), parse(format, to, &limits).expect("read"));
        assert_eq!(values.changes.is_empty(), old.value == new.value);
        for change in values.changes {
            let was = old.value.at(&change.path).is_some();
            let is = new.value.at(&change.path).is_some();
            assert!(if change.kind == Kind::Removed { was } else { is }, "{change:?}");
        }
    }
});
