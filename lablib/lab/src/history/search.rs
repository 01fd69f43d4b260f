//! The search for a linearization of one partition: depth first over "which operation takes effect next", remembering
//! every (set of placed operations, state) that led nowhere.
//!
//! Four observations keep it small; each only drops branches that another branch covers:
//!
//! * A read that may come next and fits the state can be placed at once: wherever else it fits, it changes nothing.
//!   (This holds for operations that never change a state, not for writes that happen to change nothing here.)
//! * Of several equal operations with equal returns only the one that must end first needs trying.
//! * An operation without a known end is never placed where it changes nothing.
//! * Nor is it placed right before an operation that would have worked without it, and led to the same state.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::models::Model;
use super::operation::{Operation, Outcome};

/// How hard to search before giving up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Configurations to visit, over all partitions. Each remembers a state, so this also bounds the memory.
    pub steps: u64,
    /// Wall time.
    pub time: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: 4_000_000, time: Duration::from_secs(30) }
    }
}

/// What the search found; operations are positions in the partition.
pub(super) enum Found<State> {
    /// An order that the model can execute.
    Order(Vec<usize>),
    /// There is none. The longest order found satisfies everything that ends before `stuck` does.
    Nothing(Stuck<State>),
    /// The budget ended first.
    OutOfBudget(Stuck<State>),
}

/// The furthest that the search came.
pub(super) struct Stuck<State> {
    pub(super) prefix: Vec<usize>,
    pub(super) stuck: usize,
    pub(super) state: State,
}

/// What remains of the budget, shared by all partitions of a check.
pub(super) struct Remaining {
    steps: u64,
    until: Instant,
}

impl Remaining {
    pub(super) fn of(budget: &Budget) -> Self {
        let now = Instant::now();
        let century = Duration::from_secs(3_000_000_000);
        Self { steps: budget.steps, until: now.checked_add(budget.time.min(century)).unwrap_or(now) }
    }

    fn spend(&mut self) -> bool {
        if self.steps == 0 {
            return false;
        }
        self.steps -= 1;
        // Asking the clock costs more than a step; every 256th is soon enough.
        if self.steps & 255 == 0 && Instant::now() >= self.until {
            self.steps = 0;
            return false;
        }
        true
    }
}

/// An operation prepared for the search.
struct Item<'a, M: Model> {
    op: &'a M::Op,
    ret: Option<&'a M::Ret>,
    invoked: u64,
    /// When it must have taken effect; the end of time if its end is unknown.
    deadline: u64,
    urgency: u64,
    /// Equal for operations with equal calls and returns.
    class: usize,
    /// Position among the operations with a known end, or among those without, by invocation.
    rank: usize,
    /// Position in the partition as given.
    origin: usize,
}

impl<M: Model> Item<'_, M> {
    fn known(&self) -> bool {
        self.ret.is_some()
    }
}

/// The operations not yet placed, by invocation, as a doubly linked list: removing and putting back costs the same small time.
struct Waiting {
    next: Vec<usize>,
    previous: Vec<usize>,
}

impl Waiting {
    fn all(count: usize) -> Self {
        let ring = count + 1;
        Self {
            next: (0..ring).map(|i| (i + 1) % ring).collect(),
            previous: (0..ring).map(|i| (i + ring - 1) % ring).collect(),
        }
    }

    fn head(&self) -> usize {
        self.next.len() - 1
    }

    fn remove(&mut self, index: usize) {
        let (previous, next) = (self.previous[index], self.next[index]);
        self.next[previous] = next;
        self.previous[next] = previous;
    }

    /// Only in the reverse order of the removals.
    fn put_back(&mut self, index: usize) {
        let (previous, next) = (self.previous[index], self.next[index]);
        self.next[previous] = index;
        self.previous[next] = index;
    }
}

/// Which operations were placed. Those with a known end form a prefix but for a small window, so only the window's
/// words are stored; those without are stored whole.
#[derive(PartialEq, Eq, Hash)]
struct Configuration<State> {
    first_word: usize,
    words: Box<[u64]>,
    state: State,
}

struct Frame<State> {
    state: State,
    /// How much of the order was there before the operation that led here.
    order_before: usize,
    first_word: usize,
    /// What may come next and has not been tried, the most promising last.
    choices: Vec<(usize, State)>,
}

/// The state before an operation without a known end, when nothing has used its effect yet.
type Unused<State> = Option<State>;

struct Search<'a, M: Model> {
    model: &'a M,
    items: Vec<Item<'a, M>>,
    waiting: Waiting,
    order: Vec<usize>,
    known_left: usize,
    known_bits: Vec<u64>,
    last_word: usize,
    unknown_bits: Vec<u64>,
    seen: HashSet<Configuration<M::State>>,
    best: Best<M::State>,
}

struct Best<State> {
    deadline: Option<u64>,
    length: usize,
    stuck: usize,
    state: State,
    /// The order itself is copied only when the search leaves the branch that it was found on.
    order: Option<Vec<usize>>,
}

/// Searches one partition.
pub(super) fn search<M: Model>(
    model: &M,
    operations: &[&Operation<M::Op, M::Ret>],
    remaining: &mut Remaining,
) -> Found<M::State> {
    let items = prepare(model, operations);
    let known = items.iter().filter(|item| item.known()).count();
    let initial = model.initial();
    let mut search = Search {
        model,
        waiting: Waiting::all(items.len()),
        order: Vec::with_capacity(items.len()),
        known_left: known,
        known_bits: vec![0; known.div_ceil(64) + 1],
        last_word: 0,
        unknown_bits: vec![0; (items.len() - known).div_ceil(64)],
        seen: HashSet::new(),
        best: Best { deadline: None, length: 0, stuck: 0, state: initial.clone(), order: None },
        items,
    };
    search.run(initial, remaining)
}

fn prepare<'a, M: Model>(model: &M, operations: &[&'a Operation<M::Op, M::Ret>]) -> Vec<Item<'a, M>> {
    let urgency = model.urgency(operations);
    let mut classes: HashMap<(&M::Op, Option<&M::Ret>), usize> = HashMap::new();
    let mut items: Vec<Item<'a, M>> = Vec::with_capacity(operations.len());
    for (origin, operation) in operations.iter().enumerate() {
        let (ret, deadline) = match &operation.outcome {
            Outcome::Ok(ret) => (Some(ret), operation.returned.unwrap_or(u64::MAX)),
            Outcome::Unknown => (None, u64::MAX),
            Outcome::Failed => continue,
        };
        let fresh = classes.len();
        let class = *classes.entry((&operation.op, ret)).or_insert(fresh);
        let urgency = urgency.get(origin).copied().unwrap_or(deadline);
        items.push(Item {
            op: &operation.op,
            ret,
            invoked: operation.invoked,
            deadline,
            urgency,
            class,
            rank: 0,
            origin,
        });
    }
    items.sort_by_key(|item| (item.invoked, item.deadline));
    let (mut known, mut unknown) = (0, 0);
    for item in &mut items {
        let counter = if item.known() { &mut known } else { &mut unknown };
        item.rank = *counter;
        *counter += 1;
    }
    items
}

impl<M: Model> Search<'_, M> {
    fn run(&mut self, initial: M::State, remaining: &mut Remaining) -> Found<M::State> {
        let mut frames: Vec<Frame<M::State>> = Vec::new();
        let mut entering = Some((initial, 0, None));
        loop {
            if let Some((state, order_before, unused)) = entering.take() {
                let first_word = frames.last().map_or(0, |frame| frame.first_word);
                let used = self.place_reads(&state);
                if self.known_left == 0 {
                    return Found::Order(self.order.iter().map(|&index| self.items[index].origin).collect());
                }
                if !remaining.spend() {
                    return Found::OutOfBudget(self.stuck());
                }
                let first_word = self.skip_full_words(first_word);
                self.note_progress(&state);
                if self.seen.insert(self.configuration(first_word, &state)) {
                    let choices = self.choices(&state, unused.filter(|_| !used));
                    frames.push(Frame { state, order_before, first_word, choices });
                } else {
                    self.undo_to(order_before);
                }
            }
            let Some(frame) = frames.last_mut() else {
                return Found::Nothing(self.stuck());
            };
            if let Some((index, next)) = frame.choices.pop() {
                let unused = (!self.items[index].known()).then(|| frame.state.clone());
                let order_before = self.order.len();
                self.place(index);
                entering = Some((next, order_before, unused));
            } else {
                let order_before = frame.order_before;
                frames.pop();
                self.undo_to(order_before);
            }
        }
    }

    /// The operations that may come next: begun before the first of the waiting ones must have ended.
    fn candidates(&self) -> impl Iterator<Item = usize> + '_ {
        let head = self.waiting.head();
        let mut at = head;
        let mut first_deadline = u64::MAX;
        std::iter::from_fn(move || {
            at = self.waiting.next[at];
            if at == head || self.items[at].invoked > first_deadline {
                return None;
            }
            first_deadline = first_deadline.min(self.items[at].deadline);
            Some(at)
        })
    }

    fn place_reads(&mut self, state: &M::State) -> bool {
        let mut placed = false;
        loop {
            let fitting: Vec<usize> = self
                .candidates()
                .filter(|&index| {
                    let item = &self.items[index];
                    item.ret.is_some_and(|ret| self.model.is_read(item.op, ret))
                        && self.model.step(state, item.op, item.ret).as_ref() == Some(state)
                })
                .collect();
            if fitting.is_empty() {
                return placed;
            }
            placed = true;
            for index in fitting {
                self.place(index);
            }
        }
    }

    fn choices(&self, state: &M::State, unused: Unused<M::State>) -> Vec<(usize, M::State)> {
        let mut candidates: Vec<usize> = self.candidates().collect();
        candidates.sort_by_key(|&index| (self.items[index].class, self.items[index].deadline));
        candidates.dedup_by_key(|index| self.items[*index].class);
        candidates.sort_by_key(|&index| (!self.items[index].known(), self.items[index].urgency));
        candidates
            .into_iter()
            .rev()
            .filter_map(|index| {
                let item = &self.items[index];
                let next = self.model.step(state, item.op, item.ret)?;
                let idle = !item.known() && next == *state;
                let needless = unused
                    .as_ref()
                    .is_some_and(|before| self.model.step(before, item.op, item.ret).as_ref() == Some(&next));
                (!idle && !needless).then_some((index, next))
            })
            .collect()
    }

    fn place(&mut self, index: usize) {
        self.waiting.remove(index);
        self.order.push(index);
        self.flip(index);
        if self.items[index].known() {
            self.known_left -= 1;
        }
    }

    fn undo_to(&mut self, length: usize) {
        if self.best.order.is_none() && self.best.length > length {
            self.best.order = Some(self.order[..self.best.length].to_vec());
        }
        while self.order.len() > length {
            if let Some(index) = self.order.pop() {
                self.waiting.put_back(index);
                self.flip(index);
                if self.items[index].known() {
                    self.known_left += 1;
                }
            }
        }
    }

    fn flip(&mut self, index: usize) {
        let item = &self.items[index];
        let (word, bit) = (item.rank / 64, 1 << (item.rank % 64));
        if item.known() {
            self.known_bits[word] ^= bit;
            self.last_word = self.last_word.max(word);
        } else {
            self.unknown_bits[word] ^= bit;
        }
    }

    fn skip_full_words(&self, mut word: usize) -> usize {
        while self.known_bits[word] == u64::MAX {
            word += 1;
        }
        word
    }

    fn configuration(&self, first_word: usize, state: &M::State) -> Configuration<M::State> {
        let mut end = self.last_word + 1;
        while end > first_word && self.known_bits[end - 1] == 0 {
            end -= 1;
        }
        let window = self.known_bits.get(first_word..end).unwrap_or_default();
        let words = window.iter().chain(&self.unknown_bits).copied().collect();
        Configuration { first_word, words, state: state.clone() }
    }

    fn note_progress(&mut self, state: &M::State) {
        let head = self.waiting.head();
        let (mut at, mut stuck, mut deadline) = (self.waiting.next[head], head, u64::MAX);
        while at != head && self.items[at].invoked <= deadline {
            if self.items[at].deadline < deadline || stuck == head {
                (stuck, deadline) = (at, self.items[at].deadline);
            }
            at = self.waiting.next[at];
        }
        if Some(deadline) > self.best.deadline {
            let length = self.order.len();
            self.best = Best { deadline: Some(deadline), length, stuck, state: state.clone(), order: None };
        }
    }

    fn stuck(&self) -> Stuck<M::State> {
        let order = self.best.order.as_deref().unwrap_or(&self.order[..self.best.length.min(self.order.len())]);
        Stuck {
            prefix: order.iter().map(|&index| self.items[index].origin).collect(),
            stuck: self.items[self.best.stuck].origin,
            state: self.best.state.clone(),
        }
    }
}
