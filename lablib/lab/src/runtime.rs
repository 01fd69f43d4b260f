//! The one tokio runtime that everything asynchronous in the lab runs on; it lives as long as the process, across cells.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use tokio::runtime::{Builder, Handle, Runtime};

/// The shared runtime.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("lab")
            .enable_all()
            .build()
            .unwrap_or_else(|error| panic!("could not start the lab's threads: {error}"))
    })
}

/// Runs a future to its end from ordinary code, also from within a task of the shared runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    // Until the future is gone: what it holds may ask for the runtime when it is dropped.
    let _entered = Handle::try_current().is_err().then(|| runtime().enter());
    let (mut future, mut output) = (pin!(future), None);
    wait(&mut |context| future.as_mut().poll(context).map(|done| output = Some(done)));
    match output {
        Some(output) => output,
        None => unreachable!("a future was waited for and is not done"),
    }
}

/// What tokio does for a future that is waited for, on the runtime that was entered: compiled once, and not for each of our futures.
fn wait(poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
    tokio::task::block_in_place(|| Handle::current().block_on(poll_fn(poll)));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Ready at its second poll, which only its waker brings about.
    async fn later(number: &u64) -> u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        *number
    }

    #[test]
    fn a_future_is_waited_for_from_plain_code_and_from_within_a_task() {
        let number = 41;
        assert_eq!(block_on(later(&number)), 41);
        let task = runtime().spawn(async { block_on(async { later(&42).await + block_on(later(&1)) }) });
        assert_eq!(block_on(task).unwrap(), 43);
        let beside = std::thread::scope(|scope| scope.spawn(|| block_on(later(&number))).join().unwrap());
        assert_eq!(beside, 41);
    }

    #[test]
    fn a_panic_in_a_future_is_the_waiters() {
        let panicked =
            std::panic::catch_unwind(|| block_on(async { assert_eq!(later(&1).await, 2, "one is not two") }));
        let text = panicked.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains("one is not two"), "{text}");
        assert_eq!(block_on(later(&1)), 1, "and the next one is served");
    }

    /// Notes whether there was a runtime when it was dropped: what a client's connection needs, to say goodbye.
    struct Goodbye<'a>(&'a mut Option<bool>);

    impl Drop for Goodbye<'_> {
        fn drop(&mut self) {
            *self.0 = Some(Handle::try_current().is_ok());
        }
    }

    #[test]
    fn what_a_future_holds_is_dropped_within_the_runtime() {
        for panics in [false, true] {
            let mut said = None;
            let held = Goodbye(&mut said);
            // Not an `async` block, which drops what it holds before it is done.
            let future = poll_fn(move |_| {
                let _held = &held;
                assert!(!panics, "given up");
                Poll::Ready(())
            });
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| block_on(future)));
            assert_eq!((ended.is_err(), said), (panics, Some(true)));
        }
    }
}
