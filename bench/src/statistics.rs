//! Least, median and most of a few rounds.

/// Of numbers that are there.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spread {
    pub least: f64,
    pub median: f64,
    pub most: f64,
}

/// None where there is no number.
pub fn spread(numbers: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let sorted = sorted(numbers.into_iter().filter(|n| n.is_finite()).collect());
    let (least, most) = (*sorted.first()?, *sorted.last()?);
    // Of an even number the one between the two in the middle.
    let (lower, upper) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    Some(Spread { least, median: (lower + upper) / 2.0, most })
}

/// In order, for [`quantile`].
pub fn sorted(mut numbers: Vec<f64>) -> Vec<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// The nearest one at this share of sorted numbers; 0 where there is none.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_what_is_no_number_is_left_out() {
        let five = spread([3.0, f64::NAN, 1.0, 2.0, f64::INFINITY]);
        assert_eq!(five, Some(Spread { least: 1.0, median: 2.0, most: 3.0 }));
        assert_eq!(spread([4.0, 1.0, 2.0, 9.0]).map(|s| s.median), Some(3.0));
        assert_eq!(spread([]), None);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.99), 4.0);
    }
}
