//! Lookup time by placement and number of nodes.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lablib::placing::consistent_hashing::experiment::{Scheme, keys, shards};

fn lookup(criterion: &mut Criterion) {
    let keys = keys(1_024);
    let mut group = criterion.benchmark_group("lookup");
    for nodes in [10, 100, 1_000, 10_000] {
        for (name, scheme) in [("modulo", Scheme::Modulo), ("ring, 100 virtual nodes", Scheme::Ring(100))] {
            let placement = scheme.place(&shards(nodes));
            let mut next = keys.iter().cycle();
            group.bench_with_input(BenchmarkId::new(name, nodes), &nodes, |bencher, _| {
                bencher.iter(|| next.next().and_then(|key| placement.node_of(black_box(key))));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, lookup);
criterion_main!(benches);
