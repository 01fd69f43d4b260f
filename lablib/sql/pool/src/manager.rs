//! What a pool has to know about the connections that it keeps.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

/// How a connection came back from its borrower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// As it was lent: the next borrower may have it.
    Clean,
    /// Something may be open on it, a transaction or half an answer: it has to be cleaned first.
    Dirty,
    /// The connection is broken, and of no more use.
    Broken,
}

/// Dials, checks, cleans and closes one kind of connection.
///
/// ```
/// use std::convert::Infallible;
/// use pool::{Condition, Manager, Pool};
///
/// /// Numbers, for example.
/// struct Numbers;
///
/// impl Manager for Numbers {
///     type Connection = u32;
///     type Error = Infallible;
///     async fn connect(&self) -> Result<u32, Infallible> {
///         Ok(7)
///     }
///     async fn check(&self, _: &mut u32) -> Result<(), Infallible> {
///         Ok(())
///     }
///     async fn clean(&self, _: &mut u32) -> Result<(), Infallible> {
///         Ok(())
///     }
///     fn condition(&self, _: &u32) -> Condition {
///         Condition::Clean
///     }
/// }
///
/// lab::runtime::block_on(async {
///     let pool = Pool::builder(Numbers).size(1).build()?;
///     let seven = pool.get().await?;
///     assert_eq!(*seven, 7);
///     # Ok::<(), Box<dyn std::error::Error>>(())
/// }).unwrap();
/// ```
pub trait Manager: Send + Sync + 'static {
    /// A connection, as the pool lends it.
    type Connection: Send + 'static;
    /// Why it fails.
    type Error: Error + Send + Sync + 'static;

    /// Dials.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Asks the server whether it is still there, over this connection.
    fn check(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Puts a dirty connection in order: nothing of what its borrower left open remains.
    fn clean(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// What can be told of a connection without asking the server.
    fn condition(&self, connection: &Self::Connection) -> Condition;

    /// Says goodbye. `age` is how long ago it was dialled.
    fn close(&self, connection: Self::Connection, age: Duration) -> impl Future<Output = ()> + Send {
        let _ = age;
        async { drop(connection) }
    }

    /// Whether a failure to dial means that nobody else need try for a while. A server that answers "no" is there.
    fn is_down(&self, error: &Self::Error) -> bool {
        let _ = error;
        true
    }
}
