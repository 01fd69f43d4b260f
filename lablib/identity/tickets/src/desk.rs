//! The counter file behind a desk: a process of its own that hands out numbers over loopback, and can be killed.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::session::PATIENCE;
use super::{CounterFile, Issuer, IssuerStats, Skip};
use lab::errand::{self, Running};
use lab::{Doing, Error, Result};

const ANSWER: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(1);

/// What an issuer in a process of its own is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Errand {
    path: PathBuf,
    /// Which desk this is: an address that somebody remembers may be another's by now.
    name: u64,
    batch: u64,
    skip: Option<Skip>,
}

/// What `lab tickets` does, until it is killed, or whoever started it is gone.
pub fn issuer_process() -> Result<()> {
    let Errand { path, name, batch, skip } = errand::told()?;
    let counter = Arc::new(CounterFile::open(path, batch)?.without(skip));
    let doing = "open the issuer's desk";
    let listener = TcpListener::bind("127.0.0.1:0").doing(doing)?;
    errand::say(&listener.local_addr().doing(doing)?.to_string())?;
    errand::end_with_the_owner();
    for stream in listener.incoming().flatten() {
        let counter = Arc::clone(&counter);
        std::thread::spawn(move || answer(&counter, name, stream));
    }
    Ok(())
}

/// What a client of a desk asks.
fn question(name: u64) -> String {
    format!("next of {name:016x}\n")
}

/// A line for each line, until one of them is no question to this desk. An end of the connection is an end, and no error of
/// the desk's.
fn answer(counter: &CounterFile, name: u64, stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        if line? != question(name).trim_end() {
            break;
        }
        let answer = match counter.next_id() {
            Ok(id) => format!("{id}\n"),
            Err(error) => format!("error {error}\n").replace('\n', " ") + "\n",
        };
        out.write_all(answer.as_bytes())?;
    }
    Ok(())
}

/// An issuer in a process of its own, whose clients reach it over loopback.
#[derive(Debug)]
pub struct IssuerProcess {
    errand: Errand,
    child: Running,
    address: Address,
}

/// Where the desk is now; none while there is none.
type Address = Arc<Mutex<Option<String>>>;

impl IssuerProcess {
    /// Starts one on a counter file that exists.
    pub fn start(path: impl AsRef<Path>, batch: u64) -> Result<Self> {
        Self::start_without(path, batch, None)
    }

    /// Starts one that leaves a step out.
    pub fn start_without(path: impl AsRef<Path>, batch: u64, skip: Option<Skip>) -> Result<Self> {
        let errand = Errand { path: path.as_ref().to_path_buf(), name: rand::random(), batch, skip };
        let (child, address) = open_desk(&errand)?;
        Ok(Self { errand, child, address: Arc::new(Mutex::new(Some(address))) })
    }

    /// A client of its own, which finds the desk again after a restart.
    pub fn client(&self) -> DeskClient {
        DeskClient::of(self.errand.name, Arc::clone(&self.address))
    }

    /// `kill -9`, and returns when it is dead.
    pub fn kill(&mut self) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.child.kill();
    }

    /// Starts it again, on the same file.
    pub fn restart(&mut self) -> Result<()> {
        let (child, address) = open_desk(&self.errand)?;
        self.child = child;
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        Ok(())
    }
}

fn open_desk(errand: &Errand) -> Result<(Running, String)> {
    let mut child = Running::start("tickets", errand)?;
    let address = child.hear()?;
    Ok((child, address))
}

/// A client of an [`IssuerProcess`].
#[derive(Debug)]
pub struct DeskClient {
    name: u64,
    address: Address,
    connection: Option<BufReader<TcpStream>>,
    stats: IssuerStats,
}

impl DeskClient {
    fn of(name: u64, address: Address) -> Self {
        Self { name, address, connection: None, stats: IssuerStats::default() }
    }

    fn connect(&mut self) -> std::io::Result<()> {
        let address = self.address.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let address = address.ok_or(std::io::ErrorKind::NotConnected)?;
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        self.connection = Some(BufReader::new(stream));
        Ok(())
    }

    fn ask(connection: &mut BufReader<TcpStream>, name: u64) -> std::io::Result<String> {
        connection.get_mut().write_all(question(name).as_bytes())?;
        let mut line = String::new();
        connection.read_line(&mut line)?;
        // A line that was cut off is no answer: 12 might have been 1234.
        if line.ends_with('\n') { Ok(line) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl Issuer for DeskClient {
    fn next_id(&mut self) -> Result<u64> {
        let doing = "ask the issuer for a number";
        let began = Instant::now();
        loop {
            let answer = match &mut self.connection {
                Some(connection) => Self::ask(connection, self.name).inspect_err(|_| self.stats.lost_answers += 1),
                None => match self.connect() {
                    Ok(()) => continue,
                    Err(error) => {
                        self.stats.refused += 1;
                        Err(error)
                    }
                },
            };
            match answer {
                Ok(line) => {
                    return line.trim_end().parse().map_err(|_| Error::new(doing, format!("it answered {line:?}")));
                }
                Err(_) if began.elapsed() < PATIENCE => {
                    self.connection = None;
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(Error::new(doing, error).remedy("start it again")),
            }
        }
    }

    fn stats(&self) -> IssuerStats {
        self.stats
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use lab::crash::SimulatedDisk;

    #[test]
    fn a_client_that_comes_to_another_desk_gets_no_number_of_its_counter() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address: Address = Arc::new(Mutex::new(Some(listener.local_addr().unwrap().to_string())));
        let counter = CounterFile::on(Arc::new(SimulatedDisk::seeded(1)), "counter", 10).unwrap();
        let (mut astray, mut own) = (DeskClient::of(1, Arc::clone(&address)), DeskClient::of(2, address));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for stream in listener.incoming().flatten().take(2) {
                    let _ = answer(&counter, 2, stream); // a client that is gone is no error
                }
            });
            astray.connect().unwrap();
            assert!(DeskClient::ask(astray.connection.as_mut().unwrap(), astray.name).is_err());
            assert_eq!(own.next_id().unwrap(), 1);
            drop(own);
        });
    }
}
