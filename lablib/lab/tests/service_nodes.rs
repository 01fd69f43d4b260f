//! Each kind of server starts, serves, survives what it promises to survive, and shows what is done to it.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use lab::OrFail;
use lab::service::{self, MariaDb, Node, Redis};
use mysql::prelude::Queryable;

/// A client that is connected while things happen to its server.
struct Client(TcpStream);

impl Client {
    fn of(node: &Node) -> Self {
        Self(TcpStream::connect(node.address()).unwrap())
    }

    /// Whether anything comes within this time; the end of the connection does not count.
    fn hears(&mut self, patience: Duration) -> bool {
        self.0.set_read_timeout(Some(patience)).unwrap();
        matches!(self.0.read(&mut [0; 256]), Ok(1..))
    }

    /// Whether the server has ended the connection.
    fn is_cut(&mut self) -> bool {
        self.0.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        loop {
            match self.0.read(&mut [0; 256]) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

fn dies_when_killed(node: &Node) {
    let mut client = Client::of(node);
    assert!(node.is_running());
    node.kill();
    assert!(!node.is_running());
    assert!(client.is_cut(), "a kill cuts the connections");
    assert!(TcpStream::connect(node.address()).is_err(), "nobody listens any more");
    node.kill();
    for refused in [node.try_pause(), node.try_resume()] {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("not running") && error.contains(node.name()), "{error}");
    }
}

#[test]
fn redis_serves_with_the_pinned_configuration() {
    let redis = service::redis();
    assert_eq!(redis.ask("SET greeting hello").unwrap(), "OK");
    assert_eq!(redis.ask("GET greeting").unwrap(), "hello");
    assert!(redis.version().starts_with("Redis 7."), "{}", redis.version());
    assert_eq!(redis.ask("CONFIG GET save").unwrap().trim(), "save");
    assert_eq!(redis.ask("CONFIG GET bind").unwrap(), "bind 127.0.0.1");
    assert_eq!(redis.ask("CONFIG GET appendonly").unwrap(), "appendonly no");
    assert!(redis.url().starts_with("redis://:") && redis.url().contains(redis.address()));
    assert_eq!(redis.address(), format!("127.0.0.1:{}", redis.port()));
    assert!(redis.name().starts_with("redis-"));
}

#[test]
fn nobody_uses_redis_or_mariadb_without_the_password() {
    let redis = service::redis();
    let mut client = Client::of(&redis);
    client.0.write_all(b"PING\r\n").unwrap();
    let mut answer = [0; 7];
    client.0.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"-NOAUTH");

    let db = service::mysql();
    for user in ["lab", "root", "", "mysql", "mariadb.sys"] {
        let stranger = mysql::OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(db.port()).user(Some(user));
        let error = mysql::Conn::new(stranger.prefer_socket(false)).expect_err("strangers stay outside").to_string();
        assert!(error.contains("Access denied"), "{user:?}: {error}");
    }
    assert_eq!(
        db.ask("SELECT COUNT(*) FROM mysql.global_priv WHERE user NOT IN ('lab', 'root', 'mariadb.sys')").unwrap(),
        "0"
    );
}

#[test]
fn a_durable_redis_has_its_data_after_a_kill_and_a_plain_one_does_not() {
    let (durable, plain) = (Redis::durable().start().unwrap(), service::redis());
    for redis in [&durable, &plain] {
        redis.ask("SET kept yes").unwrap();
        let (pid, port) = (redis.pid(), redis.port());
        redis.kill();
        redis.restart();
        assert_ne!(redis.pid(), pid);
        assert_eq!(redis.port(), port);
    }
    assert_eq!(durable.ask("GET kept").unwrap(), "yes");
    assert_eq!(plain.ask("GET kept").unwrap(), "(nil)");
}

#[test]
fn a_killed_redis_is_dead_when_kill_returns() {
    dies_when_killed(&service::redis());
}

#[test]
fn a_paused_redis_answers_nobody_until_it_is_resumed() {
    let redis = service::redis();
    let mut client = Client::of(&redis);
    redis.pause();
    assert!(redis.is_running() && redis.is_paused());
    client.0.write_all(b"PING\r\n").unwrap();
    assert!(!client.hears(SHORT));
    redis.resume();
    assert!(!redis.is_paused());
    assert!(client.hears(LONG), "the same connection goes on");
}

#[test]
fn a_paused_redis_can_be_killed_stopped_and_restarted() {
    let redis = service::redis();
    redis.pause();
    redis.restart();
    assert_eq!(redis.ask("PING").unwrap(), "PONG");
    redis.pause();
    redis.stop();
    assert!(!redis.is_running() && !redis.is_paused());
    redis.restart();
    redis.pause();
    redis.kill();
    assert!(!redis.is_running() && !redis.is_paused());
}

#[test]
fn mariadb_serves_with_the_pinned_configuration() {
    let db = service::mysql();
    for (variable, value) in [
        ("log_bin", "1"),
        ("binlog_format", "ROW"),
        ("sync_binlog", "1"),
        ("innodb_flush_log_at_trx_commit", "1"),
        ("gtid_strict_mode", "1"),
        ("character_set_server", "utf8mb4"),
        ("character_set_database", "utf8mb4"),
        ("bind_address", "127.0.0.1"),
        ("performance_schema", "0"),
        ("skip_name_resolve", "1"),
        ("innodb_buffer_pool_load_at_startup", "0"),
        ("tx_isolation", "REPEATABLE-READ"),
        ("read_only", "0"),
    ] {
        assert_eq!(db.ask(&format!("SELECT @@GLOBAL.{variable}")).unwrap(), value, "{variable}");
    }
    assert_eq!(db.ask("SELECT DATABASE()").unwrap(), "lab");
    assert_eq!(db.ask("SELECT '🦀'").unwrap(), "🦀");
    assert_eq!(db.ask("SELECT NULL").unwrap(), "NULL");
    assert_eq!(db.ask("SELECT 1 FROM DUAL WHERE 1 = 0").unwrap(), "");
    assert!(db.version().starts_with("MariaDB 1"), "{}", db.version());
    assert!(db.url().starts_with("mysql://lab:") && db.url().ends_with(&format!("@{}/lab", db.address())));
    assert_eq!(db.ask("SELECT @@gtid_binlog_pos").unwrap(), "", "what the lab makes is not in the binary log");
    db.execute("CREATE USER someone@'127.0.0.1' IDENTIFIED BY 'else'");
    db.execute("GRANT SELECT ON lab.* TO someone@'127.0.0.1'");
    db.execute("SET GLOBAL max_connections = 77");
    assert!(db.ask("SELECT nonsense FROM nowhere").unwrap_err().to_string().contains("nowhere"));
    let late = "SELECT (SELECT 1 UNION SELECT 2)";
    assert!(
        db.try_execute(late).unwrap_err().to_string().contains("more than 1 row"),
        "an error among the rows is one"
    );
}

#[test]
fn mariadb_has_every_commit_its_users_and_its_port_after_a_kill() {
    let db = service::mysql();
    db.execute("CREATE TABLE kept (id INT PRIMARY KEY, words TEXT)");
    db.execute("CREATE USER someone@'127.0.0.1' IDENTIFIED BY 'else'");
    for id in 0..20 {
        db.execute(&format!("INSERT INTO kept VALUES ({id}, 'row {id}')"));
    }
    let (port, position) = (db.port(), db.position().unwrap());
    db.kill();
    assert!(db.ask("SELECT 1").is_err());
    db.restart();
    assert_eq!(db.port(), port);
    assert_eq!(db.ask("SELECT COUNT(*), MAX(id) FROM kept").unwrap(), "20");
    assert_eq!(db.ask("SELECT COUNT(*) FROM mysql.user WHERE user = 'someone'").unwrap(), "1");
    assert_eq!(db.position().unwrap(), position);
    db.restart();
    assert_eq!(db.ask("SELECT words FROM kept WHERE id = 19").unwrap(), "row 19");
}

#[test]
fn a_killed_mariadb_is_dead_when_kill_returns() {
    dies_when_killed(&service::mysql());
}

#[test]
fn a_paused_mariadb_answers_nobody_until_it_is_resumed() {
    let db = service::mysql();
    db.pause();
    // The kernel accepts the connection; the server's greeting does not come.
    let mut client = Client::of(&db);
    assert!(!client.hears(SHORT));
    db.resume();
    assert!(client.hears(LONG));
    assert_eq!(db.ask("SELECT 1").unwrap(), "1");
}

#[test]
fn a_setting_of_ones_own_replaces_the_labs() {
    let small = MariaDb::with("innodb-buffer-pool-size", "6M").with("max_connections", "20").start().unwrap();
    assert_eq!(small.ask("SELECT @@innodb_buffer_pool_size").unwrap(), (6 << 20).to_string());
    assert_eq!(small.ask("SELECT @@max_connections").unwrap(), "20");
    let redis = Redis::with("maxmemory", "5mb").named("little").start().unwrap();
    assert_eq!(redis.ask("CONFIG GET maxmemory").unwrap(), "maxmemory 5242880");
    assert_eq!(redis.name(), "little-1");
}

#[test]
fn independent_instances_share_nothing_and_start_side_by_side() {
    let shards = service::mysql_instances(3);
    shards[0].execute("CREATE TABLE here (id INT)");
    for other in &shards[1..] {
        assert!(other.ask("SELECT * FROM here").is_err());
    }
    let mut ports: Vec<u16> = shards.iter().map(|shard| shard.port()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 3);
    shards[0].kill();
    assert_eq!(shards[1].ask("SELECT 1").unwrap(), "1");
}

#[test]
fn a_server_that_dies_while_starting_shows_the_end_of_its_log_and_where_it_is() {
    let maria = MariaDb::with("no_such_setting", "1").start().unwrap_err().to_string();
    assert!(maria.contains("exit code") && maria.contains("no_such_setting"), "{maria}");
    let redis = Redis::with("no-such-setting", "1").named("broken").start().unwrap_err().to_string();
    assert!(redis.contains("exit code 1") && redis.contains("no-such-setting") && redis.contains("broken-"), "{redis}");
    for error in [maria, redis] {
        let path = error.rsplit("the whole log is ").next().unwrap();
        assert!(std::fs::read_to_string(path).unwrap().contains("such"), "{path}");
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_data_directory_that_cannot_be_made_says_why() {
    let error = MariaDb::with("innodb_page_size", "5K").start().unwrap_err().to_string();
    assert!(error.contains("mariadb-install-db ended with") && error.contains("Invalid page size"), "{error}");
    std::fs::remove_file(error.rsplit("the whole log is ").next().unwrap()).unwrap();
}

#[test]
fn what_cannot_be_a_setting_is_refused_before_anything_starts() {
    for (setting, value) in [
        ("", "1"),
        ("a b", "1"),
        ("a=b", "1"),
        ("a\nb", "1"),
        ("tmpdir", "x\ny"),
        ("tmpdir", "x\0y"),
        ("ä", "1"),
        ("--", "1"),
    ] {
        let error = MariaDb::with(setting, value).start().unwrap_err().to_string();
        assert!(error.contains("no setting"), "{setting:?} = {value:?}: {error}");
        let error = Redis::with(setting, value).start().unwrap_err().to_string();
        assert!(error.contains("no setting"), "{setting:?} = {value:?}: {error}");
    }
    assert!(Redis::with("save", "").start().is_err());
}

#[test]
fn a_failing_cell_says_the_sentence_and_nothing_else() {
    let redis = service::redis();
    redis.kill();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| redis.ask("PING").or_fail())).unwrap_err();
    let sentence = panic.downcast_ref::<String>().unwrap();
    assert!(sentence.starts_with("could not ask \"PING\" (redis-"), "{sentence}");
}

#[test]
fn logs_can_be_read_while_the_server_runs() {
    let db = service::mysql();
    assert!(db.log_tail(50).contains("ready for connections"), "{}", db.log_tail(50));
    assert_eq!(db.log_tail(1).lines().count(), 1);
    assert!(service::redis().log_tail(50).contains("Ready to accept connections"));
}

#[test]
fn a_stop_lets_the_server_finish_what_it_does() {
    let (db, redis) = (service::mysql(), Redis::durable().start().unwrap());
    db.stop();
    assert!(!db.is_running());
    assert!(db.log_tail(3).contains("Shutdown complete"), "{}", db.log_tail(3));
    redis.stop();
    assert!(redis.log_tail(3).contains("bye bye"), "{}", redis.log_tail(3));
    // Stopping what is stopped is no failure.
    redis.stop();
    redis.restart();
    assert_eq!(redis.ask("PING").unwrap(), "PONG");
}

#[test]
fn the_dialect_is_what_the_server_really_speaks() {
    let db = service::mysql();
    let dialect = db.dialect();
    db.execute("CREATE TABLE hits (page VARCHAR(20) PRIMARY KEY, count INT)");
    let open = || {
        mysql::Conn::new(mysql::OptsBuilder::from_opts(mysql::Opts::from_url(db.url()).unwrap()).prefer_socket(false))
            .unwrap()
    };
    let (mut first, mut second) = (open(), open());

    let upsert = dialect.upsert("hits", &["page", "count"], &["count"]);
    for count in [1, 5] {
        first.exec_drop(&upsert, ("home", count)).unwrap();
    }
    assert_eq!(db.ask("SELECT count FROM hits").unwrap(), "5");

    first.query_drop("BEGIN").unwrap();
    first.query_drop(format!("SELECT * FROM hits {}", dialect.for_share())).unwrap();
    second.query_drop("BEGIN").unwrap();
    second.query_drop(format!("SELECT * FROM hits {}", dialect.for_share())).unwrap();
    let error = second.query::<mysql::Row, _>("SELECT * FROM hits FOR UPDATE NOWAIT").unwrap_err();
    let mysql::Error::MySqlError(error) = error else { panic!("{error}") };
    assert_eq!(error.code, dialect.nowait_error());
    second.query_drop("ROLLBACK").unwrap();
    assert!(dialect.has_skip_locked());
    let skipped: Vec<String> = second.query("SELECT page FROM hits FOR UPDATE SKIP LOCKED").unwrap();
    assert_eq!(skipped, [""; 0]);

    let waiter = std::thread::spawn(move || second.query_drop("UPDATE hits SET count = 9").unwrap());
    let mut seen = Vec::new();
    for _ in 0..100 {
        let locks: Vec<mysql::Row> = open().query(dialect.row_locks()).unwrap();
        seen = locks.iter().map(|row| row.get::<String, _>("table_name").unwrap()).collect();
        if !seen.is_empty() {
            break;
        }
        // Asked more often, the server would repeat its first answer for ever.
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(seen.iter().any(|table| table.contains("hits")), "{seen:?}");
    first.query_drop("COMMIT").unwrap();
    waiter.join().unwrap();
    assert_eq!(db.ask("SELECT count FROM hits").unwrap(), "9");
}
