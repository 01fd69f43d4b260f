//! The guarantees of `identity::key_width`: keys that never collide, pages that lose nothing, rows that are the same.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;
use std::time::Duration;

use key_width::experiment::*;
use key_width::*;
use proptest::prelude::*;

fn every_cell() -> Vec<Arm> {
    KeyWidth::ALL
        .iter()
        .flat_map(|width| width.orders().iter().map(|order| Arm::new(*width, *order).unwrap()))
        .collect()
}

fn keys(arm: Arm, seed: u64) -> Keys {
    Keys::new(arm, seed).unwrap()
}

// Permutations.

#[test]
fn a_small_permutation_meets_every_number_once() {
    for bits in [2, 4, 8, 16] {
        for seed in 0..20 {
            let permutation = Permutation::of_bits(bits, seed).unwrap();
            let all: BTreeSet<u64> = (0..1 << bits).map(|number| permutation.of(number)).collect();
            assert_eq!(all.len(), 1 << bits);
            assert_eq!((all.first(), all.last()), (Some(&0), Some(&((1 << bits) - 1))));
        }
    }
}

proptest! {
    #[test]
    fn a_permutation_can_be_undone(half in 1..=32_u32, seed: u64, number: u64) {
        let permutation = Permutation::of_bits(2 * half, seed).unwrap();
        let number = permutation.size().map_or(number, |size| number % size);
        let there = permutation.of(number);
        prop_assert!(permutation.size().is_none_or(|size| there < size));
        prop_assert_eq!(permutation.back(there), number);
    }
}

#[test]
fn neighbours_are_sent_apart_and_seeds_differ() {
    for bits in [32, 60, 64] {
        let [one, two] = [1, 2].map(|seed| Permutation::of_bits(bits, seed).unwrap());
        let half = 2.0_f64.powi(bits as i32 - 1);
        let rising = (0..10_000).filter(|row| one.of(*row) < one.of(row + 1)).count();
        assert!((4_600..5_400).contains(&rising), "{bits} bits: {rising} of 10,000 neighbours rise");
        let mean = (0..10_000).map(|row| one.of(row) as f64).sum::<f64>() / 1e4;
        assert!((mean / half - 1.0).abs() < 0.05, "{bits} bits: the mean is {mean}");
        assert!((0..1_000).filter(|row| one.of(*row) == two.of(*row)).count() < 3);
        assert_eq!(one, Permutation::of_bits(bits, 1).unwrap());
    }
}

#[test]
fn what_cannot_be_halved_is_no_permutation() {
    for bits in [0, 1, 3, 33, 65, 66, u32::MAX] {
        let error = Permutation::of_bits(bits, 1).unwrap_err().to_string();
        assert!(error.contains(&format!("{bits} bits cannot be halved")), "{error}");
    }
    assert_eq!(Permutation::of_bits(64, 1).unwrap().size(), None);
}

// Keys.

#[test]
fn there_are_fourteen_cells_and_no_moment_in_four_bytes() {
    assert_eq!(Arm::all().len(), 14);
    let error = Arm::new(KeyWidth::Int, Order::TimeOrdered).unwrap_err().to_string();
    assert!(error.contains("there is no time-ordered INT"), "{error}");
    assert!(Keys::new(Arm { width: KeyWidth::Int, order: Order::TimeOrdered }, 1).is_err());
}

#[test]
fn no_two_rows_share_a_key_in_any_cell() {
    for arm in every_cell() {
        let keys = keys(arm, 7);
        let ranks: BTreeSet<u64> = (0..200_000).map(|row| keys.rank(row)).collect();
        assert_eq!(ranks.len(), 200_000, "{arm}");
        let literals: BTreeSet<String> = (0..20_000).map(|row| keys.literal(row)).collect();
        assert_eq!(literals.len(), 20_000, "{arm}");
    }
}

/// The bytes that the server compares: a number's value, raw bytes, letters.
fn compared(arm: Arm, literal: &str) -> Vec<u8> {
    match arm.width {
        KeyWidth::Int | KeyWidth::BigInt => literal.parse::<u64>().unwrap().to_be_bytes().to_vec(),
        KeyWidth::Binary16 => {
            let digits = literal.strip_prefix("x'").unwrap().strip_suffix('\'').unwrap();
            u128::from_str_radix(digits, 16).unwrap().to_be_bytes().to_vec()
        }
        _ => literal.trim_matches('\'').bytes().collect(),
    }
}

#[test]
fn keys_compare_as_their_ranks_do_and_have_their_width() {
    for arm in every_cell() {
        let keys = keys(arm, 3);
        let mut rows: Vec<u64> = (0..5_000).collect();
        rows.sort_by_key(|row| keys.rank(*row));
        let sorted: Vec<Vec<u8>> = rows.iter().map(|row| compared(arm, &keys.literal(*row))).collect();
        assert!(sorted.is_sorted(), "{arm}");
        if !matches!(arm.width, KeyWidth::Int | KeyWidth::BigInt) {
            assert!(sorted.iter().all(|key| key.len() == arm.width.bytes()), "{arm}");
        }
        if arm.width == KeyWidth::Int {
            assert!((0..200_000).all(|row| keys.rank(row) <= u64::from(u32::MAX)));
        }
    }
}

#[test]
fn uuids_say_which_version_they_are() {
    let uuid = |order, row| keys(Arm::new(KeyWidth::VarChar36, order).unwrap(), 9).literal(row);
    for row in [0, 1, 15, 16, 1_000_000] {
        let (seven, four) = (uuid(Order::TimeOrdered, row), uuid(Order::Random, row));
        // The version is the 13th digit, the variant the 17th; there is a quote before them, and dashes.
        assert_eq!((&seven[15..16], &four[15..16]), ("7", "4"));
        assert!("89ab".contains(&seven[20..21]) && "89ab".contains(&four[20..21]));
    }
    let (first, later) = (uuid(Order::TimeOrdered, 0), uuid(Order::TimeOrdered, 16));
    assert!(first.starts_with("'01856aa0-c800-7"), "1,672,531,200,000 ms in 48 bits: {first}");
    assert!(later.starts_with("'01856aa0-c801-7"), "sixteen rows a millisecond: {later}");
}

#[test]
fn time_ordered_keys_rise_by_the_millisecond_and_not_within_it() {
    for width in [KeyWidth::BigInt, KeyWidth::Binary16, KeyWidth::Char16, KeyWidth::VarChar36] {
        let keys = keys(Arm::new(width, Order::TimeOrdered).unwrap(), 5);
        let ranks: Vec<u64> = (0..16_000).map(|row| keys.rank(row)).collect();
        let milliseconds: Vec<&[u64]> = ranks.chunks(MADE_PER_MILLISECOND as usize).collect();
        assert!(milliseconds.windows(2).all(|two| two[0].iter().max() < two[1].iter().min()), "{width}");
        let falling = ranks.windows(2).filter(|two| two[0] > two[1]).count();
        assert!((6_000..9_000).contains(&falling), "{width}: {falling} of 16,000 rows come before the last one");
    }
}

#[test]
fn keys_by_time_of_other_makers_are_as_unique_and_as_much_in_order() {
    for width in [KeyWidth::BigInt, KeyWidth::Binary16, KeyWidth::Char16, KeyWidth::VarChar36] {
        for makers in [1, 2, 16, 64, 1_024] {
            let keys = keys(Arm::new(width, Order::TimeOrdered).unwrap(), 5).made_by(makers).unwrap();
            let ranks: Vec<u64> = (0..20 * makers).map(|row| keys.rank(row)).collect();
            assert_eq!(ranks.iter().collect::<BTreeSet<_>>().len(), ranks.len(), "{width}, {makers} makers");
            let milliseconds: Vec<&[u64]> = ranks.chunks(makers as usize).collect();
            assert!(milliseconds.windows(2).all(|two| two[0].iter().max() < two[1].iter().min()), "{width}, {makers}");
            assert_eq!(ranks.is_sorted(), makers == 1, "{width}, {makers} makers");
        }
    }
    for makers in [0, 1_025] {
        let error = keys(Arm::two_by_two()[0], 1).made_by(makers).unwrap_err().to_string();
        assert!(error.contains("1024 at most"), "{error}");
    }
}

// Pages.

fn trees() -> impl Strategy<Value = (Layout, Split)> {
    let layout = (20..4_000_usize, 10..60_usize, any::<bool>());
    let split = prop_oneof![Just(Split::InnoDb), Just(Split::Middle)];
    (layout.prop_map(|(leaf, node, clustered)| Layout { leaf, node, clustered }), split)
}

/// Runs up, runs down, and anything in between.
fn any_order() -> impl Strategy<Value = Vec<u64>> {
    let run = (any::<u32>(), 1..400_u64, 0..3_u8).prop_map(|(from, length, kind)| {
        let at = |step: u64| match kind {
            0 => u64::from(from) + step,
            1 => (u64::from(from) + length) - step,
            _ => u64::from(from).wrapping_mul(0x9e37_79b9 * (step + 1)) % 100_000,
        };
        (0..length).map(at).collect::<Vec<u64>>()
    });
    proptest::collection::vec(run, 1..12).prop_map(|runs| runs.concat())
}

proptest! {
    #[test]
    fn a_tree_holds_every_key_once_and_in_order((layout, split) in trees(), keys in any_order()) {
        let mut tree = PageTree::new(layout, split).unwrap();
        let mut model = BTreeSet::new();
        for key in keys {
            prop_assert_eq!(tree.insert(key).is_ok(), model.insert(key), "a key is taken once");
        }
        prop_assert_eq!(tree.len(), model.len() as u64);
        prop_assert!(tree.keys().eq(model.iter().copied()));
        let fills = tree.fills();
        prop_assert_eq!(fills.len() as u64, tree.leaf_pages());
        prop_assert!(fills.iter().all(|fill| *fill > 0.0 && *fill <= 1.0), "{:?}", fills);
        prop_assert!((fills.iter().sum::<f64>() / fills.len() as f64 - tree.fill()).abs() < 1e-9);
        // A cut makes one page of two; a root that was cut gets a root above it.
        prop_assert_eq!(tree.pages(), 1 + tree.splits() + (tree.height() as u64 - 1));
    }

    #[test]
    fn cut_in_the_middle_no_page_is_less_than_half_full(leaf in 20..1_500_usize, seed: u64) {
        let layout = Layout { leaf, node: 30, clustered: true };
        let mut tree = PageTree::new(layout, Split::Middle).unwrap();
        let permutation = Permutation::of_bits(40, seed).unwrap();
        (0..5_000).for_each(|row| tree.insert(permutation.of(row)).unwrap());
        let full = layout.per_leaf() as f64;
        prop_assert!(tree.fills().iter().all(|fill| fill * full >= (full / 2.0).floor()));
    }
}

#[test]
fn a_tree_does_not_depend_on_equal_shapes_of_its_keys() {
    // The secondary index compares pairs: the same tree comes out of pairs and of one number that stands for them.
    let layout = Layout::secondary(KeyWidth::BigInt);
    let (mut pairs, mut numbers) =
        (PageTree::new(layout, Split::InnoDb).unwrap(), PageTree::new(layout, Split::InnoDb).unwrap());
    let rows = Rows { count: 20_000, ages: 7, pad: 0, seed: 1 };
    for row in 0..rows.count {
        pairs.insert((rows.age(row), row)).unwrap();
        numbers.insert(u128::from(rows.age(row)) << 64 | u128::from(row)).unwrap();
    }
    assert_eq!((pairs.leaf_pages(), pairs.splits()), (numbers.leaf_pages(), numbers.splits()));
}

#[test]
fn ascending_rows_leave_a_sixteenth_free_and_random_ones_a_third() {
    for width in KeyWidth::ALL {
        let layout = Layout::clustered(width, 20);
        let mut ascending = PageTree::new(layout, Split::InnoDb).unwrap();
        let mut descending = PageTree::new(layout, Split::InnoDb).unwrap();
        let mut textbook = PageTree::new(layout, Split::Middle).unwrap();
        let mut random = PageTree::new(layout, Split::InnoDb).unwrap();
        let permutation = Permutation::of_bits(60, 1).unwrap();
        for row in 0..300_000_u64 {
            ascending.insert(row).unwrap();
            descending.insert(300_000 - row).unwrap();
            textbook.insert(row).unwrap();
            random.insert(permutation.of(row)).unwrap();
        }
        assert!((ascending.fill() - 0.9375).abs() < 0.01, "{width}: {}", ascending.fill());
        assert!((descending.fill() - 0.9375).abs() < 0.01, "{width}: {}", descending.fill());
        assert!((textbook.fill() - 0.5).abs() < 0.01, "{width}: {}", textbook.fill());
        // Pages of one age fill up together and are cut together, so it swings around ln 2.
        assert!((0.60..0.78).contains(&random.fill()), "{width}: {}", random.fill());
        let mut secondary = PageTree::new(Layout::secondary(width), Split::InnoDb).unwrap();
        (0..300_000_u64).for_each(|row| secondary.insert(row).unwrap());
        assert!(secondary.fill() > 0.99, "only rows have room to grow: {}", secondary.fill());
    }
}

#[test]
fn random_keys_fill_pages_to_ln_2_on_average_over_a_doubling() {
    let layout = Layout::clustered(KeyWidth::BigInt, 100);
    let mean = |split: Split| {
        let mut fills = Vec::new();
        for seed in 0..10 {
            let mut tree = PageTree::new(layout, split).unwrap();
            let permutation = Permutation::of_bits(64, seed).unwrap();
            (0..40_000).for_each(|row| tree.insert(permutation.of(row)).unwrap());
            for step in 0..20 {
                // Equal steps of the logarithm: the swing is one of those.
                let until = (40_000.0 * 2.0_f64.powf(f64::from(step + 1) / 20.0)) as u64;
                (tree.len()..until).for_each(|row| tree.insert(permutation.of(row)).unwrap());
                fills.push(tree.fill());
            }
        }
        fills.iter().sum::<f64>() / fills.len() as f64
    };
    let (textbook, innodb) = (mean(Split::Middle), mean(Split::InnoDb));
    assert!((textbook - std::f64::consts::LN_2).abs() < 0.01, "{textbook}");
    // Now and then two random rows come side by side on a page that is nearly full, and it is cut as for a run.
    assert!((0.01..0.05).contains(&(textbook - innodb)), "{innodb} against {textbook}");
}

#[test]
fn records_have_the_sizes_that_innodb_gives_them() {
    // 5 bytes of header; 6 and 7 for the transaction; a length byte for what varies.
    assert_eq!(Layout::clustered(KeyWidth::Int, 0).leaf, 5 + 4 + 13 + 4 + 1);
    assert_eq!(Layout::clustered(KeyWidth::VarChar36, 100).leaf, 5 + 1 + 36 + 13 + 4 + 1 + 100);
    let secondary = KeyWidth::ALL.map(|width| Layout::secondary(width).leaf);
    assert_eq!(secondary, [13, 17, 25, 25, 26, 46]);
    assert_eq!(Layout::nullable_secondary(KeyWidth::Int).leaf, 14);
    assert_eq!(Layout::secondary(KeyWidth::Int).per_leaf(), 1_203);
    assert_eq!(Layout::records(8_000), 2);
}

#[test]
fn a_record_that_fits_no_page_is_refused() {
    for leaf in [0, 8_126, 20_000, usize::MAX / 8] {
        let error = PageTree::<u64>::new(Layout { leaf, node: 30, clustered: true }, Split::InnoDb).unwrap_err();
        assert!(error.to_string().contains("do not fit on a page"), "{error}");
    }
}

#[test]
fn a_key_that_is_taken_changes_nothing() {
    let mut tree = PageTree::new(Layout::clustered(KeyWidth::Int, 200), Split::InnoDb).unwrap();
    (0..1_000_u64).for_each(|key| tree.insert(key).unwrap());
    let before = (tree.len(), tree.splits(), tree.pages());
    assert!(tree.insert(500).unwrap_err().to_string().contains("its key is taken"));
    assert_eq!((tree.len(), tree.splits(), tree.pages()), before);
}

// Rows and costs.

#[test]
fn rows_that_cannot_be_are_refused() {
    let rows = Rows { count: 10, ages: 3, pad: 20, seed: 1 };
    for (wrong, why) in [
        (Rows { count: 0, ..rows }, "there are none"),
        (Rows { ages: 0, ..rows }, "no age"),
        (Rows { pad: 256, ..rows }, "255 bytes"),
    ] {
        let error = Simulated::of(Arm::two_by_two()[0], &wrong, Split::InnoDb).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_fingerprint_notices_a_row_that_is_missing_or_another() {
    let rows = Rows { count: 1_000, ages: 9, pad: 30, seed: 1 };
    let of = |rows: Rows| rows.fingerprints(&keys(Arm::two_by_two()[0], 1));
    let right = of(rows);
    assert_eq!(right, of(rows));
    for other in [Rows { count: 999, ..rows }, Rows { seed: 2, ..rows }, Rows { ages: 8, ..rows }] {
        assert!(of(other).0 != right.0 && of(other).1 != right.1, "{other:?}");
    }
    assert_ne!(right.0, of(Rows { pad: 31, ..rows }).0, "the last letter of the padding counts");
    assert_eq!(right.1, of(Rows { pad: 31, ..rows }).1, "which is not in the secondary index");
    let others = rows.fingerprints(&keys(Arm::two_by_two()[2], 1));
    assert!(right.0 != others.0 && right.1 != others.1, "whose key a row has counts in both");
    assert!((0..1_000).all(|row| rows.pad(row).len() == 30 && rows.age(row) < 9));
}

#[test]
fn costs_are_taken_apart_into_factors() {
    let apart = Decomposition::of([10.0, 20.0, 30.0, 60.0]).unwrap();
    assert!((apart.width() - 2.0).abs() < 1e-12 && (apart.order() - 3.0).abs() < 1e-12);
    assert!((apart.total() - 6.0).abs() < 1e-12 && apart.widths() == (2.0, 2.0), "they know nothing of each other");
    assert!((apart.width_share() - 100.0 * 2.0_f64.ln() / 6.0_f64.ln()).abs() < 1e-9);
    let together = Decomposition::of([1.0, 1.0, 1.0, 4.0]).unwrap();
    assert_eq!((together.widths(), together.orders()), ((1.0, 4.0), (1.0, 4.0)));
    assert!((together.width() - 2.0).abs() < 1e-12, "what neither does alone is shared out");
    for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Decomposition::of([1.0, wrong, 1.0, 1.0]).is_err());
    }
}

#[test]
fn a_pool_misses_what_it_cannot_hold() {
    assert_eq!(misses(1_000.0, &[600.0, 400.0]), 0.0);
    assert!((misses(250.0, &[1_000.0]) - 0.75).abs() < 1e-6);
    assert!((misses(0.0, &[1_000.0, 50.0]) - 2.0).abs() < 1e-6);
    // A small index is nearly always in memory beside a large one.
    let both = misses(500.0, &[2_000.0, 50.0]);
    assert!((0.70..0.82).contains(&both), "{both}");
    // Against a simulated pool.
    let simulated = simulated_misses(300, &[500, 200]);
    let said = misses(300.0, &[500.0, 200.0]);
    assert!((simulated / said - 1.0).abs() < 0.05, "{simulated} against {said}");
}

/// Least recently used pages of a pool, counted one by one.
fn simulated_misses(pool: usize, indexes: &[u64]) -> f64 {
    let mut rng = lab::Rng::seeded(1, "pool");
    let mut used: std::collections::BTreeMap<(usize, u64), u64> = Default::default();
    let mut by_time: std::collections::BTreeMap<u64, (usize, u64)> = Default::default();
    let (mut missed, mut now) = (0, 0);
    for round in 0..60_000 {
        for (index, pages) in indexes.iter().enumerate() {
            now += 1;
            let page = (index, rng.below(*pages));
            match used.insert(page, now) {
                Some(before) => {
                    by_time.remove(&before);
                }
                None if round >= 10_000 => missed += 1,
                None => {}
            }
            by_time.insert(now, page);
            if by_time.len() > pool {
                let (_, oldest) = by_time.pop_first().unwrap();
                used.remove(&oldest);
            }
        }
    }
    f64::from(missed) / 50_000.0
}

/// The index of all reports shows this chart as 07's, under a sentence that calls charts measured unless they say otherwise.
#[test]
fn the_rebuilt_index_says_that_it_was_simulated() {
    use lab::Figure;
    let chart = prototype::rebuilt_chart(prototype::rebuilt(20_000, 1).unwrap(), "t").to_svg();
    assert!(chart.contains("Simulated, not measured: index pages filled row by row"), "{chart}");
}

#[test]
fn draws_collide_as_often_as_the_birthday_says_and_permutations_never() {
    let draws = draws(2_000_000, 1).unwrap();
    let refused = |how: &str| draws.filter("how", how).number("refused");
    let expected = expected_repeats(2e6);
    assert!((expected - 465.6).abs() < 0.5, "{expected}");
    assert!((refused("drawn") - expected).abs() < 5.0 * expected.sqrt(), "{draws:?}");
    assert_eq!(refused("a permutation"), 0.0);
}

// On real servers.

fn spec(rows: u64) -> LoadSpec {
    let rows = Rows { count: rows, ages: 4, pad: 100, seed: 1 };
    let makers = MADE_PER_MILLISECOND;
    LoadSpec { rows, batch: 500, pool: "6M".into(), parts: 4, makers, lanes: 2, patience: Duration::from_secs(600) }
}

#[test]
#[ignore = "starts servers"]
fn every_cell_holds_the_same_rows_on_the_pages_that_were_predicted() {
    let spec = spec(26_000);
    let load = load(&every_cell(), &spec).unwrap();
    assert_eq!(load.wrong(), []);
    assert_eq!(load.arms.len(), 17);
    let simulated = Simulated::of_all(&every_cell(), &spec.rows, Split::InnoDb).unwrap();
    let figures = load.figures(&simulated);
    assert_eq!(figures.samples("record, off").values(), [0.0; 17]);
    for loaded in &load.arms {
        let said = Simulated::of(loaded.arm, &spec.rows, Split::InnoDb).unwrap();
        assert_eq!(
            loaded.record_bytes,
            (said.clustered.layout.leaf as f64, said.secondary.layout.leaf as f64),
            "{loaded:?}"
        );
        // Page for page, but for one now and then.
        let near = |is: u64, said: u64| is.abs_diff(said) <= 1 + said / 100;
        assert!(near(loaded.clustered.leaf_pages, said.clustered.leaf_pages), "{loaded:?}, not {:?}", said.clustered);
        assert!(near(loaded.secondary.leaf_pages, said.secondary.leaf_pages), "{loaded:?}, not {:?}", said.secondary);
        let splits = (figures.filter("key", &loaded.arm).number("page splits") * 26.0).round() as u64;
        assert!(near(splits / 2, said.splits / 2), "{}: {splits} splits, not {}", loaded.arm, said.splits);
    }
}

#[test]
#[ignore = "starts servers"]
fn rows_that_changed_behind_its_back_are_noticed() {
    let arms = Arm::two_by_two();
    let mut load = load(&arms, &spec(1_000)).unwrap();
    assert_eq!(load.wrong(), []);
    load.meddle(arms[0], "UPDATE people SET age = age + 1 WHERE id = 17").unwrap();
    assert_eq!(load.wrong(), [arms[0]]);
    load.meddle(arms[1], "DELETE FROM people ORDER BY id LIMIT 1").unwrap();
    assert_eq!(load.wrong(), arms[..2]);
    // Two rows exchange their padding: every sum but that of the pairs stays.
    let [one, two] = [0, 1].map(|_| "SELECT id, age, pad FROM people");
    load.meddle(
        arms[2],
        &format!(
            "UPDATE people AS p JOIN ({one} ORDER BY age, id LIMIT 1) AS a JOIN ({two} ORDER BY age DESC, id LIMIT 1) AS b \
             SET p.pad = IF(p.id = a.id, b.pad, a.pad) WHERE p.id IN (a.id, b.id)"
        ),
    ).unwrap();
    assert_eq!(load.wrong(), arms[..3]);
    // One letter at the very end of one row's padding.
    load.meddle(arms[3], "UPDATE people SET pad = CONCAT(LEFT(pad, LENGTH(pad) - 1), 'x') ORDER BY age LIMIT 1")
        .unwrap();
    assert_eq!(load.wrong(), arms);
}

#[test]
#[ignore = "starts servers"]
fn two_rows_that_exchanged_their_keys_are_noticed() {
    let arms = [Arm::two_by_two()[0], Arm::new(KeyWidth::Binary16, Order::Random).unwrap()];
    let mut load = load(&arms, &spec(1_000)).unwrap();
    assert_eq!(load.wrong(), []);
    // Every row that there was is there, and every key; but two ages have each other's.
    for statement in [
        "SELECT id INTO @one FROM people WHERE age = 1 ORDER BY id LIMIT 1",
        "SELECT id INTO @two FROM people WHERE age = 2 ORDER BY id LIMIT 1",
        "CREATE TEMPORARY TABLE both_of_them AS SELECT * FROM people WHERE id IN (@one, @two)",
        "DELETE FROM people WHERE id IN (@one, @two)",
        "INSERT INTO people SELECT IF(id = @one, @two, @one), age, pad FROM both_of_them",
    ] {
        arms.iter().for_each(|arm| load.meddle(*arm, statement).unwrap());
    }
    assert_eq!(load.wrong(), arms);
}

#[test]
#[ignore = "starts servers"]
fn a_server_that_is_lost_is_one_clear_sentence() {
    let error = load_and_kill(&[Arm::two_by_two()[0]], &spec(5_000), Some(5)).unwrap_err().to_string();
    assert!(error.starts_with("could not run \"INSERT INTO people") && error.contains("INT sequential"), "{error}");
    assert!(error.len() < 400, "{error}");
}

#[test]
#[ignore = "starts servers"]
fn when_time_runs_out_every_arm_has_the_same_rows() {
    let spec = LoadSpec { patience: Duration::from_millis(300), ..spec(2_000_000) };
    let load = load(&Arm::two_by_two(), &spec).unwrap();
    assert!((500..1_000_000).contains(&load.rows.count), "{}", load.rows.count);
    assert_eq!(load.wrong(), []);
    assert!(load.arms.iter().all(|arm| arm.clustered.rows == load.rows.count));
}

#[test]
#[ignore = "starts servers"]
fn reads_find_every_row_and_random_keys_scatter_rows_of_one_time() {
    let mut load = load(&Arm::two_by_two(), &spec(40_000)).unwrap();
    let spec = ReadsSpec { points: 50, ranges: 5, length: 100, rounds: 3, seed: 1 };
    let reads = reads(&mut load, spec).unwrap();
    for arm in Arm::two_by_two() {
        assert_eq!((reads.total(&arm, "wrong"), reads.samples(&arm, "point").len()), (0.0, 3), "{arm}");
    }
    let [in_order, _, random, _] = Arm::two_by_two().map(|arm| reads.samples(&arm, "contemporaries").median());
    let scattered = random / in_order.max(0.1);
    assert!(scattered > 5.0, "{reads:?}");
}

#[test]
#[ignore = "starts servers"]
fn what_is_set_aside_for_an_index_is_not_what_it_needs() {
    let rows = Rows { count: 28_000, ages: 4, pad: 200, seed: 1 };
    let mut load = load(&Arm::two_by_two(), &LoadSpec { rows, ..spec(28_000) }).unwrap();
    let [_, wide, _, wide_random] = [0, 1, 2, 3].map(|arm| &load.arms[arm]);
    let told = load.figures(&[]).samples("Index_length, after");
    // More than 32 leaves and fewer than 97: 32 single pages, an extent of 64, and the root.
    assert_eq!((told.values()[1], told.values()[3]), (97.0 * PAGE as f64, 97.0 * PAGE as f64));
    let more = wide_random.secondary.bytes_per_row() / wide.secondary.bytes_per_row();
    assert!((1.1..1.6).contains(&more), "{wide:?}, {wide_random:?}");
    let hasty = stale(&mut load, Arm::two_by_two()[0], Rows { count: 20_000, ..rows }).unwrap();
    let [sampled, counted] = [1, 2].map(|moment| hasty.rows().nth(moment).unwrap().number("leaves"));
    assert!(sampled == 1.0 && counted > 10.0, "{hasty:?}");
}

#[test]
#[ignore = "starts servers"]
fn keys_by_time_fill_their_pages_as_simulated_whoever_makes_them() {
    let spec = spec(20_000);
    let makers = [1, 4, 64];
    let said = simulate_makers(KeyWidth::VarChar16, &spec.rows, &makers).unwrap();
    let made = load_makers(KeyWidth::VarChar16, &spec, &makers).unwrap();
    assert_eq!(made.samples("wrong").values(), [0.0; 3]);
    for (said, made) in said.rows().zip(made.rows()) {
        let (is, said, makers) = (made.number("leaves"), said.number("leaves"), made.number("makers"));
        assert!((is - said).abs() <= 1.0 + (is / 100.0).floor(), "{makers} makers: {is}, not {said:?}");
    }
    let fill = said.samples("fill");
    assert!(fill.values()[0] > 91.0 && fill.values()[2] < 65.0, "{said:?}");
}
