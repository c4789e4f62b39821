//! What happens in a world, and when: all of it follows from the seed.

use crate::dice::Dice;
use crate::net::HostId;

/// The control plane.
pub const CONTROL: HostId = 0;
/// Media nodes.
pub const NODES: [HostId; 2] = [1, 2];
/// Where publishers are.
pub const CLIENTS: HostId = 3;

/// After this faults and publishers come to an end, in milliseconds.
pub const BUSY: u64 = 40_000;

/// A way to break the system on purpose: the simulation has to see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// later epochs write under the keys of the first.
    NoEpochInKeys,
    /// what is on the node's disk counts as reported.
    ReleaseBeforeDurable,
    /// what was sent counts as stored, without a look.
    NoHead,
    /// what is called durable was never synced.
    NoSync,
}

impl Mutant {
    /// All of them, by the name that the command line takes.
    pub const ALL: [(&'static str, Self); 4] = [
        ("no-epoch-in-keys", Self::NoEpochInKeys),
        ("release-before-durable", Self::ReleaseBeforeDurable),
        ("no-head", Self::NoHead),
        ("no-sync", Self::NoSync),
    ];
}

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// One direction is silent for so long.
    Silence {
        /// From this host
        from: HostId,
        /// to that one.
        to: HostId,
        /// For so many ms.
        lasts: u64,
    },
    /// Connections are reset.
    Cut(HostId, HostId),
    /// A process dies, and comes back after so many ms; with the power, what was not synced is gone.
    Crash {
        /// Which host.
        host: HostId,
        /// For so many ms.
        lasts: u64,
        /// The power failed.
        power: bool,
    },
    /// The bucket fails in this way for so many ms.
    Bucket {
        /// Percent refused, lost replies, lost requests; `None` = all of it is away.
        percents: Option<[u64; 3]>,
        /// For so many ms.
        lasts: u64,
    },
    /// A node stands still for so many ms (SIGSTOP); its publishers may go elsewhere meanwhile.
    Pause {
        /// Which.
        host: HostId,
        /// For so many ms.
        lasts: u64,
        /// Publishers go to the other node after so many ms.
        moves: Option<u64>,
    },
    /// A publisher gives up its connection and goes to the other node.
    Move(usize),
}

/// One connection of a publisher, as it is meant to be.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    /// How long it publishes, in ms.
    pub lasts: u64,
    /// With a goodbye.
    pub goodbye: bool,
    /// How long it stays away afterwards, in ms.
    pub away: u64,
    /// Goes to the other node next time.
    pub elsewhere: bool,
}

/// A publisher's intentions.
#[derive(Clone, Debug)]
pub struct Script {
    /// When it comes first, in ms.
    pub begins: u64,
    /// Its first node.
    pub node: HostId,
    /// Its connections.
    pub visits: Vec<Visit>,
    /// Timestamps go on after a return.
    pub goes_on: bool,
}

/// The whole plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Faults in the order of time.
    pub faults: Vec<(u64, Fault)>,
    /// Publishers.
    pub scripts: Vec<Script>,
    /// Resume timeouts in seconds of HLS, FLV, MP4, AAC; `None` = the format is not made.
    pub formats: [Option<u64>; 4],
    /// FLV, MP4 and AAC are uploaded while they grow.
    pub grows: bool,
    /// How far the nodes' wall clocks are off, in ms.
    pub skew: [i64; 2],
}

/// Which worlds are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything.
    Any,
    /// Partitions in one direction, healings and crashes: test 20 of reliability.md.
    Asymmetric,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64, kind: Kind) -> Self {
        let mut dice = Dice::of(seed, "plan");
        let most = if kind == Kind::Asymmetric { 7 } else { 6 };
        let count = dice.between(if kind == Kind::Asymmetric { 2 } else { 0 }, most);
        let mut faults: Vec<(u64, Fault)> =
            (0..count).map(|_| (dice.between(4_000, BUSY - 4_000), fault(&mut dice, kind))).collect();
        faults.sort_by_key(|(at, _)| *at);
        let publishers = dice.between(1, 4);
        let scripts = (0..publishers).map(|_| script(&mut dice)).collect();
        let mut formats = [0; 4].map(|_| dice.percent(55).then(|| *dice.pick(&[0, 3, 5, 8])));
        if formats.iter().take(3).all(Option::is_none) {
            formats[0] = Some(5);
        }
        let skew = [0; 2].map(|_| if dice.percent(25) { dice.between(0, 4_000) as i64 - 2_000 } else { 0 });
        Self { faults, scripts, formats, grows: dice.percent(50), skew }
    }
}

fn script(dice: &mut Dice) -> Script {
    let visits = (0..dice.between(1, 5)).map(|_| Visit {
        lasts: dice.between(1_500, 12_000),
        goodbye: dice.percent(40),
        away: *dice.pick(&[200, 1_000, 2_500, 4_500, 7_000, 12_000]),
        elsewhere: dice.percent(30),
    });
    let visits = visits.collect();
    Script { begins: dice.between(2_000, 9_000), node: *dice.pick(&NODES), visits, goes_on: dice.percent(50) }
}

fn fault(dice: &mut Dice, kind: Kind) -> Fault {
    let host = *dice.pick(&NODES);
    let lasts = dice.between(300, 9_000);
    let which = dice.between(0, if kind == Kind::Asymmetric { 5 } else { 12 });
    match which {
        0..=2 => {
            let (from, to) = if dice.percent(50) { (CONTROL, host) } else { (host, CONTROL) };
            Fault::Silence { from, to, lasts: dice.between(500, 15_000) }
        }
        3 | 4 => Fault::Crash { host, lasts, power: dice.percent(50) },
        5 => Fault::Crash { host: CONTROL, lasts, power: false },
        6 => Fault::Bucket { percents: None, lasts },
        7 => Fault::Bucket {
            percents: Some([dice.between(0, 30), dice.between(0, 40), dice.between(0, 20)]),
            lasts: 2 * lasts,
        },
        8 => {
            let lasts = dice.between(500, 16_000);
            Fault::Pause { host, lasts, moves: dice.percent(60).then(|| dice.between(100, lasts)) }
        }
        9 => Fault::Cut(*dice.pick(&[CONTROL, CLIENTS]), host),
        10 => Fault::Silence { from: CLIENTS, to: host, lasts: dice.between(300, 7_000) },
        _ => Fault::Move(dice.between(0, 3) as usize),
    }
}
