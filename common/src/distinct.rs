//! How many different clients there were, about, in 256 bytes at most: HyperLogLog.
//!
//! Registers after Flajolet, Fusy, Gandouet and Meunier, "HyperLogLog: the analysis of a near-optimal cardinality estimation
//! algorithm" (2007); the estimate after Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017),
//! algorithm 6, which needs no corrections by range. The standard error is 1.04 / sqrt(256) = 6.5 %.
//!
//! Our own, since the registers travel between processes of different versions: what a byte means may never change.

use sha2::{Digest, Sha256};

/// Registers.
pub const REGISTERS: usize = 256;
/// Bits of a hash that are left after those that choose the register.
const RANKED_BITS: u32 = 56;

/// So many registers are kept one by one; most sets are of a handful of clients.
const FEW: usize = 32;

/// A set of which only the size is known.
#[derive(Clone, PartialEq, Eq)]
pub struct Distinct(Registers);

/// There is one form for each set, by how many registers are not 0.
#[derive(Clone, PartialEq, Eq)]
enum Registers {
    /// Number and rank of each that is not 0, by number: up to [`FEW`].
    Few(Vec<(u8, u8)>),
    /// More than that.
    All(Box<[u8; REGISTERS]>),
}

/// Registers that no [`Distinct`] could have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a count of distinct clients is number and rank of up to {FEW} registers, by number, or {REGISTERS} ranks of 0 to {}",
    RANKED_BITS + 1
)]
pub struct InvalidRegisters;

impl Default for Distinct {
    fn default() -> Self {
        Self(Registers::Few(Vec::new()))
    }
}

impl std::fmt::Debug for Distinct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Distinct(about {})", self.estimate())
    }
}

impl Distinct {
    /// Adds one; again is the same as once. Each part is separated from the next, so that `ab, c` is not `a, bc`.
    pub fn insert<'a>(&mut self, parts: impl IntoIterator<Item = &'a [u8]>) {
        self.insert_hash(hash(parts));
    }

    /// Adds one by its [`hash`].
    pub fn insert_hash(&mut self, hash: u64) {
        let register = (hash >> RANKED_BITS) as u8;
        // The first one of the 56 bits below: 1 for half of all, 57 where there is none.
        let rank = (hash << 8).leading_zeros().min(RANKED_BITS) as u8 + 1;
        self.raise(register, rank);
    }

    /// `rank` is not 0.
    fn raise(&mut self, register: u8, rank: u8) {
        match &mut self.0 {
            Registers::All(all) => all[usize::from(register)] = all[usize::from(register)].max(rank),
            Registers::Few(few) => match few.binary_search_by_key(&register, |(number, _)| *number) {
                Ok(at) => few[at].1 = few[at].1.max(rank),
                Err(at) if few.len() < FEW => few.insert(at, (register, rank)),
                Err(_) => {
                    let mut all = spread(few);
                    all[usize::from(register)] = rank;
                    self.0 = Registers::All(Box::new(all));
                }
            },
        }
    }

    /// Adds all of the other.
    pub fn merge(&mut self, other: &Distinct) {
        match (&mut self.0, &other.0) {
            (_, Registers::Few(few)) => few.iter().for_each(|(register, rank)| self.raise(*register, *rank)),
            (Registers::All(own), Registers::All(theirs)) => {
                own.iter_mut().zip(theirs.iter()).for_each(|(own, theirs)| *own = (*own).max(*theirs));
            }
            (Registers::Few(_), Registers::All(_)) => {
                let own = std::mem::replace(self, other.clone());
                self.merge(&own);
            }
        }
    }

    /// Nobody was added.
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Registers::Few(few) if few.is_empty())
    }

    /// About how many were added.
    pub fn estimate(&self) -> u64 {
        /// 1 / (2 ln 2)
        const ALPHA: f64 = 0.721_347_520_444_481_7;
        let m = REGISTERS as f64;
        let mut counts = [0u32; RANKED_BITS as usize + 2];
        for register in self.registers() {
            counts[usize::from(register)] += 1;
        }
        let share = |count: u32| f64::from(count) / m;
        let mut z = m * tau(1.0 - share(counts[RANKED_BITS as usize + 1]));
        for count in counts[1..=RANKED_BITS as usize].iter().rev() {
            z = 0.5 * (z + f64::from(*count));
        }
        z += m * sigma(share(counts[0]));
        // Infinite for an empty set, which makes the estimate 0.
        (ALPHA * m * m / z).round() as u64
    }

    /// As it travels: up to 32 registers as number and rank of each that is not 0, by number; more as the ranks of all 256.
    pub fn to_wire(&self) -> Vec<u8> {
        match &self.0 {
            Registers::Few(few) => few.iter().flat_map(|(register, rank)| [*register, *rank]).collect(),
            Registers::All(all) => all.to_vec(),
        }
    }

    fn registers(&self) -> [u8; REGISTERS] {
        match &self.0 {
            Registers::Few(few) => spread(few),
            Registers::All(all) => **all,
        }
    }
}

fn spread(few: &[(u8, u8)]) -> [u8; REGISTERS] {
    let mut all = [0; REGISTERS];
    few.iter().for_each(|(register, rank)| all[usize::from(*register)] = *rank);
    all
}

impl TryFrom<&[u8]> for Distinct {
    type Error = InvalidRegisters;

    /// Of either form of [`Distinct::to_wire`], also of few registers that were sent as all.
    fn try_from(wire: &[u8]) -> Result<Self, InvalidRegisters> {
        let known = |rank: u8| u32::from(rank) <= RANKED_BITS + 1;
        if let Ok(all) = <[u8; REGISTERS]>::try_from(wire) {
            if !all.iter().all(|rank| known(*rank)) {
                return Err(InvalidRegisters);
            }
            let few: Vec<(u8, u8)> = (0..=u8::MAX).zip(all).filter(|(_, rank)| *rank > 0).collect();
            return Ok(Self(if few.len() > FEW { Registers::All(Box::new(all)) } else { Registers::Few(few) }));
        }
        let (pairs, rest) = wire.as_chunks::<2>();
        let few: Vec<(u8, u8)> = pairs.iter().map(|[register, rank]| (*register, *rank)).collect();
        let valid = rest.is_empty()
            && few.len() <= FEW
            && few.is_sorted_by(|a, b| a.0 < b.0)
            && few.iter().all(|(_, rank)| *rank > 0 && known(*rank));
        if valid { Ok(Self(Registers::Few(few))) } else { Err(InvalidRegisters) }
    }
}

/// The same in every process and version, so that counts of different gateways can be merged.
pub fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let digest = digest.finalize();
    u64::from_be_bytes([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]])
}

/// x + the sum of x^(2^k) * 2^(k-1) for k from 1.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut sum, mut weight) = (x, 1.0);
    loop {
        x *= x;
        let before = sum;
        sum += x * weight;
        weight += weight;
        if sum == before {
            return sum;
        }
    }
}

/// (1 - x - the sum of (1 - x^(2^-k))^2 * 2^-k for k from 1) / 3.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut rest, mut weight) = (1.0 - x, 1.0);
    loop {
        x = x.sqrt();
        let before = rest;
        weight *= 0.5;
        rest -= (1.0 - x).powi(2) * weight;
        if rest == before {
            return rest / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(seed: u64, clients: impl IntoIterator<Item = u64>) -> Distinct {
        let mut count = Distinct::default();
        for client in clients {
            count.insert([&seed.to_be_bytes()[..], &client.to_be_bytes()[..]]);
        }
        count
    }

    /// "About how many" must mean what the documentation says: a standard error of 6.5 %, and no bias at any size.
    #[test]
    fn the_error_is_what_the_paper_says() {
        const SEEDS: u64 = 40;
        for size in [1u64, 10, 100, 256, 640, 1_280, 10_000, 100_000] {
            let errors: Vec<f64> =
                (0..SEEDS).map(|seed| of(seed * 7_919 + size, 0..size).estimate() as f64 / size as f64 - 1.0).collect();
            let mean = errors.iter().sum::<f64>() / SEEDS as f64;
            let deviation = (errors.iter().map(|e| e * e).sum::<f64>() / SEEDS as f64).sqrt();
            // Of 40 draws the mean strays by 1 %, the deviation by a tenth of itself: three times that.
            assert!(mean.abs() < 0.035, "{size}: a bias of {mean}");
            assert!(deviation < 0.085, "{size}: a deviation of {deviation}");
        }
    }

    #[test]
    fn nobody_is_nobody_and_few_are_counted_well() {
        assert_eq!(Distinct::default().estimate(), 0);
        assert!(Distinct::default().is_empty());
        for few in 1..=5 {
            assert_eq!(of(1, 0..few).estimate(), few);
        }
    }

    /// A register beyond its range would come from another version or a broken sender: it must not become a number.
    #[test]
    fn foreign_registers_are_refused() {
        let full = of(3, 0..1_000);
        assert_eq!(Distinct::try_from(&full.to_wire()[..]).unwrap(), full);
        assert!(Distinct::try_from(&[0; 255][..]).is_err());
        let pairs: Vec<u8> = (0..33).flat_map(|register| [register, 1]).collect();
        assert!(Distinct::try_from(&pairs[..64]).is_ok());
        for broken in [&pairs[..], &pairs[..63], &[1, 1, 0, 1], &[1, 1, 1, 1], &[1, 0], &[1, 58]] {
            assert!(Distinct::try_from(broken).is_err(), "{broken:?}");
        }
        assert!(Distinct::try_from(&[58; 256][..]).is_err());
        assert!(Distinct::try_from(&[57; 256][..]).unwrap().estimate() > 1 << 50);
    }

    /// What a byte means may never change: gateways of two versions report to one shard.
    #[test]
    fn the_registers_are_these() {
        let mut one = Distinct::default();
        one.insert([&b"key:a"[..], b"10.0.0.1"]);
        let set: Vec<(usize, u8)> = one.registers().into_iter().enumerate().filter(|(_, rank)| *rank > 0).collect();
        assert_eq!(set, [(150, 1)]);
        assert_eq!(one.to_wire(), [150, 1]);
    }

    proptest! {
        /// Few clients are kept in another form than many: what they are told as, and what comes of that, must not show it.
        #[test]
        fn the_form_never_shows(clients in prop::collection::vec(0u64..300, 0..100)) {
            let mut registers = [0u8; REGISTERS];
            for client in &clients {
                let hash = hash([&5u64.to_be_bytes()[..], &client.to_be_bytes()[..]]);
                let own = &mut registers[(hash >> RANKED_BITS) as usize];
                *own = (*own).max((hash << 8).leading_zeros() as u8 + 1);
            }
            let count = of(5, clients);
            prop_assert_eq!(count.registers(), registers);
            prop_assert_eq!(&Distinct::try_from(&registers[..]).unwrap(), &count);
            prop_assert_eq!(Distinct::try_from(&count.to_wire()[..]).unwrap(), count);
        }

        /// Gateways see parts of the clients, some of them the same: together they must count as one would have.
        #[test]
        fn merging_is_counting_together(left in prop::collection::vec(0u64..500, 0..200), right in prop::collection::vec(0u64..500, 0..200)) {
            let mut merged = of(5, left.iter().copied());
            merged.merge(&of(5, right.iter().copied()));
            prop_assert_eq!(&merged, &of(5, left.into_iter().chain(right)));
            let again = merged.clone();
            merged.merge(&again);
            prop_assert_eq!(merged, again);
        }
    }
}
