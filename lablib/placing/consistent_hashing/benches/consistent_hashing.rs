//! Lookups by placement and number of nodes, and beside the crates of the field.

use std::hint::black_box;

use consistent_hashing::experiment::{Rivals, Scheme, keys, shards};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lab::OrFail;

fn lookup(criterion: &mut Criterion) {
    let keys = keys(1_024);
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
            group.bench_with_input(BenchmarkId::new(scheme.name(), nodes), &nodes, |bencher, _| {
                bencher.iter(|| next.next().map(|key| black_box(placement.node_of(black_box(key)))));
            });
        }
    }
    group.finish();
}

/// Ten interleaved rounds, as the notebook runs them: what an arm takes next to another says more than what it takes alone.
fn rivals(_: &mut Criterion) {
    for rivals in [Rivals::rings(1_000, 10), Rivals::rendezvous(100, 10), Rivals::jump(1_000, 10)] {
        for (arm, fullest) in &rivals.fullest {
            let nanoseconds = rivals.raced.nanoseconds_each(arm);
            println!("{arm}: {:.1} ns a lookup, fullest node {fullest:.3} × the mean", nanoseconds.median());
        }
        let ratio = rivals.ours_to_best();
        println!("ours ÷ best rival: {:.2} ({:.2} to {:.2})", ratio.median(), ratio.min(), ratio.max());
    }
}

criterion_group!(benches, rivals, lookup);
criterion_main!(benches);
