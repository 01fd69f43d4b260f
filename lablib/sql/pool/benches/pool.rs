//! What borrowing costs, beside the pools of the field: when nobody else wants a connection, and when everybody does.

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use lab::OrFail;
use pool::experiment::checkout::{Arm, Four};

fn checkout(criterion: &mut Criterion) {
    let (of_four, of_two) = (Four::new(4).or_fail(), Four::new(2).or_fail());
    group(criterion, "a checkout, uncontended", of_four.alone());
    group(criterion, "a checkout, eight want one of two", of_two.crowded(8));
}

fn group(criterion: &mut Criterion, name: &str, pools: [Arm<'_>; 4]) {
    let mut group = criterion.benchmark_group(name);
    for (pool, run) in pools {
        group.bench_function(pool, |bencher| {
            bencher.iter_custom(|times| {
                let began = Instant::now();
                black_box(run(times));
                began.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, checkout);
criterion_main!(benches);
