//! Sound stays where it was, to the sample.

use media::{MediaTime, OpusConfig};
use opus::{Application, Bitrate, Channels};

use crate::lab::*;

/// W14, R44: every packet length, with timestamps of RTP, mono and stereo.
#[test]
fn sound_keeps_its_place_to_the_sample_whatever_the_packets_are() {
    for channels in [1, 2] {
        for length in [120, 240, 480, 960, 1_920, 2_880] {
            let pcm = noise(SECOND, channels, 7);
            let packets = opus(&mut publisher(channels, Application::Audio), &pcm, channels, length);
            let config = OpusConfig { channels: channels as u8, ..stereo() };
            let (units, aac, counts) = transcode(&config, &frames(packets, length, 0.0));
            assert_eq!((aac.channels, aac.sample_rate, aac.object_type), (channels as u8, 48_000, 2));
            assert_eq!((counts.added, counts.removed, counts.concealed, counts.silent), (0, 0, 0, 0));
            let heard = play(&units, &aac);
            for number in 0..channels {
                let (sent, heard) = (channel(&pcm, channels, number), channel(&heard, channels, number));
                let (late, alike) = lag(&sent, &heard, 20_000, 8_000);
                assert_eq!(late, 0, "{length} samples a packet, channel {number} of {channels} ({alike})");
                assert!(alike > 0.85, "{length}, channel {number} of {channels}: {alike}");
            }
        }
    }
}

/// What a container says of its Opus is already where it belongs.
#[test]
fn timestamps_of_a_container_with_pre_skip_are_taken_as_they_are() {
    let pcm = noise(SECOND, 2, 7);
    let packets = opus(&mut publisher(2, Application::Audio), &pcm, 2, 960);
    let config = OpusConfig { pre_skip: 312, ..stereo() };
    let (units, aac, _) = transcode(&config, &frames(packets, 960, 9_600.0 - 312.0));
    let heard = channel(&play(&units, &aac), 2, 0);
    let (late, alike) = lag(&channel(&pcm, 2, 0), &heard[9_600..], 20_000, 8_000);
    assert!(late == 0 && alike > 0.85, "{late} samples late, {alike}");
}

/// R44: the vendor loses the first two seconds.
#[test]
fn the_first_and_the_last_sample_are_kept() {
    // Not a whole number of frames of either codec.
    for packets in [1usize, 2, 3, 7, 50, 51] {
        let samples = packets * 960;
        let pcm = noise(samples, 2, 11);
        let mut encoder = publisher(2, Application::Audio);
        let mut sent = opus(&mut encoder, &pcm, 2, 960);
        // The look-ahead of its encoder is still inside when a publisher stops; one packet more has it.
        sent.extend(opus(&mut encoder, &[0; 1_920], 2, 960));
        let start = 12_345.0;
        let (units, aac, counts) = transcode(&stereo(), &frames(sent, 960, start));
        assert_eq!(counts.runs, 1);
        // One access unit in front of the first sample, for decoders to start from, and no other.
        assert_eq!(units[0].dts + MediaTime(1_920), time(start));
        let end = units.last().unwrap().dts + MediaTime(1_920);
        let (least, most) = (time(start + (samples + 960 - 312) as f64), time(start + (samples + 960 + 1_024) as f64));
        assert!(least <= end && end <= most, "ends at {end:?}, not {least:?} to {most:?}");
        let heard = channel(&play(&units, &aac), 2, 0);
        let (sent, heard) = (channel(&pcm, 2, 0), &heard[12_345..]);
        for from in [0, samples - 480] {
            let (late, alike) = lag(&sent, heard, from, 480);
            assert!(late.abs() <= 1 && alike > 0.7, "{packets} packets, from {from}: {late} samples late, {alike}");
        }
    }
}

#[test]
fn a_stream_may_switch_between_mono_and_stereo() {
    let pcm = noise(3 * SECOND, 2, 3);
    let mut encoder = publisher(2, Application::Audio);
    let mut packets = Vec::new();
    for (second, layout) in [Channels::Stereo, Channels::Mono, Channels::Stereo].into_iter().enumerate() {
        encoder.set_force_channels(Some(layout)).unwrap();
        let piece = &pcm[second * SECOND * 2..(second + 1) * SECOND * 2];
        packets.extend(opus(&mut encoder, piece, 2, 960));
    }
    let kinds: Vec<u8> = packets.iter().map(|packet| media::opus::packet_channels(packet).unwrap()).collect();
    assert!(kinds.contains(&1) && kinds.contains(&2));
    let (units, aac, _) = transcode(&stereo(), &frames(packets, 960, 0.0));
    assert_eq!(aac.channels, 2);
    let heard = play(&units, &aac);
    let (left, right) = (channel(&heard, 2, 0), channel(&heard, 2, 1));
    // Two different sounds, then twice their sum, then two again.
    let middle: Vec<i16> = pcm.chunks(2).map(|both| (i32::midpoint(both[0].into(), both[1].into())) as i16).collect();
    for (from, sent) in [(24_000, channel(&pcm, 2, 0)), (72_000, middle.clone()), (120_000, channel(&pcm, 2, 0))] {
        let (late, alike) = lag(&sent, &left, from, 4_000);
        assert!(late == 0 && alike > 0.85, "left from {from}: {late} samples late, {alike}");
    }
    for (from, sent) in [(24_000, channel(&pcm, 2, 1)), (72_000, middle), (120_000, channel(&pcm, 2, 1))] {
        let (late, alike) = lag(&sent, &right, from, 4_000);
        assert!(late == 0 && alike > 0.85, "right from {from}: {late} samples late, {alike}");
    }
}

#[test]
fn packets_of_several_frames_and_changing_lengths_join() {
    let pcm = noise(2 * SECOND, 2, 5);
    let mut encoder = publisher(2, Application::Audio);
    let (mut at, mut packets) = (0, Vec::new());
    for length in [960, 120, 2_880, 480, 240, 1_920].into_iter().cycle() {
        let Some(piece) = pcm.get(at * 2..(at + length) * 2) else { break };
        let data = encoder.encode_vec(piece, 4_000).unwrap();
        packets.push(frame(data.into(), time(at as f64)));
        at += length;
    }
    // Two packets of 20 ms in one (RFC 6716, 3.2.5).
    let mut two = [encoder.encode_vec(&[0; 1_920], 200).unwrap(), encoder.encode_vec(&[0; 1_920], 200).unwrap()];
    let joined = opus::Repacketizer::new().unwrap();
    let mut out = vec![0; 500];
    let mut joined = joined;
    let [first, second] = &mut two;
    let size = joined.combine(&[first, second], &mut out).unwrap();
    assert_eq!(media::opus::packet_samples(&out[..size]), Some(1_920));
    packets.push(frame(out[..size].to_vec().into(), time(at as f64)));
    let (units, aac, counts) = transcode(&stereo(), &packets);
    assert_eq!((counts.bad, counts.concealed, counts.silent, counts.added, counts.removed), (0, 0, 0, 0, 0));
    let end = units.last().unwrap().dts + MediaTime(1_920);
    assert!(end >= time((at + 1_920 - 312) as f64), "the second of the joined frames is missing");
    let (late, alike) = lag(&channel(&pcm, 2, 1), &channel(&play(&units, &aac), 2, 1), 60_000, 8_000);
    assert!(late == 0 && alike > 0.85, "{late} samples late, {alike}");
}

/// Bit rates of real publishers, as far down as sound goes.
#[test]
fn every_mode_of_opus_is_heard() {
    for (application, bits, length) in [
        (Application::Voip, 8_000, 2_880),
        (Application::Voip, 16_000, 960),
        (Application::Voip, 32_000, 960),
        (Application::Audio, 128_000, 480),
    ] {
        let pcm = voice(2 * SECOND);
        let mut encoder = publisher(1, application);
        encoder.set_bitrate(Bitrate::Bits(bits)).unwrap();
        let packets = opus(&mut encoder, &pcm, 1, length);
        let (units, aac, _) = transcode(&stereo(), &frames(packets, length, 0.0));
        let heard = play(&units, &aac);
        assert_eq!(channel(&heard, 2, 0), channel(&heard, 2, 1), "mono is the same on both sides");
        let (late, alike) = lag(&pcm, &channel(&heard, 2, 0), 40_000, 16_000);
        // The wave repeats 140 times a second, so that this says little about the place, but all about the sound.
        assert!(alike > 0.8 && late.abs() < 100, "{bits} bit/s: {alike}, {late}");
    }
}
