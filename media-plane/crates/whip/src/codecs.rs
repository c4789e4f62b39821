//! Which of the offered codecs is taken: one that every recording can carry.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;

use crate::refused::Refused;
use crate::sdp::{Media, short};

/// A codec of pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum VideoCodec {
    #[default]
    H264,
    H265,
    Av1,
    Vp9,
    Vp8,
}

impl VideoCodec {
    /// Every one, those first that play in most places.
    pub const ALL: [Self; 5] = [Self::H264, Self::H265, Self::Av1, Self::Vp9, Self::Vp8];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "H.264",
            Self::H265 => "H.265",
            Self::Av1 => "AV1",
            Self::Vp9 => "VP9",
            Self::Vp8 => "VP8",
        }
    }

    /// What SDP calls it.
    fn encoding(self) -> &'static str {
        match self {
            Self::H264 => "H264",
            Self::H265 => "H265",
            other => other.name(),
        }
    }
}

/// Which pictures may be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// These, most wanted first.
    pub codecs: Vec<VideoCodec>,
    /// Why others may not, as the rest of a sentence that begins with the codec: `cannot be carried by FLV`.
    pub others: Vec<(VideoCodec, String)>,
    /// An offer whose picture cannot be taken is worth its sound.
    pub sound_is_enough: bool,
}

impl Default for Wanted {
    /// Every codec, and no offer without a picture that can be taken.
    fn default() -> Self {
        Self { codecs: VideoCodec::ALL.to_vec(), others: Vec::new(), sound_is_enough: false }
    }
}

/// The picture of an offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Video {
    /// What it is coded in.
    pub codec: VideoCodec,
    /// Its payload type.
    pub payload_type: u8,
    /// Its format parameters, as offered.
    pub parameters: String,
    /// Of H.264: 0 = every NAL unit in one packet, 1 = aggregated and fragmented ones too (RFC 6184, section 6).
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
    /// `sprop-parameter-sets` of H.264, `sprop-vps`, `-sps` and `-pps` of H.265, decoded: parameter sets that need not
    /// come with the picture.
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

/// The most wanted of the offered codecs, whatever its profile: recordings carry what the stream says of itself.
pub fn choose_video(media: &Media<'_>, wanted: &Wanted) -> Result<Video, Refused> {
    let codecs = codecs(media);
    let best = |wanted: &VideoCodec| {
        let is_it =
            |codec: &&Codec<'_>| codec.name.eq_ignore_ascii_case(wanted.encoding()) && codec.clock_rate == "90000";
        let ranked = codecs.iter().filter(is_it).filter_map(|codec| Some((rank(*wanted, codec.parameters)?, codec)));
        // Stable, so that the publisher's own order decides among equals.
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, codec)| (*wanted, codec))
    };
    let Some((codec, chosen)) = wanted.codecs.iter().find_map(best) else {
        return Err(Refused::unacceptable(refusal(&codecs, wanted)));
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
        codec,
        payload_type: chosen.payload_type,
        parameters: chosen.parameters.to_owned(),
        packetization_mode: mode(chosen.parameters),
        retransmission: codecs.iter().find(is_its_own).map(|codec| codec.payload_type),
        nack: feedback("nack"),
        pli: feedback("nack pli"),
        fir: feedback("ccm fir"),
        layers: Vec::new(),
        parameter_sets: parameter_sets(codec, chosen.parameters),
    })
}

/// Which codecs are there, why none of them is taken, and which would be.
fn refusal(codecs: &[Codec<'_>], wanted: &Wanted) -> String {
    let offered = |codec: &VideoCodec| codecs.iter().any(|other| other.name.eq_ignore_ascii_case(codec.encoding()));
    let reasons = wanted.others.iter().filter(|(codec, _)| offered(codec));
    let reasons: String = reasons.map(|(codec, why)| format!("; {} {why}", codec.name())).collect();
    let taken = match wanted.codecs.split_last() {
        None => "no video at all is taken here".to_owned(),
        Some((only, [])) => format!("{} is taken", only.name()),
        Some((last, first)) => {
            let first: Vec<_> = first.iter().map(|codec| codec.name()).collect();
            format!("{} and {} are taken", first.join(", "), last.name())
        }
    };
    format!(
        "the video of this offer cannot be recorded: it has {}{reasons}. For this stream {taken} \
         (browsers: RTCRtpTransceiver.setCodecPreferences; OBS: choose another encoder)",
        names(codecs)
    )
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

/// RFC 6184, section 8.1, and RFC 7798, section 7.1; at most one of each kind makes sense, a few more do no harm.
fn parameter_sets(codec: VideoCodec, parameters: &str) -> Vec<Bytes> {
    let fields: &[&str] = match codec {
        VideoCodec::H264 => &["sprop-parameter-sets"],
        VideoCodec::H265 => &["sprop-vps", "sprop-sps", "sprop-pps"],
        VideoCodec::Av1 | VideoCodec::Vp9 | VideoCodec::Vp8 => &[],
    };
    let decode = |set: &str| STANDARD_NO_PAD.decode(set.trim().trim_end_matches('=')).ok();
    let lists = fields.iter().filter_map(|field| parameter(parameters, field));
    let sets = lists.flat_map(|list| list.split(',').take(8)).filter_map(decode);
    sets.filter(|set| !set.is_empty()).map(Bytes::from).collect()
}

fn mode(parameters: &str) -> u8 {
    if parameter(parameters, "packetization-mode") == Some("1") { 1 } else { 0 }
}

/// Lower is better; `None` = its packets cannot be put together here. Profiles beyond the usual (4:2:2, 4:4:4, 10 bit)
/// play in few players.
fn rank(codec: VideoCodec, parameters: &str) -> Option<u8> {
    let number = |name: &str, otherwise: u8| {
        parameter(parameters, name).map_or(Some(otherwise), |value| value.parse().ok()).unwrap_or(u8::MAX)
    };
    Some(match codec {
        VideoCodec::H264 => rank_h264(parameters),
        VideoCodec::H265 => {
            // Packets out of decoding order, and streams in several sessions (RFC 7798, section 7.1), have no senders.
            let in_order = number("sprop-max-don-diff", 0) == 0;
            let is_single = parameter(parameters, "tx-mode").is_none_or(|mode| mode.eq_ignore_ascii_case("SRST"));
            if !in_order || !is_single {
                return None;
            }
            number("profile-id", 1).saturating_sub(1)
        }
        VideoCodec::Av1 => number("profile", 0),
        // Profile 2 is 4:2:0 too.
        VideoCodec::Vp9 => match number("profile-id", 0) {
            0 => 0,
            2 => 1,
            other => other.saturating_add(1),
        },
        VideoCodec::Vp8 => 0,
    })
}

/// Interleaved mode 2 is obsolete and nobody's default; a larger packet mode costs the publisher less.
fn rank_h264(parameters: &str) -> u8 {
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
