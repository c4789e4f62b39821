//! Test 36: random recordings, lost answers, crashes of nodes and of the control plane; then every number is counted again
//! by brute force.
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use recorder_proto::format::Format;
use recorder_proto::pb::node::Fact;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::format::Kind;
use recorder_proto::pb::v1::gap::Reason;
use recorder_proto::pb::v1::query_concurrency_request::GroupBy;
use recorder_proto::pb::v1::recording::{EndReason, State};
use recorder_proto::time;

use super::facts::{End, available, ended, hole, interrupted, opened, resumed, started};
use super::{MINUTE, line, peaks, peaks_of, volume};
use crate::link::control::{Control, START, on_each};
use crate::link::node::Node;
use crate::link::story::Story;

/// One recording as the script made it, with what is to be counted of it.
struct Truth {
    domain: &'static str,
    template: &'static str,
    taken: (i64, i64),
    outputs: BTreeMap<Format, i64>,
}

/// A recording from beginning to end: interruptions, crashes of its node, several files and formats.
fn random(seed: &mut StdRng, story: &mut Story, minutes: i64) -> (Truth, Vec<Fact>) {
    let start = seed.random_range(0..minutes * MINUTE);
    let mut formats: Vec<Format> = [Format::Hls, Format::Flv, Format::Mp4].into_iter().collect();
    formats.shuffle(seed);
    formats.truncate(seed.random_range(1..=3));
    let mut outputs = BTreeMap::new();
    let mut facts = vec![started(story, start, &formats)];
    for format in &formats {
        let first = start + seed.random_range(0..3);
        outputs.insert(*format, first);
        facts.push(opened(story, first, *format, 0));
    }
    let (mut now, mut gaps, mut media) = (start + 3, Vec::new(), 3);
    let mut files = 1;
    for _ in 0..seed.random_range(0..3) {
        let recorded = seed.random_range(5..90);
        let (lost, away) = (now + recorded, seed.random_range(1..40));
        media += recorded;
        now = lost + away;
        if seed.random_bool(0.6) {
            facts.push(interrupted(story, lost, lost + 40, media));
            facts.push(resumed(story, lost, now, Reason::PublisherLost));
            gaps.push(hole(lost, now, Reason::PublisherLost));
        } else {
            // Nobody saw it go.
            facts.push(resumed(story, lost, now, Reason::NodeCrashed));
            gaps.push(hole(lost, now, Reason::NodeCrashed));
        }
        for format in formats.iter().filter(|format| **format != Format::Hls) {
            facts.push(opened(story, now, *format, files));
        }
        files += 1;
    }
    let recorded = seed.random_range(1..120);
    media += recorded;
    let last = now + recorded;
    let waits = seed.random_bool(0.4);
    let told = if waits { last + 40 } else { last };
    if waits {
        facts.push(interrupted(story, last, last + 40, media));
    }
    let reason = if waits { EndReason::ResumeTimeout } else { EndReason::PublisherEnded };
    let count = |format: Format| if format == Format::Hls { 1 } else { files };
    let totals = formats.iter().map(|format| (*format, count(*format))).collect();
    facts.push(ended(story, End { start, last, told, media, reason, gaps, formats: totals }));
    for format in &formats {
        for index in 0..count(*format) {
            let (from, to) = (outputs[format].max(start), last);
            let bytes = seed.random_range(1..1_000_000);
            facts.push(available(story, [from, to, told + seed.random_range(0..600)], *format, index, bytes));
        }
    }
    let truth = Truth { domain: "", template: story.template, taken: (start, told), outputs };
    (truth, facts)
}

/// The highest number at once within each minute, second by second.
fn brute(taken: &[(i64, i64)], minutes: i64) -> Vec<u32> {
    let at_once = |now: i64| taken.iter().filter(|(from, to)| *from <= now && now < *to).count();
    let minute = |minute: i64| (minute * MINUTE..(minute + 1) * MINUTE).map(at_once).max().unwrap();
    (0..minutes).map(|index| u32::try_from(minute(index)).unwrap()).collect()
}

#[test]
fn usage_truth() {
    const MINUTES: i64 = 60;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    on_each(async |mut control| {
        let mut seed = StdRng::seed_from_u64(seed);
        control.clock.advance(std::time::Duration::from_secs(7_200));
        control.template("show").await;
        let mut nodes = [Node::ready(&control, "m1").await, Node::ready(&control, "m2").await];
        let (mut truths, mut sequences) = (Vec::new(), [0, 0]);
        let mut queues: [Vec<Fact>; 2] = Default::default();
        for number in 0..24 {
            let of = seed.random_range(0..2);
            let domain = ["a.example.com", "b.example.com"][seed.random_range(0..2)];
            let mut story = Story { sequence: sequences[of], ..Story::new(domain, &format!("s{number}")) };
            story.template = ["default", "show"][seed.random_range(0..2)];
            let (truth, facts) = random(&mut seed, &mut story, MINUTES - 15);
            sequences[of] = story.sequence;
            queues[of].extend(facts);
            truths.push(Truth { domain, ..truth });
        }
        // Told in pieces, again and again, across crashes of the nodes and of the control plane.
        for round in 0_u32.. {
            let of = seed.random_range(0..2);
            if queues.iter().all(Vec::is_empty) {
                break;
            }
            let some = seed.random_range(0..=queues[of].len().min(30));
            if some > 0 && nodes[of].try_report(queues[of][..some].to_vec()).await.is_ok() && seed.random_bool(0.8) {
                // Otherwise the answer was lost, and it tells the same again.
                queues[of].drain(..some);
            }
            let name = format!("m{}", of + 1);
            if seed.random_bool(0.15) {
                nodes[of] = Node::register(&control, &name, &format!("boot-{round}")).await;
            }
            if seed.random_bool(0.1) {
                nodes.iter_mut().for_each(Node::hang_up);
                control = control.restart().await;
                for (of, node) in nodes.iter_mut().enumerate() {
                    *node = Node::register(&control, &format!("m{}", of + 1), &format!("after-{round}")).await;
                }
            }
        }
        compare(&control, &truths, MINUTES).await;
    });
}

async fn compare(control: &Control, truths: &[Truth], minutes: i64) {
    let whole = || peaks_of(0, minutes * MINUTE, MINUTE);
    let all: Vec<(i64, i64)> = truths.iter().map(|truth| truth.taken).collect();
    let reply = peaks(control, whole()).await;
    assert_eq!(line(&reply), brute(&all, minutes));
    assert_eq!(reply.peak, brute(&all, minutes).into_iter().max().unwrap());
    let groups = [
        (GroupBy::Domain, groups(truths, |truth| vec![(truth.domain.to_owned(), truth.taken)])),
        (GroupBy::Template, groups(truths, |truth| vec![(format!("templates/{}", truth.template), truth.taken)])),
        (
            GroupBy::Format,
            groups(truths, |truth| {
                let of = |(format, start): (&Format, &i64)| {
                    (Kind::from(*format).as_str_name().to_owned(), (*start, truth.taken.1))
                };
                truth.outputs.iter().map(of).collect()
            }),
        ),
    ];
    for (group_by, expected) in groups {
        let request = v1::QueryConcurrencyRequest { group_by: group_by as i32, ..whole() };
        let found: BTreeMap<String, Vec<u32>> = peaks(control, request)
            .await
            .series
            .into_iter()
            .map(|series| (series.key, series.points.iter().map(|point| point.channels).collect()))
            .collect();
        let expected: BTreeMap<String, Vec<u32>> =
            expected.into_iter().map(|(key, taken)| (key, brute(&taken, minutes))).collect();
        assert_eq!(found, expected, "{group_by:?}");
    }
    let (recordings, files) = everything(control).await;
    let hours = volume(control, 0, 4 * 3_600, 3_600).await;
    let sum = |of: fn(&v1::query_volume_response::Bucket) -> u64| hours.iter().map(of).sum::<u64>();
    let micros = |wire: &Option<prost_types::Duration>| {
        u64::try_from(wire.as_ref().and_then(time::std_duration).unwrap_or_default().as_micros()).unwrap()
    };
    assert_eq!(sum(|hour| u64::from(hour.files)), files.len() as u64);
    assert_eq!(sum(|hour| hour.bytes_delivered), files.iter().map(|file| file.size_bytes).sum::<u64>());
    let recorded: u64 = hours.iter().map(|hour| micros(&hour.recorded)).sum();
    assert_eq!(recorded, recordings.iter().map(|recording| micros(&recording.media_duration)).sum::<u64>());
    // Every recording with FLV was transcoded for it, all files of one recording alike.
    let mut transcoded: BTreeMap<&str, u64> = BTreeMap::new();
    for file in files.iter().filter(|file| file.audio.as_ref().is_some_and(|audio| audio.transcoded)) {
        *transcoded.entry(file.name.split("/files/").next().unwrap()).or_default() += micros(&file.duration);
    }
    let found: u64 = hours.iter().map(|hour| micros(&hour.transcoded)).sum();
    assert_eq!(found, transcoded.values().sum::<u64>());
    for minute in volume(control, 0, minutes * MINUTE, MINUTE).await {
        let begins = minute.time.as_ref().and_then(time::datetime).unwrap();
        let within = |file: &&v1::File| {
            let at = file.available_time.as_ref().and_then(time::datetime).unwrap();
            begins <= at && at < begins + TimeDelta::seconds(MINUTE)
        };
        let of: Vec<&v1::File> = files.iter().filter(within).collect();
        assert_eq!((minute.files as usize, minute.bytes_delivered), (of.len(), of.iter().map(|f| f.size_bytes).sum()));
    }
}

fn groups(truths: &[Truth], of: impl Fn(&Truth) -> Vec<(String, (i64, i64))>) -> BTreeMap<String, Vec<(i64, i64)>> {
    let mut groups: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    for (key, taken) in truths.iter().flat_map(of) {
        groups.entry(key).or_default().push(taken);
    }
    groups
}

/// What the API shows of recordings and their available files.
async fn everything(control: &Control) -> (Vec<v1::Recording>, Vec<v1::File>) {
    let request = v1::ListRecordingsRequest { page_size: 1_000, ..Default::default() };
    let recordings = control.recordings().list_recordings(request).await.unwrap().into_inner().recordings;
    let states: BTreeSet<State> = recordings.iter().map(v1::Recording::state).collect();
    assert!(states.iter().all(|state| matches!(state, State::Succeeded | State::Incomplete)), "{states:?}");
    let first: DateTime<Utc> = DateTime::from_timestamp(START, 0).unwrap();
    let mut files = Vec::new();
    for recording in &recordings {
        assert!(recording.start_time.as_ref().and_then(time::datetime).unwrap() >= first);
        files.extend(control.files(&recording.name).await);
    }
    assert!(files.iter().all(|file| file.state() == v1::file::State::Available));
    (recordings, files)
}
