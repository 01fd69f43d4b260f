//! What the surroundings decide: the user's own servers, missing programs, bad addresses. Each is one clear sentence.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod roles;

use lab::service::{self, Kafka, MariaDb, Redis, RedisCluster, Replicated};
use roles::{Root, perform, say};

/// Every way of starting a server that may use one of the user's.
fn start(what: &str) -> lab::Result<String> {
    match what {
        "mysql" => MariaDb::start().map(|one| format!("{one:?}")),
        "mysql replicated" => Replicated::start(1).map(|one| format!("{one:?}")),
        "redis" => Redis::start().map(|one| format!("{one:?}")),
        "redis cluster" => RedisCluster::start(3, 3).map(|one| format!("{one:?}")),
        "kafka" => Kafka::start().map(|one| format!("{one:?}")),
        other => panic!("there is no {other}"),
    }
}

#[test]
#[ignore = "a role that other tests play in processes of their own"]
fn role() {
    let Some(role) = roles::name() else { return };
    match role.as_str() {
        "user of an own redis" => {
            let redis = service::redis();
            assert_eq!(redis.url(), std::env::var("LAB_REDIS_URL").unwrap());
            assert!(!redis.is_private() && redis.is_running() && redis.pid().is_none() && redis.log_path().is_none());
            assert!(redis.version().starts_with("Redis "), "{}", redis.version());
            redis.ask("SET visited yes").unwrap();
            for refused in
                [redis.try_kill(), redis.try_pause(), redis.try_resume(), redis.try_restart(), redis.try_stop()]
            {
                let error = refused.unwrap_err().to_string();
                assert!(error.contains("your own server") && error.contains("LAB_REDIS_URL"), "{error}");
            }
        }
        "user of an own mysql" => {
            let db = service::mysql();
            assert_eq!(db.url(), std::env::var("LAB_MYSQL_URL").unwrap());
            db.execute("CREATE TABLE visited (id INT)");
            assert!(db.dialect().is_mariadb() && db.version().starts_with("MariaDB 1"), "{}", db.version());
            let error = db.try_kill().unwrap_err().to_string();
            assert!(error.contains("your own server") && error.contains("LAB_MYSQL_URL"), "{error}");
            let error = db.try_promote().unwrap_err().to_string();
            assert!(error.contains("your own"), "{error}");
            let error = start("mysql replicated").unwrap_err().to_string();
            assert!(error.contains("lists 1") && error.contains("LAB_MYSQL_URL"), "{error}");
        }
        "user of three own mysqls" => {
            let db = service::mysql_replicated(1);
            db.primary.execute("INSERT INTO followed VALUES (5)");
            db.catch_up();
            assert_eq!(db.replicas[0].ask("SELECT MAX(id) FROM followed").unwrap(), "5");
            assert_eq!(service::mysql_instances(2).len(), 2);
        }
        "user of an own redis cluster" => {
            let cluster = service::redis_cluster(3, 0);
            assert_eq!((cluster.masters().unwrap().len(), cluster.nodes().len()), (3, 3));
            assert!(cluster.master_for("key").unwrap().try_kill().is_err());
            assert!(RedisCluster::start(3, 3).unwrap_err().to_string().contains("3 masters and 0 replicas"));
        }
        what => match start(what) {
            Ok(server) => panic!("{server} was started"),
            Err(error) => say(&error.to_string()),
        },
    }
}

/// What goes wrong, in the words that the reader of a notebook sees.
fn complaint(what: &str, environment: &[(&str, &str)]) -> String {
    let sentence = perform(what, environment);
    assert!(!sentence.is_empty() && !sentence.contains('\n'), "one sentence: {sentence}");
    assert!(!sentence.contains("panicked"), "{sentence}");
    sentence
}

#[test]
fn ones_own_redis_is_used_and_left_alone() {
    let mine = Redis::with("maxclients", "100").start().unwrap();
    perform("user of an own redis", &[("LAB_REDIS_URL", mine.url())]);
    assert_eq!(mine.ask("GET visited").unwrap(), "yes");
    assert!(mine.is_running() && !mine.is_paused());
}

#[test]
fn ones_own_mysql_is_used_and_left_alone() {
    let mine = MariaDb::with("max_connections", "50").start().unwrap();
    perform("user of an own mysql", &[("LAB_MYSQL_URL", mine.url())]);
    assert_eq!(mine.ask("SELECT COUNT(*) FROM visited").unwrap(), "0");
}

#[test]
fn ones_own_primary_and_replica_are_used_when_they_are_listed() {
    let mine = service::mysql_replicated(1);
    mine.primary.execute("CREATE TABLE followed (id INT)");
    let list = format!("{}, {}", mine.primary.url(), mine.replicas[0].url());
    perform("user of three own mysqls", &[("LAB_MYSQL_URL", &list)]);
}

#[test]
fn ones_own_redis_cluster_is_used_and_left_alone() {
    let mine = RedisCluster::of(3, 0).start().unwrap();
    perform("user of an own redis cluster", &[("LAB_REDIS_CLUSTER_URL", &mine.urls().join(","))]);
    assert_eq!(mine.masters().unwrap().len(), 3);
}

#[test]
fn a_bad_address_of_ones_own_server_is_one_sentence_with_the_variables_name() {
    let bad = [
        ("redis", "LAB_REDIS_URL", "localhost"),
        ("redis", "LAB_REDIS_URL", "http://127.0.0.1:6379/"),
        ("redis", "LAB_REDIS_URL", "redis://127.0.0.1:99999/"),
        ("redis", "LAB_REDIS_URL", "redis://127.0.0.1:1/"),
        ("redis", "LAB_REDIS_URL", "redis://127.0.0.1/zero"),
        ("redis", "LAB_REDIS_URL", "unix:///nowhere.sock"),
        ("redis", "LAB_REDIS_URL", ","),
        ("redis cluster", "LAB_REDIS_CLUSTER_URL", "redis://127.0.0.1:1/,redis://127.0.0.1:2/"),
        ("redis cluster", "LAB_REDIS_CLUSTER_URL", "7001"),
        ("mysql", "LAB_MYSQL_URL", "localhost"),
        ("mysql", "LAB_MYSQL_URL", "postgres://lab@127.0.0.1/lab"),
        ("mysql", "LAB_MYSQL_URL", "mysql://lab@127.0.0.1:99999/lab"),
        ("mysql", "LAB_MYSQL_URL", "mysql://lab@127.0.0.1:1/lab"),
        ("mysql", "LAB_MYSQL_URL", "mysql://lab@127.0.0.1:1/lab?colour=red"),
        ("mysql", "LAB_MYSQL_URL", ","),
        ("mysql replicated", "LAB_MYSQL_URL", "mysql://lab@127.0.0.1:1/lab"),
        ("kafka", "LAB_KAFKA_URL", "9092"),
        ("kafka", "LAB_KAFKA_URL", "127.0.0.1"),
        ("kafka", "LAB_KAFKA_URL", "kafka://127.0.0.1:9092"),
        ("kafka", "LAB_KAFKA_URL", "127.0.0.1:99999"),
        ("kafka", "LAB_KAFKA_URL", "127.0.0.1:1"),
        ("kafka", "LAB_KAFKA_URL", "127.0.0.1:9092,"),
        ("kafka", "LAB_KAFKA_URL", ","),
    ];
    for (what, variable, value) in bad {
        let sentence = complaint(what, &[(variable, value)]);
        assert!(sentence.contains(variable), "{value}: {sentence}");
    }
}

#[test]
fn a_complaint_does_not_tell_the_password() {
    for (what, variable, url) in [
        ("redis", "LAB_REDIS_URL", "redis://:hunter2@127.0.0.1:1/"),
        ("mysql", "LAB_MYSQL_URL", "mysql://lab:hunter2@127.0.0.1:1/lab"),
        ("mysql", "LAB_MYSQL_URL", "mysql://lab:hunter2@127.0.0.1:port/lab"),
        ("redis", "LAB_REDIS_URL", "redis://:hunter2@127.0.0.1:port/"),
    ] {
        let sentence = complaint(what, &[(variable, url)]);
        assert!(!sentence.contains("hunter2"), "{sentence}");
    }
    let (redis, db) = (service::redis(), service::mysql());
    let password = redis.url().split([':', '@']).nth(2).unwrap().to_owned();
    assert!(password.len() >= 24 && !format!("{redis:?}").contains(&password));
    let password = db.url().split([':', '@']).nth(2).unwrap().to_owned();
    assert!(password.len() >= 24 && !format!("{db:?}").contains(&password));
}

#[test]
fn a_missing_program_is_one_sentence_that_says_what_to_install_or_to_set() {
    let nothing = Root::new("nothing");
    let bare = [("PATH", ""), ("LAB_CACHE", nothing.text()), ("JAVA_HOME", "")];
    for (what, package, variable) in [
        ("redis", "redis-tools", "LAB_REDIS_URL"),
        ("redis cluster", "redis-tools", "LAB_REDIS_URL"),
        ("mysql", "mariadb-server-core", "LAB_MYSQL_URL"),
        ("mysql replicated", "mariadb-server-core", "LAB_MYSQL_URL"),
        ("kafka", "openjdk-17-jre-headless", "LAB_KAFKA_URL"),
    ] {
        let sentence = complaint(what, &bare);
        assert!(sentence.contains(package) && sentence.contains(variable), "{sentence}");
    }
    let sentence =
        complaint("kafka", &[("LAB_KAFKA_JARS", nothing.text()), ("JAVA_HOME", ""), ("LAB_CACHE", nothing.text())]);
    assert!(sentence.contains("LAB_K"), "{sentence}");
}

#[test]
fn a_missing_lab_program_is_one_sentence_too() {
    let sentence = complaint("redis", &[("LAB_BIN", "/nowhere/lab")]);
    assert!(sentence.contains("LAB_BIN") && sentence.contains("/nowhere/lab"), "{sentence}");
    let sentence = complaint("redis", &[("LAB_BIN", "/bin/true")]);
    assert!(sentence.contains("/bin/true") && sentence.contains("ci/lab setup"), "{sentence}");
}

#[test]
fn a_place_where_nothing_can_be_written_is_one_sentence() {
    let sentence = complaint("redis", &[("LAB_ROOT", "/proc/self")]);
    assert!(sentence.contains("/proc/self/target/lab"), "{sentence}");
}
