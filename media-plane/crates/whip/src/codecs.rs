//! Which of the offered codecs is taken: one that every recording can carry.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;

use crate::refused::Refused;
use crate::sdp::{Media, short};

/// The picture of an offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Video {
    /// Payload type of H.264.
    pub payload_type: u8,
    /// Its format parameters, as offered.
    pub parameters: String,
    /// 0 = every NAL unit in one packet, 1 = aggregated and fragmented ones too (RFC 6184, section 6).
    pub packetization_mode: u8,
    /// Payload type of its retransmissions (RFC 4588).
    pub retransmission: Option<u8>,
    /// The publisher answers negative acknowledgements.
    pub nack: bool,
    /// It takes picture loss indications.
    pub pli: bool,
    /// It takes full intra requests.
    pub fir: bool,
    /// Simulcast layers, in the publisher's order.
    pub layers: Vec<String>,
    /// `sprop-parameter-sets`, decoded: parameter sets that need not come with the picture.
    pub parameter_sets: Vec<Bytes>,
}

/// The sound of an offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sound {
    /// Payload type of Opus.
    pub payload_type: u8,
    /// Its format parameters, as offered.
    pub parameters: String,
    /// Channels to decode to: 1 when the publisher says that it never sends two.
    pub channels: u8,
}

/// One `a=rtpmap`.
struct Codec<'a> {
    payload_type: u8,
    name: &'a str,
    clock_rate: &'a str,
    parameters: &'a str,
}

/// The offered codecs in the publisher's order of preference.
fn codecs<'a>(media: &Media<'a>) -> Vec<Codec<'a>> {
    let by_type = |payload_type: &str, name: &str| {
        media.section.attributes(name).find_map(|value| {
            let (number, rest) = value.split_once(' ')?;
            (number == payload_type).then(|| rest.trim())
        })
    };
    let codec = |format: &&'a str| {
        let payload_type = format.parse().ok().filter(|number| *number < 128)?;
        let (name, rest) = by_type(format, "rtpmap")?.split_once('/')?;
        let clock_rate = rest.split('/').next().unwrap_or_default();
        Some(Codec { payload_type, name, clock_rate, parameters: by_type(format, "fmtp").unwrap_or_default() })
    };
    media.formats.iter().filter_map(codec).collect()
}

/// The value of one format parameter.
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// H.264, whatever its profile: recordings carry what the stream says of itself.
pub fn choose_video(media: &Media<'_>) -> Result<Video, Refused> {
    let codecs = codecs(media);
    let h264 = codecs.iter().filter(|codec| codec.name.eq_ignore_ascii_case("H264") && codec.clock_rate == "90000");
    // Stable, so that the publisher's own order decides among equals.
    let Some(chosen) = h264.min_by_key(|codec| rank(codec.parameters)) else {
        return Err(Refused::unacceptable(format!(
            "video is recorded as H.264 only; the offer has {}. Put H.264 into the offer \
             (browsers: RTCRtpTransceiver.setCodecPreferences; OBS: choose an H.264 encoder)",
            names(&codecs)
        )));
    };
    let number = chosen.payload_type.to_string();
    let is_its_own = |codec: &&Codec<'_>| {
        codec.name.eq_ignore_ascii_case("rtx") && parameter(codec.parameters, "apt") == Some(number.as_str())
    };
    let feedback = |wanted: &str| {
        media.section.attributes("rtcp-fb").any(|value| {
            let mut words = value.splitn(2, ' ');
            let of = words.next().unwrap_or_default();
            (of == "*" || of == number) && words.next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(wanted))
        })
    };
    Ok(Video {
        payload_type: chosen.payload_type,
        parameters: chosen.parameters.to_owned(),
        packetization_mode: mode(chosen.parameters),
        retransmission: codecs.iter().find(is_its_own).map(|codec| codec.payload_type),
        nack: feedback("nack"),
        pli: feedback("nack pli"),
        fir: feedback("ccm fir"),
        layers: Vec::new(),
        parameter_sets: parameter_sets(chosen.parameters),
    })
}

/// Opus; stereo is how it is always announced (RFC 7587, section 7).
pub fn choose_sound(media: &Media<'_>) -> Result<Sound, Refused> {
    let codecs = codecs(media);
    let opus = codecs.iter().find(|codec| codec.name.eq_ignore_ascii_case("opus") && codec.clock_rate == "48000");
    let opus = opus.ok_or_else(|| {
        Refused::unacceptable(format!("sound is recorded from Opus only; the offer has {}", names(&codecs)))
    })?;
    // Said by the sender of itself (RFC 7587, 6.1); without a word it may switch to stereo at any packet.
    let channels = if parameter(opus.parameters, "sprop-stereo") == Some("0") { 1 } else { 2 };
    Ok(Sound { payload_type: opus.payload_type, parameters: opus.parameters.to_owned(), channels })
}

/// RFC 6184, section 8.1; at most one of each kind makes sense, a few more do no harm.
fn parameter_sets(parameters: &str) -> Vec<Bytes> {
    let list = parameter(parameters, "sprop-parameter-sets").unwrap_or_default();
    let decode = |set: &str| STANDARD_NO_PAD.decode(set.trim().trim_end_matches('=')).ok();
    list.split(',').take(8).filter_map(decode).filter(|set| !set.is_empty()).map(Bytes::from).collect()
}

fn mode(parameters: &str) -> u8 {
    if parameter(parameters, "packetization-mode") == Some("1") { 1 } else { 0 }
}

/// Lower is better. Interleaved mode 2 is obsolete and nobody's default; profiles beyond High (4:2:2, 4:4:4, 10 bit) play
/// in few players; of the rest a larger packet mode costs the publisher less.
fn rank(parameters: &str) -> u8 {
    let profile = parameter(parameters, "profile-level-id").and_then(|id| id.get(..2));
    let plays_everywhere =
        profile.is_none_or(|profile| matches!(profile.to_ascii_lowercase().as_str(), "42" | "4d" | "58" | "64"));
    match (parameter(parameters, "packetization-mode").unwrap_or("0"), plays_everywhere) {
        ("1", true) => 0,
        ("0", true) => 1,
        ("1" | "0", false) => 2,
        _ => 3,
    }
}

fn names(codecs: &[Codec<'_>]) -> String {
    let mut names: Vec<String> = Vec::new();
    let helpers = ["rtx", "red", "ulpfec", "flexfec-03", "telephone-event", "CN"];
    for codec in codecs.iter().filter(|codec| !helpers.iter().any(|helper| codec.name.eq_ignore_ascii_case(helper))) {
        let name = short(codec.name);
        if !names.contains(&name) && names.len() < 12 {
            names.push(name);
        }
    }
    if names.is_empty() { "no codec that this node knows".to_owned() } else { names.join(", ") }
}
