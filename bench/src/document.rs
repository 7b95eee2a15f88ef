//! What is stored: JSON documents of an exact size that do not compress well, each different from the one before.

use bytes::Bytes;

/// The largest document.
const LARGEST: usize = 1 << 20;

/// A source of documents of one size.
pub struct Documents {
    size: usize,
    letters: Vec<u8>,
}

impl Documents {
    /// Documents of `size` bytes: 64 at least, 512 KiB at most.
    pub fn of(size: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let letters = (0..LARGEST)
            .map(|_| {
                state = mixed(state);
                b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-"[(state >> 58) as usize]
            })
            .collect();
        Self { size: size.clamp(64, LARGEST / 2), letters }
    }

    /// The document of this number.
    pub fn document(&self, number: u64) -> Bytes {
        let mut text = format!("{{\"n\":{number},\"text\":\"").into_bytes();
        let rest = self.size.saturating_sub(text.len() + 2);
        let from = (number as usize).wrapping_mul(31) % (LARGEST - self.size);
        text.extend_from_slice(&self.letters[from..from + rest]);
        text.extend_from_slice(b"\"}");
        text.into()
    }
}

/// SplitMix64's output function: numbers that look random and are the same in each run.
pub fn mixed(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_json_of_their_size_and_differ() {
        for size in [256, 1024, 16 << 10, 256 << 10] {
            let documents = Documents::of(size);
            let (a, b) = (documents.document(1), documents.document(2));
            assert_eq!((a.len(), b.len()), (size, size));
            assert_ne!(a, b);
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&a).unwrap()["n"], 1);
        }
    }
}
