//! A Redis cluster is whole when it is handed over, and becomes whole again after a master's death.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashSet;

use lab::service::{self, RedisCluster};
use redis::Commands;

fn client(cluster: &RedisCluster) -> redis::cluster::ClusterConnection {
    redis::cluster::ClusterClient::new(cluster.urls()).unwrap().get_connection().unwrap()
}

fn names(nodes: &[&service::Redis]) -> HashSet<String> {
    nodes.iter().map(|node| node.name().to_owned()).collect()
}

#[test]
fn a_new_cluster_is_whole_for_every_node() {
    let cluster = service::redis_cluster(3, 3);
    assert_eq!((cluster.masters().unwrap().len(), cluster.replicas().unwrap().len(), cluster.nodes().len()), (3, 3, 6));
    assert!(names(&cluster.masters().unwrap()).is_disjoint(&names(&cluster.replicas().unwrap())));
    for node in cluster.nodes() {
        let info = node.ask("CLUSTER INFO").unwrap();
        for line in ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:6", "cluster_size:3"] {
            assert!(info.contains(line), "{}: {info}", node.name());
        }
        assert!(node.port() < 55_535);
    }
    for replica in cluster.replicas().unwrap() {
        assert!(replica.ask("INFO replication").unwrap().contains("master_link_status:up"));
    }
    let owners: HashSet<String> =
        (0..100).map(|key| cluster.master_for(&format!("key:{key}")).unwrap().name().to_owned()).collect();
    assert_eq!(owners.len(), 3, "keys go to all masters");
    assert!(format!("{cluster:?}").contains("redis-node-"), "{cluster:?}");
}

#[test]
fn a_masters_death_is_survived_with_its_keys_and_it_comes_back_as_a_replica() {
    let cluster = service::redis_cluster(3, 3);
    let mut connection = client(&cluster);
    let keys: Vec<String> = (0..200).map(|key| format!("key:{key}")).collect();
    for key in &keys {
        let _: () = connection.set(key, key).unwrap();
    }
    let victim = cluster.master_for("key:7").unwrap();
    assert_eq!(victim.ask("WAIT 1 10000").unwrap(), "1", "its replica has everything");
    victim.kill();
    let took = cluster.settle();
    assert!(took.as_millis() > 500, "a death is not noticed at once: {took:?}");
    let heir = cluster.master_for("key:7").unwrap();
    assert_ne!(heir.name(), victim.name());
    let masters = names(&cluster.masters().unwrap());
    assert!(masters.contains(heir.name()) && !masters.contains(victim.name()) && masters.len() == 3);

    let mut connection = client(&cluster);
    for key in &keys {
        let value: String = connection.get(key).unwrap();
        assert_eq!(&value, key);
    }
    victim.restart();
    cluster.settle();
    assert!(victim.ask("ROLE").unwrap().starts_with("slave"), "{}", victim.ask("ROLE").unwrap());
    assert!(names(&cluster.replicas().unwrap()).contains(victim.name()));
}

#[test]
fn a_paused_master_is_replaced_and_steps_back_when_it_wakes_up() {
    let cluster = service::redis_cluster(3, 3);
    let sleeper = cluster.masters().unwrap()[0];
    sleeper.pause();
    cluster.settle();
    assert!(!names(&cluster.masters().unwrap()).contains(sleeper.name()));
    sleeper.resume();
    cluster.settle();
    assert!(sleeper.ask("ROLE").unwrap().starts_with("slave"), "{}", sleeper.ask("ROLE").unwrap());
}

#[test]
fn a_cluster_without_replicas_and_one_with_settings_of_its_own() {
    let cluster = RedisCluster::of(3, 0).with("cluster-node-timeout", "2000").with("maxmemory", "9mb").start().unwrap();
    assert_eq!((cluster.masters().unwrap().len(), cluster.replicas().unwrap().len()), (3, 0));
    for node in cluster.nodes() {
        assert_eq!(node.ask("CONFIG GET cluster-node-timeout").unwrap(), "cluster-node-timeout 2000");
        assert_eq!(node.ask("CONFIG GET maxmemory").unwrap(), "maxmemory 9437184");
    }
}

#[test]
fn two_masters_are_refused_with_the_reason() {
    for masters in 0..3 {
        let error = RedisCluster::start(masters, 0).unwrap_err().to_string();
        assert!(error.contains("at least 3"), "{error}");
    }
}

#[test]
fn a_link_stands_between_a_master_and_its_replica_and_not_before_its_clients() {
    let cluster = service::private_redis_cluster(3, 3);
    let master = cluster.master_for("key:7").unwrap();
    let link = cluster.replicate_through_link(master).unwrap();
    assert_eq!(cluster.announced().get(link.address()).map(String::as_str), Some(master.address()));
    assert_eq!(cluster.master_for("key:7").unwrap().name(), master.name(), "it is still found by its own address");
    let followers = |link: &lab::Link| {
        let port = format!("master_port:{}", link.port());
        cluster.replicas().unwrap().iter().filter(|node| node.ask("INFO replication").unwrap().contains(&port)).count()
    };
    assert_eq!((followers(&link), link.stats().open), (1, 1));

    link.delay(std::time::Duration::from_millis(300));
    let asked = std::time::Instant::now();
    assert_eq!(master.ask("SET key:7 through").unwrap(), "OK");
    let answered = asked.elapsed();
    assert_eq!(master.ask("WAIT 1 10").unwrap(), "0", "the replica cannot know of it yet");
    assert!(answered.as_millis() < 300, "the client does not pass the link: {answered:?}");

    cluster.settle();
    let stranger = cluster.replicas().unwrap()[0];
    let error = cluster.replicate_through_link(stranger).unwrap_err().to_string();
    assert!(error.contains("no master"), "{error}");

    link.heal();
    cluster.replicate_directly(link).unwrap();
    assert!(cluster.announced().is_empty());
    assert_eq!(master.ask("WAIT 1 10000").unwrap(), "1", "its replica follows it again");
    let elsewhere = lab::link(master.address());
    assert!(cluster.replicate_directly(elsewhere).is_err());
}
