//! Judges an offer (RFC 9725, section 4.2): what is taken from it, or why it is refused as a whole.

use std::fmt::Write as _;

use crate::codecs::{Sound, Video, Wanted, choose_sound, choose_video};
use crate::limits::{MAX_FORMATS, MAX_LAYERS};
use crate::refused::Refused;
use crate::sdp::{Description, Media, short};

/// An offer that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The picture, if there is one.
    pub video: Option<Video>,
    /// The sound, if there is some.
    pub sound: Option<Sound>,
    /// The publisher's ICE user fragment.
    pub ufrag: String,
    /// Its password.
    pub password: String,
    /// The offer without what is of no use: candidates, which a lite agent does not contact, codecs of the picture that
    /// were not chosen, and a picture that was declined.
    pub reduced: String,
    /// The picture that is answered with no.
    pub declined: Option<Declined>,
    /// What the publisher calls itself (`s=` or `a=tool`), fit for a log; often empty.
    pub encoder: String,
    /// The publisher waits for this end to begin the DTLS handshake.
    pub passive: bool,
    /// Kind of the first media section that is taken: `audio` or `video`.
    pub first_kind: &'static str,
    /// Its name.
    pub first_mid: String,
}

/// A video section that cannot be recorded, of an offer that is taken for its sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declined {
    /// Its name.
    pub mid: String,
    /// It stands before the sound.
    pub is_first: bool,
    /// Its first payload type.
    pub format: String,
}

impl Offer {
    /// Parses and judges: which of the offered pictures is taken is for `wanted` to say.
    pub fn parse(text: &str, wanted: &Wanted) -> Result<Self, Refused> {
        let description = Description::parse(text)?;
        check_sections(&description)?;
        check_bundle(&description)?;
        let (mut video, mut sound, mut declined) = (None, None, None);
        let has_sound = description.media.iter().any(|media| media.kind == "audio");
        for (index, media) in description.media.iter().enumerate() {
            check_media(&description, media)?;
            if media.kind != "video" {
                sound = Some(choose_sound(media)?);
                continue;
            }
            match choose_video(media, wanted) {
                Ok(chosen) => video = Some(Video { layers: layers(media)?, ..chosen }),
                Err(_) if wanted.sound_is_enough && has_sound => declined = Some(decline(media, index == 0)),
                Err(refused) => return Err(refused),
            }
        }
        let taken = |media: &&Media<'_>| media.kind == "audio" || video.is_some();
        let first = description.media.iter().find(taken);
        let (ufrag, password) = credentials(&description, first)?;
        Ok(Self {
            reduced: reduced(&description, video.as_ref(), declined.as_ref()),
            video,
            sound,
            ufrag,
            password,
            declined,
            encoder: encoder(&description),
            passive: first.and_then(|media| description.inherited(media, "setup")) == Some("passive"),
            first_kind: if first.is_some_and(|media| media.kind == "video") { "video" } else { "audio" },
            first_mid: first.and_then(|media| media.section.attribute("mid")).unwrap_or_default().to_owned(),
        })
    }
}

fn check_sections(description: &Description<'_>) -> Result<(), Refused> {
    let count = |kind: &str| description.media.iter().filter(|media| media.kind == kind).count();
    if let Some(other) = description.media.iter().find(|media| !matches!(media.kind, "audio" | "video")) {
        return Err(Refused::unacceptable(format!(
            "an offer may have audio and video only, not {}; publish without data channels",
            short(other.kind)
        )));
    }
    if description.media.is_empty() {
        return Err(Refused::unacceptable("the offer has neither audio nor video"));
    }
    if count("audio") > 1 || count("video") > 1 {
        return Err(Refused::unacceptable("an offer may have one audio and one video section at most (RFC 9725, 4.2)"));
    }
    Ok(())
}

/// Every section in one bundle: there is one transport (RFC 9725, section 4.4).
fn check_bundle(description: &Description<'_>) -> Result<(), Refused> {
    let mut mids = Vec::new();
    for media in &description.media {
        match media.section.attribute("mid").filter(|mid| !mid.is_empty()) {
            Some(mid) => mids.push(mid),
            None => return Err(Refused::malformed(format!("the {} section has no a=mid", media.kind))),
        }
    }
    let mut groups = description.session.attributes("group").filter_map(|group| group.strip_prefix("BUNDLE"));
    let bundled = groups.next().unwrap_or_default();
    let outside = |mid: &&str| !bundled.split_ascii_whitespace().any(|bundled| bundled == *mid);
    if description.media.len() > 1 && mids.iter().any(outside) {
        return Err(Refused::unacceptable(
            "audio and video have to be in one a=group:BUNDLE (bundlePolicy max-bundle)",
        ));
    }
    Ok(())
}

fn check_media(description: &Description<'_>, media: &Media<'_>) -> Result<(), Refused> {
    let kind = media.kind;
    if !media.protocol.contains("TLS/RTP/SAVP") {
        return Err(Refused::unacceptable(format!(
            "{kind} has to be UDP/TLS/RTP/SAVPF, not {}",
            short(media.protocol)
        )));
    }
    if media.port == 0 && !media.section.has("bundle-only") {
        return Err(Refused::unacceptable(format!("the {kind} section is switched off; leave it out")));
    }
    if media.formats.len() > MAX_FORMATS {
        return Err(Refused::malformed(format!("more than {MAX_FORMATS} payload types for {kind}")));
    }
    let direction = ["sendonly", "sendrecv", "recvonly", "inactive"]
        .into_iter()
        .find(|direction| media.section.has(direction))
        .or_else(|| ["recvonly", "inactive"].into_iter().find(|direction| description.session.has(direction)));
    if let Some(direction @ ("recvonly" | "inactive")) = direction {
        return Err(Refused::unacceptable(format!("{kind} is {direction}; a publisher offers sendonly or sendrecv")));
    }
    if !media.section.has("rtcp-mux") && !media.section.has("rtcp-mux-only") {
        return Err(Refused::unacceptable(format!("{kind} needs a=rtcp-mux (rtcpMuxPolicy require)")));
    }
    match description.inherited(media, "setup") {
        // Passive is not for a publisher to ask for, but ffmpeg does.
        Some("actpass" | "active" | "passive") => {}
        Some(other) => return Err(Refused::unacceptable(format!("a=setup:{} is unknown", short(other)))),
        None => return Err(Refused::malformed("a=setup is missing")),
    }
    if description.inherited(media, "fingerprint").is_none() {
        return Err(Refused::malformed("a=fingerprint is missing: media has to be encrypted (DTLS-SRTP)"));
    }
    Ok(())
}

/// The bundle's transport is described in its first section, or in all alike.
fn credentials(description: &Description<'_>, first: Option<&Media<'_>>) -> Result<(String, String), Refused> {
    let first = first.ok_or_else(|| Refused::unacceptable("the offer has no media"))?;
    let ufrag = description.inherited(first, "ice-ufrag").unwrap_or_default();
    let password = description.inherited(first, "ice-pwd").unwrap_or_default();
    check_credentials(ufrag, password)?;
    Ok((ufrag.to_owned(), password.to_owned()))
}

/// RFC 8839, section 5.4: 4 to 256 and 22 to 256 characters of a small alphabet.
pub fn check_credentials(ufrag: &str, password: &str) -> Result<(), Refused> {
    let sound = |text: &str, least: usize| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=');
        (least..=256).contains(&text.len()) && text.bytes().all(allowed)
    };
    if !sound(ufrag, 4) {
        return Err(Refused::malformed("a=ice-ufrag has to be 4 to 256 ICE characters"));
    }
    if !sound(password, 22) {
        return Err(Refused::malformed("a=ice-pwd has to be 22 to 256 ICE characters"));
    }
    Ok(())
}

/// Simulcast layers by name, best first as the publisher orders them; empty without simulcast (RFC 8853).
fn layers(media: &Media<'_>) -> Result<Vec<String>, Refused> {
    let Some(simulcast) = media.section.attribute("simulcast") else { return Ok(Vec::new()) };
    let mut words = simulcast.split_ascii_whitespace();
    let mut names = Vec::new();
    while let (Some(direction), Some(list)) = (words.next(), words.next()) {
        if direction != "send" {
            continue;
        }
        // `;` separates layers, `,` alternatives of one layer, `~` marks one that is paused for now.
        let alternatives = list.split([';', ',']).map(|name| name.trim_start_matches('~'));
        names.extend(alternatives.filter(|name| !name.is_empty()).map(str::to_owned));
    }
    let known = |name: &String| media.section.attributes("rid").any(|rid| rid.split(' ').next() == Some(name));
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        return Err(Refused::malformed(format!("a=simulcast names the layer {} without an a=rid", short(unknown))));
    }
    if names.len() > MAX_LAYERS {
        return Err(Refused::unacceptable(format!("more than {MAX_LAYERS} simulcast layers")));
    }
    Ok(names)
}

fn decline(media: &Media<'_>, is_first: bool) -> Declined {
    let mid = media.section.attribute("mid").unwrap_or_default().to_owned();
    Declined { mid, is_first, format: media.formats.first().copied().unwrap_or("0").to_owned() }
}

/// What a lite agent needs of the offer. Candidates are left out: names in them (mDNS) would be looked up, numbers kept.
/// So are codecs that were not chosen: nothing else can be negotiated.
fn reduced(description: &Description<'_>, video: Option<&Video>, declined: Option<&Declined>) -> String {
    let wanted = |line: &&str| {
        !["a=candidate:", "a=end-of-candidates", "a=remote-candidates:"].iter().any(|useless| line.starts_with(useless))
    };
    let chosen: Vec<String> = video.map_or_else(Vec::new, |video| {
        [Some(video.payload_type), video.retransmission]
            .into_iter()
            .flatten()
            .map(|number| number.to_string())
            .collect()
    });
    let mut text = String::new();
    for line in description.session.lines().filter(wanted) {
        match declined.filter(|_| line.starts_with("a=group:BUNDLE")) {
            Some(Declined { mid, .. }) => {
                let others: Vec<_> = line.split(' ').filter(|word| word != mid).collect();
                let _ = write!(text, "{}\r\n", others.join(" "));
            }
            None => drop(write!(text, "{line}\r\n")),
        }
    }
    for media in &description.media {
        let is_video = media.kind == "video";
        if is_video && video.is_none() {
            continue;
        }
        let is_chosen = |format: &&str| !is_video || chosen.iter().any(|chosen| chosen == format);
        let formats: Vec<&str> = media.formats.iter().copied().filter(is_chosen).collect();
        let _ = write!(text, "m={} 9 {} {}\r\n", media.kind, media.protocol, formats.join(" "));
        for line in media.section.lines().filter(wanted).filter(|line| format_of(line).is_none_or(|of| is_chosen(&of)))
        {
            let _ = write!(text, "{line}\r\n");
        }
    }
    text
}

/// The payload type that a line is about.
fn format_of(line: &str) -> Option<&str> {
    let rest = ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"].iter().find_map(|name| line.strip_prefix(name))?;
    rest.split(' ').next().filter(|of| *of != "*")
}

fn encoder(description: &Description<'_>) -> String {
    let name = description.session.lines().find_map(|line| line.strip_prefix("s=")).unwrap_or_default();
    let name = description.session.attribute("tool").unwrap_or(name).trim();
    if name == "-" { String::new() } else { short(name) }
}

#[cfg(test)]
#[path = "offer_tests.rs"]
mod tests;
