#![no_main]

use std::collections::HashMap;

use conflux_common::reference::{Expansion, Limits, Piece, Quote, Reference, Step, Text, scan};

const QUOTES: [Quote; 4] = [Quote::Plain, Quote::Line, Quote::Json, Quote::Xml];

// Contents that are parted by zero bytes: the first is asked for, the others are `a/b/1`, `a/b/2` and so on. What is no reference stays, what is
// one is found again from its own text, and the expansion ends within its bounds.
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let texts: Vec<&[u8]> = input.split(|b| *b == 0).collect();
    let mut whole = Vec::new();
    let mut plain = true;
    for piece in scan(texts[0]) {
        match piece {
            Ok(Piece::Plain(bytes)) => whole.extend_from_slice(bytes),
            Ok(Piece::Reference { reference, written }) => {
                assert_eq!(reference.to_string().parse::<Reference>().expect("what was read"), reference);
                whole.extend_from_slice(written);
                plain = false;
            }
            Err(_) => {
                assert!(texts[0].starts_with(&whole));
                return;
            }
        }
    }
    assert_eq!(whole, texts[0]);

    let limits = Limits { references: 100, configs: 20, depth: 4, bytes: 64 << 10 };
    for quote in QUOTES {
        let mut expansion = Expansion::new(Text { bytes: whole.clone(), quote }, limits);
        let mut given = HashMap::new();
        for round in 0.. {
            // Each round is one deeper.
            assert!(round <= limits.depth + 1);
            match expansion.step() {
                Err(e) => assert!(!plain || whole.len() > limits.bytes, "{e}"),
                Ok(Step::Done(done)) => {
                    assert!(done.len() <= limits.bytes);
                    assert!(!plain || done == whole);
                }
                Ok(Step::Fetch(wanted)) => {
                    assert!(!wanted.is_empty() && wanted.len() <= limits.references);
                    for wanted in wanted {
                        let number = wanted.reference.name.as_str().parse().unwrap_or(texts.len());
                        let text = Text { bytes: texts.get(number).unwrap_or(&&b"none"[..]).to_vec(), quote: QUOTES[number % 4] };
                        assert!(given.insert(wanted.reference.clone(), ()).is_none(), "asked for twice");
                        expansion.give(wanted.reference, text);
                    }
                    continue;
                }
            }
            break;
        }
    }
});
