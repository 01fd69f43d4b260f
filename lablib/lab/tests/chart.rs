//! Every chart, with realistic and with hostile data: well-formed, complete, deterministic, and never a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::HashSet;
use std::time::Duration;

use lab::chart::{Chart, Figure, Lines, Plotters, arc, letters, px};
use lab::plotters::drawing::DrawingAreaErrorKind;
use lab::plotters::prelude::*;
use proptest::prelude::*;

/// Numbers that look measured and are the same in every run.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as f64 + 0.5) / (1_u64 << 31) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// A latency in nanoseconds: log-normal with a tail.
    fn latency(&mut self, median: f64, spread: f64) -> f64 {
        let tail = if self.uniform() < 0.02 { 1.0 + 6.0 * self.uniform() } else { 1.0 };
        (median * (self.normal() * spread).exp() * tail).round().max(1.0)
    }
}

fn virtual_nodes() -> Lines {
    let mut noise = Noise(1);
    let points: Vec<(u32, Vec<f64>)> = (0..=10)
        .map(|power| 1_u32 << power)
        .map(|v| (v, (0..7).map(|_| 1.0 + (2.9 + 0.35 * noise.normal()) / f64::from(v).sqrt()).collect()))
        .collect();
    Chart::lines("Imbalance falls as 1/√v: a hundred virtual nodes are enough")
        .subtitle("Busiest of 10 shards against the mean, 100,000 keys, seven rings each")
        .x("virtual nodes per shard", "")
        .y("busiest shard ÷ mean", "×")
        .log_x()
        .line_with_spread("ring", points)
        .predicted("1 + 3/√v", |v| 1.0 + 3.0 / v.sqrt())
        .mark_y("perfect balance", 1.0)
}

fn throughput() -> Lines {
    let mut noise = Noise(2);
    let mut curve = |top: f64, knee: f64| -> Vec<(f64, f64)> {
        (1..=32)
            .map(|n| (f64::from(n), top * f64::from(n) / (knee + f64::from(n)) * (1.0 + 0.02 * noise.normal())))
            .collect()
    };
    Chart::lines("Past eight connections, more of them buy almost nothing")
        .x("connections in the pool", "")
        .y("statements per second", "")
        .line("prepared statements", curve(21_500.0, 3.0))
        .line("text protocol", curve(17_800.0, 3.4))
        .line("a new connection each time", curve(2_900.0, 2.0))
        .line("pool behind a proxy", curve(17_000.0, 5.0))
        .mark_x("cores × 4", 8.0)
        .mark_point("seed: 14,200", 16.0, 14_200.0)
}

fn random_walk() -> Lines {
    let mut noise = Noise(3);
    let mut at = 0.0;
    let mut walk = |step: f64| -> Vec<(f64, f64)> {
        (0..10_000)
            .map(|i| {
                at += step * noise.normal();
                (f64::from(i) * 0.01, at)
            })
            .collect()
    };
    Chart::lines("Ten thousand points a line draw as quickly as a hundred")
        .x("time", "s")
        .y("clock offset", "ms")
        .line("drifting clock", walk(1.0))
        .line("disciplined by NTP", walk(0.2))
}

fn scatter() -> Lines {
    let mut noise = Noise(4);
    let cloud: Vec<(f64, f64)> = (0..600)
        .map(|_| {
            let size = 10_f64.powf(1.0 + 5.0 * noise.uniform());
            (size, (40_000.0 + size * 2.2) * (0.2 * noise.normal()).exp())
        })
        .collect();
    Chart::lines("Below ten kilobytes the round trip decides, above it the bandwidth")
        .x("value size", "B")
        .y("time for one GET", "ns")
        .log_x()
        .log_y()
        .points("measured", cloud)
        .predicted("40 µs + size ÷ 450 MB/s", |size| 40_000.0 + size * 2.2)
        .mark_point("seed", 1024.0, 95_000.0)
}

fn keys_moved() -> impl Figure {
    Chart::bars("A ring moves what it must; modulo moves nearly everything")
        .subtitle("Keys that change their shard when 50 of 1,000 shards are removed; 10,000 keys, 20 seeds")
        .y("keys moved", "%")
        .bar_with_spread("ring, 100 virtual nodes", [4.9, 5.1, 4.8, 5.3, 5.0])
        .predicted("ring, 100 virtual nodes", 5.0)
        .mark("seed", "ring, 100 virtual nodes", 4.95)
        .bar_with_spread("rendezvous hashing", [4.95, 5.02, 4.9, 5.1, 5.0])
        .predicted("rendezvous hashing", 5.0)
        .bar_with_spread("hash modulo shards", [94.9, 95.1, 95.0, 94.8, 95.2])
        .predicted("hash modulo shards", 94.99)
}

fn few_bars() -> impl Figure {
    Chart::bars("Group commit pays for fsync eight times over")
        .y("commits per second", "")
        .bar_with_spread("1 client", [410, 420, 405, 431, 418])
        .predicted("1 client", 400)
        .bar_with_spread("2 clients", [780, 812, 801, 760, 799])
        .predicted("2 clients", 800)
        .bar_with_spread("4 clients", [1460, 1520, 1490, 1387, 1505])
        .predicted("4 clients", 1600)
        .bar_with_spread("8 clients", [2590, 2710, 2805, 2650, 2700])
        .predicted("8 clients", 3200)
        .bar_with_spread("16 clients", [3300, 3420, 3368, 3190, 3405])
        .predicted("16 clients", 6400)
        .mark_y("one fsync each", 430)
}

fn grouped_bars() -> impl Figure {
    Chart::bars("Keyset pagination does not care how deep the page is")
        .y("time for one page", "ms")
        .group("page 1")
        .bar("OFFSET", 0.41)
        .bar("keyset", 0.39)
        .bar("deferred join", 0.52)
        .group("page 100")
        .bar("OFFSET", 2.9)
        .bar("keyset", 0.40)
        .bar("deferred join", 1.3)
        .group("page 1,000")
        .bar("OFFSET", 26.4)
        .bar("keyset", 0.41)
        .bar("deferred join", 8.8)
}

fn grouped_rows() -> impl Figure {
    Chart::bars("Who pays for durability, and how much")
        .y("latency of one write", "ns")
        .log()
        .group("in memory")
        .bar("mutex and hash map", 45)
        .bar("Redis, no persistence", 31_000)
        .group("on disk")
        .bar("append, no fsync", 2_300)
        .predicted("append, no fsync", 2_000)
        .bar("append and fsync", 1_900_000)
        .bar("SQL commit", 2_400_000)
        .mark("seed", "SQL commit", 3_100_000)
}

fn waits() -> impl Figure {
    let mut noise = Noise(5);
    let samples: Vec<f64> = (0..5_000).map(|_| noise.latency(2_400_000.0, 0.45)).collect();
    Chart::histogram("One commit in a hundred takes four times the median")
        .x("time for one commit", "ns")
        .samples("SQL commit", &samples)
        .percentiles([50.0, 99.0, 99.9])
        .mark_x("seed: 5 ms", 5_000_000.0)
}

fn two_histograms() -> impl Figure {
    let mut noise = Noise(6);
    let counts = |noise: &mut Noise, spread: f64| -> Vec<u32> {
        (0..1000).map(|_| (100.0 + spread * noise.normal()).max(0.0).round() as u32).collect()
    };
    let (ring, ideal) = (counts(&mut noise, 24.0), counts(&mut noise, 10.0));
    let normal = |x: f64| 1.0 / (1.0 + (-1.702 * (x - 100.0) / 10.0).exp());
    Chart::histogram("Keys per shard spread wider on a ring than chance alone would have it")
        .x("keys on one shard", "")
        .samples("ring with 20 virtual nodes", &ring)
        .samples("independent hashing", &ideal)
        .predicted("binomial, approximately", normal)
}

fn histogram_rows() -> impl Figure {
    let mut noise = Noise(7);
    let mut chart = Chart::histogram("Isolation costs little until rows are shared")
        .subtitle("5,000 transactions at each level, 8 sessions on 100 rows")
        .x("time for one transaction", "ns")
        .log_x()
        .percentiles([50.0, 99.0]);
    for (name, median, spread) in
        [("READ COMMITTED", 480_000.0, 0.35), ("REPEATABLE READ", 520_000.0, 0.36), ("SERIALIZABLE", 2_900_000.0, 0.8)]
    {
        chart = chart.samples(name, (0..5_000).map(|_| noise.latency(median, spread)).collect::<Vec<_>>());
    }
    chart
}

fn tour() -> impl Figure {
    let mut noise = Noise(8);
    let mut chart = Chart::latencies("Seven orders of magnitude lie between a lock and a committed row")
        .subtitle("One caller, nothing else running, 20,000 times each (SQL commit and Kafka: 2,000)");
    for (name, median, spread, runs) in [
        ("mutex, uncontended", 18.0, 0.12, 20_000),
        ("system call (getppid)", 140.0, 0.1, 20_000),
        ("TCP echo on loopback", 21_000.0, 0.22, 20_000),
        ("Redis PING", 34_000.0, 0.25, 20_000),
        ("SQL SELECT by key", 92_000.0, 0.28, 20_000),
        ("SQL commit", 2_300_000.0, 0.5, 2_000),
        ("Kafka produce → consume", 3_600_000.0, 0.4, 2_000),
    ] {
        let mut samples: Vec<f64> = (0..runs).map(|_| noise.latency(median, spread)).collect();
        samples.sort_by(f64::total_cmp);
        let percentile = |p: f64| samples[((runs as f64 * p) as usize).min(runs - 1)];
        // Twelve buckets a decade, as the lab's recorder hands them out.
        let step = |value: f64| (value.log10() * 12.0).floor() as i32;
        let edge = |step: i32| 10_f64.powf(f64::from(step) / 12.0) / 1e9;
        let buckets: Vec<(f64, f64, usize)> = samples
            .chunk_by(|a, b| step(*a) == step(*b))
            .map(|same| (edge(step(same[0])), edge(step(same[0]) + 1), same.len()))
            .collect();
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|p| Duration::from_nanos(percentile(p) as u64));
        chart = chart.distribution(name, buckets, p50, p99, p999);
    }
    chart.predicted("SQL commit", 2e-3).predicted("Redis PING", Duration::from_micros(30))
}

fn heat() -> impl Figure {
    let batches = [1_u32, 4, 16, 64, 256, 1024];
    let lingers = [0_u32, 1, 2, 5, 10, 20];
    let value = |linger: u32, batch: u32| {
        (11_000.0 * f64::from(batch).powf(0.55) / (1.0 + f64::from(linger) * 0.02 * f64::from(64 / batch.min(64))))
            .round()
    };
    Chart::heat_map("Batches, not waiting, make a producer fast")
        .subtitle("Kafka, one partition, records of 100 bytes")
        .x("records per batch", "")
        .y("linger", "ms")
        .value("records per second", "")
        .log()
        .cells(
            lingers,
            batches,
            lingers.map(|linger| {
                batches.map(|batch| if (linger, batch) == (20, 1) { f64::NAN } else { value(linger, batch) })
            }),
        )
}

fn large_heat() -> impl Figure {
    let mut noise = Noise(9);
    let hours: Vec<String> = (0..24).map(|hour| format!("{hour}:00")).collect();
    let slots: Vec<u32> = (0..64).collect();
    let hot = |slot: u32| if slot == 17 { 9.0 } else { 1.0 };
    let values: Vec<Vec<f64>> = (0..24)
        .map(|hour| {
            let day = 1.0 + (f64::from(hour - 14) / 6.0).cos().max(-0.7);
            slots.iter().map(|slot| day * hot(*slot) * (1.0 + 0.2 * noise.normal()).max(0.1) * 40.0).collect()
        })
        .collect();
    Chart::heat_map("Slot 17 is hot all day")
        .x("slot", "")
        .y("hour", "")
        .value("operations per second", "")
        .cells(hours, slots, values)
}

fn tiles() -> impl Figure {
    let mut chart = Chart::treemap("Secondary indexes take more room than the rows themselves")
        .subtitle("InnoDB tablespaces after loading 5 million orders")
        .value("size", "MB");
    for (name, size, group) in [
        ("orders", 612.0, "tables"),
        ("order_lines", 488.0, "tables"),
        ("customers", 131.0, "tables"),
        ("products", 18.0, "tables"),
        ("regions", 0.3, "tables"),
        ("orders.by_customer", 402.0, "indexes"),
        ("orders.by_date", 398.0, "indexes"),
        ("order_lines.by_product", 377.0, "indexes"),
        ("customers.by_email", 96.0, "indexes"),
        ("products.by_name", 9.0, "indexes"),
        ("undo", 210.0, "logs"),
        ("redo", 96.0, "logs"),
        ("binlog", 340.0, "logs"),
    ] {
        chart = chart.tile(name, size, group);
    }
    chart
}

fn sessions() -> impl Figure {
    Chart::timeline("The lock outlives its owner by one timeout; the fencing token saves the row")
        .x("time", "s")
        .lane("session A")
        .lane("lock server")
        .lane("session B")
        .lane("storage")
        .span("session A", 0.0, 2.0, "holds the lock")
        .wait("session A", 2.0, 9.2, "stopped (garbage collection)")
        .span("session A", 9.2, 10.0, "writes")
        .span("lock server", 0.2, 6.2, "lease of A, token 33")
        .span("lock server", 6.4, 11.5, "lease of B, token 34")
        .wait("session B", 1.0, 6.4, "waits")
        .span("session B", 6.4, 11.5, "holds the lock")
        .event("session A", 2.0, "SIGSTOP")
        .event("lock server", 6.2, "lease expires")
        .arrow("lock server", 6.4, "session B", 6.4, "grants 34")
        .arrow("session B", 7.5, "storage", 7.6, "write, token 34")
        .arrow("session A", 9.8, "storage", 9.9, "write, token 33")
        .event("storage", 9.9, "rejected: 33 < 34")
        .mark_x("lease timeout", 6.2)
}

fn before_and_after() -> impl Figure {
    let line = |name: &str, values: [f64; 6]| -> Lines {
        Chart::lines(name)
            .x("clients", "")
            .y("p99 latency", "ms")
            .y_range(0, 120)
            .line("measured", [1, 2, 4, 8, 16, 32].into_iter().zip(values))
            .predicted("queue of one server", |n| 2.0 + n * 0.9)
    };
    Chart::side_by_side(&[
        &line("Before: every request takes its own connection", [4.0, 7.0, 15.0, 31.0, 64.0, 113.0]),
        &line("After: a pool of eight", [3.0, 4.2, 7.0, 10.0, 18.0, 33.0]),
    ])
}

fn stacked() -> impl Figure {
    Chart::above(&[&keys_moved(), &few_bars()])
}

fn prototype_points() -> impl Figure {
    let spread = [(1, 1.05), (3, 0.665), (10, 0.446), (30, 0.365), (100, 0.332), (300, 0.32)];
    Chart::lines("More points level the ring, until luck with keys is all that is left")
        .subtitle("1,000 shards, 10,000 keys; bars show the spread over seeds")
        .x("points (virtual nodes) a shard", "")
        .log_x()
        .y("standard deviation ÷ mean", "")
        .from_zero()
        .points_with_spread("measured", spread.iter().map(|(v, s)| (*v, *s, s - 0.01, s + 0.01)))
        .predicted("√(1/v + 1/10)", |v| (1.0 / v + 0.1).sqrt())
        .mark_point("prototype, 3 points", 3.0, 0.669)
        .mark_point("prototype, 100 points", 100.0, 0.326)
}

fn prototype_histogram() -> impl Figure {
    let mut noise = Noise(10);
    let (fixed, random) = ((0..20).map(|_| 4.55 + 0.05 * noise.normal()), Noise(11));
    let fixed: Vec<f64> = fixed.collect();
    let mut noise = random;
    let random: Vec<f64> = (0..20).map(|_| 5.0 + 0.3 * noise.normal()).collect();
    Chart::histogram("Fixed names repeat one draw; random names sample the ring")
        .subtitle("Keys moved when 50 shards joined 950, 20 seeds each")
        .x("keys moved", "%")
        .samples("the same fifty names every time", &fixed)
        .samples("fifty random names every time", &random)
        .mark_x("k / n = 5 %", 5.0)
        .mark_x("prototype: 4.55 %", 4.55)
}

fn many_lines() -> impl Figure {
    let mut chart =
        Chart::lines("Twenty-four shards at once do not fit beside their lines").x("hour", "").y("load", "%");
    for shard in 1..=24 {
        let load = |hour: i32| 50.0 + f64::from(shard) + 20.0 * (f64::from(hour + shard) / 4.0).sin();
        chart = chart.line(format!("shard {shard}"), (0..24).map(|hour| (hour, load(hour))));
    }
    chart
}

fn band() -> impl Figure {
    let point = |i: i32, level: f64, width: f64| (i, level, level - width, level + 1.5 * width);
    Chart::lines("The backlog grows until the consumers are doubled")
        .x("time", "s")
        .y("records waiting", "")
        .line_with_spread("one consumer", (0..30).map(|i| point(i, 900.0 * f64::from(i), 60.0 * f64::from(i))))
        .line_with_spread("two consumers", (15..60).map(|i| point(i, 13_500.0 - 300.0 * f64::from(i - 15), 900.0)))
        .line("arrivals stop", [(45.0, 4_500.0), (60.0, 0.0)])
        .mark_x("second consumer starts", 15)
        .mark_x("producer stops", 45)
        .mark_x("producer would have stopped", 47)
}

fn negative() -> impl Figure {
    Chart::bars("What each change did to the p99")
        .y("change", "%")
        .bar("bigger pool", -12.5)
        .bar("HTTP keep-alive", -41.0)
        .bar("TLS everywhere", 8.2)
        .bar("more logging", 17.0)
        .bar_with_spread("compression", [-3.0, 4.0, 1.0, 2.0, -2.0])
}

fn many_bars() -> impl Figure {
    let mut noise = Noise(12);
    let mut chart = Chart::bars("Forty tenants, one of them hot").y("operations", "").highlight("tenant 7");
    for tenant in 1..=40 {
        let load = if tenant == 7 { 90_000.0 } else { 3_000.0 + 2_000.0 * noise.uniform() };
        chart = chart.bar(format!("tenant {tenant}"), load.round());
    }
    chart
}

fn crowded_timeline() -> impl Figure {
    let mut chart = Chart::timeline("Eight workers, twenty jobs, and none of them idle for long").x("time", "ms");
    let mut free = [0.0_f64; 8];
    let mut noise = Noise(13);
    for job in 0..40 {
        let worker = (0..8).min_by(|a, b| free[*a].total_cmp(&free[*b])).unwrap();
        let length = 4.0 + 20.0 * noise.uniform();
        chart = chart.span(format!("worker {worker}"), free[worker], free[worker] + length, format!("job {job}"));
        free[worker] += length + 0.3;
    }
    chart.event("worker 3", 40.0, "killed").event("worker 3", 41.0, "restarted").arrow(
        "worker 3",
        40.0,
        "worker 5",
        43.0,
        "job moves",
    )
}

fn narrow() -> impl Figure {
    Chart::side_by_side(&[&tour(), &sessions(), &heat()]).titled("three in a row")
}

fn hostile() -> Lines {
    Chart::lines("</title><script>alert('1 & 2')</script> \"quoted\" \u{0} \u{1b}[31m — ünïcödé 漢字 🦀")
        .subtitle("a subtitle that is long enough to need more than one line even on a wide card, because somebody explained everything about the experiment in it, twice")
        .x("x with <b>markup</b> & an ampersand", "<i>unit</i>")
        .y("a very long label of the vertical axis that nobody will ever read to its end, and why should they, really", "apples per very long unit")
        .line("<svg onload=alert(1)>", [(1.0, 1.0), (2.0, f64::NAN), (3.0, 4.0), (f64::INFINITY, 2.0)])
        .line("a name that goes on and on and on, much longer than any gutter has room for, in the hope of being read", [(1.0, 1.1), (3.0, 3.9)])
        .line("nothing", Vec::<(f64, f64)>::new())
        .line("one", [(2.0, 2.0)])
        .mark_y("a]]>b", 2.5)
        .mark_x("'x' & \"y\"", 2.9)
        .mark_point("point <&>", 1.5, 3.0)
}

fn gallery() -> Vec<(&'static str, Box<dyn Figure>)> {
    vec![
        ("lines", Box::new(virtual_nodes())),
        ("lines-many", Box::new(throughput())),
        ("lines-long", Box::new(random_walk())),
        ("scatter", Box::new(scatter())),
        ("bars", Box::new(keys_moved())),
        ("bars-few", Box::new(few_bars())),
        ("bars-grouped", Box::new(grouped_bars())),
        ("bars-rows", Box::new(grouped_rows())),
        ("histogram", Box::new(waits())),
        ("histogram-two", Box::new(two_histograms())),
        ("histogram-rows", Box::new(histogram_rows())),
        ("latencies", Box::new(tour())),
        ("heat-map", Box::new(heat())),
        ("heat-map-large", Box::new(large_heat())),
        ("treemap", Box::new(tiles())),
        ("timeline", Box::new(sessions())),
        ("side-by-side", Box::new(before_and_after())),
        ("above", Box::new(stacked())),
        ("hostile", Box::new(hostile())),
        ("prototype-points", Box::new(prototype_points())),
        ("prototype-histogram", Box::new(prototype_histogram())),
        ("many-lines", Box::new(many_lines())),
        ("band", Box::new(band())),
        ("negative", Box::new(negative())),
        ("many-bars", Box::new(many_bars())),
        ("crowded-timeline", Box::new(crowded_timeline())),
        ("narrow", Box::new(narrow())),
    ]
}

const ELEMENTS: [&str; 8] = ["svg", "title", "desc", "line", "path", "rect", "circle", "text"];
const ATTRIBUTES: [&str; 30] = [
    "xmlns",
    "role",
    "aria-label",
    "viewBox",
    "width",
    "height",
    "font-family",
    "style",
    "x",
    "y",
    "x1",
    "y1",
    "x2",
    "y2",
    "d",
    "cx",
    "cy",
    "r",
    "rx",
    "fill",
    "fill-opacity",
    "stroke",
    "stroke-width",
    "stroke-dasharray",
    "stroke-linejoin",
    "font-size",
    "font-weight",
    "text-anchor",
    "paint-order",
    "transform",
];

/// What a strict XML parser would refuse in an SVG, and what would make it more than a picture.
fn faults(xml: &str) -> Option<String> {
    let mut open: Vec<String> = Vec::new();
    let mut rest = xml.trim_end();
    let mut roots = 0;
    while !rest.is_empty() {
        let Some(start) = rest.find('<') else { return Some(format!("text after the end: {rest:.40}")) };
        let (text, tag) = rest.split_at(start);
        if let Some(fault) = text_fault(text) {
            return Some(fault);
        }
        if open.is_empty() && !text.trim().is_empty() {
            return Some(format!("text outside the root: {text:.40}"));
        }
        let Some(end) = tag.find('>') else { return Some(format!("a tag without an end: {tag:.40}")) };
        let inside = &tag[1..end];
        rest = &tag[end + 1..];
        if let Some(name) = inside.strip_prefix('/') {
            match open.pop() {
                Some(opened) if opened == name => continue,
                opened => return Some(format!("</{name}> closes {opened:?}")),
            }
        }
        let (inside, empty) = inside.strip_suffix('/').map_or((inside, false), |inside| (inside, true));
        let name: String = inside.chars().take_while(char::is_ascii_alphabetic).collect();
        if name.is_empty() {
            return Some(format!("a tag without a name: <{inside:.40}"));
        }
        if !ELEMENTS.contains(&name.as_str()) {
            return Some(format!("an element <{name}> that charts have no use for"));
        }
        if let Some(fault) = attribute_fault(&inside[name.len()..]) {
            return Some(fault);
        }
        if open.is_empty() {
            roots += 1;
        }
        if !empty {
            open.push(name);
        }
    }
    if !open.is_empty() || roots != 1 { Some(format!("{roots} roots, still open: {open:?}")) } else { None }
}

fn text_fault(text: &str) -> Option<String> {
    if let Some(c) = text.chars().find(|c| c.is_control() && *c != '\n') {
        return Some(format!("control character U+{:04X}", c as u32));
    }
    text.split('&').skip(1).find_map(|entity| {
        let known = ["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|known| entity.starts_with(known));
        (!known).then(|| format!("unknown entity &{entity:.10}"))
    })
}

fn attribute_fault(mut rest: &str) -> Option<String> {
    let mut seen = HashSet::new();
    while !rest.is_empty() {
        let Some(attribute) = rest.strip_prefix(' ') else { return Some(format!("no space before {rest:.40}")) };
        let Some((name, value)) = attribute.split_once("=\"") else {
            return Some(format!("no value in {attribute:.40}"));
        };
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') || !seen.insert(name) {
            return Some(format!("bad or repeated attribute {name:.40}"));
        }
        let Some((value, after)) = value.split_once('"') else { return Some(format!("open quote in {value:.40}")) };
        if let Some(fault) = text_fault(value) {
            return Some(fault);
        }
        if !ATTRIBUTES.contains(&name) {
            return Some(format!("an attribute {name} that charts have no use for"));
        }
        let spoken = name == "aria-label";
        if !spoken && (value.contains("url(") || value.contains("NaN") || value.contains("inf")) {
            return Some(format!("{name} is {value:.40}"));
        }
        if !spoken && name != "xmlns" && value.contains("//") {
            return Some(format!("{name} points to {value:.40}"));
        }
        rest = after;
    }
    None
}

fn assert_sound(svg: &str) {
    assert_eq!(faults(svg), None, "{svg}");
    assert!(svg.starts_with("<svg "));
}

#[test]
fn the_checker_catches_what_is_not_xml() {
    assert_eq!(faults("<svg x=\"1\"><path/><text>a &amp; b</text></svg>\n"), None);
    for (bad, why) in [
        ("<svg>", "never closed"),
        ("<svg></text></svg>", "closes another"),
        ("<svg><text></svg></text>", "crossed"),
        ("<svg/><svg/>", "two roots"),
        ("", "nothing at all"),
        ("<svg x=1/>", "no quotes"),
        ("<svg x=\"1\" x=\"2\"/>", "repeated attribute"),
        ("<svg x=\"1\"y=\"2\"/>", "no space"),
        ("<svg>a & b</svg>", "bare ampersand"),
        ("<svg>&nbsp;</svg>", "HTML entity"),
        ("<svg>\u{1b}</svg>", "control character"),
        ("<svg><text>a<b</text></svg>", "bare less-than"),
        ("<svg/>x", "text after the end"),
        ("x<svg/>", "text before the root"),
        ("<svg x=\"1/>", "open quote"),
        ("<svg", "cut off"),
        ("<svg>< path/></svg>", "space in a tag"),
        ("<svg><script>1</script></svg>", "a script"),
        ("<svg onload=\"alert(1)\"/>", "an event handler"),
        ("<svg id=\"a\"/>", "an id that may clash"),
        ("<svg href=\"a\"/>", "a link"),
        ("<svg fill=\"url(#a)\"/>", "a reference"),
        ("<svg style=\"x://y\"/>", "an address"),
        ("<svg x=\"NaN\"/>", "not a number"),
        ("<svg width=\"inf\"/>", "infinite"),
        ("<?xml version=\"1.0\"?><svg/>", "a prolog"),
    ] {
        assert!(faults(bad).is_some(), "{why}: {bad}");
    }
}

#[test]
fn every_chart_is_sound_and_the_same_each_time() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("charts");
    std::fs::create_dir_all(&folder).unwrap();
    for ((name, chart), (_, again)) in gallery().into_iter().zip(gallery()) {
        let svg = chart.to_svg();
        assert_sound(&svg);
        assert_eq!(svg, again.to_svg(), "{name}");
        assert!(svg.len() < 400_000, "{name} has {} bytes", svg.len());
        let png = chart.to_png();
        assert!(png == again.to_png() && png.starts_with(b"\x89PNG") && png.len() < 600_000, "{name} {}", png.len());
        assert_eq!(chart.to_csv(), again.to_csv(), "{name}");
        assert!(chart.to_text().starts_with(chart.title()), "{name}");
        std::fs::write(folder.join(format!("{name}.svg")), &svg).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), &png).unwrap();
        std::fs::write(folder.join(format!("{name}.csv")), chart.to_csv()).unwrap();
        std::fs::write(folder.join(format!("{name}.txt")), chart.to_text()).unwrap();
    }
}

#[test]
fn every_name_is_in_the_picture() {
    let named: [(Box<dyn Figure>, &[&str]); 8] = [
        (
            Box::new(throughput()),
            &["prepared statements", "text protocol", "pool behind a proxy", "cores × 4", "seed: 14,200"],
        ),
        (Box::new(many_lines()), &["shard 1", "shard 13", "shard 24"]),
        (Box::new(keys_moved()), &["ring, 100 virtual nodes", "rendezvous hashing", "predicted 5", "seed 4.95"]),
        (Box::new(grouped_bars()), &["OFFSET", "keyset", "deferred join", "page 1,000"]),
        (Box::new(histogram_rows()), &["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "p99"]),
        (Box::new(tour()), &["mutex, uncontended", "Redis PING", "Kafka produce → consume", "p99.9"]),
        (Box::new(tiles()), &["orders", "order_lines", "binlog", "indexes", "612"]),
        (Box::new(sessions()), &["session A", "lock server", "waits", "SIGSTOP", "lease timeout", "grants 34"]),
    ];
    for (chart, names) in named {
        let svg = chart.to_svg();
        let drawn = svg.split_once("</desc>").unwrap().1;
        for name in names {
            assert!(drawn.contains(&format!(">{name}")), "{name:?} is missing in {:?}", chart.title());
        }
    }
}

#[test]
fn what_is_drawn_can_be_read() {
    for (name, chart) in gallery() {
        assert_eq!(chart.draw(chart.width()).illegible(), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn what_has_no_room_is_known() {
    for (name, chart) in gallery().into_iter().filter(|(name, _)| !["hostile", "narrow"].contains(name)) {
        assert_eq!(chart.draw(chart.width()).cut(), [""; 0], "{name}");
    }
    let endless = Chart::bars("Cut").bar("so long a name that no card has room for it ".repeat(4), 1).bar("short", 2);
    let cut = endless.draw(300.0).cut().to_vec();
    assert!(cut.len() == 1 && cut[0].ends_with('…'), "{cut:?}");
    assert!(!endless.to_svg().contains('\u{2060}'), "what marks a cut text is not written");
    let said = Chart::bars("An author's own …").bar("one …", 1).draw(760.0);
    assert!(said.cut().is_empty());
}

/// Everything that plotters asks of whoever draws for it.
fn drawn_by_plotters() -> Plotters {
    let size = (700, 360);
    let chart =
        Chart::plotters("Candles, bars of error, areas and a turned axis, all of them plotters' own", size, |root| {
            let mut chart = ChartBuilder::on(root)
                .margin(px(8))
                .caption("a caption", letters(14))
                .x_label_area_size(px(40))
                .y_label_area_size(px(60))
                .build_cartesian_2d(0.0..10.0, -8.0..100.0)?;
            chart
                .configure_mesh()
                .x_desc("the x of it")
                .y_desc("the y of it")
                .label_style(letters(12))
                .axis_desc_style(letters(13))
                .draw()?;
            let squares = (0..=100).map(|i| f64::from(i) / 10.0).map(|x| (x, x * x));
            chart
                .draw_series(LineSeries::new(squares.clone(), BLUE.stroke_width(px(2))))?
                .label("x²")
                .legend(|(x, y)| PathElement::new([(x, y), (x + px(20) as i32, y)], BLUE.stroke_width(px(2))));
            chart.draw_series(AreaSeries::new(squares, 0.0, BLUE.mix(0.2)))?;
            chart.draw_series([CandleStick::new(2.0, 40.0, 60.0, 30.0, 50.0, GREEN.filled(), RED.filled(), px(10))])?;
            chart.draw_series([ErrorBar::new_vertical(6.0, 20.0, 50.0, 80.0, BLACK.filled(), px(8))])?;
            chart.draw_series([Circle::new((4.0, 50.0), px(5), RED.filled()), Circle::new((5.0, 50.0), px(5), RED)])?;
            chart
                .configure_series_labels()
                .label_font(letters(12))
                .legend_area_size(px(26))
                .margin(px(5))
                .position(SeriesLabelPosition::UpperLeft)
                .draw()
        });
    chart.unwrap().subtitle("All that can be drawn").note("Small print")
}

#[test]
fn plotters_draws_on_our_card() {
    let chart = drawn_by_plotters();
    let picture = chart.draw(chart.width());
    let svg = chart.to_svg();
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("charts");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("plotters.svg"), &svg).unwrap();
    std::fs::write(folder.join("plotters.png"), chart.to_png()).unwrap();
    assert_eq!(picture.illegible(), Vec::<String>::new());
    assert_sound(&svg);
    // Text is text, turned where plotters turns it, and a curve keeps its fractions.
    for text in [">a caption<", ">the x of it<", ">the y of it<", ">x²<", ">Small print<", ">All that can be drawn<"] {
        assert!(svg.contains(text), "{text}");
    }
    assert!(svg.contains("rotate(270 "), "the axis to the left is turned");
    let fractions = svg.split("<path d=\"").filter(|path| path.split('"').next().unwrap_or_default().contains('.'));
    assert!(fractions.count() > 2);
    assert!(chart.to_png().starts_with(b"\x89PNG"));
}

#[test]
fn an_arc_goes_round_and_back() {
    let quarter = arc((100.0, 100.0), (50.0, 80.0), 0.0, 0.25);
    assert_eq!((quarter[0], quarter[quarter.len() - 1]), ((1_000, 500), (1_000, 200)), "it begins and ends at the top");
    assert!(quarter.contains(&(1_500, 1_000)) && quarter.contains(&(1_800, 1_000)), "and goes to the right");
    assert_eq!(arc((0.0, 0.0), (1.0, 2.0), 0.5, 0.5).len(), 4, "nothing has an outline, too");
}

#[test]
fn what_plotters_refuses_and_numbers_of_its_own() {
    let none = Chart::plotters("No size", (0, 300), |_| Ok(())).unwrap_err().to_string();
    assert!(none.contains("0 × 300 pixels are no size"), "{none}");
    let broken = Chart::plotters("Broken", (300, 300), |root| {
        ChartBuilder::on(root).margin(px(8)).build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
        Err(DrawingAreaErrorKind::LayoutError)
    });
    assert!(broken.unwrap_err().to_string().contains("Bad layout"));
    let frame = lab::Frame::new().text("who", ["ring", "jump"]).numbers("moved", "%", [5.0, 9.75]);
    let chart = drawn_by_plotters().of(&frame);
    assert_eq!(chart.to_csv(), "who,moved\nring,5\njump,9.75\n");
    assert!(chart.to_svg().contains("<desc>2 marks; who: ring, jump; moved from 5 to 9.75.</desc>"));
}

#[test]
fn a_narrow_screen_gets_a_picture_of_its_own() {
    let (one, two) = (throughput(), keys_moved());
    let both = Chart::side_by_side(&[&one, &two]);
    assert!(both.draw(980.0).illegible().is_empty() && both.draw(980.0).width() == 980.0);
    let narrow = both.draw(380.0);
    assert_eq!((narrow.width(), narrow.illegible()), (380.0, Vec::<String>::new()));
    let html = lab::Show::to_html(&both);
    assert!(html.contains("width=\"980\"") && html.contains("width=\"380\"") && html.contains("lab-narrow"));
    for (name, chart) in gallery() {
        let narrow = chart.draw(380.0);
        assert_eq!(narrow.illegible(), Vec::<String>::new(), "{name} on a narrow screen");
    }
}

#[test]
fn markup_stays_text() {
    let svg = hostile().to_svg();
    assert_sound(&svg);
    assert!(svg.contains("&lt;/title&gt;&lt;script&gt;alert(&#39;1 &amp; 2&#39;)&lt;/script&gt; &quot;quoted&quot;"));
    assert!(svg.contains("&lt;svg onload=alert(1)&gt;") && svg.contains("a]]&gt;b") && !svg.contains('\u{1b}'));
}

#[test]
fn nothing_is_dropped_silently() {
    let nan = f64::NAN;
    let cases: [(Box<dyn Figure>, &str); 10] = [
        (Box::new(Chart::lines("t").line("a", [(1.0, nan), (2.0, 1.0)])), "1 point without a value left out."),
        (
            Box::new(Chart::lines("t").log_x().line("a", [(0, 1), (-1, 2), (2, 3)])),
            "2 points at or below zero left out",
        ),
        (Box::new(Chart::lines("t").y_range(0, 1).line("a", [(0, 1), (1, 5)])), "1 point outside the axes left out."),
        (Box::new(Chart::lines("t").line("a", [(0, 1)]).y_range(0, 1).mark_y("m", 9)), "1 reference outside the axes"),
        (Box::new(Chart::bars("t").bar("a", nan).bar("b", 1.0)), "1 bar without a value."),
        (Box::new(Chart::bars("t").log().bar("a", 0).bar("b", 1)), "1 value at or below zero left out"),
        (Box::new(Chart::histogram("t").samples("a", [1.0, nan, f64::INFINITY])), "2 values without a value left out."),
        (Box::new(Chart::heat_map("t").cells(["r"], ["c", "d"], [[1.0, nan]])), "1 cell without a value left grey."),
        (Box::new(Chart::treemap("t").tile("a", -1.0, "").tile("b", 1.0, "")), "1 tile without a value above zero"),
        (
            Box::new(Chart::timeline("t").span("l", 0.0, nan, "s").event("l", 1.0, "e")),
            "1 item without a time left out.",
        ),
    ];
    for (chart, note) in cases {
        let svg = chart.to_svg();
        assert!(svg.contains(note), "{note}: {svg}");
        assert_sound(&svg);
    }
}

#[test]
fn charts_without_data_say_so() {
    let empty: [Box<dyn Figure>; 9] = [
        Box::new(Chart::lines("t")),
        Box::new(Chart::lines("t").line("a", [(f64::NAN, 1.0)]).log_y()),
        Box::new(Chart::bars("t")),
        Box::new(Chart::histogram("t")),
        Box::new(Chart::histogram("t").samples("a", Vec::<f64>::new())),
        Box::new(Chart::heat_map("t")),
        Box::new(Chart::treemap("t")),
        Box::new(Chart::latencies("t")),
        Box::new(Chart::timeline("t")),
    ];
    for chart in empty {
        assert_sound(&chart.to_svg());
        assert!(chart.to_svg().contains(">no data<"), "{}", chart.to_svg());
        assert!(chart.to_png().starts_with(b"\x89PNG"));
    }
    assert_sound(&Chart::side_by_side(&[]).to_svg());
    assert_sound(&Chart::above(&[]).to_svg());
}

#[test]
fn the_axis_of_bars_starts_at_zero_and_predictions_are_dashed() {
    let svg = Chart::bars("t").bar("a", 1000.0).bar("b", 1001.0).predicted("b", 900.0).horizontal().to_svg();
    assert!(svg.contains(">0</text>") && svg.contains("stroke-dasharray"));
}

/// The rows of an RFC 4180 file.
fn parse_csv(csv: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = csv.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => cell.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
    }
    assert!(!quoted && cell.is_empty() && row.is_empty(), "cut off: {csv}");
    rows
}

/// Ordinary, odd and impossible numbers.
fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -1e3..1e3_f64,
        2 => (0..20_u32).prop_map(f64::from),
        1 => any::<f64>(),
        1 => prop::sample::select(vec![0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e150, -1e150]),
    ]
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-z]{0,12}",
        1 => "\\PC{0,40}",
        1 => any::<String>().prop_map(|text| text.chars().take(300).collect()),
        1 => prop::sample::select(vec!["<script>", "&amp;", "]]>", "\"", "a,b\n\"c\"", "漢字かな交じり文", "🦀", "\u{202e}x"]).prop_map(String::from),
    ]
}

fn any_points() -> impl Strategy<Value = Vec<(f64, f64)>> {
    prop::collection::vec((any_number(), any_number()), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn lines_never_panic(
        title in any_name(), names in prop::collection::vec((any_name(), any_points()), 0..5),
        spreads in prop::collection::vec((any_number(), any_number(), any_number(), any_number()), 0..20),
        marks in prop::collection::vec((any_name(), any_number(), any_number()), 0..4),
        logs in any::<(bool, bool, bool)>(), power in -3..3_i32, width in 200..1200_u32, height in 120..700_u32,
    ) {
        let mut chart = Chart::lines(title).x("x", "s").y("y", "B").size(width, height);
        for (index, (name, points)) in names.iter().enumerate() {
            chart = if index % 2 == 0 { chart.line(name, points) } else { chart.points(name, points) };
        }
        chart = chart.line_with_spread("spread", spreads).predicted("formula", move |x| x.powi(power));
        for (name, x, y) in &marks {
            chart = chart.mark_x(name, *x).mark_y(name, *y).mark_point(name, *x, *y);
        }
        if logs.0 { chart = chart.log_x(); }
        if logs.1 { chart = chart.log_y(); }
        if logs.2 { chart = chart.y_range(marks.first().map_or(0.0, |m| m.1), 10.0); }
        assert_sound(&chart.to_svg());
        prop_assert!(chart.to_text().len() < 40_000);
        parse_csv(&chart.to_csv());
    }

    #[test]
    fn bars_never_panic(
        bars in prop::collection::vec((any_name(), any_number(), any_number(), any_number()), 0..80),
        flags in any::<(bool, bool, bool, bool)>(), width in 200..1200_u32, height in 120..700_u32,
    ) {
        let mut chart = Chart::bars("t").y("y", "%").mark_y("line", 5.0);
        if flags.0 { chart = chart.log(); }
        if flags.1 { chart = chart.horizontal(); }
        if flags.2 { chart = chart.size(width, height); }
        for (index, (name, mid, low, high)) in bars.iter().enumerate() {
            if flags.3 && index % 5 == 0 { chart = chart.group(name); }
            chart = chart.bar_with_spread(name, (*mid, *low, *high)).predicted(name, *low).mark(name, name, *high);
        }
        assert_sound(&chart.to_svg());
        assert_sound(&chart.vertical().to_svg());
    }

    #[test]
    fn histograms_never_panic(
        series in prop::collection::vec((any_name(), prop::collection::vec(any_number(), 0..60)), 0..5),
        counts in prop::collection::vec((any_number(), any_number(), any_number()), 0..20),
        log in any::<bool>(), percentiles in any::<bool>(), bins in prop::option::of(0..500_usize),
    ) {
        let mut chart = Chart::histogram("t").x("x", "ms").counts("counts", counts).mark_x("mark", 3.0).predicted("p", |x| x);
        for (name, samples) in &series { chart = chart.samples(name, samples); }
        if log { chart = chart.log_x(); }
        if percentiles { chart = chart.percentiles([0.0, 50.0, 99.9, 100.0, f64::NAN]); }
        if let Some(bins) = bins { chart = chart.bins(bins); }
        assert_sound(&chart.to_svg());
        parse_csv(&chart.to_csv());
    }

    #[test]
    fn latencies_never_panic(
        rows in prop::collection::vec((any_name(), prop::collection::vec((any_number(), any_number(), any_number()), 0..20), any_number()), 0..9),
        width in 200..1200_u32, height in 120..700_u32,
    ) {
        let mut chart = Chart::latencies("t").size(width, height);
        for (name, buckets, p) in &rows {
            chart = chart.predicted(name, *p).distribution(name, buckets.clone(), *p, p * 2.0, p * 3.0).mark_x(name, *p);
        }
        assert_sound(&chart.to_svg());
        chart.to_text();
    }

    #[test]
    fn maps_and_timelines_never_panic(
        names in prop::collection::vec(any_name(), 0..30), columns in prop::collection::vec(any_name(), 0..30),
        values in prop::collection::vec(prop::collection::vec(any_number(), 0..30), 0..30),
        spans in prop::collection::vec((0..8_u8, any_number(), any_number(), any_name()), 0..30),
        log in any::<bool>(), width in 200..1200_u32, height in 120..700_u32,
    ) {
        let heat = Chart::heat_map("t").x("x", "").y("y", "s").cells(&names, &columns, &values).size(width, height);
        assert_sound(&if log { heat.log() } else { heat }.to_svg());
        let mut treemap = Chart::treemap("t").size(width, height);
        for (index, value) in values.iter().flatten().enumerate() {
            treemap = treemap.tile(index, *value, names.get(index % 7).map_or("", String::as_str));
        }
        assert_sound(&treemap.to_svg());
        let mut timeline = Chart::timeline("t").size(width, height);
        for (lane, start, end, label) in &spans {
            timeline = match lane % 4 {
                0 => timeline.span(lane, *start, *end, label),
                1 => timeline.wait(lane, *start, *end, label),
                2 => timeline.event(lane, *start, label),
                _ => timeline.arrow(lane, *start, lane / 2, *end, label).mark_x(label, *end),
            };
        }
        assert_sound(&timeline.to_svg());
        assert_sound(&Chart::side_by_side(&[&treemap, &timeline]).to_svg());
    }

    #[test]
    fn csv_gives_back_every_name_and_number(name in any_name(), points in any_points()) {
        let chart = Chart::lines("t").line(&name, &points);
        let rows = parse_csv(&chart.to_csv());
        prop_assert_eq!(&rows[0], &["series", "kind", "x", "y", "low", "high"]);
        let mut sorted = points;
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        prop_assert_eq!(rows.len(), sorted.len() + 1);
        for (row, (x, y)) in rows[1..].iter().zip(&sorted) {
            prop_assert_eq!(&row[0], &name);
            for (text, number) in [(&row[2], x), (&row[3], y)] {
                let read: f64 = text.parse().unwrap();
                prop_assert!(read == *number || read.is_nan() && number.is_nan(), "{} {}", text, number);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn pixels_never_panic(points in any_points(), name in any_name(), width in 200..500_u32, height in 120..300_u32) {
        let lines = Chart::lines(&name).line(&name, &points).points("p", &points).size(width, height).mark_x(&name, 1.0);
        prop_assert!(lines.to_png().starts_with(b"\x89PNG"));
        let bars = points.iter().fold(Chart::bars(&name).size(width, height), |bars, (a, b)| bars.bar(a, *b).predicted(a, *a));
        prop_assert!(bars.to_png().starts_with(b"\x89PNG"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(120) })]

    /// Whatever ordinary data says, no text lies on another or leaves the card.
    #[test]
    fn ordinary_charts_can_be_read(
        names in prop::collection::vec("[A-Za-z][a-z]{0,9}( [a-z0-9]{1,12}){0,3}", 1..7),
        values in prop::collection::vec(prop::collection::vec(0.5..20_000.0_f64, 7), 7),
        unit in prop::sample::select(vec!["", "%", "×", "ns", "s", "B", "keys"]),
        logs in any::<(bool, bool)>(), wide in any::<bool>(),
    ) {
        let width = if wide { 760 } else { 480 };
        let rows = || names.iter().zip(&values);
        let mut charts: Vec<Box<dyn Figure>> = Vec::new();
        let mut lines = Chart::lines("A title that says what was found").x("size of the thing", unit).y("what it costs", unit).size(width, 420);
        let mut bars = Chart::bars("A title that says what was found").y("what it costs", unit);
        let mut timeline = Chart::timeline("A title that says what was found").x("time", "s");
        let mut histogram = Chart::histogram("A title that says what was found").x("what it costs", unit).percentiles([50.0, 99.0]);
        let mut latencies = Chart::latencies("A title that says what was found").mark_x("published", 1e-3);
        let mut treemap = Chart::treemap("A title that says what was found").value("size", unit);
        for (name, row) in rows() {
            lines = lines.line(name, row.iter().enumerate()).mark_x(name, row[0] / 20_000.0).mark_point(name, row[1] / 20_000.0, row[2]);
            bars = bars.bar_with_spread(name, row).predicted(name, row[0]).mark("published", name, row[1]);
            timeline = timeline.span(name, row[0], row[1], &names[0]).wait(name, row[2], row[3], "waits").event(name, row[4], name).arrow(name, row[5], &names[0], row[6], "tells");
            histogram = histogram.samples(name, row);
            let seconds = row.iter().map(|value| (value * 1e-9, value * 2e-9, 1_u32));
            latencies = latencies.distribution(name, seconds, row[0] * 1e-9, row[0] * 2e-9, row[0] * 3e-9);
            treemap = row.iter().fold(treemap, |map, value| map.tile(name, *value, &names[(*value as usize) % names.len()]));
        }
        if logs.0 { lines = lines.log_y(); bars = bars.log(); histogram = histogram.log_x(); }
        charts.push(Box::new(bars.clone().vertical()));
        charts.push(Box::new(Chart::heat_map("A title that says what was found").x("x", unit).y("y", unit).value("v", unit).cells(&names, &names, &values)));
        charts.push(Box::new(lines.mark_y(&names[0], 9_000).predicted("a formula", |x| 100.0 * x)));
        charts.push(Box::new(bars.horizontal()));
        charts.push(Box::new(timeline));
        charts.push(Box::new(histogram));
        charts.push(Box::new(latencies));
        charts.push(Box::new(treemap));
        for (index, chart) in charts.iter().enumerate() {
            prop_assert_eq!(chart.draw(f64::from(width)).illegible(), Vec::<String>::new(), "chart {}: {}", index, chart.to_svg());
        }
    }
}

/// What a chart takes from a frame and gives back are the same numbers, and the columns' names and units are on its axes.
#[test]
fn charts_take_frames_and_give_them_back() {
    let measured = lab::Frame::new()
        .text("arm", ["ring", "ring", "modulo", "modulo"])
        .numbers("nodes", "", [10.0, 20.0, 10.0, 20.0])
        .numbers("moved", "%", [9.1, 4.8, 90.9, 95.2])
        .numbers("took", "ms", [1.0, 2.0, 3.0, 4.0]);
    let lines = Chart::lines("Lines").of(&measured, "nodes", "moved", "arm");
    let back = lines.frame();
    assert_eq!(back.filter("series", "modulo").samples("x").values(), [10.0, 20.0]);
    assert_eq!(back.filter("series", "modulo").samples("y").values(), [90.9, 95.2]);
    assert!(lines.to_svg().contains("moved") && lines.to_svg().contains("nodes"));
    let bars = Chart::bars("Bars").of(&measured, "arm", "moved").frame();
    assert_eq!((bars.texts("name"), bars.samples("value").len()), (vec!["ring".to_string(), "modulo".to_string()], 2));
    let histogram = Chart::histogram("Histogram").of(&measured, "moved", "arm");
    assert!(histogram.to_csv().contains("modulo") && histogram.to_svg().contains("moved"));
    let latencies = Chart::latencies("Latencies").of(&measured, "took", "arm");
    assert!(latencies.to_text().contains("ring"), "{}", latencies.to_text());
    let map = Chart::heat_map("Map").of(&measured, "arm", "nodes", "moved");
    assert!(map.to_csv().contains("modulo,20,95.2"), "{}", map.to_csv());
    // A gap is grey, and no zero.
    let gap = Chart::heat_map("Map").of(&measured.head(3), "arm", "nodes", "moved");
    assert!(gap.to_csv().contains("modulo,20,NaN") || gap.to_csv().contains("modulo,20,\n"), "{}", gap.to_csv());
    let marked = lines.events(&lab::Frame::new().text("event", ["killed"]).numbers("ended", "s", [15.0]));
    assert!(marked.to_csv().contains("killed"));
}

#[test]
#[should_panic(expected = "could not read the column \"mvoed\": there is arm, moved")]
fn a_chart_of_a_column_that_is_not_there_says_which_are() {
    let measured = lab::Frame::new().text("arm", ["ring"]).numbers("moved", "%", [9.1]);
    let _ = Chart::bars("Bars").of(&measured, "arm", "mvoed");
}
