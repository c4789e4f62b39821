//! The checklist's lines about offers.

use super::*;
use crate::codecs::VideoCodec;

pub fn section(kind: &str, mid: u8, codecs: &str) -> String {
    let formats: Vec<&str> = codecs
        .lines()
        .filter_map(|line| line.strip_prefix("a=rtpmap:").and_then(|rest| rest.split(' ').next()))
        .collect();
    format!(
        "m={kind} 9 UDP/TLS/RTP/SAVPF {}\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef012345\r\n\
         a=fingerprint:sha-256 00:11\r\na=setup:actpass\r\na=mid:{mid}\r\na=sendonly\r\na=rtcp-mux\r\n{}",
        formats.join(" "),
        codecs.replace('\n', "\r\n")
    )
}

const H264: &str = "a=rtpmap:96 H264/90000\na=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\n\
                    a=rtcp-fb:96 nack\na=rtcp-fb:96 nack pli\na=rtcp-fb:* ccm fir\na=rtpmap:97 rtx/90000\na=fmtp:97 apt=96\n";
const OPUS: &str = "a=rtpmap:111 opus/48000/2\na=fmtp:111 minptime=10;useinbandfec=1\n";

fn offer(sections: &[String]) -> String {
    format!("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n{}", sections.concat())
}

fn usual() -> String {
    offer(&[section("audio", 0, OPUS), section("video", 1, H264)])
}

fn parse(text: &str) -> Result<Offer, Refused> {
    Offer::parse(text, &Wanted::default())
}

fn refusal(text: &str) -> Refused {
    parse(text).unwrap_err()
}

#[test]
fn w2_sendonly_and_sendrecv_are_taken_and_everything_else_is_refused_whole() {
    let both = parse(&usual()).unwrap();
    assert!(both.video.is_some() && both.sound.is_some());
    assert!(parse(&usual().replace("a=sendonly", "a=sendrecv")).is_ok());
    assert!(parse(&usual().replace("a=sendonly\r\n", "")).is_ok(), "sendrecv is the default");
    assert!(parse(&offer(&[section("audio", 0, OPUS)])).unwrap().video.is_none());
    for direction in ["recvonly", "inactive"] {
        let one = usual().replacen("a=sendonly", &format!("a={direction}"), 1);
        assert_eq!(refusal(&one).status, 422);
        assert!(refusal(&one).detail.contains(direction));
        let session = usual().replace("a=sendonly\r\n", "").replace("t=0 0", &format!("t=0 0\r\na={direction}"));
        assert_eq!(refusal(&session).status, 422, "of the session");
    }
}

#[test]
fn w2_one_audio_one_video_and_nothing_else() {
    let twice = offer(&[section("video", 0, H264), section("video", 1, H264)]);
    assert!(refusal(&twice).detail.contains("one video section"));
    let data = format!("{}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\n", usual());
    assert!(refusal(&data).detail.contains("data channels"));
    assert!(refusal(&offer(&[])).detail.contains("neither audio nor video"));
    assert!(refusal(&usual().replace("m=video 9", "m=video 0")).detail.contains("switched off"));
    let bundled = usual().replace("m=video 9", "m=video 0").replace("a=mid:1", "a=mid:1\r\na=bundle-only");
    assert!(parse(&bundled).is_ok(), "port 0 of a bundled section is no refusal");
}

#[test]
fn w2_bundle_and_rtcp_mux_are_required() {
    assert!(refusal(&usual().replace("BUNDLE 0 1", "BUNDLE 0")).detail.contains("BUNDLE"));
    assert!(refusal(&usual().replace("a=group:BUNDLE 0 1\r\n", "")).detail.contains("BUNDLE"));
    assert!(parse(&offer(&[section("video", 0, H264)]).replace("a=group:BUNDLE 0 1\r\n", "")).is_ok());
    assert!(refusal(&usual().replacen("a=rtcp-mux\r\n", "", 1)).detail.contains("rtcp-mux"));
    assert_eq!(refusal(&usual().replace("a=mid:1\r\n", "")).status, 400);
    assert!(refusal(&usual().replace("UDP/TLS/RTP/SAVPF", "RTP/AVP")).detail.contains("SAVPF"));
}

#[test]
fn w7_setup_says_who_begins() {
    for (setup, passive) in [("actpass", false), ("active", false), ("passive", true)] {
        assert_eq!(parse(&usual().replace("actpass", setup)).unwrap().passive, passive, "{setup}");
    }
    assert_eq!(refusal(&usual().replace("setup:actpass", "setup:holdconn")).status, 422);
    assert_eq!(refusal(&usual().replace("a=setup:actpass\r\n", "")).status, 400);
    assert_eq!(refusal(&usual().replace("a=fingerprint:sha-256 00:11\r\n", "")).status, 400);
    assert_eq!(refusal(&usual().replace("a=ice-ufrag:abcd", "a=ice-ufrag:a b")).status, 400);
    assert_eq!(refusal(&usual().replace("0123456789abcdef012345", "short")).status, 400);
    let session = usual().replace("a=ice-ufrag:abcd\r\n", "").replace("t=0 0", "t=0 0\r\na=ice-ufrag:wxyz");
    assert_eq!(parse(&session).unwrap().ufrag, "wxyz", "of the whole session");
}

#[test]
fn w7_candidates_of_every_kind_are_left_out() {
    let candidates = "a=candidate:1 1 udp 2122260223 3a9a0e5c-0000.local 5000 typ host\r\n\
                      a=candidate:2 1 tcp 1518280447 2001:db8::7 9 typ host tcptype active\r\na=end-of-candidates\r\n";
    let reduced = parse(&format!("{}{candidates}", usual())).unwrap().reduced;
    assert!(!reduced.contains("candidate") && reduced.contains("a=mid:1"), "{reduced}");
    let many = format!("{}{}", usual(), candidates.repeat(1_000));
    assert_eq!(parse(&many).unwrap().reduced, reduced, "3,000 cost nothing");
    assert_eq!(refusal(&format!("{}{}", usual(), candidates.repeat(10_000))).status, 400, "30,000 lines are no offer");
}

#[test]
fn w8_simulcast_layers_are_named() {
    let layered = format!("{H264}a=rid:h send\na=rid:m send\na=rid:l send\na=simulcast:send h;~m;l\n");
    let offer_ = parse(&offer(&[section("video", 0, &layered)])).unwrap();
    assert_eq!(offer_.video.unwrap().layers, ["h", "m", "l"]);
    let unknown = layered.replace("a=rid:m send\n", "");
    assert_eq!(refusal(&offer(&[section("video", 0, &unknown)])).status, 400);
    let names: Vec<String> = (0..20).map(|layer| format!("r{layer}")).collect();
    let rids: String = names.iter().map(|name| format!("a=rid:{name} send\n")).collect();
    let many = format!("{H264}{rids}a=simulcast:send {}\n", names.join(";"));
    assert_eq!(refusal(&offer(&[section("video", 0, &many)])).status, 422);
}

#[test]
fn w9_h264_in_any_profile_and_both_modes() {
    let video = |codecs: &str| parse(&offer(&[section("video", 0, codecs)])).unwrap().video.unwrap();
    let usual = video(H264);
    assert_eq!((usual.payload_type, usual.packetization_mode, usual.retransmission), (96, 1, Some(97)));
    assert!(usual.nack && usual.pli && usual.fir);
    let browser = "a=rtpmap:98 VP8/90000\na=rtpmap:102 H264/90000\na=fmtp:102 packetization-mode=0;profile-level-id=42001f\n\
                   a=rtpmap:104 H264/90000\na=fmtp:104 packetization-mode=1;profile-level-id=f4001f\n\
                   a=rtpmap:106 h264/90000\na=fmtp:106 profile-level-id=640C34; packetization-mode=1\n";
    assert_eq!(video(browser).payload_type, 106, "mode 1 of a common profile before mode 0 and before 4:4:4");
    let single = "a=rtpmap:102 H264/90000\na=fmtp:102 profile-level-id=42001f\n";
    assert_eq!((video(single).packetization_mode, video(single).nack), (0, false));
    assert_eq!(video("a=rtpmap:102 H264/90000\n").payload_type, 102, "without parameters");
}

/// Every codec a browser has, in a browser's order, each with its retransmissions.
const BROWSER: &str = "a=rtpmap:96 VP8/90000\na=rtcp-fb:96 nack pli\na=rtpmap:97 rtx/90000\na=fmtp:97 apt=96\n\
                       a=rtpmap:100 VP9/90000\na=fmtp:100 profile-id=2\na=rtpmap:101 rtx/90000\na=fmtp:101 apt=100\n\
                       a=rtpmap:98 VP9/90000\na=fmtp:98 profile-id=0\na=rtpmap:99 rtx/90000\na=fmtp:99 apt=98\n\
                       a=rtpmap:45 AV1/90000\na=fmtp:45 level-idx=5;profile=0;tier=0\na=rtpmap:46 rtx/90000\na=fmtp:46 apt=45\n\
                       a=rtpmap:49 H265/90000\na=fmtp:49 level-id=180;profile-id=2;tier-flag=0;tx-mode=SRST\n\
                       a=rtpmap:51 H265/90000\na=fmtp:51 level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST\n\
                       a=rtpmap:52 rtx/90000\na=fmtp:52 apt=51\na=rtpmap:102 H264/90000\n\
                       a=fmtp:102 packetization-mode=1;profile-level-id=42001f\na=rtpmap:103 rtx/90000\na=fmtp:103 apt=102\n\
                       a=rtpmap:114 red/90000\na=rtpmap:116 ulpfec/90000\n";

/// What is taken of a video section when these can be carried.
fn video_of(section_lines: &str, codecs: &[VideoCodec]) -> Video {
    let wanted = Wanted { codecs: codecs.to_vec(), ..Wanted::default() };
    Offer::parse(&offer(&[section("video", 0, section_lines)]), &wanted).unwrap().video.unwrap()
}

#[test]
fn w10_the_first_codec_that_can_be_carried_is_taken_with_its_own_retransmissions() {
    let all = VideoCodec::ALL;
    for (carried, number, again) in [
        (&all[..], 102, 103),
        (&all[1..], 51, 52),
        (&all[2..], 45, 46),
        (&all[3..], 98, 99),
        (&all[4..], 96, 97),
        (&[VideoCodec::Vp8, VideoCodec::H264][..], 96, 97),
    ] {
        let video = video_of(BROWSER, carried);
        assert_eq!((video.codec, video.payload_type, video.retransmission), (carried[0], number, Some(again)));
    }
    assert!(video_of(BROWSER, &[VideoCodec::Vp8]).pli && !video_of(BROWSER, &[VideoCodec::Av1]).pli);
}

#[test]
fn w10_codecs_that_cannot_be_recorded_are_refused_with_their_names() {
    let why = |formats: &str| format!("cannot be carried by {formats}");
    let wanted = Wanted {
        codecs: vec![VideoCodec::H264, VideoCodec::H265],
        others: vec![
            (VideoCodec::Av1, why("HLS")),
            (VideoCodec::Vp9, why("HLS")),
            (VideoCodec::Vp8, why("HLS and FLV")),
        ],
        sound_is_enough: false,
    };
    for (codec, reason) in [
        ("VP8", "VP8 cannot be carried by HLS and FLV"),
        ("VP9", "VP9 cannot be carried by HLS"),
        ("AV1", "AV1 cannot be carried by HLS"),
        ("theora", "it has theora."),
    ] {
        let lines = format!("a=rtpmap:98 {codec}/90000\na=rtpmap:99 rtx/90000\na=fmtp:99 apt=98\n");
        let refused = Offer::parse(&offer(&[section("video", 0, &lines)]), &wanted).unwrap_err();
        assert_eq!(refused.status, 422);
        let detail = refused.detail;
        assert!(detail.contains(reason) && detail.contains("H.264 and H.265 are taken"), "{detail}");
        assert!(!detail.contains("rtx") && detail.matches("cannot be carried").count() <= 1, "{detail}");
    }
    let pcm = offer(&[section("audio", 0, "a=rtpmap:0 PCMU/8000\na=rtpmap:9 G722/8000\n")]);
    assert!(refusal(&pcm).detail.contains("PCMU, G722"));
}

#[test]
fn w10_h265_out_of_order_or_in_several_sessions_is_not_taken() {
    let lines = |parameters: &str| format!("a=rtpmap:98 H265/90000\na=fmtp:98 {parameters}\n");
    for parameters in ["sprop-max-don-diff=3", "tx-mode=MRST", "sprop-max-don-diff=x"] {
        let text = offer(&[section("video", 0, &lines(parameters))]);
        assert!(refusal(&text).detail.contains("H265"), "{parameters}");
    }
    let sets = "profile-id=1;sprop-vps=QAEM;sprop-sps=QgEB,QgEC;sprop-pps=RAHA;sprop-max-don-diff=0";
    let video = video_of(&lines(sets), &[VideoCodec::H265]);
    assert_eq!(video.parameter_sets, [&b"@\x01\x0c"[..], b"B\x01\x01", b"B\x01\x02", b"D\x01\xc0"]);
    assert_eq!(video.parameters, sets, "profile, tier and level are answered as they were offered");
}

#[test]
fn w10_nothing_but_the_chosen_codec_can_be_negotiated() {
    let reduced = parse(&offer(&[section("audio", 0, OPUS), section("video", 1, BROWSER)])).unwrap().reduced;
    assert!(reduced.contains("m=video 9 UDP/TLS/RTP/SAVPF 102 103\r\n"), "{reduced}");
    assert!(reduced.contains("a=fmtp:103 apt=102") && reduced.contains("a=rtpmap:111 opus"), "{reduced}");
    for other in ["VP8", "VP9", "AV1", "H265", "apt=96", "ulpfec", "a=rtcp-fb:96"] {
        assert!(!reduced.contains(other), "{other}: {reduced}");
    }
}

#[test]
fn w10_a_picture_that_nobody_records_is_declined_and_the_sound_taken() {
    let wanted = Wanted { sound_is_enough: true, ..Wanted::default() };
    let theora = section("video", 1, "a=rtpmap:98 theora/90000\n");
    let sections = [theora.replace("mid:1", "mid:p"), section("audio", 0, OPUS)];
    for order in [[0, 1], [1, 0]] {
        let text = offer(&order.map(|index: usize| sections[index].clone())).replace("BUNDLE 0 1", "BUNDLE p 0");
        let taken = Offer::parse(&text, &wanted).unwrap();
        assert!(taken.video.is_none() && taken.sound.is_some());
        let expected = Declined { mid: "p".into(), is_first: order[0] == 0, format: "98".into() };
        assert_eq!(taken.declined, Some(expected));
        assert_eq!((taken.first_kind, taken.first_mid.as_str()), ("audio", "0"));
        assert!(taken.reduced.contains("a=group:BUNDLE 0\r\n") && !taken.reduced.contains("m=video"));
        assert_eq!(Offer::parse(&text, &Wanted::default()).unwrap_err().status, 422);
    }
    let alone = offer(&[section("video", 0, "a=rtpmap:98 theora/90000\n")]);
    assert_eq!(Offer::parse(&alone, &wanted).unwrap_err().status, 422, "there is no sound to take");
}

#[test]
fn hostile_numbers_and_names_are_refused_or_ignored() {
    let odd = "a=rtpmap:300 H264/90000\na=rtpmap:-1 H264/90000\na=rtpmap:x H264/90000\n";
    assert_eq!(refusal(&offer(&[section("video", 0, odd)])).status, 422);
    let formats: String = (0..5_000).map(|_| "96 ").collect();
    let many = usual().replace("SAVPF 96 97", &format!("SAVPF {formats}"));
    assert_eq!(refusal(&many).status, 400);
    let control = offer(&[section("video", 0, "a=rtpmap:98 V\u{7}P8/90000\n")]);
    assert!(!refusal(&control).detail.contains('\u{7}'));
}
