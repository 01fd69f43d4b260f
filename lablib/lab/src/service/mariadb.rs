//! MariaDB: a private server on a copy of a prepared data directory, or the user's own MariaDB or MySQL.
//!
//! - Ready means that a client has logged in and had an answer.
//! - The configuration is this file's, whatever stands in `/etc`: every commit is on disk and in the binary log when it is
//!   acknowledged, text is utf8mb4, rows go to the binary log as rows, positions are GTIDs.
//! - Nobody gets in without this run's random passwords. `lab` may do everything; the administrator's accounts are the lab's.
//! - What the lab itself creates is not in the binary log, so that replicas and independent servers never disagree about it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder};

use super::dial::dial;
use super::dialect::Dialect;
use super::guardian::Guardian;
use super::node::{self, Launch, Node, Recipe};
use super::secret::{secret, write_private};
use super::surroundings;
use super::template::{copy_tree, fingerprint, template};
use crate::{Crowd, Doing, Error, OrFail, Result};

/// Names the user's own server, or several with commas between them.
pub(super) const VARIABLE: &str = "LAB_MYSQL_URL";
const KIND: &str = "MariaDB";
/// The account that notebooks use, and the database that it starts in.
const USER: &str = "lab";
/// How long a client waits for an answer before it takes the server for gone.
const ANSWER: Duration = Duration::from_secs(60);

/// Settings that a data directory is made with, so that a change of one needs another template.
const OF_THE_DATA: [&str; 7] = [
    "character_set_server",
    "collation_server",
    "innodb_data_file_path",
    "innodb_log_file_size",
    "innodb_page_size",
    "innodb_undo_tablespaces",
    "lower_case_table_names",
];

/// The pinned configuration. `loose_` marks what some builds of 10.11 do not have.
const SETTINGS: &[(&str, &str)] = &[
    ("autocommit", "1"),
    ("back_log", "512"),
    ("bind_address", "127.0.0.1"),
    ("binlog_format", "ROW"),
    ("character_set_server", "utf8mb4"),
    ("collation_server", "utf8mb4_general_ci"),
    ("default_storage_engine", "InnoDB"),
    ("default_time_zone", "+00:00"),
    ("event_scheduler", "OFF"),
    ("gtid_strict_mode", "ON"),
    ("innodb_autoinc_lock_mode", "1"),
    ("innodb_buffer_pool_dump_at_shutdown", "OFF"),
    ("innodb_buffer_pool_load_at_startup", "OFF"),
    ("innodb_buffer_pool_size", "128M"),
    ("innodb_deadlock_detect", "ON"),
    ("innodb_doublewrite", "ON"),
    ("innodb_file_per_table", "ON"),
    ("innodb_flush_log_at_trx_commit", "1"),
    ("innodb_flush_method", "O_DIRECT"),
    ("innodb_lock_wait_timeout", "50"),
    ("innodb_log_file_size", "64M"),
    ("innodb_page_size", "16K"),
    ("key_buffer_size", "8M"),
    ("log_bin", "binlog"),
    ("log_slave_updates", "ON"),
    ("loose_innodb_snapshot_isolation", "OFF"),
    ("max_allowed_packet", "64M"),
    ("max_connections", "500"),
    ("performance_schema", "OFF"),
    ("query_cache_size", "0"),
    ("query_cache_type", "OFF"),
    ("relay_log", "relay"),
    ("relay_log_recovery", "ON"),
    ("skip_name_resolve", "ON"),
    // A replica notices a link that was cut in silence after two seconds, not after a minute.
    ("slave_net_timeout", "2"),
    // Relative to the data directory: a clone in a deep folder would make an absolute one longer than a socket's name may be.
    ("socket", "server.sock"),
    ("sql_mode", "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION"),
    ("sync_binlog", "1"),
    ("thread_handling", "one-thread-per-connection"),
    ("transaction_isolation", "REPEATABLE-READ"),
];

/// A MariaDB server, or a MySQL of yours. Everything that [`Node`] can do can be done to it.
///
/// ```
/// use lab::service;
///
/// let db = service::mysql();
/// println!("{} at {}", db.version(), db.address());
/// db.execute("CREATE TABLE greeting (words TEXT)");
/// db.execute("INSERT INTO greeting VALUES ('hello')");
/// assert_eq!(db.ask("SELECT words FROM greeting").unwrap(), "hello");
/// ```
pub struct MariaDb {
    node: Node,
    dialect: Dialect,
    /// The administrator's way in; none for a server of the user's.
    admin: Option<Login>,
}

/// A user's name and password.
#[derive(Clone)]
struct Login {
    user: String,
    password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)
    }
}

/// A MariaDB server to be started, with settings that differ from the lab's.
#[derive(Debug, Clone, Default)]
pub struct MariaDbBuilder {
    settings: BTreeMap<String, String>,
    name: Option<String>,
    replica: bool,
}

impl MariaDb {
    /// The server that `LAB_MYSQL_URL` names, or else a private one.
    pub fn start() -> Result<Self> {
        match own_servers()? {
            Some(servers) => servers.into_iter().next().ok_or_else(|| bad_url("it is empty")),
            None => MariaDbBuilder::default().start(),
        }
    }

    /// A private server that differs from the lab's in one setting; more can follow.
    ///
    /// ```
    /// use lab::service::MariaDb;
    ///
    /// let small = MariaDb::with("innodb_buffer_pool_size", "6M").with("max_connections", "20").start().unwrap();
    /// assert_eq!(small.ask("SELECT @@max_connections").unwrap(), "20");
    /// ```
    pub fn with(setting: &str, value: &str) -> MariaDbBuilder {
        MariaDbBuilder::default().with(setting, value)
    }

    /// Its name and version: "MariaDB 10.11.6".
    pub fn version(&self) -> String {
        self.dialect.to_string()
    }

    /// How it wants to be asked for what MariaDB and MySQL say differently.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Runs one statement on a connection of its own.
    #[track_caller]
    pub fn execute(&self, statement: &str) {
        self.try_execute(statement).or_fail();
    }

    /// As [`execute`](Self::execute).
    pub fn try_execute(&self, statement: &str) -> Result<()> {
        let run = |connection: &mut Conn| {
            let mut answer = connection.query_iter(statement)?;
            // An error may come in the middle of an answer, so it is read to its end.
            while let Some(mut rows) = answer.iter() {
                rows.try_for_each(|row| row.map(drop))?;
            }
            Ok::<(), mysql::Error>(())
        };
        run(&mut self.connect()?).doing(format!("run {statement:?}")).map_err(|error| error.at(self.name()))
    }

    /// The first column of a question's first row, as text: empty when there is no row, "NULL" for a null.
    pub fn ask(&self, question: &str) -> Result<String> {
        let first: Option<mysql::Row> = self
            .connect()?
            .query_first(question)
            .doing(format!("ask {question:?}"))
            .map_err(|error| error.at(self.name()))?;
        Ok(first.and_then(|row| row.as_ref(0).map(as_text)).unwrap_or_default())
    }

    /// A connection for the library's own clients.
    pub fn connect(&self) -> Result<Conn> {
        self.connect_within(ANSWER)
    }

    /// As [`connect`](Self::connect), for a client that takes the server for gone when it is silent for this long.
    pub fn connect_within(&self, patience: Duration) -> Result<Conn> {
        dial(Opts::from_url(self.url()).doing("read the server's URL")?, patience)
            .doing(format!("connect to {KIND}"))
            .map_err(|error| error.at(self.name()))
    }

    /// A connection of the administrator, whom `read_only` does not stop; for a server of the lab's own.
    pub fn connect_as_administrator(&self) -> Result<Conn> {
        let login = self.admin.as_ref().ok_or_else(|| {
            Error::new(
                "administer the server",
                format!("it is your own (from {VARIABLE}), and its administrator is you"),
            )
            .at(self.address())
        })?;
        dial(opts(self.port(), login), ANSWER).doing("administer the server").map_err(|error| error.at(self.name()))
    }

    /// Runs statements as the administrator, on a server of the lab's own.
    pub fn administer(&self, statements: &[String]) -> Result<()> {
        let doing = || "administer the server";
        let mut connection = self.connect_as_administrator()?;
        statements
            .iter()
            .try_for_each(|statement| connection.query_drop(statement).doing(doing()).map_err(|e| e.at(self.name())))
    }
}

impl std::ops::Deref for MariaDb {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl fmt::Debug for MariaDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.dialect, self.node)
    }
}

impl MariaDbBuilder {
    /// Sets what `mariadbd --help --verbose` lists; an empty value sets an option that takes none.
    pub fn with(mut self, setting: &str, value: &str) -> Self {
        self.settings.insert(setting.trim_start_matches('-').replace('-', "_"), value.to_owned());
        self
    }

    /// What its name begins with.
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Refuses writes from everybody but replication and the administrator.
    pub(super) fn replica(mut self) -> Self {
        self.replica = true;
        self.with("read_only", "ON")
    }

    /// Starts it: always a private server.
    pub fn start(self) -> Result<MariaDb> {
        let binaries = Binaries::find()?;
        let mut settings: BTreeMap<String, String> =
            SETTINGS.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        for (name, value) in self.settings {
            let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            if name.is_empty() || !name.chars().all(plain) || value.contains(['\n', '\0']) {
                return Err(Error::new(format!("start {KIND}"), format!("{name:?} = {value:?} is no setting")));
            }
            settings.insert(name, value);
        }
        let user = Login { user: USER.into(), password: secret(24) };
        let admin = Login { user: "root".into(), password: secret(24) };
        let base = self.name.unwrap_or_else(|| "mariadb".into());
        let recipe = MariaDbRecipe { binaries, settings, user, admin: admin.clone(), replica: self.replica };
        let node = Node::start(recipe, &base)?;
        let dialect = Dialect::of(node.banner())?;
        Ok(MariaDb { node, dialect, admin: Some(admin) })
    }
}

/// MariaDB's programs on this machine.
#[derive(Debug, Clone)]
struct Binaries {
    server: PathBuf,
    install: PathBuf,
}

impl Binaries {
    fn find() -> Result<Self> {
        let find = |name: &str| {
            surroundings::find_program(name).ok_or_else(|| {
                Error::new(format!("start {KIND}"), format!("there is no {name} on this machine")).remedy(format!(
                    "run `ci/lab setup` (it uses Debian's mariadb-server-core), or set {VARIABLE} to a server of your own"
                ))
            })
        };
        Ok(Self { server: find("mariadbd")?, install: find("mariadb-install-db")? })
    }

    /// "10.11.6-MariaDB-0+deb12u1", asked once a process.
    fn version(&self) -> Result<&'static str> {
        static VERSION: OnceLock<String> = OnceLock::new();
        if let Some(version) = VERSION.get() {
            return Ok(version);
        }
        let doing = format!("ask {} for its version", self.server.display());
        let output = Command::new(&self.server).args(["--no-defaults", "--version"]).output().doing(&doing)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.split_once("Ver ").and_then(|(_, rest)| rest.split_whitespace().next());
        let version = version.ok_or_else(|| Error::new(doing, format!("it answered {text:?}")))?;
        Ok(VERSION.get_or_init(|| version.to_owned()))
    }
}

#[derive(Debug)]
struct MariaDbRecipe {
    binaries: Binaries,
    settings: BTreeMap<String, String>,
    user: Login,
    admin: Login,
    replica: bool,
}

impl MariaDbRecipe {
    /// A data directory as it is before the first start, shared by all servers with the same settings in it.
    fn data(&self) -> Result<PathBuf> {
        let of_the_data = OF_THE_DATA.map(|name| (name, self.settings.get(name)));
        let version = self.binaries.version()?;
        let name =
            format!("mariadb-{}-{}", version.split('-').next().unwrap_or(version), fingerprint((version, of_the_data)));
        template(&name, |folder| {
            let guardian = Guardian::current()?;
            // The accounts that come with the data have no passwords; each server makes its own at its first start.
            let accounts = folder.join("accounts.sql");
            // Any mariadbd that starts removes the temporary tables that it finds, those of others in a shared /tmp included.
            let scratch = folder.join("tmp");
            std::fs::create_dir(&scratch).doing("make a data directory")?;
            let remove =
                "DELETE FROM mysql.global_priv WHERE user <> 'mariadb.sys';\nDELETE FROM mysql.proxies_priv;\n";
            std::fs::write(&accounts, remove).doing("make a data directory")?;
            let mut args =
                ["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
                    .map(str::to_owned)
                    .to_vec();
            args.push(format!("--datadir={}", folder.join("data").display()));
            args.push(format!("--tmpdir={}", scratch.display()));
            args.push(format!("--extra-file={}", accounts.display()));
            args.extend(as_root(folder));
            args.extend(of_the_data.iter().filter_map(|(name, value)| value.map(|value| format!("--{name}={value}"))));
            let launch = Launch { program: self.binaries.install.clone(), args };
            let end = node::launch_in(&guardian, &launch, folder)?.wait(Duration::from_secs(120))?;
            let log = node::log_in(folder);
            match end {
                Some(end) if end.success => std::fs::remove_file(log).doing("tidy up a data directory"),
                end => {
                    let how = end.map_or_else(|| "took too long".to_owned(), |end| format!("ended with {}", end.how));
                    // Its log ends with a page of advice; what went wrong stands further up.
                    let text = node::tail(&log, 1_000);
                    let errors: Vec<&str> = text.lines().filter(|line| line.contains("ERROR")).take(8).collect();
                    let cause = format!("mariadb-install-db {how}; it said\n{}\n", errors.join("\n"));
                    let kept = node::keep(&log, "mariadb-install-db").unwrap_or(log);
                    let remedy = format!("the whole log is {}", kept.display());
                    Err(Error::new("make a data directory for MariaDB", cause).remedy(remedy))
                }
            }
        })
    }

    /// Run by the server itself at each start, before it answers anybody.
    fn first_statements(&self) -> String {
        let (user, password) = (&self.user.user, &self.user.password);
        let admin = &self.admin.password;
        let mut statements = vec![
            "SET sql_log_bin = 0".to_owned(),
            "CREATE USER IF NOT EXISTS root@'127.0.0.1'".into(),
            format!("ALTER USER root@'127.0.0.1' IDENTIFIED BY '{admin}'"),
            "GRANT ALL PRIVILEGES ON *.* TO root@'127.0.0.1' WITH GRANT OPTION".into(),
            format!("CREATE USER IF NOT EXISTS {user}@'127.0.0.1'"),
            format!("ALTER USER {user}@'127.0.0.1' IDENTIFIED BY '{password}'"),
            format!("GRANT ALL PRIVILEGES ON *.* TO {user}@'127.0.0.1' WITH GRANT OPTION"),
            format!("CREATE DATABASE IF NOT EXISTS {user}"),
        ];
        if self.replica {
            statements.push(format!("REVOKE READ_ONLY ADMIN ON *.* FROM {user}@'127.0.0.1'"));
        }
        statements.join(";\n") + ";\n"
    }
}

impl Recipe for MariaDbRecipe {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn lay_out(&self, directory: &Path, ports: &[u16]) -> Result<Launch> {
        let doing = || format!("lay out {}", directory.display());
        let (data, scratch) = (directory.join("data"), directory.join("tmp"));
        copy_tree(&self.data()?.join("data"), &data)?;
        std::fs::create_dir(&scratch).doing(doing())?;
        let init = directory.join("init.sql");
        write_private(&init, &self.first_statements()).doing(doing())?;
        let mut args = vec![
            "--no-defaults".to_owned(),
            format!("--datadir={}", data.display()),
            format!("--tmpdir={}", scratch.display()),
            format!("--init_file={}", init.display()),
            "--pid_file=server.pid".into(),
            format!("--port={}", ports[0]),
            // Servers that replicate from each other must differ in it; it is a number of 32 bits above zero.
            format!("--server_id={}", rand::random_range(1..u32::MAX)),
        ];
        args.extend(as_root(directory));
        args.extend(self.settings.iter().map(|(name, value)| match value.is_empty() {
            true => format!("--{name}"),
            false => format!("--{name}={value}"),
        }));
        Ok(Launch { program: self.binaries.server.clone(), args })
    }

    fn url(&self, ports: &[u16]) -> String {
        format!("mysql://{}:{}@127.0.0.1:{}/{USER}", self.user.user, self.user.password, ports[0])
    }

    fn serves(&self, ports: &[u16], patience: Duration) -> Result<String, String> {
        version_of(opts(ports[0], &self.user), patience)
    }
}

/// As root, mariadbd insists on being told so. It must not become another user either: that would clear the signal by which
/// the kernel ends it with its guardian.
fn as_root(made_by_us: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    made_by_us.metadata().is_ok_and(|folder| folder.uid() == 0).then(|| "--user=root".to_owned())
}

fn opts(port: u16, login: &Login) -> Opts {
    OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(port)
        .user(Some(&login.user))
        .pass(Some(&login.password))
        .db_name(Some(USER))
        .into()
}

fn version_of(opts: Opts, patience: Duration) -> Result<String, String> {
    let mut connection = dial(opts, patience).map_err(|error| error.to_string())?;
    let version: Option<String> = connection.query_first("SELECT VERSION()").map_err(|error| error.to_string())?;
    version.ok_or_else(|| "it does not tell its version".into())
}

fn as_text(value: &mysql::Value) -> String {
    match value {
        mysql::Value::NULL => "NULL".into(),
        mysql::Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => other.as_sql(true).trim_matches('\'').to_owned(),
    }
}

fn bad_url(cause: impl fmt::Display) -> Error {
    Error::new(format!("read {VARIABLE}"), cause)
        .remedy("write it as mysql://user:password@host:3306/database, several with commas between them")
}

/// The servers that the user named, if any.
pub(super) fn own_servers() -> Result<Option<Vec<MariaDb>>> {
    let Some(urls) = super::own_urls(VARIABLE) else { return Ok(None) };
    urls.iter().map(|url| own_server(url)).collect::<Result<Vec<_>>>().map(Some)
}

fn own_server(url: &str) -> Result<MariaDb> {
    let opts = Opts::from_url(url).map_err(bad_url)?;
    let address = format!("{}:{}", opts.get_ip_or_hostname(), opts.get_tcp_port());
    let node = Node::own("SQL server", VARIABLE, url, address, |patience| version_of(opts, patience))?;
    let dialect = Dialect::of(node.banner())?;
    Ok(MariaDb { node, dialect, admin: None })
}

/// `count` servers that know nothing of each other, started side by side.
pub(super) fn instances(count: usize) -> Result<Vec<MariaDb>> {
    if let Some(mut servers) = own_servers()? {
        if servers.len() < count {
            return Err(bad_url(format!("it names {} and {count} servers are needed", servers.len())));
        }
        servers.truncate(count);
        return Ok(servers);
    }
    Crowd::of(count).within(node::TO_START).map(0..count, |_| MariaDbBuilder::default().start())
}

/// Makes what the first start on this machine would have to wait for.
pub(super) fn prepare() -> Result<()> {
    let login = || Login { user: USER.into(), password: String::new() };
    let settings = SETTINGS.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    MariaDbRecipe { binaries: Binaries::find()?, settings, user: login(), admin: login(), replica: false }
        .data()
        .map(drop)
}
