//! Circles in the graph of dependencies: whether there are any is decided exactly, by strongly connected components;
//! which one is shown is the shortest that a bounded search finds.

use std::collections::VecDeque;

use super::anomaly::AnomalyKind;
use super::dependency::{Edge, Graph, Link};
use super::evidence::{Evidence, Findings};

const WRITES: u8 = Link::Overwrote.bit();
const INFORMATION: u8 = WRITES | Link::Read.bit() | Link::Hub.bit();
const ALL: u8 = INFORMATION | Link::Missed.bit();
const ALL_AND_TIME: u8 = ALL | Link::Time.bit() | Link::Hidden.bit();

/// How many edges the search for a short circle may look at in each component.
const EFFORT: usize = 2_000_000;

/// Finds the circles that need no clock.
pub(super) fn find(graph: &Graph, evidence: &Evidence<'_>, findings: &mut Findings) {
    let writes = View { graph, allowed: WRITES, no_two_missed: false };
    for component in Components::of(&writes).in_circles() {
        if let Some(circle) = shortest(&writes, &component, Link::Overwrote, |_| true) {
            report(AnomalyKind::DirtyWrite, graph, &circle, evidence, findings);
        }
    }
    let information = View { allowed: INFORMATION, ..writes };
    for component in Components::of(&information).in_circles() {
        if let Some(circle) = shortest(&information, &component, Link::Read, |_| true) {
            report(AnomalyKind::CircularInformation, graph, &circle, evidence, findings);
        }
    }
    let all = View { allowed: ALL, ..writes };
    for component in Components::of(&all).in_circles() {
        if let Some(circle) = shortest(&information, &component, Link::Missed, |_| true) {
            report(AnomalyKind::ReadSkew, graph, &circle, evidence, findings);
        }
        let adjacent = |circle: &[Edge]| two_in_a_row(circle);
        if let Some(circle) = shortest(&all, &component, Link::Missed, adjacent) {
            report(AnomalyKind::WriteSkew, graph, &circle, evidence, findings);
        }
    }
    // What a snapshot forbids is decided on its own graph, so that a long circle cannot hide behind the bounded search.
    let snapshot = View { no_two_missed: true, ..all };
    for component in Components::of(&snapshot).in_circles() {
        let skewed = findings.counts.contains_key(&AnomalyKind::ReadSkew);
        let several = |circle: &[Edge]| !skewed || missed(circle) > 1;
        if let Some(circle) = shortest(&snapshot, &component, Link::Missed, several) {
            let kind = if missed(&circle) == 1 { AnomalyKind::ReadSkew } else { AnomalyKind::NonAdjacent };
            report(kind, graph, &circle, evidence, findings);
        }
    }
}

/// Finds the circles that the order in time closes, in a graph that has it.
pub(super) fn find_with_time(graph: &Graph, evidence: &Evidence<'_>, findings: &mut Findings) {
    let view = View { graph, allowed: ALL_AND_TIME, no_two_missed: false };
    for component in Components::of(&view).in_circles() {
        let by_time = shortest(&view, &component, Link::Time, |_| true);
        if let Some(circle) = by_time.or_else(|| shortest(&view, &component, Link::Hidden, |_| true)) {
            report(AnomalyKind::RealTime, graph, &circle, evidence, findings);
        }
    }
}

fn missed(circle: &[Edge]) -> usize {
    circle.iter().filter(|edge| edge.link == Link::Missed).count()
}

fn two_in_a_row(circle: &[Edge]) -> bool {
    let links: Vec<Link> = circle.iter().map(|edge| edge.link).filter(|link| *link != Link::Hub).collect();
    links.len() > 1
        && (0..links.len()).any(|i| links[i] == Link::Missed && links[(i + 1) % links.len()] == Link::Missed)
}

/// The graph with some kinds of edges. Where no two missed writes may follow each other, a state is a node together with
/// whether a missed write led to it; otherwise it is the node.
#[derive(Clone, Copy)]
struct View<'a> {
    graph: &'a Graph,
    allowed: u8,
    no_two_missed: bool,
}

impl View<'_> {
    fn states(&self) -> usize {
        if self.no_two_missed { self.graph.nodes * 2 } else { self.graph.nodes }
    }

    fn node(&self, state: usize) -> usize {
        if self.no_two_missed { state / 2 } else { state }
    }

    fn edges(&self, state: usize) -> std::ops::Range<usize> {
        self.graph.out(self.node(state))
    }

    /// Where `edge` leads from `state`, if it may be taken.
    fn follow(&self, state: usize, edge: usize) -> Option<usize> {
        let edge = &self.graph.edges[edge];
        if edge.link.bit() & self.allowed == 0 {
            return None;
        }
        if !self.no_two_missed {
            return Some(edge.to);
        }
        let after_missed = state % 2 == 1;
        match edge.link {
            Link::Missed if after_missed => None,
            Link::Missed => Some(edge.to * 2 + 1),
            Link::Hub => Some(edge.to * 2 + usize::from(after_missed)),
            _ => Some(edge.to * 2),
        }
    }
}

/// Tarjan's strongly connected components, without recursion: a history's circle can be as long as the history.
struct Components {
    of_state: Vec<usize>,
    count: usize,
}

impl Components {
    fn of(view: &View<'_>) -> Self {
        const UNSEEN: usize = usize::MAX;
        let states = view.states();
        let (mut index, mut low) = (vec![UNSEEN; states], vec![0; states]);
        let mut of_state = vec![UNSEEN; states];
        let (mut stack, mut calls) = (Vec::new(), Vec::new());
        let (mut visited, mut count) = (0, 0);
        for root in 0..states {
            if index[root] != UNSEEN {
                continue;
            }
            calls.push((root, view.edges(root)));
            index[root] = visited;
            low[root] = visited;
            visited += 1;
            stack.push(root);
            while let Some((state, edges)) = calls.last_mut() {
                let state = *state;
                if let Some(edge) = edges.next() {
                    let Some(next) = view.follow(state, edge) else { continue };
                    if index[next] == UNSEEN {
                        index[next] = visited;
                        low[next] = visited;
                        visited += 1;
                        stack.push(next);
                        calls.push((next, view.edges(next)));
                    } else if of_state[next] == UNSEEN {
                        low[state] = low[state].min(index[next]);
                    }
                    continue;
                }
                calls.pop();
                if let Some((parent, _)) = calls.last() {
                    low[*parent] = low[*parent].min(low[state]);
                }
                if low[state] == index[state] {
                    while let Some(member) = stack.pop() {
                        of_state[member] = count;
                        if member == state {
                            break;
                        }
                    }
                    count += 1;
                }
            }
        }
        Self { of_state, count }
    }

    /// The components with more than one state: no edge leads from a node to itself, so these hold all circles.
    fn in_circles(self) -> Vec<Component> {
        let mut sizes = vec![0; self.count];
        for &component in &self.of_state {
            sizes[component] += 1;
        }
        let mut numbers = vec![usize::MAX; self.count];
        let mut components: Vec<Component> = Vec::new();
        for (state, &component) in self.of_state.iter().enumerate() {
            if sizes[component] < 2 {
                continue;
            }
            if numbers[component] == usize::MAX {
                numbers[component] = components.len();
                components.push(Component { states: Vec::with_capacity(sizes[component]) });
            }
            components[numbers[component]].states.push(state);
        }
        components
    }
}

/// The states of a component, ascending.
struct Component {
    states: Vec<usize>,
}

impl Component {
    fn position(&self, state: usize) -> Option<usize> {
        self.states.binary_search(&state).ok()
    }
}

/// The shortest circle, among those tried, that has an edge of kind `through` and that `wanted` accepts. The way back
/// from that edge uses what `view` allows; the edge itself need not be allowed by it.
fn shortest(
    view: &View<'_>,
    component: &Component,
    through: Link,
    wanted: impl Fn(&[Edge]) -> bool,
) -> Option<Vec<Edge>> {
    let entering = View { allowed: view.allowed | through.bit(), ..*view };
    let mut effort = EFFORT;
    let mut best: Option<Vec<Edge>> = None;
    for &from in &component.states {
        for edge in view.edges(from).filter(|&edge| view.graph.edges[edge].link == through) {
            let Some(to) = entering.follow(from, edge) else { continue };
            if component.position(to).is_none() {
                continue;
            }
            if let Some(back) = way(view, component, to, from, &mut effort) {
                let circle: Vec<Edge> = std::iter::once(edge).chain(back).map(|edge| view.graph.edges[edge]).collect();
                let shorter = best.as_ref().is_none_or(|best| length(&circle) < length(best));
                if shorter && wanted(&circle) {
                    best = Some(circle);
                }
            }
            if effort == 0 || best.as_ref().is_some_and(|best| length(best) == 2) {
                return best;
            }
        }
    }
    best
}

/// How many steps a reader sees: hubs and moments are not shown.
fn length(circle: &[Edge]) -> usize {
    circle.iter().filter(|edge| edge.link != Link::Hub && edge.link != Link::Time).count()
        + circle.windows(2).filter(|pair| pair[0].link != Link::Time && pair[1].link == Link::Time).count()
}

/// A shortest way within a component; moments and hubs cost nothing.
fn way(view: &View<'_>, component: &Component, from: usize, to: usize, effort: &mut usize) -> Option<Vec<usize>> {
    // Laying out the component is work as well.
    *effort = effort.saturating_sub(component.states.len() / 4);
    let mut came_by: Vec<Option<(usize, usize)>> = vec![None; component.states.len()];
    let mut cost = vec![usize::MAX; component.states.len()];
    let start = component.position(from)?;
    let goal = component.position(to)?;
    cost[start] = 0;
    let mut queue = VecDeque::from([(start, 0)]);
    while let Some((at, cost_here)) = queue.pop_front() {
        if at == goal {
            break;
        }
        if cost_here > cost[at] {
            continue;
        }
        let state = component.states[at];
        for edge in view.edges(state) {
            *effort = effort.saturating_sub(1);
            let Some(next) = view.follow(state, edge).and_then(|next| component.position(next)) else { continue };
            let target = view.graph.edges[edge].to;
            let step = usize::from(target < view.graph.transactions);
            if cost[at] + step < cost[next] {
                cost[next] = cost[at] + step;
                came_by[next] = Some((at, edge));
                if step == 0 { queue.push_front((next, cost[next])) } else { queue.push_back((next, cost[next])) }
            }
        }
    }
    let mut edges = Vec::new();
    let mut at = goal;
    while at != start {
        let (before, edge) = came_by[at]?;
        edges.push(edge);
        at = before;
    }
    edges.reverse();
    Some(edges)
}

/// Says what closes the circle, one step after the other.
fn report(kind: AnomalyKind, graph: &Graph, circle: &[Edge], evidence: &Evidence<'_>, findings: &mut Findings) {
    // Begin at a transaction, not in the middle of a hub or between moments.
    let is_transaction = |node: usize| node < graph.transactions;
    let first = circle.iter().position(|edge| is_transaction(edge.from)).unwrap_or(0);
    let mut steps = Vec::new();
    let mut order: Vec<usize> = Vec::new();
    let mut left: Option<Edge> = None;
    for offset in 0..circle.len() {
        let edge = circle[(first + offset) % circle.len()];
        let start = *left.get_or_insert(edge);
        if is_transaction(edge.to) {
            order.push(start.from);
            steps.push(step(evidence, start, edge));
            left = None;
        }
    }
    findings.add(kind, &order, || {
        let mut names: Vec<String> = order.iter().map(|transaction| format!("T{transaction}")).collect();
        names.extend(order.first().map(|transaction| format!("T{transaction}")));
        format!("{}; so they would have to come in the circle {}", steps.join("; "), names.join(" < "))
    });
}

fn step(evidence: &Evidence<'_>, start: Edge, end: Edge) -> String {
    let (first, second, value) = (start.from, end.to, end.value);
    let (name, list) = match start.link {
        Link::Time => ("", false),
        _ => (evidence.keys[start.key], evidence.is_list[start.key]),
    };
    match start.link {
        Link::Overwrote if list => format!("T{second} appended {value} to {name} after T{first}"),
        Link::Overwrote => format!("T{second} replaced what T{first} wrote to {name} by {value}"),
        Link::Read => format!("T{second} read T{first}'s {value} in {name}"),
        Link::Missed | Link::Hub => format!("T{first} read {name} before T{second}'s {value} was there"),
        Link::Hidden => format!("T{first} read {name} without T{second}'s {value}, which was newer than what it read"),
        Link::Time => format!("T{first} ended before T{second} began"),
    }
}
