//! The guarantees of `placing::consistent_hashing`, and the prototype's published distribution.
#![allow(clippy::unwrap_used)]

use lablib::placing::consistent_hashing::experiment::*;
use lablib::placing::consistent_hashing::{Modulo, Placement, Ring};
use proptest::prelude::*;

fn published(virtual_nodes: u32) -> (u64, u64, f64, usize) {
    let balance = Balance::of(&Ring::new(shards(1_000), virtual_nodes), &keys(10_000));
    assert_eq!(balance.total(), 10_000);
    (balance.min(), balance.max(), (balance.standard_deviation() * 100.0).round() / 100.0, balance.empty())
}

#[test]
fn the_published_ring_of_3_virtual_nodes_comes_out() {
    assert_eq!(published(3), (0, 47, 6.69, 14));
}

#[test]
fn the_published_ring_of_100_virtual_nodes_comes_out() {
    assert_eq!(published(100), (1, 22, 3.26, 0));
}

#[test]
fn the_published_share_of_modulo_comes_out() {
    assert_eq!((modulo_as_published().percent() * 100.0).round() / 100.0, 94.96);
}

#[test]
fn modulo_moves_what_arithmetic_says() {
    assert!((modulo_moves_at_best(1_000, 950) - 95.0).abs() < 1e-9);
    assert!((modulo_moves_at_best(4, 8) - 50.0).abs() < 1e-9);
    assert_eq!(modulo_moves_at_best(7, 7), 0.0);
    let count = (0..19_000_u64).filter(|hash| hash % 1_000 != hash % 950).count();
    assert_eq!(count, 18_050);
}

#[test]
fn any_nodes_leaving_modulo_is_what_all_choices_give() {
    // Every choice of 2 of 6 nodes, and every hash of one period.
    let (mut moved, mut total) = (0, 0);
    for first in 0..6 {
        for second in first + 1..6 {
            let staying: Vec<usize> = (0..6).filter(|&node| node != first && node != second).collect();
            for hash in 0..12 {
                moved += usize::from(staying[hash % 4] != hash % 6);
                total += 1;
            }
        }
    }
    let exact = 100.0 * moved as f64 / total as f64;
    assert!((modulo_moves(6, 2) - exact).abs() < 1e-9, "{} {exact}", modulo_moves(6, 2));
    assert_eq!(modulo_moves(7, 0), 0.0);
}

#[test]
fn no_nodes_no_home_and_one_node_takes_all() {
    let mut ring = Ring::new(["only"], 3);
    assert!(keys(100).iter().all(|key| ring.node_of(key) == Some("only")));
    ring.remove("only");
    assert_eq!(ring.node_of("key"), None);
    assert_eq!(Modulo::default().node_of("key"), None);
    assert_eq!(Ring::new(["a"], 0).virtual_nodes(), 1, "a node without a point would hold nothing");
}

#[test]
fn a_broken_ring_is_noticed_as_strays() {
    let spec = ChurnSpec { shards: 100, changed: 5, keys: 2_000, seeds: 3 };
    assert!(spec.run(Scheme::RingByPosition(10), 1).strays > 2_000);
    // And one that is rebuilt with another number of points, as a faulty resize does.
    let nodes = shards(100);
    let movement = Movement::between(&Ring::new(&nodes, 10), &Ring::new(&nodes[..95], 11), &keys(10_000));
    assert!(movement.strays > 0);
}

#[test]
fn modulo_moves_keys_for_nothing_and_the_ring_does_not() {
    let spec = ChurnSpec { shards: 100, changed: 5, keys: 2_000, seeds: 3 };
    assert_eq!(spec.run(Scheme::Ring(10), 1).strays, 0);
    assert!(spec.run(Scheme::Modulo, 1).strays > 5_000);
}

fn names() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::btree_set("[a-z]{1,6}", 2..40).prop_map(|names| names.into_iter().collect())
}

proptest! {
    #[test]
    fn only_keys_of_the_node_that_left_move(nodes in names(), victim in any::<prop::sample::Index>(), points in 1_u32..20) {
        let ring = Ring::new(&nodes, points);
        let victim = victim.get(&nodes);
        let mut smaller = ring.clone();
        smaller.remove(victim);
        for key in keys(300) {
            let before = ring.node_of(&key).unwrap();
            let after = smaller.node_of(&key).unwrap();
            prop_assert_ne!(after, victim);
            prop_assert!(before == after || before == victim);
        }
    }

    #[test]
    fn keys_move_to_the_node_that_joined_alone(nodes in names(), points in 1_u32..20) {
        let ring = Ring::new(&nodes, points);
        let mut larger = ring.clone();
        larger.add("NEW");
        for key in keys(300) {
            let (before, after) = (ring.node_of(&key).unwrap(), larger.node_of(&key).unwrap());
            prop_assert!(before == after || after == "NEW");
        }
    }

    #[test]
    fn neither_order_nor_detours_decide_a_keys_node(nodes in names(), seed in any::<u64>(), points in 1_u32..10) {
        let mut shuffled = nodes.clone();
        lablib::lab::Rng::seeded(seed, "order").shuffle(&mut shuffled);
        let straight = Ring::new(&nodes, points);
        let mut detour = Ring::new(["GUEST"], points);
        for node in &shuffled {
            detour.add(node);
            detour.add(node);
        }
        detour.remove("GUEST");
        detour.remove("NOBODY");
        let (direct, mut modulo) = (Modulo::new(&nodes), Modulo::new(["GUEST"]));
        shuffled.iter().for_each(|node| modulo.add(node));
        modulo.remove("GUEST");
        for key in keys(100) {
            prop_assert_eq!(straight.node_of(&key), detour.node_of(&key));
            prop_assert_eq!(direct.node_of(&key), modulo.node_of(&key));
        }
        prop_assert_eq!(straight.nodes(), detour.nodes());
    }
}
