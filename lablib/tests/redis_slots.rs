//! The guarantees of `placing::redis_slots`, on real clusters.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lablib::lab::service;
use lablib::placing::redis_slots::experiment::*;
use lablib::placing::redis_slots::*;

#[test]
fn try_it() {
    let t = std::time::Instant::now();
    let lap = |what: &str| println!("--- {what}: {:.2}", t.elapsed().as_secs_f64());
    let cluster = service::private_redis_cluster(3, 3);
    lap("cluster");
    let keys = random_keys(10_000, &mut lablib::lab::Rng::seeded(1, "x"));
    println!("{:?}", check_slots(&cluster, &keys));
    lap("slots");
    println!("{:?}", traffic(&cluster, Naming::Braces, 10_000));
    println!("{:?}", traffic(&cluster, Naming::Plain, 10_000));
    println!("{}", found_by_the_crate(&cluster, Naming::Plain, 10_000));
    println!("{}", two_keys_in_one_command(&cluster, ["a", "b"]));
    lap("traffic");
    let spec = HotSpec { keys: 1_000, skew: 1.5, requests: 5_000, rounds: 5, clients: 2, batch: 200 };
    let remedies = [Remedy::OneKey, Remedy::Suffixes(3), Remedy::Parts(3), Remedy::Parts(12), Remedy::Cache, Remedy::Replicas];
    let hot = spec.run(&cluster, &remedies, &[10, 90], 1);
    lap("hot");
    for reads in [10, 90] {
        for remedy in remedies {
            let p = spec.predict(remedy, reads, &slots_of(&cluster));
            println!("{reads} {remedy:?} busiest {} executed {} cpu {} unforeseen {} predicted {p:?}", hot.busiest(remedy, reads), hot.executed(remedy, reads), hot.busiest_cpu(remedy, reads), hot.unforeseen(remedy, reads));
        }
        println!("hits {}", hot.hit_rate(reads));
    }
    println!("ack {} mis {}", hot.acknowledged(), hot.miscounted());
    for flaw in [None, Some(Flaw::KeepsLate), Some(Flaw::IgnoresInvalidations)] {
        println!("old after {flaw:?}: {}", old_after_overwriting(&cluster, 100, flaw));
    }
    lap("old");
    let stale = StalenessSpec { versions: 200, every: Duration::from_millis(2), delay: Duration::from_millis(25), own_writes: 15 }.run(&cluster);
    println!("{:?}\n{:?}\n{:?}\n{:?} back {} soonest {}", stale.readers(), stale.reads(), stale.stale_percent(), stale.stuck(), stale.backwards(), stale.soonest_far_away());
    lap("stale");
    println!("{:?}", stale.own);
    lap("own");
    for flaw in [Some(Flaw::IgnoresAsk), None] {
        let spec = MoveSpec { keys: 500, batch: 10, rest: Duration::from_millis(250), deadline: Duration::from_millis(if flaw.is_some() { 50 } else { 5_000 }) };
        let moved = spec.run(&cluster, flaw, 1);
        println!("{:?} a{} f{} {:?} ack{} mis{} carried{} {:?} crate {} {} longest {}", flaw, moved.answered, moved.failed, moved.first_failure, moved.acknowledged, moved.miscounted, moved.carried, moved.detours, moved.crate_answered, moved.crate_failed, moved.longest);
        lap("moved");
    }
    let spec = FailoverSpec {
        load: Duration::from_millis(700),
        deaths: vec![Death { delay: Duration::ZERO, full_coverage: true }, Death { delay: Duration::from_millis(150), full_coverage: false }],
        batch: 20,
        node_timeout: Duration::from_millis(1_000),
    };
    for died in spec.run().deaths() {
        println!("{:?} ack {} lost {} repl {} lost {} unknown {} there {} silent {:?} others {}", died.death, died.acknowledged, died.lost, died.replicated, died.replicated_lost, died.unknown, died.unknown_there, died.silent, died.others_refused);
    }
    lap("failover");
}
