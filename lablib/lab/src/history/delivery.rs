//! Messages: did every acknowledged one arrive, once, in order, and nothing else?
//!
//! * Lost: acknowledged to its sender and never received. Say so only once the consumers have drained everything.
//! * Duplicate: received more than once by the group of consumers that is checked.
//! * Out of order: received for the first time after a message that the same sender sent later under the same key.
//!   A redelivery is a duplicate and does not count here.
//! * Phantom: received, but never sent, or refused to its sender.
//! * A send without an answer may arrive or not; neither is a fault.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Debug};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::recorder::{from_lines, lines_of};
use crate::{Error, Result};

/// What a sender learnt about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Acknowledged {
    /// The broker has it.
    Yes,
    /// The broker definitely does not have it.
    Refused,
    /// No answer came.
    Unknown,
}

/// One message sent. The order of a history's sends is the order in which each sender sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent<K, M> {
    /// Who sent it.
    pub sender: usize,
    /// Within one key, a sender's order must be kept.
    pub key: K,
    /// Unique among all messages.
    pub message: M,
    /// What the sender learnt.
    pub acknowledged: Acknowledged,
}

/// One message received. The order of a history's receipts is the order in which they happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received<M> {
    /// Who received it.
    pub consumer: usize,
    /// The message.
    pub message: M,
}

/// A message that overtook another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overtaken<K, M> {
    /// The key that both were sent under.
    pub key: K,
    /// The one sent first and received last.
    pub late: M,
    /// The one sent later and received before it.
    pub overtaken_by: M,
}

/// What the messages show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryReport<K, M> {
    /// How many messages were sent, whatever became of them.
    pub sent: usize,
    /// How many receipts there were, duplicates included.
    pub received: usize,
    /// Acknowledged and never received.
    pub lost: Vec<M>,
    /// Received more than once, with how often.
    pub duplicates: Vec<(M, usize)>,
    /// Received after a later message of the same sender and key.
    pub out_of_order: Vec<Overtaken<K, M>>,
    /// Received and never sent, or refused.
    pub phantoms: Vec<M>,
}

impl<K, M> DeliveryReport<K, M> {
    /// Nothing acknowledged was lost, nothing was made up.
    pub fn at_least_once(&self) -> bool {
        self.lost.is_empty() && self.phantoms.is_empty()
    }

    /// Nothing arrived twice, nothing was made up.
    pub fn at_most_once(&self) -> bool {
        self.duplicates.is_empty() && self.phantoms.is_empty()
    }

    /// Both.
    pub fn exactly_once(&self) -> bool {
        self.at_least_once() && self.at_most_once()
    }

    /// No message was overtaken within its sender and key.
    pub fn in_order(&self) -> bool {
        self.out_of_order.is_empty()
    }
}

impl<K: Debug, M: Debug> fmt::Display for DeliveryReport<K, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages sent, {} received", self.sent, self.received)?;
        if self.exactly_once() && self.in_order() {
            return f.write_str(": each acknowledged one exactly once and in order");
        }
        let faults = [
            (self.lost.len(), self.lost.first().map(|m| format!("{m:?} was acknowledged and never received"))),
            (self.duplicates.len(), self.duplicates.first().map(|(m, n)| format!("{m:?} was received {n} times"))),
            (
                self.out_of_order.len(),
                self.out_of_order.first().map(|o| {
                    format!("{:?} of key {:?} was received after the later {:?}", o.late, o.key, o.overtaken_by)
                }),
            ),
            (self.phantoms.len(), self.phantoms.first().map(|m| format!("{m:?} was received and never accepted"))),
        ];
        let names = ["lost", "duplicated", "out of order", "phantom"];
        for (name, (count, example)) in names.iter().zip(faults) {
            if let Some(example) = example {
                write!(f, "; {count} {name} (for example {example})")?;
            }
        }
        Ok(())
    }
}

/// Compares what was sent with what one group of consumers received.
///
/// ```
/// use lab::history::delivery::{Acknowledged, Received, Sent, check};
///
/// let sent = ["a", "b"].map(|message| Sent { sender: 0, key: "k", message, acknowledged: Acknowledged::Yes });
/// let received = [Received { consumer: 0, message: "b" }];
/// let report = check(&sent, &received).unwrap();
/// assert_eq!(report.lost, ["a"]);
/// assert!(!report.at_least_once() && report.at_most_once());
/// ```
pub fn check<K, M>(sent: &[Sent<K, M>], received: &[Received<M>]) -> Result<DeliveryReport<K, M>>
where
    K: Clone + Debug + Eq + Hash,
    M: Clone + Debug + Eq + Hash,
{
    let mut positions: HashMap<&M, usize> = HashMap::with_capacity(sent.len());
    for (position, send) in sent.iter().enumerate() {
        if positions.insert(&send.message, position).is_some() {
            return Err(Error::new("check the messages", format!("{:?} was sent twice", send.message))
                .remedy("give each message a number of its own"));
        }
    }
    let mut report = DeliveryReport {
        sent: sent.len(),
        received: received.len(),
        lost: Vec::new(),
        duplicates: Vec::new(),
        out_of_order: Vec::new(),
        phantoms: Vec::new(),
    };
    let mut times = vec![0; sent.len()];
    let mut unsent: BTreeMap<usize, (&M, usize)> = BTreeMap::new();
    let mut unsent_first: HashMap<&M, usize> = HashMap::new();
    // For each sender and key: the latest sent of those received so far.
    let mut newest: HashMap<(usize, &K), usize> = HashMap::new();
    for (receipt, Received { message, .. }) in received.iter().enumerate() {
        let Some(&position) = positions.get(message) else {
            let first = *unsent_first.entry(message).or_insert(receipt);
            unsent.entry(first).or_insert((message, 0)).1 += 1;
            continue;
        };
        times[position] += 1;
        if times[position] > 1 {
            continue;
        }
        let send = &sent[position];
        let newest = newest.entry((send.sender, &send.key)).or_insert(position);
        if *newest > position {
            report.out_of_order.push(Overtaken {
                key: send.key.clone(),
                late: message.clone(),
                overtaken_by: sent[*newest].message.clone(),
            });
        }
        *newest = position.max(*newest);
    }
    for (send, &times) in sent.iter().zip(&times) {
        match send.acknowledged {
            Acknowledged::Yes if times == 0 => report.lost.push(send.message.clone()),
            Acknowledged::Refused if times > 0 => report.phantoms.push(send.message.clone()),
            _ => {}
        }
        if times > 1 {
            report.duplicates.push((send.message.clone(), times));
        }
    }
    for (message, times) in unsent.into_values() {
        report.phantoms.push(message.clone());
        if times > 1 {
            report.duplicates.push((message.clone(), times));
        }
    }
    Ok(report)
}

/// A line of a saved history.
#[derive(Serialize, Deserialize)]
enum Line<K, M> {
    Sent(Sent<K, M>),
    Received(Received<M>),
}

#[derive(Debug)]
struct Log<K, M> {
    sent: Mutex<Vec<Sent<K, M>>>,
    received: Mutex<Vec<Received<M>>>,
}

/// A recorder of messages that any number of senders and consumers share; one for each group of consumers.
///
/// ```
/// use lab::history::Deliveries;
///
/// let deliveries = Deliveries::new();
/// deliveries.send(0, "user-1", 100).acknowledged();
/// deliveries.send(0, "user-1", 101); // dropped without an answer: may arrive or not
/// deliveries.received(0, 100);
/// assert!(deliveries.check().unwrap().exactly_once());
/// ```
#[derive(Debug)]
pub struct Deliveries<K, M> {
    log: Arc<Log<K, M>>,
}

impl<K, M> Clone for Deliveries<K, M> {
    fn clone(&self) -> Self {
        Self { log: Arc::clone(&self.log) }
    }
}

impl<K, M> Default for Deliveries<K, M> {
    fn default() -> Self {
        Self::new()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, M> Deliveries<K, M> {
    /// Nothing sent, nothing received.
    pub fn new() -> Self {
        Self::holding(Vec::new(), Vec::new())
    }

    fn holding(sent: Vec<Sent<K, M>>, received: Vec<Received<M>>) -> Self {
        Self { log: Arc::new(Log { sent: Mutex::new(sent), received: Mutex::new(received) }) }
    }

    /// Records that `sender` is about to send `message` under `key`; call it right before sending.
    pub fn send(&self, sender: usize, key: K, message: M) -> Sending<K, M> {
        let mut sent = locked(&self.log.sent);
        sent.push(Sent { sender, key, message, acknowledged: Acknowledged::Unknown });
        Sending { log: Arc::clone(&self.log), position: sent.len() - 1 }
    }

    /// Records that `consumer` has received `message`.
    pub fn received(&self, consumer: usize, message: M) {
        locked(&self.log.received).push(Received { consumer, message });
    }
}

impl<K, M> Deliveries<K, M>
where
    K: Clone + Debug + Eq + Hash,
    M: Clone + Debug + Eq + Hash,
{
    /// Compares what was sent with what was received.
    pub fn check(&self) -> Result<DeliveryReport<K, M>> {
        let received = locked(&self.log.received).clone();
        // Taken second: whatever was received is among what was sent by now.
        let sent = locked(&self.log.sent).clone();
        check(&sent, &received)
    }
}

impl<K: Clone + Serialize, M: Clone + Serialize> Deliveries<K, M> {
    /// Everything as text, one JSON object a line.
    pub fn to_json_lines(&self) -> Result<String> {
        let received = locked(&self.log.received).clone();
        let sent = locked(&self.log.sent).clone();
        let lines: Vec<Line<K, M>> =
            sent.into_iter().map(Line::Sent).chain(received.into_iter().map(Line::Received)).collect();
        lines_of(&lines)
    }
}

impl<K: serde::de::DeserializeOwned, M: serde::de::DeserializeOwned> Deliveries<K, M> {
    /// Reads a history back from its JSON lines.
    pub fn from_json_lines(text: &str) -> Result<Self> {
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        for line in from_lines(text)? {
            match line {
                Line::Sent(line) => sent.push(line),
                Line::Received(line) => received.push(line),
            }
        }
        Ok(Self::holding(sent, received))
    }
}

/// A message on its way. Dropped without an answer, nobody knows what became of it.
#[derive(Debug)]
pub struct Sending<K, M> {
    log: Arc<Log<K, M>>,
    position: usize,
}

impl<K, M> Sending<K, M> {
    /// The broker has it.
    pub fn acknowledged(self) {
        self.set(Acknowledged::Yes);
    }

    /// The broker definitely does not have it.
    pub fn refused(self) {
        self.set(Acknowledged::Refused);
    }

    /// No answer came.
    pub fn unknown(self) {
        self.set(Acknowledged::Unknown);
    }

    fn set(&self, acknowledged: Acknowledged) {
        if let Some(sent) = locked(&self.log.sent).get_mut(self.position) {
            sent.acknowledged = acknowledged;
        }
    }
}
