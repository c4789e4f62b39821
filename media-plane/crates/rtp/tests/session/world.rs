//! A publisher, a network and a session, event by event in simulated time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::Duration;

use rand::Rng;
use rtp::{Format, KeyFrameRequest, Output, Packet, Session, Settings};

use crate::judge::Judge;
use crate::publisher::{AUDIO, Publisher, Report, VIDEO};

/// 2^32 ticks of 1/90,000 s, less half an hour.
const BASE_MICROS: u64 = 47_721_858_844 - 1_800_000_000;

/// The way from publisher to recorder.
#[derive(Clone, Debug)]
pub struct Network {
    pub loss: f64,
    /// Lost packets are asked for and sent again.
    pub nack: bool,
    /// One way, in seconds.
    pub delay: f64,
    /// Exponentially distributed on top, mean in seconds.
    pub jitter: f64,
    /// What the picture takes longer than the sound, from lens to wire.
    pub encoding: f64,
    pub reports: bool,
    /// Media made before there is a way, in seconds.
    pub pile: f64,
    /// How many times faster than it was made it is then sent: picture and sound.
    pub speed: (f64, f64),
    /// Requests for key frames are answered.
    pub answers: bool,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            loss: 0.0,
            nack: true,
            delay: 0.03,
            jitter: 0.004,
            encoding: 0.015,
            reports: true,
            pile: 0.0,
            speed: (f64::INFINITY, f64::INFINITY),
            answers: true,
        }
    }
}

impl Network {
    /// When what was captured at `time` is sent.
    fn leaves(&self, time: f64, speed: f64) -> f64 {
        time.max(self.pile + time / speed)
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Picture,
    Sound,
    VideoReport,
    AudioReport,
    Packet(Packet),
    Report(Report),
    KeyFrame(u32),
}

/// The world; times in seconds.
pub struct World {
    pub publisher: Publisher,
    pub network: Network,
    pub session: Session,
    pub judge: Judge,
    pub now: f64,
    pub requests: Vec<(f64, KeyFrameRequest)>,
    pub frame: f64,
    /// Nobody speaks: the encoder sends a packet every 400 ms (DTX).
    pub silence: bool,
    pub camera: bool,
    pub microphone: bool,
    /// Layers the publisher sends.
    pub active: Vec<bool>,
    agenda: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: HashMap<u64, Happening>,
    count: u64,
    skipped: u32,
}

pub fn formats() -> BTreeMap<u8, Format> {
    let video = Format::H264 { parameter_sets: Vec::new() };
    BTreeMap::from([(VIDEO, video), (AUDIO, Format::Opus { channels: 2 })])
}

impl World {
    pub fn new(publisher: Publisher, network: Network) -> Self {
        let settings = Settings { formats: formats(), retransmission: network.nack, ..Settings::default() };
        let mut world = Self {
            active: vec![true; publisher.video.len()],
            publisher,
            network,
            session: Session::new(settings),
            judge: Judge::default(),
            now: 0.0,
            requests: Vec::new(),
            frame: 1.0 / 30.0,
            silence: false,
            camera: true,
            microphone: true,
            agenda: BinaryHeap::new(),
            happenings: HashMap::new(),
            count: 0,
            skipped: 0,
        };
        world.plan(0.0, Happening::Picture);
        world.plan(0.004, Happening::Sound);
        world.plan(0.5, Happening::VideoReport);
        world.plan(2.5, Happening::AudioReport);
        world
    }

    /// Runs until `end`.
    pub fn run(&mut self, end: f64) {
        while let Some(&Reverse((micros, id))) = self.agenda.peek() {
            let at = micros as f64 * 1e-6;
            if at > end {
                break;
            }
            self.agenda.pop();
            let happening = self.happenings.remove(&id).unwrap();
            self.wait(at);
            self.happen(happening);
        }
        self.wait(end);
    }

    /// Switches the publisher off, and ends the session when everything has arrived.
    pub fn finish(&mut self) {
        (self.camera, self.microphone, self.network.reports) = (false, false, false);
        self.run(self.now + 6.0);
        self.session.end();
        self.poll();
        assert_eq!(self.session.next_timeout().filter(|at| *at <= instant(self.now)), None);
    }

    fn plan(&mut self, at: f64, happening: Happening) {
        self.count += 1;
        self.agenda.push(Reverse(((at * 1e6).round() as u64, self.count)));
        self.happenings.insert(self.count, happening);
    }

    fn wait(&mut self, until: f64) {
        let mut rounds = 0;
        while let Some(due) = self.session.next_timeout().filter(|due| *due <= instant(until)) {
            self.now = self.now.max(seconds(due));
            self.session.handle_timeout(due.max(instant(self.now)));
            self.poll();
            rounds += 1;
            assert!(rounds < 10_000, "a timeout that never passes");
        }
        self.now = self.now.max(until);
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Picture => {
                for layer in 0..self.publisher.video.len() {
                    if self.camera && self.active[layer] {
                        let packets = self.publisher.picture(layer, now);
                        self.send(packets, self.network.leaves(now, self.network.speed.0) + self.network.encoding);
                    }
                }
                self.plan(now + self.frame, Happening::Picture);
            }
            Happening::Sound => {
                self.skipped = if self.silence { (self.skipped + 1) % 20 } else { 0 };
                if self.microphone && self.skipped == 0 {
                    let packets = self.publisher.sound(now);
                    self.send(packets, self.network.leaves(now, self.network.speed.1));
                }
                let length = 960.0 / self.publisher.audio.rate;
                self.plan(now + length, Happening::Sound);
            }
            Happening::VideoReport => {
                for counter in self.publisher.video.clone() {
                    let report = self.publisher.report(&counter, now);
                    self.send_report(report);
                }
                self.plan(now + 1.0, Happening::VideoReport);
            }
            Happening::AudioReport => {
                let report = self.publisher.report(&self.publisher.audio, now);
                self.send_report(report);
                self.plan(now + 5.0, Happening::AudioReport);
            }
            Happening::Packet(mut packet) => {
                packet.arrival = instant(now);
                self.session.push_rtp(packet);
            }
            Happening::Report(report) => {
                self.session.push_sender_report(report.ssrc, report.ntp, report.rtp, instant(now));
            }
            Happening::KeyFrame(ssrc) => {
                if let Some(layer) = self.publisher.video.iter().position(|counter| counter.ssrc == ssrc) {
                    self.publisher.key_due[layer] = true;
                }
            }
        }
        self.poll();
    }

    fn poll(&mut self) {
        while let Some(output) = self.session.poll() {
            if let Output::KeyFrame(request) = &output {
                self.requests.push((self.now, *request));
                if self.network.answers && !self.lose() {
                    self.plan(self.now + self.network.delay, Happening::KeyFrame(request.ssrc));
                }
            }
            self.judge.take(&output, &self.publisher.pictures, &self.publisher.sounds, self.now);
        }
    }

    fn lose(&mut self) -> bool {
        self.publisher.rng.random::<f64>() < self.network.loss
    }

    fn passage(&mut self) -> f64 {
        let jitter = -self.publisher.rng.random::<f64>().max(1e-9).ln() * self.network.jitter;
        self.network.delay + jitter.min(0.2)
    }

    fn send(&mut self, packets: Vec<Packet>, at: f64) {
        for packet in packets {
            let mut arrives = at + self.passage();
            let mut is_lost = self.lose();
            // Noticed by the packets after it, asked for every 100 ms, answered after a round trip.
            let mut attempts = 0;
            while is_lost && self.network.nack && attempts < 10 {
                let asked = self.publisher.rng.random_range(0.01..0.1);
                arrives += asked + self.network.delay + self.passage();
                is_lost = self.lose();
                attempts += 1;
            }
            if !is_lost {
                self.plan(arrives, Happening::Packet(packet));
            }
        }
    }

    fn send_report(&mut self, report: Report) {
        if self.network.reports && !self.lose() {
            let at = self.now + self.passage();
            self.plan(at, Happening::Report(report));
        }
    }
}

/// Simulated seconds on the session's clock, which has been running: its 32-bit ticks wrap half an hour later.
pub fn instant(seconds: f64) -> Duration {
    Duration::from_micros(BASE_MICROS + (seconds * 1e6).round() as u64)
}

fn seconds(instant: Duration) -> f64 {
    instant.as_secs_f64() - BASE_MICROS as f64 * 1e-6
}
