//! Which pictures of a WHIP offer are taken: those that every format ordered for the stream can carry.

use std::collections::BTreeSet;

use ::whip::{Video, VideoCodec, Wanted};
use media::Codec;
use mux::registry::{FORMATS, Format, Segment};
use recorder_proto::names::StreamKey;

use crate::link::Directives;
use crate::plans::{self, Chosen};
use crate::recording::of_template;

/// What may be taken for a stream. Formats of its bindings and rules decide; tasks, which come and go, only prefer.
pub fn wanted(directives: &Directives, stream: &StreamKey) -> Wanted {
    let bound: Vec<_> = plans::of_stream(directives, stream).iter().flat_map(containers).collect();
    let tasks: Vec<_> = plans::ordered(directives, stream).iter().flat_map(|order| containers(&order.chosen)).collect();
    choose(&bound, &tasks)
}

/// A format, and how its segments are packed where it has any.
type Container = (Format, Segment);

fn containers(chosen: &Chosen) -> Vec<Container> {
    let template = chosen.plan.template.as_ref();
    let of_it = template.into_iter().flat_map(|template| of_template(template, None));
    of_it.map(|(format, options)| (format, options.segment)).collect()
}

fn choose(bound: &[Container], tasks: &[Container]) -> Wanted {
    let carried = |codec: VideoCodec, containers: &[Container]| carries_not(codec, containers).is_empty();
    let is_recorded = |codec: &VideoCodec| FORMATS.iter().any(|row| row.format.carries(of_media(*codec)));
    let possible = VideoCodec::ALL.into_iter().filter(is_recorded).filter(|codec| carried(*codec, bound));
    let (mut codecs, rest): (Vec<_>, Vec<_>) = possible.partition(|codec| carried(*codec, tasks));
    codecs.extend(rest);
    let reason = |codec: &VideoCodec| {
        let mut names: Vec<_> = carries_not(*codec, bound).into_iter().map(name).collect();
        let last = names.pop()?;
        let names = if names.is_empty() { last } else { format!("{} and {last}", names.join(", ")) };
        Some((*codec, format!("cannot be carried by {names}, which this stream is recorded in")))
    };
    let others = VideoCodec::ALL.iter().filter_map(reason).collect();
    let sound_is_enough = !bound.is_empty() && !bound.iter().any(|(format, _)| has_picture(*format));
    Wanted { codecs, others, sound_is_enough }
}

/// Those with pictures that cannot carry this one.
fn carries_not(codec: VideoCodec, containers: &[Container]) -> BTreeSet<Container> {
    let refuses = |(format, segment): &Container| has_picture(*format) && !format.carries_in(*segment, of_media(codec));
    containers.iter().copied().filter(refuses).collect()
}

fn name((format, segment): Container) -> String {
    let name = format.row().name.to_uppercase();
    match (format, segment) {
        (Format::Hls, Segment::Ts) => format!("{name} (TS segments)"),
        (Format::Hls, Segment::Fmp4) => format!("{name} (fMP4 segments)"),
        _ => name,
    }
}

fn has_picture(format: Format) -> bool {
    VideoCodec::ALL.into_iter().any(|codec| format.carries(of_media(codec)))
}

fn of_media(codec: VideoCodec) -> Codec {
    match codec {
        VideoCodec::H264 => Codec::H264,
        VideoCodec::H265 => Codec::H265,
        VideoCodec::Av1 => Codec::Av1,
        VideoCodec::Vp9 => Codec::Vp9,
        VideoCodec::Vp8 => Codec::Vp8,
    }
}

/// What the RTP session has to know of a picture.
pub fn rtp_format(video: &Video) -> rtp::Format {
    let parameter_sets = video.parameter_sets.clone();
    match video.codec {
        VideoCodec::H264 => rtp::Format::H264 { parameter_sets },
        VideoCodec::H265 => rtp::Format::H265 { parameter_sets },
        VideoCodec::Av1 => rtp::Format::Av1,
        VideoCodec::Vp9 => rtp::Format::Vp9,
        VideoCodec::Vp8 => rtp::Format::Vp8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HLS: Container = (Format::Hls, Segment::Ts);
    const FRAGMENTS: Container = (Format::Hls, Segment::Fmp4);
    const FLV: Container = (Format::Flv, Segment::Ts);
    const MP4: Container = (Format::Mp4, Segment::Ts);
    const AAC: Container = (Format::Aac, Segment::Ts);

    const ALL: [VideoCodec; 5] = VideoCodec::ALL;

    #[test]
    fn w10_every_format_of_every_template_has_to_carry_the_picture() {
        assert_eq!(choose(&[MP4], &[]).codecs, ALL);
        for formats in [&[HLS][..], &[MP4, HLS], &[FLV, AAC, HLS, MP4, HLS]] {
            let wanted = choose(formats, &[]);
            assert_eq!(wanted.codecs, [VideoCodec::H264, VideoCodec::H265], "{formats:?}");
            let why = &wanted.others.iter().find(|(codec, _)| *codec == VideoCodec::Vp8).unwrap().1;
            assert!(why.contains("HLS") && !why.contains("MP4") && !why.contains("AAC"), "{why}");
            assert!(!wanted.sound_is_enough);
        }
    }

    #[test]
    fn w10_segments_of_fragmented_mp4_carry_more() {
        let wanted = choose(&[FRAGMENTS, MP4], &[]);
        assert_eq!(wanted.codecs, [VideoCodec::H264, VideoCodec::H265, VideoCodec::Av1, VideoCodec::Vp9]);
        assert!(wanted.others[0].1.contains("HLS (fMP4 segments), which"), "{:?}", wanted.others);
        assert!(choose(&[FRAGMENTS, HLS], &[]).others[0].1.contains("HLS (TS segments)"));
    }

    #[test]
    fn w10_tasks_prefer_and_do_not_refuse() {
        assert_eq!(choose(&[], &[]).codecs, ALL, "recordings may be ordered later");
        assert_eq!(choose(&[MP4], &[HLS]).codecs, ALL);
        let preferred = choose(&[], &[HLS]);
        assert_eq!(preferred.codecs, ALL);
        assert!(preferred.others.is_empty() && !preferred.sound_is_enough);
    }

    #[test]
    fn w10_sound_alone_is_enough_where_nothing_else_is_recorded() {
        let wanted = choose(&[AAC], &[]);
        assert_eq!(wanted.codecs, ALL);
        assert!(wanted.sound_is_enough && wanted.others.is_empty());
        assert!(!choose(&[AAC, MP4], &[]).sound_is_enough);
    }
}
