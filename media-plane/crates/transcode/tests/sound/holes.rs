//! Packets that do not come.

use bytes::Bytes;
use media::{Frame, MediaTime, OpusConfig};
use opus::Application;
use transcode::Transcoder;

use crate::lab::*;

/// Removes packets.
fn without(packets: &[Frame], lost: impl Fn(usize) -> bool) -> Vec<Frame> {
    packets.iter().enumerate().filter(|(n, _)| !lost(*n)).map(|(_, packet)| packet.clone()).collect()
}

#[test]
fn lost_packets_are_made_up_and_the_rest_stays_in_place() {
    let pcm = noise(4 * SECOND, 2, 13);
    let packets = frames(opus(&mut publisher(2, Application::Audio), &pcm, 2, 960), 960, 0.0);
    // One in ten, and three in a row.
    let received = without(&packets, |n| n % 10 == 5 || (102..=104).contains(&n));
    let (units, aac, counts) = transcode_lossy(&stereo(), &received);
    let lost = (packets.len() - received.len()) as u64;
    assert_eq!((counts.concealed, counts.silent, counts.runs), (lost * 960, 0, 1));
    assert_eq!((counts.added, counts.removed), (0, 0));
    let heard = channel(&play(&units, &aac), 2, 0);
    let (late, alike) = lag(&channel(&pcm, 2, 0), &heard, 170_000, 3_000);
    assert!(late == 0 && alike > 0.8, "{late} samples late, {alike}");
    let made_up = &heard[103 * 960..104 * 960];
    assert!(loudness(made_up) > 100.0, "concealed by silence");
}

/// RFC 6716, 2.1.7: the copy in the next packet is better than anything made up.
#[test]
fn what_the_next_packet_carries_of_a_lost_one_is_used() {
    let pcm = melody(6 * SECOND);
    let alike = |with_copies: bool| {
        let mut encoder = publisher(1, Application::Voip);
        encoder.set_bitrate(opus::Bitrate::Bits(32_000)).unwrap();
        encoder.set_max_bandwidth(opus::Bandwidth::Wideband).unwrap();
        encoder.set_signal(opus::Signal::Voice).unwrap();
        if with_copies {
            encoder.set_inband_fec(true).unwrap();
            encoder.set_packet_loss_perc(30).unwrap();
        }
        let packets = frames(opus(&mut encoder, &pcm, 1, 960), 960, 0.0);
        let config = OpusConfig { channels: 1, ..stereo() };
        let (units, aac, counts) = transcode_lossy(&config, &without(&packets, |n| n % 7 == 3));
        assert_eq!(counts.concealed, packets.len().div_ceil(7) as u64 * 960);
        let heard = play(&units, &aac);
        // Only what was lost: the look-ahead puts a packet 6.5 ms before its own time.
        let places = (3..packets.len() - 2).step_by(7).skip(10).map(|n| n * 960);
        let alike: Vec<f64> = places.map(|from| lag_within(24, &pcm, &heard, from, 640).1).collect();
        alike.iter().sum::<f64>() / alike.len() as f64
    };
    let (with, without) = (alike(true), alike(false));
    assert!(with > without + 0.3 && with > 0.8, "{with} with copies, {without} without");
}

#[test]
fn after_100_ms_nothing_is_made_up_any_more() {
    let pcm = tone(4 * SECOND, 2, 500.0);
    let packets = frames(opus(&mut publisher(2, Application::Audio), &pcm, 2, 960), 960, 0.0);
    let received = without(&packets, |n| (50..80).contains(&n));
    let (units, aac, counts) = transcode_lossy(&stereo(), &received);
    assert_eq!((counts.concealed, counts.silent), (4_800, 30 * 960 - 4_800));
    let heard = channel(&play(&units, &aac), 2, 0);
    assert!(loudness(&heard[50 * 960..51 * 960]) > 1_000.0);
    assert!(loudness(&heard[58 * 960..79 * 960]) < 2.0, "{}", loudness(&heard[58 * 960..79 * 960]));
    assert!(loudness(&heard[81 * 960..90 * 960]) > 4_000.0);
    let steepest = steepest(&heard[..190 * 960]);
    assert!(steepest < 900, "a step of {steepest}");
}

/// W14: a publisher that is silent sends a packet of one byte, and then one every 400 ms.
#[test]
fn discontinuous_transmission_is_silence_of_exactly_its_length() {
    let pcm = voice(6 * SECOND);
    let all = opus(&mut publisher(1, Application::Voip), &pcm, 1, 960);
    let toc = all[0][0];
    let silence = Bytes::from(vec![toc]);
    let mut packets = Vec::new();
    for (n, data) in all.into_iter().enumerate() {
        match n {
            100..200 if n % 20 == 0 => packets.push(frame(silence.clone(), time((n * 960) as f64))),
            100..200 => {}
            _ => packets.push(frame(data, time((n * 960) as f64))),
        }
    }
    let (units, aac, counts) = transcode(&stereo(), &packets);
    assert_eq!((counts.runs, counts.bad, counts.over, counts.added, counts.removed), (1, 0, 0, 0, 0));
    assert_eq!(counts.concealed + counts.silent, 95 * 960);
    let heard = channel(&play(&units, &aac), 2, 0);
    assert!(loudness(&heard[104 * 960..199 * 960]) < 30.0, "{}", loudness(&heard[104 * 960..199 * 960]));
    let (late, alike) = lag(&pcm, &heard, 220 * 960, 16_000);
    assert!(late.abs() < 48 && alike > 0.8, "the voice is back {late} samples late, {alike}");
    assert_eq!(units.windows(2).filter(|pair| pair[1].dts.0 - pair[0].dts.0 != 1_920).count(), 0, "no hole is left");
}

/// The same without that packet, as browsers do it.
#[test]
fn silence_of_the_publisher_is_not_taken_for_loss() {
    let pcm = tone(4 * SECOND, 2, 500.0);
    let packets = frames(opus(&mut publisher(2, Application::Audio), &pcm, 2, 960), 960, 0.0);
    let (units, aac, counts) = transcode(&stereo(), &without(&packets, |n| (50..53).contains(&n)));
    assert_eq!((counts.concealed, counts.silent, counts.runs), (480, 3 * 960 - 480, 1));
    let heard = channel(&play(&units, &aac), 2, 0);
    assert!(loudness(&heard[51 * 960..52 * 960]) < 100.0, "{}", loudness(&heard[51 * 960..52 * 960]));
    let steepest = steepest(&heard[..190 * 960]);
    assert!(steepest < 900, "a step of {steepest}");
}

#[test]
fn libopus_own_discontinuous_transmission_comes_through() {
    let mut pcm = voice(2 * SECOND);
    pcm.extend(vec![0; 3 * SECOND]);
    pcm.extend(voice(SECOND));
    let mut encoder = publisher(1, Application::Voip);
    encoder.set_dtx(true).unwrap();
    encoder.set_bitrate(opus::Bitrate::Bits(24_000)).unwrap();
    let all = frames(opus(&mut encoder, &pcm, 1, 960), 960, 0.0);
    // As RFC 7587, 3.1.3 has it: what is at most two bytes long is not sent.
    let sent: Vec<Frame> = all.iter().filter(|packet| packet.data.len() > 2).cloned().collect();
    assert!(sent.len() + 50 < all.len(), "nothing was left out");
    let (units, aac, counts) = transcode(&stereo(), &sent);
    assert_eq!((counts.runs, counts.bad), (1, 0));
    assert_eq!(counts.concealed + counts.silent, ((all.len() - sent.len()) * 960) as u64);
    let heard = channel(&play(&units, &aac), 2, 0);
    assert!(loudness(&heard[3 * SECOND..4 * SECOND]) < 100.0);
    assert!(loudness(&heard[5 * SECOND + 9_600..6 * SECOND - 4_800]) > 1_000.0);
}

/// Silence from long ago would come too late for every container.
#[test]
fn a_hole_of_more_than_a_second_begins_a_new_run_in_its_place() {
    let pcm = noise(4 * SECOND, 2, 19);
    let packets = frames(opus(&mut publisher(2, Application::Audio), &pcm, 2, 960), 960, 0.0);
    let received = without(&packets, |n| (50..110).contains(&n));
    let (units, aac, counts) = transcode_lossy(&stereo(), &received);
    assert_eq!((counts.runs, counts.concealed, counts.silent), (2, 0, 0));
    let holes: Vec<(MediaTime, MediaTime)> =
        units.windows(2).filter(|pair| pair[1].dts.0 - pair[0].dts.0 > 1_920).map(|p| (p[0].dts, p[1].dts)).collect();
    assert_eq!(holes.len(), 1);
    assert_eq!(holes[0].1 + MediaTime(1_920), time(110.0 * 960.0), "a frame ahead of the sound");
    let heard = channel(&play(&units, &aac), 2, 0);
    // Before the hole to its last sample, and behind it from the first on.
    for from in [49 * 960, 112 * 960] {
        let (late, alike) = lag(&channel(&pcm, 2, 0), &heard, from, 600);
        assert!(late.abs() <= 1 && alike > 0.7, "from {from}: {late} samples late, {alike}");
    }
}

#[test]
fn at_a_gap_all_that_was_there_comes_out_and_the_next_run_is_in_its_own_place() {
    let pcm = noise(SECOND, 2, 23);
    let packets = opus(&mut publisher(2, Application::Audio), &pcm, 2, 960);
    let mut transcoder = Transcoder::new(&stereo()).unwrap();
    let mut units = Vec::new();
    let mut starts = Vec::new();
    for start in [0.0, 3.0 * 48_000.0, 10.01 * 48_000.0] {
        starts.push(units.len());
        frames(packets.clone(), 960, start).iter().for_each(|packet| transcoder.push(packet, &mut units));
        transcoder.finish(&mut units);
        assert_eq!(transcoder.reached(), None);
        let end = units.last().unwrap().dts + MediaTime(1_920);
        assert!(end >= time(start + 48_000.0 - 312.0), "cut off at {end:?}");
    }
    check(&units);
    let first: Vec<MediaTime> = starts.iter().map(|n| units[*n].dts + MediaTime(1_920)).collect();
    assert_eq!(first, [time(0.0), time(3.0 * 48_000.0), time(10.01 * 48_000.0)]);
    let heard = channel(&play(&units, transcoder.config()), 2, 0);
    for start in [0usize, 144_000, 480_480] {
        let (late, alike) = lag(&channel(&pcm, 2, 0), &heard[start..], 20_000, 4_000);
        assert!(late == 0 && alike > 0.85, "from {start}: {late} samples late, {alike}");
    }
}

#[test]
fn a_gap_shorter_than_an_access_unit_never_makes_two_of_them_overlap() {
    let packets = opus(&mut publisher(2, Application::Audio), &noise(SECOND, 2, 29), 2, 960);
    let mut transcoder = Transcoder::new(&stereo()).unwrap();
    let mut units = Vec::new();
    for (n, data) in packets.into_iter().enumerate() {
        if n % 10 == 9 {
            transcoder.finish(&mut units);
        }
        transcoder.push(&frame(data, time((n * 960) as f64)), &mut units);
    }
    transcoder.finish(&mut units);
    check(&units);
}
