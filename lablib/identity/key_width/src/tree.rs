//! A B+tree that knows only which keys lie on which page, and splits its pages as InnoDB does.

use std::collections::BTreeMap;

use super::page::{Layout, NOT_WORTH_TIDYING, RESERVE, ROOM};
use lab::{Error, Result};

/// Where a full page is cut in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Split {
    /// Beside the new record where the last insert on that page was its neighbour, since then more may come in that
    /// order; else in the middle.
    #[default]
    InnoDb,
    /// In the middle, always, as in the textbook.
    Middle,
}

/// A simulated index: its pages and the keys on them, without the rows.
///
/// ```
/// use key_width::{KeyWidth, Layout, PageTree, Split};
///
/// let mut tree = PageTree::new(Layout::clustered(KeyWidth::Int, 0), Split::InnoDb).unwrap();
/// (0..100_000_u64).for_each(|key| tree.insert(key).unwrap());
/// assert!((tree.fill() - 15.0 / 16.0).abs() < 0.01);
/// ```
#[derive(Debug, Clone)]
pub struct PageTree<K> {
    layout: Layout,
    split: Split,
    records: u64,
    splits: u64,
    spills: u64,
    leaves: Level<K>,
    /// The levels above, from the lowest to the root. The entry of a level's first page is smaller than any key.
    above: Vec<Level<Option<K>>>,
}

#[derive(Debug, Clone)]
struct Level<K> {
    /// The bytes of a record, and how many of them fit on a page.
    record: usize,
    capacity: usize,
    /// Whether a run in order leaves room for rows that grow.
    reserving: bool,
    pages: Vec<Page<K>>,
    /// The smallest key that belongs to a page; nothing for the first page, to which whatever is smaller belongs.
    directory: BTreeMap<Option<K>, usize>,
}

#[derive(Debug, Clone)]
struct Page<K> {
    keys: Vec<K>,
    /// Where the last insert went, unless records have left the page since.
    last: Option<usize>,
    /// For how many records space was taken. Those that left the page in a cut leave gaps between the others.
    heap: usize,
}

impl<K: Ord + Copy> PageTree<K> {
    /// An empty index.
    pub fn new(layout: Layout, split: Split) -> Result<Self> {
        layout.check()?;
        let leaves = Level::new(layout.leaf, layout.clustered);
        Ok(Self { layout, split, records: 0, splits: 0, spills: 0, leaves, above: Vec::new() })
    }

    /// Adds a key; an error, and nothing changed, where it is there already.
    pub fn insert(&mut self, key: K) -> Result<()> {
        let mut cut = match self.leaves.insert(key, self.split) {
            Inserted::Taken => return Err(Error::new("insert a row", "its key is taken")),
            Inserted::Fits => None,
            Inserted::Spilled => {
                self.spills += 1;
                None
            }
            Inserted::Cut(first) => Some(first),
        };
        self.records += 1;
        let mut level = 0;
        // A page that was cut needs an entry for its right half in the level above, whose page may be cut in its turn.
        while let Some(first) = cut.take() {
            self.splits += 1;
            if level == self.above.len() {
                let mut root = Level::new(self.layout.node, false);
                root.insert(None, self.split);
                self.above.push(root);
            }
            if let Inserted::Cut(next) = self.above[level].insert(Some(first), self.split) {
                cut = next;
            }
            level += 1;
        }
        Ok(())
    }

    /// How many keys it holds.
    pub fn len(&self) -> u64 {
        self.records
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// How often a page was cut in two, in all levels.
    pub fn splits(&self) -> u64 {
        self.splits
    }

    /// How often a key that had no room at the end of its page went to the front of the next one instead. InnoDB's counter
    /// `index_page_splits` counts this, too: it is the number of times that InnoDB set out to cut a page.
    pub fn spills(&self) -> u64 {
        self.spills
    }

    /// How many levels it has; 1 for a single page.
    pub fn height(&self) -> usize {
        1 + self.above.len()
    }

    /// The pages that hold records.
    pub fn leaf_pages(&self) -> u64 {
        self.leaves.pages.len() as u64
    }

    /// The pages of all levels.
    pub fn pages(&self) -> u64 {
        self.leaf_pages() + self.above.iter().map(|level| level.pages.len() as u64).sum::<u64>()
    }

    /// The share of the leaves' room that records take.
    pub fn fill(&self) -> f64 {
        fill(self.layout, self.records, self.leaf_pages())
    }

    /// The share of each leaf's room that is taken, from the smallest keys to the largest.
    pub fn fills(&self) -> Vec<f64> {
        let full = self.leaves.capacity as f64;
        self.in_order().map(|keys| keys.len() as f64 / full).collect()
    }

    /// All keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = K> {
        self.in_order().flatten().copied()
    }

    fn in_order(&self) -> impl Iterator<Item = &Vec<K>> {
        self.leaves.directory.values().map(|page| &self.leaves.pages[*page].keys)
    }
}

/// The share of so many leaves' room that so many records take.
pub(super) fn fill(layout: Layout, records: u64, leaves: u64) -> f64 {
    records as f64 / (leaves as f64 * layout.per_leaf() as f64)
}

/// What an insert did to a level.
enum Inserted<K> {
    /// Nothing: the key was there.
    Taken,
    /// The key found room.
    Fits,
    /// The key found room on the next page.
    Spilled,
    /// A page was cut in two, and this is the first key of the right half.
    Cut(K),
}

impl<K: Ord + Copy> Level<K> {
    fn new(record: usize, reserving: bool) -> Self {
        let pages = vec![Page { keys: Vec::new(), last: None, heap: 0 }];
        let directory = BTreeMap::from([(None, 0)]);
        Self { record, capacity: Layout::records(record), reserving, pages, directory }
    }

    fn insert(&mut self, key: K, rule: Split) -> Inserted<K> {
        let page = self.directory.range(..=Some(key)).next_back().map_or(0, |(_, page)| *page);
        let Err(place) = self.pages[page].keys.binary_search(&key) else { return Inserted::Taken };
        if !self.must_split(&self.pages[page], place, rule) {
            self.pages[page].add(place, key);
            return Inserted::Fits;
        }
        if place == self.pages[page].keys.len() && self.push_right(key, rule) {
            return Inserted::Spilled;
        }
        Inserted::Cut(self.cut(page, place, key, rule))
    }

    fn must_split(&self, page: &Page<K>, place: usize, rule: Split) -> bool {
        let count = page.keys.len();
        let free = self.free(count);
        if free < self.record || rule == Split::Middle {
            return free < self.record;
        }
        // A page with gaps is not tidied up for the sake of its last few bytes.
        if page.heap > count && count > 1 && free < NOT_WORTH_TIDYING && self.free(page.heap) < self.record {
            return true;
        }
        let in_order = page.ascending(place) || page.descending(place);
        self.reserving && in_order && count >= 2 && free < RESERVE + self.record
    }

    /// The bytes for one more record on a page with so many.
    fn free(&self, count: usize) -> usize {
        ROOM.saturating_sub(count * self.record + (2 * count + 2).div_ceil(4))
    }

    /// A key behind the last one of a full page may go to the front of the next page, if there is room.
    fn push_right(&mut self, key: K, rule: Split) -> bool {
        use std::ops::Bound::{Excluded, Unbounded};
        let next = self.directory.range((Excluded(Some(key)), Unbounded)).next();
        let Some((&first, &page)) = next else { return false };
        if rule == Split::Middle || self.free(self.pages[page].keys.len()) < self.record {
            return false;
        }
        self.pages[page].add(0, key);
        self.directory.remove(&first);
        self.directory.insert(Some(key), page);
        true
    }

    /// Cuts a page in two and adds the key to the half that it belongs to. Returns the right half's first key.
    fn cut(&mut self, page: usize, place: usize, key: K, rule: Split) -> K {
        // The root's records first move to a page of their own, which forgets the last insert.
        let is_root = self.pages.len() == 1;
        let old = &mut self.pages[page];
        let count = old.keys.len();
        let ascending = rule == Split::InnoDb && !is_root && old.ascending(place);
        let descending = rule == Split::InnoDb && !is_root && old.descending(place);
        let (at, goes_right) = match (ascending, descending) {
            // More may come behind the new one: it stays, and all but one of those behind it go right. Where there are
            // not two behind it, it begins the right page itself.
            (true, _) if place + 1 < count => (place + 1, false),
            (true, _) => (place, true),
            // More may come before the new one: it goes right, and takes the one before it along.
            (_, true) if place > 1 => (place - 1, true),
            (_, true) => (place, false),
            _ => (count / 2, place > count / 2),
        };
        let right = old.keys.split_off(at);
        // One half moves to a new page: the right one, unless the left one is where records came in last.
        let leftwards = descending && !ascending;
        let moved = if leftwards { std::mem::replace(&mut old.keys, right) } else { right };
        if !moved.is_empty() {
            old.last = None;
        }
        let new = self.pages.len();
        // Moving writes one record after the other, so the last of them is the last insert.
        self.pages.push(Page { last: moved.len().checked_sub(1), heap: moved.len(), keys: moved });
        let (left, right) = if leftwards { (new, page) } else { (page, new) };
        match goes_right {
            true => self.pages[right].add(place - at, key),
            false => self.pages[left].add(place, key),
        }
        let first = self.pages[right].keys[0];
        if let Some((_, home)) = self.directory.range_mut(..=Some(key)).next_back() {
            *home = left;
        }
        self.directory.insert(Some(first), right);
        first
    }
}

impl<K: Ord + Copy> Page<K> {
    fn add(&mut self, place: usize, key: K) {
        self.keys.insert(place, key);
        self.last = Some(place);
        self.heap = self.heap.max(self.keys.len());
    }

    /// Whether the insert before this one went to the place just before it.
    fn ascending(&self, place: usize) -> bool {
        place > 0 && self.last == Some(place - 1)
    }

    /// Whether the insert before this one went to the place where it goes.
    fn descending(&self, place: usize) -> bool {
        self.last == Some(place)
    }
}
