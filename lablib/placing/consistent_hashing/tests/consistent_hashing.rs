//! The guarantees of `placing::consistent_hashing`, the prototype's published distribution, and the field's vectors.
#![allow(clippy::unwrap_used)]

use consistent_hashing::experiment::*;
use consistent_hashing::rivals::{AnyPlacement, Rival};
use consistent_hashing::*;
use lab::Trial;
use proptest::prelude::*;

/// The emptiest, the fullest, the deviation and the empty shards.
fn published(virtual_nodes: u32) -> (f64, f64, f64, usize) {
    let counts = keys_on_each(&Ring::new(shards(1_000), virtual_nodes).unwrap(), &keys(10_000));
    assert_eq!(counts.values().iter().sum::<f64>(), 10_000.0);
    let deviation = spread(&counts) * counts.mean();
    (counts.min(), counts.max(), (deviation * 100.0).round() / 100.0, empty(&counts))
}

#[test]
fn the_published_ring_of_3_virtual_nodes_comes_out() {
    assert_eq!(published(3), (0.0, 47.0, 6.69, 14));
}

#[test]
fn the_published_ring_of_100_virtual_nodes_comes_out() {
    assert_eq!(published(100), (1.0, 22.0, 3.26, 0));
}

#[test]
fn arcs_make_a_whole_turn_and_belong_to_whom_keys_there_belong_to() {
    let ring = Ring::new(shards(7), 20).unwrap();
    let arcs = ring.arcs();
    assert_eq!(arcs.len(), 140);
    assert!(arcs.windows(2).all(|pair| pair[0].1 == pair[1].0 && pair[1].0 <= pair[1].1));
    assert!((arcs.iter().map(|(from, to, _)| to - from).sum::<f64>() - 1.0).abs() < 1e-9);
    for key in keys(1_000) {
        let at = KeyHash::Md5.position(&key) as f64 / u128::MAX as f64;
        // Behind the last point, the first arc begins.
        let arc = arcs.iter().find(|(from, to, _)| (*from..=*to).contains(&at)).unwrap_or(&arcs[0]);
        assert_eq!(arc.2, ring.node_of(&key));
    }
}

#[test]
fn the_published_share_of_modulo_comes_out() {
    assert_eq!((prototype::modulo_as_published().unwrap().percent() * 100.0).round() / 100.0, 94.96);
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

/// 10,000 keys as uhashring 2.5 places them with `hash_fn="ketama"`, a letter for each key: the nodes in the order of their
/// names, first with equal weights, then with those below.
const KETAMA: &str = include_str!("golden/ketama.txt");

fn ketama_letters(weights: [u32; 10]) -> String {
    let name = |number: usize| format!("10.0.1.{number}:11211");
    let ketama = Ketama::new((1..=10).map(|number| (name(number), weights[number - 1]))).unwrap();
    let nodes = ketama.nodes();
    let letter = |key: &String| {
        let index = nodes.iter().position(|node| *node == ketama.node_of(key)).unwrap();
        char::from(b'a' + index as u8)
    };
    keys(10_000).iter().map(letter).collect()
}

#[test]
fn ketama_is_what_the_clients_of_memcached_agree_on() {
    let mut golden = KETAMA.lines();
    assert!(golden.next().unwrap() == ketama_letters([1; 10]), "equal weights");
    assert!(golden.next().unwrap() == ketama_letters([1, 2, 3, 5, 8, 1, 1, 4, 7, 10]), "unequal weights");
    assert_eq!(Ketama::new(["a", "b"]).unwrap().points(), 320);
}

#[test]
fn jump_is_what_the_paper_and_guava_have() {
    let golden = [0, 55, 62, 8, 45, 59, 86, 97, 82, 59, 73, 37, 17, 56, 86, 21, 90, 37, 38, 83];
    assert_eq!((0..20).map(|key| jump(key, 100)).collect::<Vec<_>>(), golden);
    let large = [10_863_919_174_838_991, 2_016_238_256_797_177_309, 1_673_758_223_894_951_030];
    assert_eq!(large.map(|key| jump(key, 11)), [6, 3, 5]);
    assert_eq!(jump(7, 1), 0);
}

#[test]
fn bad_nodes_are_refused_with_a_sentence() {
    type Build = fn(&[(&str, u32)]) -> lab::Result<Box<dyn Placement>>;
    fn boxed<P: Placement + 'static>(placement: lab::Result<P>) -> lab::Result<Box<dyn Placement>> {
        placement.map(|placement| Box::new(placement) as Box<dyn Placement>)
    }
    let builds: [Build; 7] = [
        |nodes| boxed(Modulo::new(nodes.iter().copied())),
        |nodes| boxed(Ring::new(nodes.iter().copied(), 3)),
        |nodes| boxed(Ketama::new(nodes.iter().copied())),
        |nodes| boxed(Rendezvous::new(nodes.iter().copied())),
        |nodes| boxed(Jump::new(nodes.iter().copied())),
        |nodes| boxed(Maglev::new(nodes.iter().copied())),
        |nodes| boxed(BoundedLoads::new(Ring::new(nodes.iter().copied(), 3)?, 0.5)),
    ];
    for (number, build) in builds.iter().enumerate() {
        let says = |error: Option<lab::Error>, part: &str| {
            let text = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(text.contains(part), "placement {number}: {text:?} does not say {part:?}");
        };
        says(build(&[]).err(), "there are no nodes");
        says(build(&[("a", 1), ("b", 1), ("a", 1)]).err(), "there is one of this name already");
        says(build(&[("a", 1), ("", 1)]).err(), "it has no name");
        says(build(&[("a", 1), ("b", 0)]).err(), "its weight is 0");
        let mut two = build(&[("a", 1), ("b", 1)]).unwrap();
        says(two.add("a".into()).err(), "there is one of this name already");
        says(two.add("".into()).err(), "it has no name");
        says(two.add(("c", 0).into()).err(), "its weight is 0");
        says(two.remove("c").err(), "there is none of this name");
        assert_eq!(two.nodes(), ["a", "b"], "a refused change changes nothing");
        two.remove("a").unwrap();
        says(two.remove("b").err(), "it is the last one");
        assert_eq!(two.node_of("any key"), "b");
        if matches!(number, 0 | 4) {
            says(build(&[("a", 2)]).err(), "gives every node the same share");
            says(two.add(("c", 2).into()).err(), "gives every node the same share");
        }
    }
    let text = Ring::new(["a"], 0).unwrap_err().to_string();
    assert!(text.contains("a node without a point would hold nothing"), "{text}");
    assert!(Ring::new([("a", u32::MAX)], 2).unwrap_err().to_string().contains("points do not fit"));
    let mut ring = Ring::new(["a"], 2).unwrap();
    assert!(ring.add(("b", u32::MAX).into()).unwrap_err().to_string().contains("points do not fit"));
    assert_eq!(ring.nodes(), ["a"]);
    for slack in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(BoundedLoads::new(Ring::new(["a"], 1).unwrap(), slack).is_err());
    }
    assert!(Maglev::with_entries(["a"], 100).unwrap_err().to_string().contains("not a prime"));
    assert!(Maglev::with_entries(["a"], usize::MAX).unwrap_err().to_string().contains("not a prime"));
    assert!(Maglev::with_entries(["a", "b", "c", "d"], 3).unwrap_err().to_string().contains("want one each"));
}

/// Keys moved for nothing, over all rounds and the one that warms up: four of three seeds.
fn strays(moves: &Trial<Scheme>, scheme: Scheme) -> f64 {
    moves.total(&scheme, "left for nothing") + moves.total(&scheme, "joined for nothing")
}

#[test]
fn a_broken_ring_is_noticed_as_strays() {
    let spec = ChurnSpec { shards: 100, changed: 5, keys: 2_000, seeds: 3 };
    let by_position = Scheme::RingByPosition(10);
    assert!(strays(&churn(&[by_position], &spec, 1).unwrap(), by_position) > 2_000.0 / 3.0 * 4.0);
    // And one that is rebuilt with another number of points, as a faulty resize does.
    let nodes = shards(100);
    let [before, after] = [(100, 10), (95, 11)].map(|(count, points)| Ring::new(&nodes[..count], points).unwrap());
    assert!(Movement::between(&before, &after, &keys(10_000)).strays > 0);
}

#[test]
fn what_each_placement_moves_for_nothing() {
    let spec = ChurnSpec { shards: 100, changed: 5, keys: 5_000, seeds: 3 };
    let minimal = [Scheme::Ring(10), Scheme::FastRing(10), Scheme::Ketama, Scheme::Rendezvous];
    let others = [Scheme::Modulo, Scheme::Jump, Scheme::Maglev];
    let moves = churn(&[&minimal[..], &others].concat(), &spec, 1).unwrap();
    for scheme in minimal {
        assert_eq!(strays(&moves, scheme), 0.0, "{scheme}");
    }
    let keys = 4.0 * 5_000.0; // the warming round's, too
    assert!(strays(&moves, Scheme::Modulo) > 10_000.0 / 3.0 * 4.0);
    assert_eq!(moves.total(&Scheme::Jump, "joined for nothing"), 0.0);
    let per_cent = moves.total(&Scheme::Jump, "left for nothing") * 100.0 / keys;
    assert!((3.5..6.0).contains(&per_cent), "the keys of the last five of a hundred: {per_cent} %");
    let per_cent = strays(&moves, Scheme::Maglev) * 100.0 / (2.0 * keys);
    assert!(per_cent > 0.0 && per_cent < 5.0, "few, but not none: {per_cent} %");
}

#[test]
fn predictions_of_the_fullest_node() {
    // One node holds everything; of two, theory agrees with a plain simulation's 1.056.
    assert!((predicted_fullest(1, 100.0, None) - 1.0).abs() < 1e-6);
    assert!((predicted_fullest(2, 100.0, None) - 1.056).abs() < 0.002);
    // More points bring the ring down to what luck with keys leaves.
    let [three, hundred, perfect] = [Some(3), Some(100), None].map(|points| predicted_fullest(1_000, 100.0, points));
    assert!(three > 3.5 && hundred < 1.7 && perfect < hundred && perfect > 1.3, "{three} {hundred} {perfect}");
    assert!((predicted_fullest(1_000, 100.0, Some(10_000_000)) - perfect).abs() < 1e-3);
}

#[test]
fn weights_are_shares() {
    let nodes = [("small", 1_u32), ("medium", 2), ("large", 5)];
    let share = |placement: &dyn Placement, node: &str| {
        let keys = keys(40_000);
        keys.iter().filter(|key| placement.node_of(key) == node).count() as f64 / 40_000.0
    };
    let placements: [(&str, f64, Box<dyn Placement>); 4] = [
        ("ring", 0.02, Box::new(Ring::hashed(KeyHash::Xxh3, nodes, 2_000).unwrap())),
        ("ketama", 0.07, Box::new(Ketama::new(nodes).unwrap())),
        ("rendezvous", 0.01, Box::new(Rendezvous::new(nodes).unwrap())),
        ("maglev", 0.01, Box::new(Maglev::new(nodes).unwrap())),
    ];
    for (name, tolerance, placement) in placements {
        for (node, weight) in nodes {
            let (share, fair) = (share(placement.as_ref(), node), f64::from(weight) / 8.0);
            assert!((share - fair).abs() < tolerance, "{name}: {node} has {share} where {fair} is fair");
        }
    }
    let mut bounded = BoundedLoads::new(Ring::new(nodes, 100).unwrap(), 0.25).unwrap();
    (0..8_000).for_each(|_| drop(bounded.take("one hot key").to_string()));
    for (node, load) in bounded.loads() {
        let weight = nodes.iter().find(|(name, _)| *name == node).unwrap().1;
        assert!(load <= 1_250 * u64::from(weight), "{node}: {load}");
    }
}

#[test]
fn balanced_within_its_bound() {
    let nodes = shards(100);
    let fullest = |scheme: Scheme| keys_on_each(scheme.place(&nodes).unwrap().as_ref(), &keys(100_000)).max_over_mean();
    let lucky = predicted_fullest(100, 1_000.0, None);
    for (scheme, bound) in [
        (Scheme::Modulo, lucky * 1.05),
        (Scheme::Rendezvous, lucky * 1.05),
        (Scheme::Jump, lucky * 1.05),
        (Scheme::Maglev, lucky * 1.06),
        (Scheme::Ketama, predicted_fullest(100, 1_000.0, Some(160)) * 1.15),
        (Scheme::Ring(100), predicted_fullest(100, 1_000.0, Some(100)) * 1.15),
        (Scheme::FastRing(100), predicted_fullest(100, 1_000.0, Some(100)) * 1.15),
    ] {
        let fullest = fullest(scheme);
        assert!(fullest < bound, "{scheme:?}: {fullest} beyond {bound}");
    }
    assert!(keys_on_bounded(&nodes, 0.1, &keys(100_000)).unwrap().max() <= 1_100.0);
}

#[test]
fn a_key_on_a_point_belongs_to_it() {
    let ring = Ring::new(shards(20), 5).unwrap();
    for shard in shards(20) {
        for point in 0..5 {
            assert_eq!(ring.node_of(&format!("{shard}#{point}")), shard);
        }
    }
}

#[test]
fn the_bound_is_as_wide_as_the_paper_has_it() {
    let mut bounded = BoundedLoads::new(Ring::new(["a", "b", "c", "d"], 100).unwrap(), 0.25).unwrap();
    (0..100).for_each(|_| drop(bounded.take("the one hot key").to_string()));
    let home = bounded.home_of("the one hot key").to_string();
    assert_eq!(bounded.loads().find(|(node, _)| *node == home).unwrap().1, 32, "1.25 × 100 / 4, rounded up");
    assert_eq!(bounded.capacity("a").unwrap(), 32, "1.25 × 101 / 4");
}

#[test]
fn a_hot_key_overflows_bounded_loads_and_crushes_the_rest() {
    let spec = HotKey { nodes: 20, hot: 0.4, in_flight: 400, requests: 20_000 };
    let served = hot_key(&[Scheme::FastRing(100), Scheme::Bounded(0.25)], &spec, 1).unwrap();
    let of = |scheme: Scheme, figure: &str| served.filter("placement", &scheme).number(figure);
    let (ring, bounded) = (Scheme::FastRing(100), Scheme::Bounded(0.25));
    assert!(of(ring, "busiest") > 40.0 && of(ring, "away") == 0.0, "{served:?}");
    let kept = of(bounded, "busiest") < 6.5 && of(bounded, "beyond") == 0.0;
    assert!(kept && of(bounded, "away") > 30.0, "{served:?}");
}

#[test]
fn loads_go_with_their_node_and_come_back_one_by_one() {
    let mut bounded = BoundedLoads::new(Ring::new(["a", "b", "c"], 10).unwrap(), 0.5).unwrap();
    let first = bounded.take("key").to_string();
    assert_eq!(first, bounded.home_of("key"), "an empty ring is an ordinary one");
    bounded.add(("AA", 3).into()).unwrap();
    assert_eq!(bounded.loads().find(|(node, _)| *node == first).unwrap().1, 1, "a newcomer shifts nobody's load");
    bounded.give_back(&first).unwrap();
    assert!(bounded.give_back(&first).unwrap_err().to_string().contains("holds nothing"));
    assert!(bounded.give_back("nobody").unwrap_err().to_string().contains("there is none of this name"));
    (0..30).for_each(|_| drop(bounded.take("key").to_string()));
    let (heaviest, load) =
        bounded.loads().max_by_key(|(_, load)| *load).map(|(node, load)| (node.to_string(), load)).unwrap();
    bounded.remove(&heaviest).unwrap();
    assert_eq!(bounded.loads().map(|(_, load)| load).sum::<u64>(), 30 - load);
    assert!(bounded.capacity("b").is_ok_and(|capacity| capacity > 0) || heaviest == "b");
}

/// The drawing is committed: it must stay what the ring says.
#[test]
fn the_picture_is_the_rings() {
    use lab::Show;
    let ring = Ring::new(["ada", "bob", "cyd", "dee"], 3).unwrap();
    let held = |node: &str| keys(8).into_iter().filter(|key| ring.node_of(key) == node).collect::<Vec<_>>();
    let picture = picture();
    for (node, keys) in [
        ("ada", &["key-4", "key-6"][..]),
        ("bob", &["key-1", "key-3", "key-5"]),
        ("cyd", &["key-7"]),
        ("dee", &["key-0", "key-2"]),
    ] {
        assert_eq!(held(node), keys);
        assert!(picture.to_html().contains(&format!("{node}: {} of the keys", keys.len())));
    }
    // Each of the nodes' points lies on the circle where its hash says.
    for (position, node) in ring.points() {
        let angle = std::f64::consts::TAU * (position as f64 / u128::MAX as f64);
        let (x, y) = (170.0 + 120.0 * angle.sin(), 170.0 - 120.0 * angle.cos());
        assert!(picture.to_html().contains(&format!("cx=\"{x:.1}\" cy=\"{y:.1}\"")), "a point of {node}");
    }
}

/// So that a figure of the field is the rival's own, and not a node's that nobody has.
#[test]
fn rivals_place_keys_on_the_nodes_that_there_are() {
    for (rivals, nodes) in [(&Rival::RINGS[..], 300), (&Rival::RENDEZVOUS, 30), (&Rival::JUMPS, 300)] {
        for rival in rivals {
            let placement = AnyPlacement::new(*rival, nodes).unwrap();
            let used: std::collections::BTreeSet<usize> =
                keys(nodes * 50).iter().map(|key| placement.number_of(key)).collect();
            assert_eq!((used.len(), used.last()), (nodes, Some(&(nodes - 1))), "{rival}");
        }
    }
}

/// The arcs of all nodes are the circle.
#[test]
fn what_is_at_stake_is_a_nodes_part_of_the_circle() {
    let spec = DeathSpec { nodes: 8, copies: 1, keys: 0, operations: 0 };
    let mut seen: Vec<f64> = (0..200).map(|seed| spec.at_stake(seed).unwrap()).collect();
    seen.sort_by(f64::total_cmp);
    seen.dedup();
    assert_eq!(seen.len(), 8, "{seen:?}");
    assert!((seen.iter().sum::<f64>() - 100.0).abs() < 1e-9, "{seen:?}");
    let whole = DeathSpec { nodes: 1, ..spec }.at_stake(1).unwrap();
    assert!((whole - 100.0).abs() < 1e-9, "{whole}");
}

/// By construction, so no claim of a notebook's: a hundred entries of four bytes for each node, and the nodes' names.
#[test]
fn maglev_keeps_a_hundred_entries_of_four_bytes_a_node() {
    let each = Maglev::new(shards(1_000)).unwrap().bytes() as f64 / 1_000.0;
    assert!((400.0..480.0).contains(&each), "{each}");
}

#[test]
fn a_death_without_copies_loses_what_it_held_and_with_three_nothing() {
    let spec = DeathSpec { nodes: 5, copies: 1, keys: 300, operations: 900 };
    let (fates, _) = spec.run(3).unwrap();
    let one = |what: &str| fates.number(what);
    let all_lost = one("lost") > 0.0 && one("lost") == one("lacking");
    assert!(all_lost && one("failed") > 0.0 && one("copied") == 0.0, "{fates:?}");
    // The dead node's arcs foretell how much, and the ring which: key by key, so that two errors do not cancel.
    let (arcs, lost) = (spec.at_stake(3).unwrap(), 100.0 * one("lost of before") / one("before the kill"));
    let some_after = one("before the kill") < one("acknowledged");
    assert!((arcs - lost).abs() < 9.0 && some_after, "{arcs} % of the circle, {lost} % lost: {fates:?}");
    assert_eq!(one("unexplained"), 0.0, "{fates:?}");
    let (fates, _) = DeathSpec { copies: 3, ..spec }.run(3).unwrap();
    for none in ["lost", "short", "failed", "refused", "unexplained"] {
        assert_eq!(fates.number(none), 0.0, "{none}: {fates:?}");
    }
    // A write under the new ring may be under way while the repair looks, and be completed by either.
    let (lacking, copied) = (fates.number("lacking"), fates.number("copied"));
    assert!(lacking > 0.0 && (lacking..lacking + 50.0).contains(&copied), "{fates:?}");
}

#[test]
fn two_dead_of_three_copies_is_an_error_and_not_an_answer() {
    use consistent_hashing::replicas::Store;
    use lab::service::Redis;
    let start = |index| Redis::with("appendonly", "no").named(&format!("copy-{index}")).start().unwrap();
    let servers: Vec<Redis> = (0..3).map(start).collect();
    for copies in [0, 4] {
        assert!(Store::new(&servers, copies, 8).unwrap_err().to_string().contains("cannot lie on 3 different nodes"));
    }
    let store = Store::new(&servers, 3, 8).unwrap();
    let mut client = store.client();
    assert_eq!(client.put("key", "value").unwrap().len(), 3);
    assert!(client.put("", "value").unwrap_err().to_string().contains("the key is empty"));
    assert_eq!(client.get("other").unwrap(), None);
    servers[0].kill();
    assert_eq!(client.get("key").unwrap().as_deref(), Some("value"));
    assert_eq!(client.get("other").unwrap(), None, "two of three say so, and a write needs two");
    assert_eq!(client.put("second", "value").unwrap().len(), 2);
    servers[1].kill();
    assert_eq!(client.get("key").unwrap().as_deref(), Some("value"), "the last copy still answers");
    assert!(client.get("other").unwrap_err().to_string().contains("could not reach a copy on copy-"));
    assert!(client.put("third", "value").is_err(), "one of three is no majority");
    // Nor is one that is left over.
    let unfinished = store.remove(servers[0].name()).unwrap_err().to_string();
    assert!(unfinished.contains("could not reach a copy on copy-1"), "{unfinished}");
    store.remove(servers[1].name()).unwrap();
    assert_eq!(store.repair().unwrap().copied, 0, "one node is left, and it has its keys");
    assert!(client.put("third", "value").unwrap_err().to_string().contains("there are nodes for 1 of 3 copies"));
}

fn names() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::btree_set("[a-z]{1,6}", 2..40).prop_map(|names| names.into_iter().collect())
}

/// The placements that a set of nodes decides, and whether they move only what must move.
fn placements(nodes: &[String], points: u32) -> Vec<(&'static str, bool, Box<dyn Placement>)> {
    vec![
        ("modulo", false, Box::new(Modulo::new(nodes).unwrap())),
        ("ring", true, Box::new(Ring::new(nodes, points).unwrap())),
        ("fast ring", true, Box::new(Ring::hashed(KeyHash::Xxh3, nodes, points).unwrap())),
        ("ketama", true, Box::new(Ketama::new(nodes).unwrap())),
        ("rendezvous", true, Box::new(Rendezvous::new(nodes).unwrap())),
        ("maglev", false, Box::new(Maglev::with_entries(nodes, 4_093).unwrap())),
        ("bounded loads", true, Box::new(BoundedLoads::new(Ring::new(nodes, points).unwrap(), 0.5).unwrap())),
    ]
}

fn homes(placement: &dyn Placement) -> Vec<String> {
    keys(200).iter().map(|key| placement.node_of(key).to_string()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn only_keys_of_the_node_that_left_move(nodes in names(), victim in any::<prop::sample::Index>(), points in 1_u32..20) {
        let victim = victim.get(&nodes);
        for (name, minimal, mut placement) in placements(&nodes, points) {
            let before = homes(placement.as_ref());
            placement.remove(victim).unwrap();
            for (before, after) in before.iter().zip(homes(placement.as_ref())) {
                prop_assert_ne!(&after, victim, "{}", name);
                prop_assert!(!minimal || *before == after || before == victim, "{}: {} to {}", name, before, after);
            }
        }
    }

    #[test]
    fn keys_move_to_the_node_that_joined_alone(nodes in names(), points in 1_u32..20) {
        for (name, minimal, mut placement) in placements(&nodes, points) {
            let before = homes(placement.as_ref());
            placement.add("NEW".into()).unwrap();
            for (before, after) in before.iter().zip(homes(placement.as_ref())) {
                prop_assert!(!minimal || *before == after || after == "NEW", "{}: {} to {}", name, before, after);
            }
        }
    }

    #[test]
    fn neither_order_nor_detours_decide_a_keys_node(nodes in names(), seed in any::<u64>(), points in 1_u32..10) {
        let mut shuffled = nodes.clone();
        lab::Rng::seeded(seed, "order").shuffle(&mut shuffled);
        let straight = placements(&nodes, points);
        let detours = placements(&["GUEST".to_string()], points);
        for ((name, _, straight), (_, _, mut detour)) in straight.into_iter().zip(detours) {
            for node in &shuffled {
                detour.add(node.into()).unwrap();
                prop_assert!(detour.add(node.into()).is_err());
            }
            detour.remove("GUEST").unwrap();
            prop_assert_eq!(homes(straight.as_ref()), homes(detour.as_ref()), "{}", name);
            prop_assert_eq!(straight.nodes(), detour.nodes());
        }
    }

    #[test]
    fn jump_moves_keys_to_the_newcomer_alone_and_back(key in any::<u64>(), buckets in 1_u32..10_000) {
        let (before, after) = (jump(key, buckets), jump(key, buckets + 1));
        prop_assert!(before < buckets);
        prop_assert!(after == before || after == buckets);
    }

    #[test]
    fn jump_over_names_moves_what_its_page_says(nodes in names(), victim in any::<prop::sample::Index>()) {
        let victim = victim.get(&nodes);
        let mut placement = Jump::new(&nodes).unwrap();
        let before = homes(&placement);
        placement.remove(victim).unwrap();
        for (before, after) in before.iter().zip(homes(&placement)) {
            prop_assert!(*before == after || before == victim || Some(before) == nodes.last(), "{} to {}", before, after);
        }
        let before = homes(&placement);
        placement.add("NEW".into()).unwrap();
        for (before, after) in before.iter().zip(homes(&placement)) {
            prop_assert!(*before == after || after == "NEW");
        }
    }

    #[test]
    fn replicas_are_distinct_begin_at_home_and_survive_a_death(
        nodes in names(), points in 1_u32..10, count in 1_usize..6, victim in any::<prop::sample::Index>(),
    ) {
        let ring = Ring::new(&nodes, points).unwrap();
        let victim = victim.get(&nodes);
        let mut smaller = ring.clone();
        smaller.remove(victim).unwrap();
        for key in keys(100) {
            let set = ring.replicas(&key, count);
            prop_assert_eq!(set.len(), count.min(nodes.len()));
            prop_assert_eq!(set[0], ring.node_of(&key));
            prop_assert_eq!(set.iter().collect::<std::collections::BTreeSet<_>>().len(), set.len());
            let rest: Vec<&str> = set.iter().copied().filter(|node| node != victim).collect();
            prop_assert_eq!(&smaller.replicas(&key, count)[..rest.len()], &rest[..], "the others stay, in their order");
        }
    }

    #[test]
    fn nobody_is_loaded_beyond_the_bound(
        weights in proptest::collection::vec(1_u32..6, 1..12), slack in 0.01_f64..2.0, steps in proptest::collection::vec((0_u8..8, any::<bool>()), 1..300),
    ) {
        let nodes: Vec<(String, u32)> = weights.iter().enumerate().map(|(index, &weight)| (format!("n{index}"), weight)).collect();
        let total: u32 = weights.iter().sum();
        let mut bounded = BoundedLoads::new(Ring::new(nodes.clone(), 5).unwrap(), slack).unwrap();
        let mut held: Vec<String> = Vec::new();
        for (key, give_back) in steps {
            if give_back && !held.is_empty() {
                bounded.give_back(&held.remove(held.len() / 2)).unwrap();
            } else {
                let node = bounded.take(&format!("key-{}", key / 4)).to_string();
                held.push(node.clone());
                let weight = nodes.iter().find(|(name, _)| *name == node).unwrap().1;
                let bound = ((1.0 + slack) * held.len() as f64 * f64::from(weight) / f64::from(total)).ceil() as usize;
                let load = held.iter().filter(|other| **other == node).count();
                prop_assert!(load <= bound.max(1), "{} holds {} of {}", node, load, held.len());
            }
            for (node, load) in bounded.loads() {
                prop_assert_eq!(load as usize, held.iter().filter(|other| *other == node).count());
            }
        }
    }
}
