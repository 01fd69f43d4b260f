//! What an id costs, beside the crates of the field, and when threads share a generator.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lab::OrFail;
use snowflake::experiment::cost;
use snowflake::{Layout, Snowflake};

/// Interleaved rounds, as the notebook runs them: what an arm takes next to another says more than what it takes alone.
fn rivals(_: &mut Criterion) {
    let raced = cost(2_000);
    for arm in raced.names().into_iter().filter(|arm| *arm != "a pause") {
        let (median, low, high) = raced.nanoseconds_each(arm).median_and_quartiles();
        println!("{arm}: {median:.1} ns an id ({low:.1} to {high:.1})");
    }
    for rival in ["snowflaked", "ferroid", "uuid v7", "uuid v4", "ulid"] {
        println!("ours ÷ {rival}: {:.2}", raced.ratio("ours", rival).median());
    }
}

/// With bits enough for the sequence that no millisecond is ever full: the code's cost, not the layout's limit.
fn threads(criterion: &mut Criterion) {
    let layout = Layout::new(1_577_836_800_000, 41, 0, 22).or_fail();
    let mut group = criterion.benchmark_group("next_id");
    for threads in [1_u64, 2, 4] {
        group.throughput(Throughput::Elements(threads));
        group.bench_function(BenchmarkId::new("threads", threads), |bencher| {
            bencher.iter_custom(|each| {
                let ids = Snowflake::new(layout, 0).or_fail();
                let began = Instant::now();
                std::thread::scope(|scope| {
                    for _ in 0..threads {
                        scope.spawn(|| (0..each).for_each(|_| drop(black_box(ids.next_id()))));
                    }
                });
                began.elapsed()
            });
        });
    }
    group.finish();
}

/// What reading the clock takes of it.
fn clock(criterion: &mut Criterion) {
    use lab::clock::{Clock, SystemClock};
    criterion.bench_function("the clock alone", |bencher| bencher.iter(|| black_box(SystemClock.now_ms())));
    criterion.bench_function("decode", |bencher| {
        let id = Snowflake::new(Layout::WORKERS_32, 1).and_then(|ids| ids.next_id()).or_fail();
        bencher.iter(|| black_box(Layout::WORKERS_32.decode(black_box(id))));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).sample_size(30);
    targets = rivals, threads, clock
}
criterion_main!(benches);
