//! Lookups by placement and number of nodes, and beside the crates of the field.

use std::hint::black_box;

use consistent_hashing::experiment::{Scheme, keys, shards};
use consistent_hashing::rivals::{AnyPlacement, Rival};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lab::OrFail;

const KEYS: usize = 1_024;

fn lookup(criterion: &mut Criterion) {
    let keys = keys(KEYS);
    let mut group = criterion.benchmark_group("lookup");
    let schemes = [
        Scheme::Modulo,
        Scheme::Ring(100),
        Scheme::FastRing(100),
        Scheme::Ketama,
        Scheme::Rendezvous,
        Scheme::Jump,
        Scheme::Maglev,
        Scheme::Bounded(0.25),
    ];
    for nodes in [10, 100, 1_000, 10_000] {
        for scheme in schemes {
            let placement = scheme.place(&shards(nodes)).or_fail();
            let mut next = keys.iter().cycle();
            group.bench_with_input(BenchmarkId::new(scheme.to_string(), nodes), &nodes, |bencher, _| {
                bencher.iter(|| next.next().map(|key| black_box(placement.node_of(black_box(key)))));
            });
        }
    }
    group.finish();
}

/// Ours and its rivals, a group for each kind of placement.
fn rivals(criterion: &mut Criterion) {
    let keys = keys(KEYS);
    let kinds: [(&str, &[Rival], usize); 3] = [
        ("rings of 1,000 nodes", &Rival::RINGS, 1_000),
        ("rendezvous over 100 nodes", &Rival::RENDEZVOUS, 100),
        ("jump over 1,000 nodes", &Rival::JUMPS, 1_000),
    ];
    for (kind, rivals, nodes) in kinds {
        let mut group = criterion.benchmark_group(kind);
        group.throughput(Throughput::Elements(KEYS as u64));
        for rival in rivals {
            let placement = AnyPlacement::new(*rival, nodes).or_fail();
            group.bench_function(rival.to_string(), |bencher| bencher.iter(|| placement.find_all(&keys)));
        }
        group.finish();
    }
}

criterion_group!(benches, rivals, lookup);
criterion_main!(benches);
