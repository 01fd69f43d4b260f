//! Apache Kafka: one broker in KRaft mode on the JVM, or the user's own.
//!
//! - Ready means that the broker is registered with its controller and names itself in its metadata.
//! - The jars are those of `ci/kafka/pom.xml`; nothing else decides the version.
//! - Formatting the storage and loading the classes, most of a start, are done once on a machine and reused.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::guardian::Guardian;
use super::kafka_wire;
use super::node::{self, Launch, Node, Recipe};
use super::port::Ports;
use super::secret::{secret, write_private};
use super::surroundings;
use super::template::{copy_tree, fingerprint, template};
use crate::{Doing, Error, Result};

/// Names the user's own brokers.
pub(super) const VARIABLE: &str = "LAB_KAFKA_URL";
const KIND: &str = "Kafka";
const POM: &str = include_str!("../../../../ci/kafka/pom.xml");

/// A small machine's JVM: it is the latency of short runs that counts, not the throughput of long ones.
const JVM: &[&str] = &[
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
    // Whatever it writes for a while, it writes into its own directory, where it runs.
    "-Djava.io.tmpdir=.",
    "-XX:-UsePerfData",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
];

/// The pinned configuration.
const SETTINGS: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "PLAINTEXT"),
    ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"),
    // Relative to the server's directory: a comma in an absolute one would make two of it.
    ("log.dirs", "data"),
    ("auto.create.topics.enable", "true"),
    ("num.partitions", "1"),
    ("default.replication.factor", "1"),
    ("min.insync.replicas", "1"),
    ("offsets.topic.num.partitions", "1"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("share.coordinator.state.topic.num.partitions", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    // After a kill, the broker may come back only when its predecessor's session is over.
    ("broker.heartbeat.interval.ms", "250"),
    ("broker.session.timeout.ms", "1500"),
    ("num.network.threads", "2"),
    ("num.io.threads", "4"),
    ("log.retention.hours", "-1"),
    ("delete.topic.enable", "true"),
];

/// A Kafka broker. Everything that [`Node`] can do can be done to it; its [`url`](Node::url) is what clients call
/// `bootstrap.servers`.
///
/// ```no_run
/// use lab::service;
///
/// let kafka = service::kafka();
/// println!("{} at {}, ready in {:?}", kafka.version(), kafka.url(), kafka.ready_in());
/// ```
pub struct Kafka {
    node: Node,
}

/// A Kafka broker to be started, with settings that differ from the lab's.
#[derive(Debug, Clone, Default)]
pub struct KafkaBuilder {
    settings: BTreeMap<String, String>,
}

impl Kafka {
    /// The broker that `LAB_KAFKA_URL` names, or else a private one.
    pub fn start() -> Result<Self> {
        match super::own_urls(VARIABLE) {
            Some(brokers) => Self::own(&brokers),
            None => KafkaBuilder::default().start(),
        }
    }

    /// A private broker that differs from the lab's in one setting; more can follow.
    pub fn with(setting: &str, value: &str) -> KafkaBuilder {
        KafkaBuilder::default().with(setting, value)
    }

    fn own(brokers: &[String]) -> Result<Self> {
        let valid = |broker: &String| {
            broker
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok())
        };
        if brokers.is_empty() || !brokers.iter().all(valid) {
            return Err(Error::new(
                format!("read {VARIABLE}"),
                format!("{:?} is no list of brokers", brokers.join(",")),
            )
            .remedy("write it as 127.0.0.1:9092, several with commas between them"));
        }
        let url = brokers.join(",");
        let serves = |patience| {
            let answers = brokers.iter().map(|broker| kafka_wire::metadata(broker, patience));
            let found = answers.reduce(|first, second| first.or(second)).unwrap_or(Err("there is none".into()))?;
            Ok(format!("Kafka (your own, {} brokers)", found.brokers.len()))
        };
        Node::own(KIND, VARIABLE, &url, brokers[0].clone(), serves).map(|node| Self { node })
    }

    /// Its name and version: "Apache Kafka 4.1.1".
    pub fn version(&self) -> String {
        self.node.banner().to_owned()
    }
}

impl std::ops::Deref for Kafka {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.version(), self.node)
    }
}

impl KafkaBuilder {
    /// Sets what may stand in a server.properties.
    pub fn with(mut self, setting: &str, value: &str) -> Self {
        self.settings.insert(setting.to_owned(), value.to_owned());
        self
    }

    /// Starts it: always a private server.
    pub fn start(self) -> Result<Kafka> {
        let mut settings: BTreeMap<String, String> =
            SETTINGS.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        for (name, value) in self.settings {
            let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
            if name.is_empty() || !name.chars().all(plain) || value.contains(['\n', '\r', '\\']) {
                return Err(Error::new(format!("start {KIND}"), format!("{name:?} = {value:?} is no setting")));
            }
            settings.insert(name, value);
        }
        let recipe = KafkaRecipe { programs: Programs::find()?, settings, cluster: cluster_id() };
        Node::start(recipe, "kafka").map(|node| Kafka { node })
    }
}

/// The version that the pom names.
fn version() -> &'static str {
    let rest = POM.split_once("<kafka.version>").map_or("", |(_, rest)| rest);
    rest.split('<').next().unwrap_or_default()
}

/// 22 letters, as Kafka writes 128 bits; the last one holds only two of them.
fn cluster_id() -> String {
    secret(21) + "A"
}

/// What runs Kafka on this machine.
#[derive(Debug, Clone)]
struct Programs {
    java: PathBuf,
    jars: PathBuf,
}

impl Programs {
    fn find() -> Result<Self> {
        let fail = |cause: String| Error::new(format!("start {KIND}"), cause);
        let home = std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
        let java = home
            .filter(|java| surroundings::is_program(java))
            .or_else(|| surroundings::find_program("java"))
            .ok_or_else(|| {
                fail("there is no Java on this machine".into()).remedy(format!(
                    "run `ci/lab setup` (it uses Debian's openjdk-17-jre-headless), or set {VARIABLE} to a broker of your own"
                ))
            })?;
        let chosen = std::env::var_os("LAB_KAFKA_JARS").filter(|jars| !jars.is_empty()).map(PathBuf::from);
        let jars = chosen.unwrap_or_else(|| surroundings::cache().join(format!("kafka-{}", version())));
        match jars.join(format!("kafka_2.13-{}.jar", version())).is_file() {
            true => Ok(Self { java, jars }),
            false => Err(fail(format!("Kafka's jars are not in {}", jars.display()))
                .remedy(format!("run `ci/lab setup`, set LAB_KAFKA_JARS, or set {VARIABLE} to a broker of your own"))),
        }
    }

    fn java(&self, options: &[String], main: &[&str]) -> Launch {
        let mut args: Vec<String> = JVM.iter().map(|option| (*option).to_owned()).collect();
        args.extend(options.iter().cloned());
        args.extend(["-cp".to_owned(), format!("{}/*", self.jars.display())]);
        args.extend(main.iter().map(|word| (*word).to_owned()));
        Launch { program: self.java.clone(), args }
    }

    /// A folder with a formatted storage and an archive of the classes that a start loads.
    fn template(&self) -> Result<PathBuf> {
        // An archive of classes is good for one JVM and one set of jars only. Neither can be told by its path alone.
        let java = self.java.canonicalize().unwrap_or_else(|_| self.java.clone());
        let release = java.metadata().and_then(|file| file.modified()).doing("look at Java")?;
        let name = format!("kafka-{}-{}", version(), fingerprint((java, release, &self.jars, JVM, SETTINGS)));
        template(&name, |folder| self.make_template(folder))
    }

    fn make_template(&self, folder: &Path) -> Result<()> {
        let guardian = Guardian::current()?;
        let ports = Ports::free(2)?;
        let settings = SETTINGS.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let cluster = cluster_id();
        let log = node::log_in(folder);
        let failure = |cause: String| {
            Error::new("prepare Kafka's storage", format!("{cause}; it said\n{}\n", node::tail(&log, 15)))
        };
        write_private(&folder.join(CONFIGURATION), &configuration(&settings, &ports))
            .doing("prepare Kafka's storage")?;
        let format = self.java(&[], &["kafka.tools.StorageTool", "format", "-t", &cluster, "-c", CONFIGURATION]);
        match node::launch_in(&guardian, &format, folder)?.wait(Duration::from_secs(120))? {
            Some(end) if end.success => {}
            Some(end) => return Err(failure(format!("formatting it ended with {}", end.how))),
            None => return Err(failure("formatting it took too long".into())),
        }
        let pristine = folder.join(STORAGE);
        copy_tree(&folder.join("data"), &pristine)?;
        // One start and stop writes the archive. Without it, a start takes twice as long and works all the same.
        let archive = format!("-XX:ArchiveClassesAtExit={}", folder.join(CLASSES).display());
        let broker = node::launch_in(&guardian, &self.java(&[archive], &["kafka.Kafka", CONFIGURATION]), folder)?;
        let begun = Instant::now();
        while serves(ports[0], &cluster, Duration::from_secs(1)).is_err() && begun.elapsed() < Duration::from_secs(60) {
            if broker.end()?.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        node::stop_politely(&broker)?;
        for leftover in ["data", "server.log", CONFIGURATION] {
            let path = folder.join(leftover);
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.doing("tidy up Kafka's storage")?;
        }
        Ok(())
    }
}

const CONFIGURATION: &str = "server.properties";
const STORAGE: &str = "storage";
const CLASSES: &str = "classes.jsa";

fn configuration(settings: &BTreeMap<String, String>, ports: &[u16]) -> String {
    let (broker, controller) = (ports[0], ports[1]);
    let mut settings = settings.clone();
    settings.insert("listeners".into(), format!("PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}"));
    settings.insert("advertised.listeners".into(), format!("PLAINTEXT://127.0.0.1:{broker}"));
    settings.insert("controller.quorum.voters".into(), format!("1@127.0.0.1:{controller}"));
    settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

fn serves(port: u16, cluster: &str, patience: Duration) -> Result<String, String> {
    let found = kafka_wire::metadata(&format!("127.0.0.1:{port}"), patience)?;
    if found.cluster != cluster {
        return Err("another Kafka answers on its port".into());
    }
    match found.brokers.iter().any(|(_, named)| *named == port) && found.controller >= 0 {
        true => Ok(format!("Apache Kafka {}", version())),
        false => Err("the broker is not registered with its controller yet".into()),
    }
}

#[derive(Debug)]
struct KafkaRecipe {
    programs: Programs,
    settings: BTreeMap<String, String>,
    cluster: String,
}

impl Recipe for KafkaRecipe {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn ports(&self) -> usize {
        2
    }

    fn lay_out(&self, directory: &Path, ports: &[u16]) -> Result<Launch> {
        let doing = || format!("lay out {}", directory.display());
        let template = self.programs.template()?;
        let data = directory.join("data");
        copy_tree(&template.join(STORAGE), &data)?;
        // A cluster of its own, so that no client and no broker takes it for another lab's.
        let properties = data.join("meta.properties");
        let text = std::fs::read_to_string(&properties).doing(doing())?;
        let own = |line: &str| match line.starts_with("cluster.id=") {
            true => format!("cluster.id={}\n", self.cluster),
            false => format!("{line}\n"),
        };
        std::fs::write(&properties, text.lines().map(own).collect::<String>()).doing(doing())?;
        write_private(&directory.join(CONFIGURATION), &configuration(&self.settings, ports)).doing(doing())?;
        let classes = template.join(CLASSES);
        let archive = classes.is_file().then(|| format!("-XX:SharedArchiveFile={}", classes.display()));
        Ok(self.programs.java(&archive.into_iter().collect::<Vec<_>>(), &["kafka.Kafka", CONFIGURATION]))
    }

    fn url(&self, ports: &[u16]) -> String {
        format!("127.0.0.1:{}", ports[0])
    }

    fn serves(&self, ports: &[u16], patience: Duration) -> Result<String, String> {
        serves(ports[0], &self.cluster, patience)
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }
}

/// Makes what the first start on this machine would have to wait for.
pub(super) fn prepare() -> Result<()> {
    Programs::find()?.template().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pom_says_which_kafka_it_is() {
        assert_eq!(version().split('.').count(), 3, "{}", version());
        assert!(version().split('.').all(|part| part.parse::<u32>().is_ok()));
    }

    #[test]
    fn a_configuration_listens_on_loopback_with_the_given_ports() {
        let settings = BTreeMap::from([("num.partitions".to_owned(), "3".to_owned())]);
        let text = configuration(&settings, &[21_092, 21_093]);
        assert!(text.contains("\nlisteners=PLAINTEXT://127.0.0.1:21092,CONTROLLER://127.0.0.1:21093\n"), "{text}");
        assert!(text.contains("num.partitions=3\n") && text.contains("controller.quorum.voters=1@127.0.0.1:21093\n"));
    }
}
