//! A key's slot: ours and the `redis` crate's own.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use redis::cluster_routing::Slot;
use redis_slots::slot_of;

fn slots(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("slot");
    for (name, key) in
        [("short", "test1:0".to_owned()), ("tagged", "{user1000}.following".into()), ("long", "k".repeat(200))]
    {
        group.throughput(Throughput::Bytes(key.len() as u64));
        group.bench_with_input(BenchmarkId::new("ours", name), &key, |bencher, key| {
            bencher.iter(|| slot_of(black_box(key)));
        });
        group.bench_with_input(BenchmarkId::new("redis crate", name), &key, |bencher, key| {
            bencher.iter(|| Slot::for_key(black_box(key)));
        });
    }
    group.finish();
}

criterion_group!(benches, slots);
criterion_main!(benches);
