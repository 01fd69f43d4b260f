//! How often a page that is needed is not in memory.

/// Pages read for each row that is inserted, when every row needs one page of each of these indexes, at random, and a pool of
/// `pool` pages keeps those that were used last.
///
/// After Che and others (2002): a page stays for as long as it takes to fill the pool with other ones. That time is the
/// same for all pages; how likely a page is used again within it depends on how many others share its index.
///
/// ```
/// use key_width::misses;
///
/// assert_eq!(misses(100.0, &[60.0, 40.0]), 0.0);
/// assert!((misses(100.0, &[200.0]) - 0.5).abs() < 1e-6);
/// ```
pub fn misses(pool: f64, indexes: &[f64]) -> f64 {
    let all: f64 = indexes.iter().sum();
    if all <= pool.max(0.0) {
        return 0.0;
    }
    let held = |time: f64| indexes.iter().map(|pages| pages * (1.0 - (-time / pages).exp())).sum::<f64>();
    let (mut low, mut high) = (0.0, 64.0 * all);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if held(middle) < pool { low = middle } else { high = middle }
    }
    indexes.iter().map(|pages| (-low / pages).exp()).sum()
}
