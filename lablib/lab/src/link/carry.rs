//! One connection from its beginning to its end.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream};

use super::pump::{End, Pump};
use super::{Direction, Shared, lock};

/// How long a server may take to accept.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// A connection's entry in the register.
pub(super) struct Registered {
    pub(super) number: u64,
    pub(super) shared: Arc<Shared>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&self.shared.register).open.remove(&self.number);
        self.shared.left.notify_all();
    }
}

/// Carries one connection from its beginning to its end. The sockets are closed before the register hears of it.
///
/// Both are made to close with a reset, and only a conversation that finished takes that back: a cut may come at any
/// moment, also when the server has accepted and nobody here has noticed yet.
pub(super) async fn carry(number: u64, mut client: TcpStream, registered: Registered) {
    let shared = &registered.shared;
    let mut settings = shared.settings.subscribe();
    tokio::select! {
        biased;
        _ = settings.wait_for(|settings| number < settings.doomed_below) => {}
        () = converse(number, &mut client, shared) => {}
    }
    drop(client);
}

async fn converse(number: u64, client: &mut TcpStream, shared: &Shared) {
    let Some(mut server) = connect(client, shared).await else { return };
    if exchange(number, client, &mut server, shared).await == End::Finished {
        for stream in [client, &mut server] {
            // Deprecated for the times that make closing block; none does not. It fails only for a dead socket.
            #[allow(deprecated)]
            let _ = stream.set_linger(None);
        }
    }
}

async fn exchange(number: u64, client: &mut TcpStream, server: &mut TcpStream, shared: &Shared) -> End {
    // Nagle's algorithm would hold small pieces back on top of what was asked for.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));

    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let lost = [AtomicBool::new(false), AtomicBool::new(false)];
    let pump = |way| Pump::new(number, way, shared, &lost);
    let mut there = pin!(pump(Direction::ToServer).run(from_client, to_server));
    let mut back = pin!(pump(Direction::ToClient).run(from_server, to_client));
    let (first, way, second) = tokio::select! {
        first = &mut there => (first, Direction::ToServer, until_reset(first, back).await),
        first = &mut back => (first, Direction::ToClient, until_reset(first, there).await),
    };
    match (first, second) {
        (End::Reset, _) | (_, End::Reset) => End::Reset,
        (End::Finished, End::Finished) => End::Finished,
        // Whoever could not be delivered to is gone. The other one has to hear of that, as late as of anything.
        (End::Lost, _) => pump(way.back()).reset().await,
        (_, End::Lost) => pump(way).reset().await,
    }
}

async fn until_reset(first: End, other: impl Future<Output = End>) -> End {
    match first {
        End::Reset => End::Reset,
        End::Finished | End::Lost => other.await,
    }
}

/// A connection to the server, once nothing is held. None when there is none to be had, or the client gave up.
async fn connect(client: &TcpStream, shared: &Shared) -> Option<TcpStream> {
    let mut settings = shared.settings.subscribe();
    let target = tokio::select! {
        biased;
        settings = settings.wait_for(|settings| settings.held == [false; 2]) => settings.ok()?.target.clone(),
        // Not READABLE: bytes that wait must stay where they are.
        _ = client.ready(Interest::PRIORITY) => return None,
    };
    for address in target.iter() {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.ok()?;
        let _ = socket.set_zero_linger();
        if let Ok(Ok(server)) = tokio::time::timeout(CONNECT_PATIENCE, socket.connect(*address)).await {
            return Some(server);
        }
    }
    None
}
