//! What borrowing itself costs, when the connection is nothing but a number: ours beside deadpool, bb8 and r2d2.

use std::convert::Infallible;
use std::time::Instant;

use tokio::task::JoinSet;

use crate::{Condition, Manager, Pool};
use lab::runtime::{block_on, runtime};
use lab::{Doing, Error, Result, Trial};

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

/// A pool's name, and what borrows and gives back so many times; it returns the sum of the numbers, which is the work.
pub type Arm<'a> = (&'static str, Box<dyn Fn(u64) -> u64 + 'a>);

/// Borrows from one of the pools and gives back, so many times.
macro_rules! borrows {
    ($($pool:ident)*) => {
        impl Four {
            $(async fn $pool(&self, times: u64) -> u64 {
                let mut sum = 0;
                for _ in 0..times {
                    sum += self.$pool.get().await.map_or(0, |one| *one);
                }
                sum
            })*
        }
    };
}

borrows!(ours deadpool bb8);

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

    /// Each pool when nobody else wants one: what a checkout and a return cost.
    pub fn alone(&self) -> [Arm<'_>; 4] {
        [
            ("ours", Box::new(|times| block_on(self.ours(times)))),
            ("deadpool", Box::new(|times| block_on(self.deadpool(times)))),
            ("bb8", Box::new(|times| block_on(self.bb8(times)))),
            ("r2d2", Box::new(|times| self.r2d2(times))),
        ]
    }

    /// Each pool when several tasks, or threads for r2d2, share the checkouts.
    pub fn crowded(&self, tasks: u64) -> [Arm<'_>; 4] {
        macro_rules! tasks {
            ($pool:ident) => {
                Box::new(move |times| {
                    let mut running = JoinSet::new();
                    block_on(async {
                        for _ in 0..tasks {
                            let four = self.clone();
                            running.spawn(async move { four.$pool(times / tasks).await });
                        }
                        running.join_all().await.into_iter().sum()
                    })
                })
            };
        }
        let threads = move |times| {
            std::thread::scope(|scope| {
                let running: Vec<_> = (0..tasks).map(|_| scope.spawn(move || self.r2d2(times / tasks))).collect();
                running.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
            })
        };
        [("ours", tasks!(ours)), ("deadpool", tasks!(deadpool)), ("bb8", tasks!(bb8)), ("r2d2", Box::new(threads))]
    }

    fn r2d2(&self, times: u64) -> u64 {
        (0..times).map(|_| self.r2d2.get().map_or(0, |one| *one)).sum()
    }
}

/// Nobody else wants one, over so many interleaved rounds: what `each` checkout with its return takes (ns).
pub fn uncontended(times: u64, rounds: usize) -> Result<Trial<&'static str>> {
    in_turns(&Four::new(4)?.alone(), times, rounds)
}

/// The same where several tasks want one of two.
pub fn contended(tasks: u64, times: u64, rounds: usize) -> Result<Trial<&'static str>> {
    in_turns(&Four::new(2)?.crowded(tasks), times, rounds)
}

fn in_turns(arms: &[Arm<'_>], times: u64, rounds: usize) -> Result<Trial<&'static str>> {
    let mut borrowers = arms.iter().map(|(_, borrow)| borrow);
    let open =
        |_: &&'static str| borrowers.next().ok_or_else(|| Error::new("compare pools", "there is one arm too many"));
    Trial::over(arms.iter().map(|(name, _)| *name), rounds).open(open).run(|_, borrow, figures| {
        let began = Instant::now();
        let borrowed = borrow(times);
        figures.push("each", "ns", began.elapsed().as_secs_f64() * 1e9 / borrowed as f64);
        figures.work("checkouts", borrowed);
        Ok(())
    })
}
