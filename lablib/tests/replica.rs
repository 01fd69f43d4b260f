//! Real primaries and replicas: what sessions are promised, what a failover loses, what a comparison finds.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use lablib::sql::replica::experiment::*;
use lablib::sql::replica::*;

#[test]
#[ignore = "explores"]
fn explore() {
    let began = Instant::now();
    let stamp = |what: &str| println!("--- {:.2} s: {what}", began.elapsed().as_secs_f64());
    let ms = Duration::from_millis;
    let seeming = prototype();
    println!("{seeming:#?}");
    stamp("prototype");
    let cluster = cluster(2);
    let bank = bank(&cluster, 64);
    stamp("cluster");
    let sweep = lag_sweep(&bank, LagSpec { bytes_per_second: 300_000, note: 2_000, loads: &[0.3, 0.7, 1.2, 1.6], lasting: ms(800), seed: 1 });
    println!("{} bytes, {} a second", sweep.bytes, sweep.capacity);
    for load in &sweep.loads {
        println!("{:.2} {:.2} {:.2}s {} predicted {:.4} median {:.4} max {:.4}", load.asked, load.load, load.seconds, load.arrivals.len(), load.predicted(), load.lags().median(), load.lags().max());
    }
    stamp("lag");
    let silence = silence(&bank, ms(1_200), 1);
    println!("admitted {} true {} error {:?}", silence.admitted(), silence.true_lag(), silence.router_error().median());
    stamp("silence");
    let spec = ReadersSpec { sessions: 8, rounds: 12, think: ms(60), wait: ms(25), seed: 1 };
    let stale = stale_sweep(&bank, &[ms(0), ms(15), ms(30), ms(60), ms(90)], spec);
    println!("lag {:.4}", stale.lag);
    for at in &stale.delays {
        println!("{:.3} eventual {:.1} session {:.1} on replicas {:.1} {:?}", at.delay, at.eventual.stale(), at.session.stale(), at.session.on_replicas(0), at.session.stats);
    }
    println!("{:?} {:?}", stale.stale_error(), stale.broken());
    stamp("stale");
    let kinds = [
        (Consistency::Eventual, None), (Consistency::Pinned, None), (Consistency::ReadYourWrites, None),
        (Consistency::MonotonicReads, None), (Consistency::Session, None), (Consistency::Primary, None),
        (Consistency::Session, Some(Skip::WriteToken)), (Consistency::Session, Some(Skip::ReadToken)), (Consistency::Session, Some(Skip::Wait)),
    ];
    let spec = ReadersSpec { sessions: 6, rounds: 10, think: ms(8), wait: ms(60), seed: 1 };
    let all = policies(&bank, &[ms(3), ms(30)], &kinds, spec);
    println!("{}", lablib::lab::Show::to_plain(&policy_table(&all)));
    stamp("policies");
    let router_spec = RouterSpec { max_lag: ms(80), beat: ms(10), ..RouterSpec::default() };
    println!("{:?}", spread(&bank, &[ms(0), ms(10), ms(30), ms(60), ms(150)], 200, router_spec));
    stamp("spread");
    let outage = outage(&bank, OutageSpec { sessions: 4, part: ms(500), seed: 1 });
    println!("{:?} failed {} {:?} {:?} {:?} {:.1} {:.1} {:.1} caught up {:.3}", outage.events, outage.failed, outage.first_failure, outage.broken, outage.stats, outage.share_before(), outage.share_dead(), outage.share_after(), outage.caught_up);
    stamp("outage");
    println!("{:?}", bank.checks());
    let stall = stall(&bank, ms(300), ms(10), 1);
    println!("{:?} {:?} {} unwaited {} longest {}", stall.silent, stall.medians(), stall.back, stall.unwaited, stall.longest());
    stamp("stall");
    println!("after commit {:?}, after sync {:?}", seen_early(&bank, WaitPoint::AfterCommit, 5, 1), seen_early(&bank, WaitPoint::AfterSync, 5, 1));
    stamp("seen early");
    let diverged = divergence(&bank, 200, 150.0, 1);
    println!("{diverged:#?}");
    stamp("divergence");
    println!("{:?}", bank.checks());
    let d40 = [ms(20), ms(60), ms(120)];
    let asynchronous = FailoverSpec { delays: &d40, semi_sync: None, silent: ms(0), replay_late: false, skip: None, rate: 250.0, writing: ms(500), seed: 1 };
    let lossless = SemiSync::lossless(Duration::from_secs(10));
    let commit = SemiSync { wait_point: WaitPoint::AfterCommit, ..lossless };
    let two = [ms(20), ms(60)];
    for (name, spec) in [
        ("async", asynchronous.clone()),
        ("after commit", FailoverSpec { delays: &two, semi_sync: Some(commit), silent: ms(60), ..asynchronous.clone() }),
        ("after sync", FailoverSpec { delays: &two, semi_sync: Some(lossless), silent: ms(60), ..asynchronous.clone() }),
        ("late", FailoverSpec { delays: &two, semi_sync: Some(lossless), replay_late: true, ..asynchronous.clone() }),
        ("choice", FailoverSpec { delays: &two, semi_sync: Some(lossless), skip: Some(Skip::Choice), ..asynchronous.clone() }),
        ("drain", FailoverSpec { delays: &two, semi_sync: Some(lossless), replay_late: true, skip: Some(Skip::Drain), ..asynchronous.clone() }),
        ("timeout", FailoverSpec { delays: &two, semi_sync: Some(SemiSync::lossless(ms(150))), silent: ms(450), ..asynchronous.clone() }),
    ] {
        println!("{name}: {:#?}", try_failover(&spec));
        stamp(name);
    }
}
