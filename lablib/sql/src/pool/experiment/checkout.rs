//! What borrowing itself costs, when the connection is nothing but a number: ours beside deadpool, bb8 and r2d2.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::pool::{Condition, Manager, Pool};
use lab::runtime::{block_on, runtime};
use lab::{Doing, Race, Raced, Result};

/// Makes numbers; for every pool.
#[derive(Debug, Clone, Copy)]
pub struct Numbers;

impl Manager for Numbers {
    type Connection = u64;
    type Error = Infallible;

    async fn connect(&self) -> Result<u64, Infallible> {
        Ok(1)
    }

    async fn check(&self, _: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }

    async fn clean(&self, _: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn condition(&self, _: &u64) -> Condition {
        Condition::Clean
    }
}

impl deadpool::managed::Manager for Numbers {
    type Type = u64;
    type Error = Infallible;

    async fn create(&self) -> Result<u64, Infallible> {
        Ok(1)
    }

    async fn recycle(
        &self,
        _: &mut u64,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Infallible> {
        Ok(())
    }
}

impl bb8::ManageConnection for Numbers {
    type Connection = u64;
    type Error = Infallible;

    async fn connect(&self) -> Result<u64, Infallible> {
        Ok(1)
    }

    async fn is_valid(&self, _: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut u64) -> bool {
        false
    }
}

impl r2d2::ManageConnection for Numbers {
    type Connection = u64;
    type Error = Infallible;

    fn connect(&self) -> Result<u64, Infallible> {
        Ok(1)
    }

    fn is_valid(&self, _: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut u64) -> bool {
        false
    }
}

/// The four pools, each with so many numbers.
#[derive(Clone)]
pub struct Four {
    ours: Pool<Numbers>,
    deadpool: deadpool::managed::Pool<Numbers>,
    bb8: bb8::Pool<Numbers>,
    r2d2: r2d2::Pool<Numbers>,
}

impl Four {
    /// All of them, with what they do beyond lending switched off.
    pub fn new(size: usize) -> Result<Self> {
        const MAKING: &str = "make a pool of numbers";
        let number = u32::try_from(size).doing(MAKING)?;
        let _inside = runtime().enter();
        let r2d2 = r2d2::Pool::builder().max_size(number).test_on_check_out(false).max_lifetime(None);
        Ok(Self {
            ours: Pool::builder(Numbers).size(size).build()?,
            deadpool: deadpool::managed::Pool::builder(Numbers).max_size(size).build().doing(MAKING)?,
            bb8: bb8::Pool::builder().max_size(number).test_on_check_out(false).build_unchecked(Numbers),
            r2d2: r2d2.idle_timeout(None).build(Numbers).doing(MAKING)?,
        })
    }

    /// Borrows and gives back, so many times, by ours. What it returns is the sum of the numbers: the work.
    pub async fn ours(&self, times: u64) -> u64 {
        let mut sum = 0;
        for _ in 0..times {
            sum += self.ours.get().await.map_or(0, |one| *one);
        }
        sum
    }

    /// As [`ours`](Self::ours), by deadpool.
    pub async fn deadpool(&self, times: u64) -> u64 {
        let mut sum = 0;
        for _ in 0..times {
            sum += self.deadpool.get().await.map_or(0, |one| *one);
        }
        sum
    }

    /// As [`ours`](Self::ours), by bb8.
    pub async fn bb8(&self, times: u64) -> u64 {
        let mut sum = 0;
        for _ in 0..times {
            sum += self.bb8.get().await.map_or(0, |one| *one);
        }
        sum
    }

    /// As [`ours`](Self::ours), by r2d2, which blocks.
    pub fn r2d2(&self, times: u64) -> u64 {
        (0..times).map(|_| self.r2d2.get().map_or(0, |one| *one)).sum()
    }
}

/// Nobody else wants one: what a checkout and a return cost.
pub fn uncontended(times: u64, rounds: usize) -> Result<Raced> {
    let four = Four::new(4)?;
    Race::of(rounds)
        .arm("ours", || block_on(four.ours(times)))
        .arm("deadpool", || block_on(four.deadpool(times)))
        .arm("bb8", || block_on(four.bb8(times)))
        .arm("r2d2", || four.r2d2(times))
        .try_run()
}

/// Several tasks, or threads for r2d2, want one of two.
pub fn contended(tasks: u64, times: u64, rounds: usize) -> Result<Raced> {
    let four = Arc::new(Four::new(2)?);
    macro_rules! arm {
        ($pool:ident) => {{
            let four = four.clone();
            move || {
                let four = four.clone();
                block_on(async move {
                    let mut running = JoinSet::new();
                    for _ in 0..tasks {
                        let four = four.clone();
                        running.spawn(async move { four.$pool(times / tasks).await });
                    }
                    running.join_all().await.into_iter().sum()
                })
            }
        }};
    }
    let threads = || {
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..tasks).map(|_| scope.spawn(|| four.r2d2(times / tasks))).collect();
            running.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
        })
    };
    Race::of(rounds)
        .arm("ours", arm!(ours))
        .arm("deadpool", arm!(deadpool))
        .arm("bb8", arm!(bb8))
        .arm("r2d2", threads)
        .try_run()
}
