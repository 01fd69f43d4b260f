//! A split tenant as a drawing: documents, buckets, sub-keys, shards.

use std::fmt::Write as _;

use super::routing::Routing;
use super::shards::BUCKETS;
use super::split_map::{Split, SplitMap};
use lab::display::escape;
use lab::{Drawing, OrFail, Result};

const LEFT: f64 = 16.0;
const WIDE: f64 = 688.0;

/// The picture of a tenant in so many parts, on shards spread over ten.
pub fn picture_of_a_split(parts: usize) -> Drawing {
    let picture = || {
        let routing = Routing::new(10)?;
        let shard = |bucket: usize| bucket * parts / BUCKETS as usize * 10 / parts.max(1) + 1;
        let homes: Vec<usize> = (0..BUCKETS as usize).map(|bucket| shard(bucket).min(9)).collect();
        let split = Split::over(&routing, "tenant1", &homes)?;
        SplitMap::default().with("tenant1", Some(split)).picture(&routing, "tenant1")
    };
    picture().or_fail()
}

impl SplitMap {
    /// The way from a tenant's documents to shards: where each bucket lives, at its true shard.
    pub fn picture(&self, routing: &Routing, tenant: &str) -> Result<Drawing> {
        let asks = self.asks(tenant);
        let shards = routing.primaries() as usize;
        let mut svg = String::new();
        let mut plain = format!("{tenant}: {BUCKETS} buckets by document id, over {} sub-keys.\n", asks.len());
        let text = |svg: &mut String, x: f64, y: f64, anchor: &str, colour: &str, what: &str| {
            let _ = write!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{}</text>",
                escape(what)
            );
        };
        text(
            &mut svg,
            LEFT,
            22.0,
            "start",
            "#1f2933",
            &format!("documents of {tenant}, in {BUCKETS} buckets by their ids"),
        );
        text(&mut svg, LEFT, 128.0, "start", "#1f2933", "split map: the sub-key of each bucket");
        text(
            &mut svg,
            LEFT,
            288.0,
            "start",
            "#6b7280",
            "a read of the tenant asks the coloured shards, each for its own buckets",
        );
        let cell = WIDE / f64::from(BUCKETS);
        let box_wide = WIDE / shards as f64;
        let mut taken = vec![None; shards];
        for (place, ask) in asks.iter().enumerate() {
            let colour = Drawing::colour(place);
            let shard = routing.shards_of(&ask.routing)?.first().copied().unwrap_or(0);
            taken[shard] = Some(colour);
            let key_at = LEFT + WIDE * (place as f64 + 0.5) / asks.len() as f64;
            let shard_at = LEFT + box_wide * (shard as f64 + 0.5);
            for bucket in ask.buckets.iter() {
                let x = LEFT + cell * f64::from(bucket);
                let _ = write!(
                    svg,
                    "<path d=\"M{0:.1} 58 L{key_at:.1} 138\" stroke=\"{colour}\" stroke-opacity=\"0.28\"/>\
                     <rect x=\"{x:.1}\" y=\"32\" width=\"{1:.1}\" height=\"26\" fill=\"{colour}\"/>",
                    x + cell / 2.0,
                    cell - 1.5
                );
            }
            let _ = write!(
                svg,
                "<path d=\"M{key_at:.1} 166 L{shard_at:.1} 222\" stroke=\"{colour}\" stroke-width=\"2\"/>\
                 <rect x=\"{0:.1}\" y=\"138\" width=\"110\" height=\"28\" rx=\"5\" fill=\"#fff\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                key_at - 55.0
            );
            text(&mut svg, key_at, 156.0, "middle", "#1f2933", &ask.routing);
            let _ = writeln!(plain, "{}: {} buckets, on shard {shard}", ask.routing, ask.buckets.len());
        }
        for (shard, colour) in taken.iter().enumerate() {
            let x = LEFT + box_wide * shard as f64 + 3.0;
            let _ = write!(
                svg,
                "<rect x=\"{x:.1}\" y=\"222\" width=\"{:.1}\" height=\"40\" rx=\"5\" fill=\"{}\" fill-opacity=\"{}\" stroke=\"{}\"/>",
                box_wide - 6.0,
                colour.unwrap_or("#fff"),
                if colour.is_some() { "0.25" } else { "1" },
                colour.unwrap_or("#c4cad1"),
            );
            text(&mut svg, x + box_wide / 2.0 - 3.0, 246.0, "middle", "#1f2933", &format!("shard {shard}"));
        }
        let title = "A split tenant: a document's id decides its bucket, the split map the bucket's sub-key, the sub-key's \
                     hash the shard";
        Ok(Drawing::new(title, (720.0, 300.0), &svg, &plain))
    }
}
