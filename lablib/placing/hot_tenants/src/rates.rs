//! Who is hot: the share of the recent load that each tenant causes, in bounded memory.

use std::collections::HashMap;

use lab::{Error, Result};

/// The share of the load that each tenant has, the past fading by half every so many operations, kept for the heaviest
/// tenants only.
///
/// Space-Saving (Metwally, Agrawal and El Abbadi) with counters that decay: whoever has more than one in `counters` of the
/// load is among them; a share is never overstated, and understated by at most one in `counters`.
///
/// ```
/// use hot_tenants::Rates;
///
/// let mut rates = Rates::new(8, 1_000.0).unwrap();
/// for operation in 0..10_000 {
///     rates.observe(if operation % 2 == 0 { "hot".into() } else { format!("tenant{operation}") }.as_str());
/// }
/// assert!((0.35..=0.5).contains(&rates.share("hot")));
/// ```
#[derive(Debug, Clone)]
pub struct Rates {
    most: usize,
    half_life: f64,
    /// What one operation counts now. It grows, so that earlier ones fade without being touched.
    weight: f64,
    total: f64,
    counters: HashMap<String, Counter>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    count: f64,
    /// Of the count, what may belong to tenants that had the counter before.
    inherited: f64,
}

/// Weights above this are brought back to 1.
const TOO_HEAVY: f64 = 1e100;

impl Rates {
    /// With so many counters; an operation counts half after `half_life` others.
    pub fn new(counters: usize, half_life: f64) -> Result<Self> {
        let fail = |cause: &str| Err(Error::new("watch the tenants' rates", cause));
        if counters == 0 {
            return fail("there is no counter");
        }
        if !(half_life.is_finite() && half_life > 0.0) {
            return fail("the half-life is not above zero");
        }
        Ok(Self { most: counters, half_life, weight: 1.0, total: 0.0, counters: HashMap::new() })
    }

    /// One operation of a tenant.
    pub fn observe(&mut self, tenant: &str) {
        self.weight *= 2_f64.powf(1.0 / self.half_life);
        if self.weight > TOO_HEAVY {
            self.scale_down();
        }
        self.total += self.weight;
        if let Some(counter) = self.counters.get_mut(tenant) {
            counter.count += self.weight;
            return;
        }
        let inherited = match self.counters.len() < self.most {
            true => 0.0,
            false => self.evict(),
        };
        self.counters.insert(tenant.to_string(), Counter { count: inherited + self.weight, inherited });
    }

    /// The share of the load that is a tenant's for sure, from 0 to 1.
    pub fn share(&self, tenant: &str) -> f64 {
        self.counters.get(tenant).map_or(0.0, |counter| self.share_of(counter))
    }

    /// The heaviest tenants with their shares, heaviest first.
    pub fn heaviest(&self) -> Vec<(&str, f64)> {
        let mut tenants: Vec<(&str, f64)> =
            self.counters.iter().map(|(tenant, counter)| (tenant.as_str(), self.share_of(counter))).collect();
        tenants.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        tenants
    }

    fn share_of(&self, counter: &Counter) -> f64 {
        if self.total > 0.0 { (counter.count - counter.inherited) / self.total } else { 0.0 }
    }

    /// Frees the counter with the least in it, and says how much that was.
    fn evict(&mut self) -> f64 {
        let least = self.counters.iter().min_by(|a, b| a.1.count.total_cmp(&b.1.count).then_with(|| a.0.cmp(b.0)));
        let Some((tenant, count)) = least.map(|(tenant, counter)| (tenant.clone(), counter.count)) else { return 0.0 };
        self.counters.remove(&tenant);
        count
    }

    fn scale_down(&mut self) {
        let by = 1.0 / self.weight;
        self.total *= by;
        for counter in self.counters.values_mut() {
            counter.count *= by;
            counter.inherited *= by;
        }
        self.weight = 1.0;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_past_fades_by_half_in_a_half_life() {
        let mut rates = Rates::new(4, 500.0).unwrap();
        (0..5_000).for_each(|_| rates.observe("old"));
        (0..500).for_each(|_| rates.observe("new"));
        assert!((rates.share("old") - 0.5).abs() < 0.01, "{}", rates.share("old"));
        // The weights overflow nothing, however long it runs.
        (0..400_000).for_each(|_| rates.observe("new"));
        assert!(rates.share("new") > 0.999 && rates.weight <= TOO_HEAVY);
    }

    #[test]
    fn no_counter_and_no_half_life_are_refused() {
        for (counters, half_life) in [(0, 1.0), (1, 0.0), (1, f64::NAN), (1, f64::INFINITY), (1, -1.0)] {
            Rates::new(counters, half_life).unwrap_err();
        }
    }
}
