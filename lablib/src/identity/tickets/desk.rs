//! The counter file behind a desk: a process of its own that hands out numbers over loopback, and can be killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::session::PATIENCE;
use super::{CounterFile, Issuer, IssuerStats, Skip};
use crate::lab::crash::{self, Child as CrashChild};
use crate::lab::service::lab_program;
use crate::lab::{Doing, Error, Result};

/// The variable that holds an [`Errand`], as JSON.
const ERRAND: &str = "LAB_TICKETS_ERRAND";
const SERVING: &str = "serving at ";
const ANSWER: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(1);

/// Where a counter file's process may be killed, in the order in which it comes by.
pub const POINTS: [&str; 6] = [
    "counter-before-save",
    "counter-written",
    "counter-synced",
    "counter-renamed",
    "counter-saved",
    "number-handed-out",
];

/// What an issuer in a process of its own is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Errand {
    path: PathBuf,
    batch: u64,
    skip: Option<Skip>,
    /// Hands out so many, each acknowledged on standard output, instead of serving.
    acknowledge: Option<u64>,
}

/// What `lab tickets` does: the errand in its environment.
pub fn issuer_process() -> Result<()> {
    let doing = "read the issuer's errand";
    let errand: Errand = serde_json::from_str(&std::env::var(ERRAND).doing(doing)?).doing(doing)?;
    let counter = CounterFile::open(&errand.path, errand.batch)?;
    let counter = match errand.skip {
        Some(step) => counter.without(step),
        None => counter,
    };
    match errand.acknowledge {
        Some(count) => acknowledge(&counter, count),
        None => serve(Arc::new(counter)),
    }
}

fn acknowledge(counter: &CounterFile, count: u64) -> Result<()> {
    for _ in 0..count {
        let id = counter.next_id()?;
        crash::acknowledge(id);
        crash::point("number-handed-out");
    }
    Ok(())
}

/// Until it is killed, or whoever started it is gone.
fn serve(counter: Arc<CounterFile>) -> Result<()> {
    let doing = "open the issuer's desk";
    let listener = TcpListener::bind("127.0.0.1:0").doing(doing)?;
    println!("{SERVING}{}", listener.local_addr().doing(doing)?);
    std::thread::spawn(|| {
        // The other end of this pipe closes when the owner is gone, however it died.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    for stream in listener.incoming().flatten() {
        let counter = Arc::clone(&counter);
        std::thread::spawn(move || answer(&counter, stream));
    }
    Ok(())
}

/// A line for each line. An end of the connection is an end, and no error of the desk's.
fn answer(counter: &CounterFile, stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        line?;
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
    child: Child,
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
        let errand = Errand { path: path.as_ref().to_path_buf(), batch, skip, acknowledge: None };
        let (child, address) = open_desk(&errand)?;
        Ok(Self { errand, child, address: Arc::new(Mutex::new(Some(address))) })
    }

    /// A client of its own, which finds the desk again after a restart.
    pub fn client(&self) -> DeskClient {
        DeskClient { address: Arc::clone(&self.address), connection: None, stats: IssuerStats::default() }
    }

    /// `kill -9`, and returns when it is dead.
    pub fn kill(&mut self) -> Result<()> {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.child.kill().doing("kill an issuer")?;
        self.child.wait().doing("wait for an issuer's end").map(drop)
    }

    /// Starts it again, on the same file, with a batch that may differ.
    pub fn restart(&mut self, batch: u64) -> Result<()> {
        self.errand.batch = batch;
        let (child, address) = open_desk(&self.errand)?;
        self.child = child;
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        Ok(())
    }

    /// A process that hands out so many numbers, each acknowledged, for [`Crash`](crate::lab::crash::Crash).
    pub fn acknowledging(path: impl AsRef<Path>, batch: u64, count: u64) -> Result<CrashChild> {
        let errand = Errand { path: path.as_ref().to_path_buf(), batch, skip: None, acknowledge: Some(count) };
        Ok(CrashChild::new(lab_program()?).arg("tickets").env(ERRAND, errand.text()?))
    }
}

impl Drop for IssuerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may be dead already
        let _ = self.child.wait();
    }
}

impl Errand {
    fn text(&self) -> Result<String> {
        serde_json::to_string(self).doing("write an issuer's errand")
    }
}

fn open_desk(errand: &Errand) -> Result<(Child, String)> {
    let doing = "start an issuer";
    let mut child = Command::new(lab_program()?)
        .arg("tickets")
        .env(ERRAND, errand.text()?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .doing(doing)?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line).doing(doing)?;
    }
    match line.trim_end().strip_prefix(SERVING) {
        Some(address) => Ok((child, address.to_string())),
        None => {
            let mut said = String::new();
            let _ = child.kill(); // it has ended, or says nothing of use
            if let Some(mut err) = child.stderr.take() {
                let _ = err.read_to_string(&mut said);
            }
            let _ = child.wait();
            Err(Error::new(doing, format!("it said: {}", said.trim())))
        }
    }
}

/// A client of an [`IssuerProcess`].
#[derive(Debug)]
pub struct DeskClient {
    address: Address,
    connection: Option<BufReader<TcpStream>>,
    stats: IssuerStats,
}

impl DeskClient {
    fn connect(&mut self) -> std::io::Result<()> {
        let address = self.address.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let address = address.ok_or(std::io::ErrorKind::NotConnected)?;
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        self.connection = Some(BufReader::new(stream));
        Ok(())
    }

    fn ask(connection: &mut BufReader<TcpStream>) -> std::io::Result<String> {
        connection.get_mut().write_all(b"next\n")?;
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
                Some(connection) => Self::ask(connection).inspect_err(|_| self.stats.lost_answers += 1),
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
                    self.stats.round_trips += 1;
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
