//! The answer as the publisher gets it: the library's, with the addresses under which this node can be reached.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::offer::Declined;

/// Where publishers send to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reachable {
    /// The UDP socket, under every address that it has for publishers.
    pub udp: Vec<SocketAddr>,
    /// The TCP listener, likewise.
    pub tcp: Vec<SocketAddr>,
}

impl Reachable {
    /// These addresses, each with these ports.
    pub fn new(addresses: &[IpAddr], udp: u16, tcp: Option<u16>) -> Self {
        let with = |port: u16| addresses.iter().map(move |address| SocketAddr::new(*address, port));
        Self { udp: with(udp).collect(), tcp: tcp.into_iter().flat_map(with).collect() }
    }

    /// Also at this machine's loopback address, for a publisher on it.
    pub fn add_loopback(&mut self) {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        for list in [&mut self.udp, &mut self.tcp] {
            let port = list.first().map(SocketAddr::port);
            let known = list.iter().any(|address| address.ip() == loopback);
            list.extend(port.filter(|_| !known).map(|port| SocketAddr::new(loopback, port)));
        }
    }

    /// Attribute lines, most preferred first: UDP before TCP, in the order given (RFC 8445, section 5.1.2).
    pub fn lines(&self) -> String {
        let mut text = String::new();
        let all = self.udp.iter().map(|address| (address, true)).chain(self.tcp.iter().map(|address| (address, false)));
        for (index, (address, is_udp)) in (0_u32..).zip(all) {
            let (local, transport) = if is_udp { (65_535, "udp") } else { (32_767, "tcp") };
            let priority = (126 << 24) + ((local - index.min(1_000)) << 8) + 255;
            let (ip, port) = (address.ip(), address.port());
            let _ = write!(text, "a=candidate:{} 1 {transport} {priority} {ip} {port} typ host", index + 1);
            text.push_str(if is_udp { "\r\n" } else { " tcptype passive\r\n" });
        }
        text.push_str("a=end-of-candidates\r\n");
        text
    }
}

/// Puts the addresses into the first media section, whose transport all others share, and says how sound is wanted:
/// browsers send one channel unless the answer asks for two (RFC 7587, section 6.1).
pub fn present(answer: &str, reachable: &Reachable, sound: Option<u8>) -> String {
    let [map, parameters] = ["rtpmap", "fmtp"].map(|name| sound.map(|number| format!("a={name}:{number} ")));
    let is = |line: &str, wanted: &Option<String>| wanted.as_ref().is_some_and(|wanted| line.starts_with(wanted));
    let inside = |line: &&str| {
        let own = line.starts_with("a=candidate:") || line.starts_with("a=end-of-candidates");
        !own && !is(line, &parameters)
    };
    let mut text = String::with_capacity(answer.len() + 256);
    let mut sections = 0;
    for line in answer.lines().filter(inside) {
        if line.starts_with("m=") {
            sections += 1;
            if sections == 2 {
                text.push_str(&reachable.lines());
            }
        }
        text.push_str(line);
        text.push_str("\r\n");
        if let Some(parameters) = parameters.as_ref().filter(|_| is(line, &map)) {
            let _ = write!(text, "{parameters}minptime=10;useinbandfec=1;stereo=1\r\n");
        }
    }
    if sections == 1 {
        text.push_str(&reachable.lines());
    }
    text
}

/// Says no to a picture, in its place (RFC 3264, section 6).
pub fn decline(answer: String, declined: Option<&Declined>) -> String {
    let Some(Declined { mid, is_first, format }) = declined else { return answer };
    let section = format!("m=video 0 UDP/TLS/RTP/SAVPF {format}\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\na=mid:{mid}\r\n");
    match answer.find("\r\nm=").filter(|_| *is_first) {
        Some(place) => {
            let (session, media) = answer.split_at(place + 2);
            [session, &section, media].concat()
        }
        None => answer + &section,
    }
}

/// An ICE restart as it is answered (RFC 8840).
pub fn restart_fragment(ufrag: &str, password: &str, mid: &str, kind: &str, reachable: &Reachable) -> String {
    format!(
        "a=ice-lite\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\nm={kind} 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:{mid}\r\n{}",
        reachable.lines()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_section_has_every_address_and_none_of_the_inside() {
        let addresses = ["203.0.113.9".parse().unwrap(), "2001:db8::9".parse().unwrap()];
        let reachable = Reachable::new(&addresses, 8189, Some(8190));
        let raw = "v=0\r\nm=audio 9 X 111\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n\
                   m=video 9 X 96\r\na=mid:1\r\na=end-of-candidates\r\n";
        let text = present(raw, &reachable, None);
        let (first, second) = text.split_once("m=video").unwrap();
        assert!(!text.contains("192.0.2.1") && !second.contains("candidate"), "{text}");
        assert!(first.contains("a=candidate:1 1 udp 2130706431 203.0.113.9 8189 typ host\r\n"), "{text}");
        assert!(first.contains(" udp 2130706175 2001:db8::9 8189 typ host\r\n"), "{text}");
        assert!(first.contains(" 203.0.113.9 8190 typ host tcptype passive\r\n"), "{text}");
        let only = present("v=0\r\nm=video 9 X 96\r\na=mid:0\r\n", &Reachable::new(&addresses[..1], 1, None), None);
        assert!(only.ends_with("typ host\r\na=end-of-candidates\r\n"), "{only}");
    }

    #[test]
    fn a_declined_picture_keeps_its_place() {
        let answer = "v=0\r\nt=0 0\r\nm=audio 9 X 111\r\na=mid:s\r\n".to_owned();
        assert_eq!(decline(answer.clone(), None), answer);
        for is_first in [true, false] {
            let declined = Declined { mid: "p".to_owned(), is_first, format: "34".to_owned() };
            let text = decline(answer.clone(), Some(&declined));
            let (picture, sound) = (text.find("m=video 0 ").unwrap(), text.find("m=audio 9 ").unwrap());
            assert_eq!(picture < sound, is_first, "{text}");
            assert!(text.contains("m=video 0 UDP/TLS/RTP/SAVPF 34\r\n") && text.contains("a=mid:p\r\n"), "{text}");
        }
    }

    #[test]
    fn sound_is_asked_for_in_stereo_and_with_error_correction() {
        let raw = "v=0\r\nm=audio 9 X 111\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10\r\nm=video 9 X 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 x=1\r\n";
        let text = present(raw, &Reachable::default(), Some(111));
        assert!(
            text.contains("a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1;stereo=1\r\n"),
            "{text}"
        );
        assert_eq!(text.matches("a=fmtp:111").count(), 1);
        assert!(text.contains("a=fmtp:96 x=1\r\n"));
    }
}
