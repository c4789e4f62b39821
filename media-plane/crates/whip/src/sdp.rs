//! Session descriptions as lines: just enough structure to judge an offer before a library sees it.

use crate::limits::MAX_OFFER_LINES;
use crate::refused::Refused;

/// A description, cut into its session part and its media sections.
#[derive(Debug)]
pub struct Description<'a> {
    /// Lines before the first `m=`.
    pub session: Section<'a>,
    /// One per `m=` line.
    pub media: Vec<Media<'a>>,
}

/// Lines that belong together.
#[derive(Debug, Default)]
pub struct Section<'a> {
    lines: Vec<&'a str>,
}

/// One media section.
#[derive(Debug)]
pub struct Media<'a> {
    /// `audio`, `video`, `application` ...
    pub kind: &'a str,
    /// 0 = refused, unless it is bundled only.
    pub port: u32,
    /// `UDP/TLS/RTP/SAVPF` ...
    pub protocol: &'a str,
    /// Payload types, in order of preference.
    pub formats: Vec<&'a str>,
    /// Its lines, without the `m=` line.
    pub section: Section<'a>,
}

impl<'a> Section<'a> {
    /// Every line, in order.
    pub fn lines(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.lines.iter().copied()
    }

    /// Values of `a={name}:{value}`.
    pub fn attributes(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter_map(move |line| {
            let (key, value) = line.strip_prefix("a=")?.split_once(':')?;
            (key == name).then_some(value.trim())
        })
    }

    /// The first of [`Self::attributes`].
    pub fn attribute(&self, name: &str) -> Option<&'a str> {
        self.attributes(name).next()
    }

    /// Whether `a={name}` is there.
    pub fn has(&self, name: &str) -> bool {
        self.lines.iter().any(|line| line.strip_prefix("a=").is_some_and(|rest| rest.trim() == name))
    }
}

impl<'a> Media<'a> {
    fn parse(value: &'a str) -> Result<Self, Refused> {
        let broken = || Refused::malformed(format!("not a media line: m={}", short(value)));
        let mut words = value.split_ascii_whitespace();
        let (kind, port, protocol) = (words.next(), words.next(), words.next());
        let (Some(kind), Some(port), Some(protocol)) = (kind, port, protocol) else { return Err(broken()) };
        let port = port.split('/').next().unwrap_or_default().parse().map_err(|_| broken())?;
        Ok(Self { kind, port, protocol, formats: words.collect(), section: Section::default() })
    }
}

impl<'a> Description<'a> {
    /// Cuts `text` up; what the lines mean is for others to judge.
    pub fn parse(text: &'a str) -> Result<Self, Refused> {
        let mut description = Self { session: Section::default(), media: Vec::new() };
        let lines = text.lines().map(|line| line.trim_end_matches('\r')).filter(|line| !line.is_empty());
        for (index, line) in lines.enumerate() {
            if index == 0 && !line.starts_with("v=0") {
                return Err(Refused::malformed("a session description begins with v=0"));
            }
            if index >= MAX_OFFER_LINES {
                return Err(Refused::malformed(format!("more than {MAX_OFFER_LINES} lines")));
            }
            if line.as_bytes().get(1) != Some(&b'=') {
                return Err(Refused::malformed(format!("not a line of a session description: {}", short(line))));
            }
            match (line.strip_prefix("m="), description.media.last_mut()) {
                (Some(value), _) => description.media.push(Media::parse(value)?),
                (None, Some(media)) => media.section.lines.push(line),
                (None, None) => description.session.lines.push(line),
            }
        }
        if description.session.lines.is_empty() {
            return Err(Refused::malformed("the body is empty; it has to be an SDP offer"));
        }
        Ok(description)
    }

    /// An attribute of a media section, or the session's for all of them.
    pub fn inherited(&self, media: &Media<'a>, name: &str) -> Option<&'a str> {
        media.section.attribute(name).or_else(|| self.session.attribute(name))
    }
}

/// The beginning of something a peer sent, fit to be shown to it and in a log.
pub fn short(text: &str) -> String {
    text.chars().take(60).map(|c| if c.is_control() { '.' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_and_attributes() {
        let text = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\na=group:BUNDLE 0\r\na=ice-ufrag:abcd\r\nm=video 9/2 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:0\r\na=sendonly\r\na=rtpmap:96 H264/90000\r\n";
        let description = Description::parse(text).unwrap();
        let media = &description.media[0];
        assert_eq!((media.kind, media.port, media.formats.as_slice()), ("video", 9, ["96", "97"].as_slice()));
        assert!(media.section.has("sendonly") && !media.section.has("recvonly"));
        assert_eq!(description.inherited(media, "ice-ufrag"), Some("abcd"));
        assert_eq!(media.section.attribute("rtpmap"), Some("96 H264/90000"));
    }

    #[test]
    fn what_is_no_description_is_refused_with_words() {
        for text in
            ["", "\r\n\r\n", "{\"sdp\":1}", "v=0\r\nm=video\r\n", "v=0\r\nm=video x y 1\r\n", "v=0\r\nnonsense\r\n"]
        {
            let refused = Description::parse(text).unwrap_err();
            assert_eq!(refused.status, 400, "{text:?}: {refused}");
        }
        let long = format!("v=0\r\n{}", "a=x:1\r\n".repeat(MAX_OFFER_LINES));
        assert_eq!(Description::parse(&long).unwrap_err().status, 400);
    }
}
