//! The world: hosts that move on tick by tick, faults that come and pass, and at the end the judgement.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use spool::FaultyDisk;
use tokio::sync::watch;

use crate::bucket::{Shared, Weather};
use crate::check;
use crate::control::Control;
use crate::dice::Dice;
use crate::host::{Host, TICK};
use crate::log::{Log, broken};
use crate::media_node::MediaNode;
use crate::net::{HostId, Network};
use crate::plan::{BUSY, CLIENTS, CONTROL, Fault, Kind, Mutant, NODES, Plan};
use crate::publisher::Publisher;

/// Until when everything has to be quiet, in milliseconds after the last fault: a recording that its node lost all
/// trace of is closed by the control plane with its pruning, every ten minutes.
const PATIENCE: u64 = 1_300_000;
/// How often the whole is looked at.
const LOOK: u64 = 1_000;
/// A mutant's disk writes nothing for good for so long.
const UNSYNCED: u64 = 2_500;

/// A process that died.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    /// Which host.
    pub host: HostId,
    /// When, in milliseconds.
    pub at: u64,
}

/// A node with its disk, running or not.
struct Place {
    id: HostId,
    skew: i64,
    folder: PathBuf,
    disk: FaultyDisk,
    node: Option<MediaNode>,
    /// Stands still until then.
    paused: u64,
    dice: Dice,
}

enum Then {
    Speak(HostId, HostId),
    Start(HostId),
    Clear,
    Move(HostId),
}

/// See the module.
pub struct World {
    /// What happens.
    pub plan: Plan,
    /// What happened.
    pub log: Log,
    /// The network.
    pub network: Network,
    /// The bucket.
    pub bucket: Shared,
    /// The control plane, when it runs.
    pub control: Option<Control>,
    /// Publishers.
    pub publishers: Vec<Publisher>,
    /// Processes that died.
    pub crashes: Vec<Crash>,
    /// Epochs of recordings as they were seen last.
    pub epochs: BTreeMap<String, i64>,
    places: Vec<Place>,
    clients: Host,
    movers: Vec<watch::Sender<u64>>,
    folder: PathBuf,
    mutant: Option<Mutant>,
    seed: u64,
    now: u64,
    /// What ends, in the order of time.
    ends: BTreeMap<(u64, u64), Then>,
    ended: u64,
}

impl World {
    /// The world of a seed, in an empty folder.
    pub fn new(seed: u64, kind: Kind, mutant: Option<Mutant>, folder: &Path) -> Self {
        let (plan, log) = (Plan::of(seed, kind), Log::default());
        let network = Network::new(Dice::of(seed, "network"));
        let bucket = Shared::new(Dice::of(seed, "bucket"), log.clone(), mutant);
        let place = |(id, skew): (HostId, i64)| Place {
            id,
            skew,
            folder: folder.join(format!("m{id}")),
            disk: FaultyDisk::new(),
            node: None,
            paused: 0,
            dice: Dice::of(seed, &format!("disk {id}")),
        };
        let places = NODES.into_iter().zip(plan.skew).map(place).collect();
        Self {
            log,
            network,
            bucket,
            control: None,
            publishers: Vec::new(),
            crashes: Vec::new(),
            epochs: BTreeMap::new(),
            places,
            clients: Host::start(0),
            movers: Vec::new(),
            folder: folder.to_owned(),
            mutant,
            seed,
            now: 0,
            ends: BTreeMap::new(),
            ended: 0,
            plan,
        }
    }

    /// Runs to the end and judges.
    pub fn run(&mut self) {
        self.start(CONTROL);
        self.control.as_ref().expect("just started").prepare(&self.plan);
        NODES.into_iter().for_each(|node| self.start(node));
        for (number, script) in self.plan.scripts.clone().into_iter().enumerate() {
            let (order, orders) = watch::channel(0);
            self.movers.push(order);
            let (network, log) = (self.network.clone(), self.log.clone());
            let dice = Dice::of(self.seed, &format!("publisher {number}"));
            let number = number as u32 + 1;
            let start = async { Publisher::start(number, script, network, dice, log, orders) };
            self.publishers.push(self.clients.block_on(start));
        }
        let mut faults: Vec<_> = self.plan.faults.clone();
        while self.now < BUSY {
            while faults.first().is_some_and(|(at, _)| *at <= self.now) {
                let (_, fault) = faults.remove(0);
                self.strike(&fault);
            }
            self.tick();
        }
        self.heal();
        if self.settle() {
            check::judge(self);
        }
    }

    /// Everything works from now on, and what is meant to come still comes.
    fn heal(&mut self) {
        self.log.say("world", "heals");
        for (_, then) in std::mem::take(&mut self.ends) {
            self.then(&then);
        }
        self.network.heal();
        self.bucket.set(Weather::default());
        self.places.iter_mut().for_each(|place| place.paused = 0);
    }

    /// Waits until nothing is left to do.
    fn settle(&mut self) -> bool {
        let until = self.now + PATIENCE;
        let mut unrest = String::new();
        while self.now < until {
            self.tick();
            if !self.now.is_multiple_of(LOOK) || self.now < BUSY + 10_000 {
                continue;
            }
            match self.unrest() {
                None => {
                    self.log.say("world", "is quiet");
                    return true;
                }
                Some(why) => unrest = why,
            }
        }
        self.log.broken("world", &broken("R-1", format!("it never becomes quiet: {unrest}")));
        false
    }

    fn unrest(&self) -> Option<String> {
        for place in &self.places {
            let Some(node) = &place.node else { return Some(format!("m{} is down", place.id)) };
            if let Some(unrest) = node.unrest() {
                return Some(format!("m{}: {unrest}", place.id));
            }
        }
        check::unsettled(self.control.as_ref()?)
    }

    fn tick(&mut self) {
        self.now += TICK;
        self.log.set_time(self.now);
        self.network.advance(self.now);
        let due: Vec<_> = self.ends.range(..=(self.now, u64::MAX)).map(|(key, _)| *key).collect();
        for key in due {
            if let Some(then) = self.ends.remove(&key) {
                self.then(&then);
            }
        }
        if let Some(control) = &mut self.control {
            control.host.tick(self.now);
        }
        let mut fenced = Vec::new();
        for place in &mut self.places {
            let works = place.dice.percent(70);
            let Some(node) = place.node.as_mut().filter(|_| place.paused <= self.now) else { continue };
            node.tick(self.now, works);
            if self.mutant == Some(Mutant::ReleaseBeforeDurable) {
                let facts = node.simulated.node.link.facts();
                facts.acknowledge(*facts.appended().borrow());
            }
            if node.is_fenced() {
                fenced.push(place.id);
            }
        }
        for id in fenced {
            self.log.say(&format!("m{id}"), "is fenced and ends");
            self.crash(id, 1_000, false);
        }
        self.clients.tick(self.now);
        if self.now.is_multiple_of(LOOK) {
            self.look();
        }
        if self.mutant == Some(Mutant::NoSync) && self.now.is_multiple_of(UNSYNCED) {
            for place in self.places.iter().filter(|place| place.node.is_some()) {
                snapshot(&place.folder.join("node/spool"), &place.folder.join("synced"));
            }
        }
    }

    fn look(&mut self) {
        if let Some(control) = &self.control {
            check::epochs_grow(control, &mut self.epochs, &self.log);
        }
        for node in self.places.iter().filter_map(|place| place.node.as_ref()) {
            check::bounded(&node.simulated.node.spool, &self.log);
        }
    }

    fn later(&mut self, after: u64, then: Then) {
        self.ended += 1;
        self.ends.insert((self.now + after, self.ended), then);
    }

    fn then(&mut self, then: &Then) {
        match then {
            Then::Speak(from, to) => self.network.set_silent(*from, *to, false),
            Then::Start(host) => self.start(*host),
            Then::Clear => self.bucket.set(Weather::default()),
            Then::Move(node) => {
                let there: Vec<usize> =
                    (0..self.publishers.len()).filter(|number| self.publishers[*number].node() == *node).collect();
                there.into_iter().for_each(|number| self.movers[number].send_modify(|moves| *moves += 1));
            }
        }
    }

    fn strike(&mut self, fault: &Fault) {
        self.log.say("world", format!("{fault:?}"));
        match *fault {
            Fault::Silence { from, to, lasts } => {
                self.network.set_silent(from, to, true);
                self.later(lasts, Then::Speak(from, to));
            }
            Fault::Cut(one, other) => self.network.cut(one, other),
            Fault::Crash { host, lasts, power } => self.crash(host, lasts, power),
            Fault::Bucket { percents, lasts } => {
                let [refuse, lose_reply, lose_request] = percents.unwrap_or_default();
                self.bucket.set(Weather { away: percents.is_none(), refuse, lose_reply, lose_request });
                self.later(lasts, Then::Clear);
            }
            Fault::Pause { host, lasts, moves } => {
                let until = self.now + lasts;
                if let Some(place) = self.places.iter_mut().find(|place| place.id == host) {
                    place.paused = until;
                }
                if let Some(after) = moves {
                    self.later(after, Then::Move(host));
                }
            }
            Fault::Move(number) => {
                if let Some(mover) = self.movers.get(number) {
                    mover.send_modify(|moves| *moves += 1);
                }
            }
        }
    }

    fn crash(&mut self, host: HostId, lasts: u64, power: bool) {
        let crash = Crash { host, at: self.now };
        self.network.listen(host, false);
        if host == CONTROL {
            if self.control.take().is_some() {
                self.crashes.push(crash);
                self.later(lasts, Then::Start(host));
            }
            return;
        }
        let seed = self.seed ^ self.now;
        let Some(place) = self.places.iter_mut().find(|place| place.id == host) else { return };
        let Some(node) = place.node.take() else { return };
        // One that stood still has done nothing since.
        let crash = Crash { at: node.host.now(), ..crash };
        drop(node);
        if power {
            place.disk.power_loss(seed).expect("the simulated disk");
            if self.mutant == Some(Mutant::NoSync) {
                snapshot(&place.folder.join("synced"), &place.folder.join("node/spool"));
                place.disk = FaultyDisk::new();
            }
        }
        self.crashes.push(crash);
        self.later(lasts, Then::Start(host));
    }

    fn start(&mut self, host: HostId) {
        self.log.say("world", if host == CONTROL { "control starts".to_owned() } else { format!("m{host} starts") });
        if host == CONTROL {
            self.control = Some(Control::start(self.now, &self.folder, &self.network));
            return;
        }
        let bucket = self.bucket.client(&format!("m{host}"));
        let Some(place) = self.places.iter_mut().find(|place| place.id == host) else { return };
        let node = MediaNode::start(self.now, host, place.skew, &place.folder, &place.disk, bucket, &self.network);
        match node {
            Ok(node) => place.node = Some(node),
            Err(error) => self.log.broken(&format!("m{host}"), &broken("R-1", format!("it does not start: {error:#}"))),
        }
    }

    /// Connections to publishers come from here.
    pub fn clients() -> HostId {
        CLIENTS
    }
}

/// Replaces one folder by a copy of another.
fn snapshot(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    copy(from, to).expect("a copy");
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    let Ok(entries) = std::fs::read_dir(from) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
