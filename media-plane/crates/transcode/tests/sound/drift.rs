//! Clocks that run at another speed.

use opus::Application;

use crate::lab::*;

/// Twelve times the drift of a bad clock. (What a whole hour comes to is tested without codecs, in `line`.)
#[test]
fn drift_never_adds_up_and_never_clicks() {
    const SECONDS: usize = 60;
    let pcm = tone(SECOND, 2, 500.0);
    let mut packets = opus(&mut publisher(2, Application::Audio), &pcm, 2, 960);
    // A tone of 500 Hz repeats every 96 samples, so that packets from its middle may be repeated.
    let steady = packets.split_off(10);
    let end = noise(SECOND, 2, 9);
    for ppm in [1_200.0, -1_200.0] {
        let speed = 1.0 + ppm * 1e-6;
        let at = |n: usize| time((n * 960) as f64 * speed);
        let tones = SECONDS * 50 - 50;
        let mut sent: Vec<_> = (0..tones).map(|n| frame(steady[n % steady.len()].clone(), at(n))).collect();
        let last = opus(&mut publisher(2, Application::Audio), &end, 2, 960);
        sent.extend(last.into_iter().enumerate().map(|(n, data)| frame(data, at(tones + n))));
        let (units, aac, counts) = transcode(&stereo(), &sent);
        assert_eq!((counts.concealed, counts.silent, counts.over, counts.runs), (0, 0, 0, 1));
        let corrected = counts.added as i64 - counts.removed as i64;
        let drifted = (SECONDS * SECOND) as f64 * ppm * 1e-6;
        assert!((corrected as f64 - drifted).abs() < 480.0, "{corrected} samples for {drifted}");
        let heard = channel(&play(&units, &aac), 2, 0);
        // Where the second of noise is, by the clock.
        let begins = ((tones * 960) as f64 * speed) as usize;
        let (late, alike) = lag(&channel(&end, 2, 0), &heard[begins..], 20_000, 2_000);
        assert!(late.abs() < 240, "{ppm} ppm: {late} samples late after {SECONDS} s");
        assert!(alike > 0.8, "{alike}");
        // A tone of 500 Hz and this size rises by at most 524 a sample.
        let steepest = steepest(&heard[SECOND..begins - SECOND]);
        assert!(steepest < 650, "a step of {steepest}");
    }
}

/// RTMP counts milliseconds.
#[test]
fn timestamps_in_milliseconds_change_nothing() {
    let pcm = noise(4 * SECOND, 2, 21);
    let packets = opus(&mut publisher(2, Application::Audio), &pcm, 2, 120);
    let rounded = |n: usize| media::MediaTime::from_millis((n as f64 * 2.5).round() as i64);
    let packets: Vec<_> = packets.into_iter().enumerate().map(|(n, data)| frame(data, rounded(n))).collect();
    let (units, aac, counts) = transcode(&stereo(), &packets);
    assert_eq!((counts.concealed, counts.silent, counts.runs), (0, 0, 1));
    assert!(counts.added + counts.removed < 30, "{counts:?}");
    let (late, alike) = lag(&channel(&pcm, 2, 0), &channel(&play(&units, &aac), 2, 0), 150_000, 8_000);
    assert!(late.abs() <= 24 && alike > 0.85, "{late} samples late, {alike}");
}

/// A burst of the publisher, or a timeline that had to move frames: what is ahead of its time is left out.
#[test]
fn a_clock_that_goes_back_costs_what_it_went_back() {
    let pcm = tone(4 * SECOND, 2, 500.0);
    let packets = opus(&mut publisher(2, Application::Audio), &pcm, 2, 960);
    let at = |n: usize| if n < 100 { n * 960 } else { n * 960 - 9_600 };
    let mut sent: Vec<_> = packets.into_iter().enumerate().map(|(n, data)| frame(data, time(at(n) as f64))).collect();
    // The timeline lets no frame go back in time.
    let turn = sent[99].dts.0;
    for (n, packet) in sent.iter_mut().skip(100).enumerate() {
        packet.dts.0 = packet.dts.0.max(turn + 1 + n as i64);
    }
    let (units, aac, counts) = transcode(&stereo(), &sent);
    assert!((9..=11).contains(&counts.over), "{counts:?}");
    assert_eq!((counts.runs, counts.concealed, counts.silent), (1, 0, 0));
    let heard = channel(&play(&units, &aac), 2, 0);
    assert!(steepest(&heard[SECOND..3 * SECOND]) < 700, "a step of {}", steepest(&heard[SECOND..3 * SECOND]));
}
