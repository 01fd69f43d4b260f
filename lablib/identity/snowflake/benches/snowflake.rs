//! What an id costs, beside the crates of the field, and when threads share a generator.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lab::OrFail;
use lab::clock::{Clock, SystemClock};
use snowflake::rivals::{BURST, Rival, while_ticking};
use snowflake::{Layout, Snowflake};

/// Ours and its rivals, in bursts that fit into a millisecond, each of which lets that millisecond pass first: what an id costs, and not
/// how many a layout allows.
fn rivals(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one id");
    // A burst takes a fraction of the millisecond before it.
    group.warm_up_time(Duration::from_millis(50)).measurement_time(Duration::from_millis(300));
    let bench = |ticks: &_| {
        for rival in Rival::ALL {
            let mut burst = rival.open(ticks)?;
            group.bench_function(rival.to_string(), |bencher| {
                bencher.iter_custom(|times| {
                    let bursts = (0..times.div_ceil(BURST)).map(|nth| BURST.min(times - nth * BURST));
                    bursts.fold(Duration::ZERO, |took, ids| {
                        SystemClock.sleep(Duration::from_micros(1_100));
                        let began = Instant::now();
                        assert_eq!(burst(ids).or_fail(), ids);
                        took + began.elapsed()
                    })
                });
            });
        }
        Ok(())
    };
    while_ticking(bench).or_fail();
    group.finish();
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

/// What reading the clock takes of it, and what it takes to read an id.
fn parts(criterion: &mut Criterion) {
    criterion.bench_function("the clock alone", |bencher| bencher.iter(|| black_box(SystemClock.now_ms())));
    criterion.bench_function("decode", |bencher| {
        let id = Snowflake::new(Layout::WORKERS_32, 1).and_then(|ids| ids.next_id()).or_fail();
        bencher.iter(|| black_box(Layout::WORKERS_32.decode(black_box(id))));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).sample_size(30);
    targets = rivals, threads, parts
}
criterion_main!(benches);
