//! What borrowing costs, beside the pools of the field: when nobody else wants a connection, and when everybody does.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lab::runtime::block_on;
use lab::{OrFail, Raced};
use sql::pool::experiment::checkout::{Four, contended, uncontended};

/// Interleaved rounds, as the notebook runs them: what an arm takes next to another says more than what it takes alone.
fn rivals(_: &mut Criterion) {
    let show = |title: &str, raced: Raced| {
        for arm in raced.names() {
            let (median, low, high) = raced.nanoseconds_each(arm).median_and_quartiles();
            println!("{title}, {arm}: {median:.0} ns a checkout ({low:.0} to {high:.0})");
        }
        for rival in ["deadpool", "bb8", "r2d2"] {
            println!("{title}, ours ÷ {rival}: {:.2}", raced.ratio("ours", rival).median());
        }
    };
    show("uncontended", uncontended(100_000, 11).or_fail());
    show("eight want one of two", contended(8, 100_000, 11).or_fail());
}

fn alone(criterion: &mut Criterion) {
    let four = Four::new(4).or_fail();
    let mut group = criterion.benchmark_group("checkout");
    macro_rules! bench {
        ($name:literal, $times:ident, $run:expr) => {
            group.bench_function(BenchmarkId::new("uncontended", $name), |bencher| {
                bencher.iter_custom(|$times| {
                    let began = std::time::Instant::now();
                    std::hint::black_box($run);
                    began.elapsed()
                });
            });
        };
    }
    bench!("ours", times, block_on(four.ours(times)));
    bench!("deadpool", times, block_on(four.deadpool(times)));
    bench!("bb8", times, block_on(four.bb8(times)));
    bench!("r2d2", times, four.r2d2(times));
    group.finish();
}

criterion_group!(benches, rivals, alone);
criterion_main!(benches);
