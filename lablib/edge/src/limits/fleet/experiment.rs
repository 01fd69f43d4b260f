//! The fleet put to sea, and what it looked like.

use super::{FleetNetwork, FleetSpec, Plan, Voyage, sail};
use lab::chart::{Bars, Chart, Latencies, Lines, Panels};
use lab::{OrFail, Table, readable, significant};

/// What each limit of this machine allows, before anything is opened.
pub fn plan(connections: u64) -> Plan {
    FleetNetwork::inside(|network| Plan::new(connections, network)).or_fail()
}

/// Opens so many connections in a fleet of processes, pings some while all are open, and closes them.
pub fn fleet(spec: &FleetSpec) -> Voyage {
    sail(spec).or_fail()
}

impl Plan {
    /// The limits beside each other.
    pub fn chart(&self, title: &str) -> Bars {
        let mut chart = Chart::bars(title).y("connections, both ends on this machine", "").log().horizontal();
        for room in &self.room {
            chart = chart.bar(room.name, room.connections);
        }
        chart.mark_y("wanted", self.connections as f64)
    }

    /// Where each of them comes from.
    pub fn table(&self) -> Table {
        Table::new(&format!("{} connections: what there is room for, before the first is opened", self.wanted()))
            .text("limit", self.room.iter().map(|room| room.name))
            .numbers("allows", "connections", self.room.iter().map(|room| room.connections))
            .text("why", self.room.iter().map(|room| room.why.as_str()))
    }

    /// What the fleet will look like.
    pub fn sentence(&self) -> String {
        format!(
            "{} pairs of processes with up to {} connections each, on {} {} each, in {}",
            self.pairs,
            significant(self.share(0) as f64),
            self.ports_each,
            if self.ports_each == 1 { "port" } else { "ports" },
            self.network
        )
    }

    fn wanted(&self) -> String {
        significant(self.connections as f64)
    }
}

impl Voyage {
    /// How many bytes a connection took all in all, kernel and processes.
    pub fn each(&self) -> f64 {
        self.kernel_each + self.user_each
    }

    /// Connections opened each second, on average.
    pub fn per_second(&self) -> f64 {
        self.open as f64 / self.seconds
    }

    /// How memory grew with the connections, and how fast they came.
    pub fn chart(&self, title: &str) -> Panels {
        let memory = self.memory_chart(title).size(480, 340);
        let came = format!("{} of them came each second", significant(self.per_second().round()));
        let time = self.time_chart(&came).size(420, 340);
        Chart::side_by_side(&[&memory, &time]).titled(title)
    }

    /// Memory against connections, while they were opened.
    pub fn memory_chart(&self, title: &str) -> Lines {
        let megabytes = |bytes: f64| bytes / 1e6;
        let each = self.predicted_each();
        // A hundred points are enough for a line.
        let step = self.moments.len().div_ceil(100).max(1);
        let kept: Vec<_> = self.moments.iter().step_by(step).chain(self.moments.last()).collect();
        Chart::lines(title)
            .x("connections open", "")
            .y("memory of the kernel", "MB")
            .from_zero()
            .line("measured", kept.iter().map(|moment| (moment.open as f64, megabytes(moment.kernel))))
            .predicted("the objects' sizes", move |open| megabytes(open * each))
            .mark_point("seed: 1 kB an end", self.open as f64, megabytes(self.open as f64 * 2_000.0))
    }

    /// Connections against time.
    pub fn time_chart(&self, title: &str) -> Lines {
        let step = self.moments.len().div_ceil(100).max(1);
        let kept: Vec<_> = self.moments.iter().step_by(step).chain(self.moments.last()).collect();
        Chart::lines(title)
            .x("since the first", "s")
            .y("connections open", "")
            .from_zero()
            .line("open", kept.iter().map(|moment| (moment.seconds, moment.open as f64)))
    }

    fn predicted_each(&self) -> f64 {
        crate::limits::memory::Slabs::read()
            .map_or(f64::NAN, |slabs| crate::limits::memory::predicted_pair_bytes(&slabs))
    }

    /// The pings, of both kinds.
    pub fn latencies(&self, title: &str) -> Latencies {
        Chart::latencies(title).latency("always the same one", &self.same).latency("any of them", &self.random)
    }

    /// What happened, in figures.
    pub fn table(&self) -> Table {
        let count = |number: u64| significant(number as f64);
        let rows = [
            ("connections that echoed their own number", count(self.open)),
            ("connected sockets, by the kernel's count", count(self.sockets)),
            ("processes", count(2 * self.plan.pairs)),
            ("time to establish them", format!("{} s", significant(self.seconds))),
            ("connections a second", significant(self.per_second().round())),
            ("kernel memory for each, both ends", format!("{} B", significant(self.kernel_each.round()))),
            ("memory of the processes for each", format!("{} B", significant(self.user_each.round()))),
            ("a ping to any of them, p50 and p99", {
                format!("{} and {}", readable(self.random.p50()), readable(self.random.p99()))
            }),
            ("stopped early by", self.stopped.clone().unwrap_or_else(|| "nothing".into())),
        ];
        Table::new("The fleet at its height")
            .text("", rows.iter().map(|row| row.0))
            .text("measured", rows.iter().map(|row| row.1.as_str()))
    }
}
