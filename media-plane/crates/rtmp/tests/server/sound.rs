//! What one message of sound may cost.

use media::TrackKind::Audio;
use media::ingest::Rejection;
use rtmp::client::payload;

use crate::peer::Peer;

const MALFORMED: (media::TrackKind, Rejection) = (Audio, Rejection::Malformed);
const RAW: &[u8] = &[0xaf, 1];
/// The largest access unit taken.
const LARGEST: usize = 64 * 1024;

/// AAC-LC, 44.1 kHz, stereo.
fn adts(unit: &[u8]) -> Vec<u8> {
    let length = unit.len() + 7;
    let header = [0xff, 0xf1, 0x50, 0x80 | (length >> 11) as u8, (length >> 3) as u8, (length << 5) as u8 | 0x1f, 0xfc];
    [&header[..], unit].concat()
}

fn ready() -> Peer {
    let mut peer = Peer::publishing();
    let setup = [peer.client.set_chunk_size(60_000), peer.client.audio(0, &payload::aac_header(payload::ASC))];
    peer.feed(&setup.concat()).unwrap();
    peer.events.clear();
    peer
}

#[test]
fn a_message_full_of_tiny_adts_frames_is_64_frames_and_one_rejection() {
    let mut peer = ready();
    let flood = [RAW, &adts(&[0x21]).repeat((8 << 20) / 8 - 1)].concat();
    peer.feed(&peer.client.audio(0, &flood)).unwrap();
    assert_eq!((peer.media().len(), peer.frames(Audio).len()), (65, 64));
    assert_eq!(peer.times(Audio)[..3], [0, 23, 46]);
    assert_eq!(peer.rejections(), [MALFORMED]);
    peer.events.clear();

    // Headers without a payload are no frames, and end as soon.
    peer.feed(&peer.client.audio(0, &[RAW, &adts(&[]).repeat(1_000)].concat())).unwrap();
    assert_eq!((peer.media().len(), peer.rejections()), (1, vec![MALFORMED]));
    peer.events.clear();

    peer.feed(&peer.client.audio(0, &[RAW, &adts(&[0x21]).repeat(64)].concat())).unwrap();
    assert_eq!((peer.frames(Audio).len(), peer.rejections()), (64, vec![]), "64 are allowed");
}

#[test]
fn an_access_unit_of_megabytes_is_malformed_however_it_is_wrapped() {
    let mut peer = ready();
    let enhanced: &[u8] = &[0x91, b'm', b'p', b'4', b'a'];
    for wrap in [RAW, enhanced] {
        for size in [LARGEST + 1, 8_000_000] {
            peer.feed(&peer.client.audio(23, &[wrap, &vec![0x21; size]].concat())).unwrap();
            assert_eq!((peer.media().len(), peer.rejections()), (1, vec![MALFORMED]), "{size}");
            peer.events.clear();
        }
        peer.feed(&peer.client.audio(46, &[wrap, &vec![0x21; LARGEST]].concat())).unwrap();
        assert_eq!(peer.frames(Audio)[0].data.len(), LARGEST);
        assert!(peer.rejections().is_empty());
        peer.events.clear();
    }
}

#[test]
fn a_frame_cut_out_of_a_message_does_not_keep_all_of_it_alive() {
    let mut peer = ready();
    let cut_from_adts = [RAW, &adts(&[0x21; 100]), &vec![0; 1 << 20]].concat();
    // Many tracks of one codec: the first has 100 bytes, the second a megabyte.
    let first = [&[0, 0, 0, 100][..], &[0x21; 100]].concat();
    let cut_from_tracks = [&[0x95, 0x11][..], b"mp4a", &first, &[1, 0x10, 0, 0], &vec![0; 1 << 20]].concat();
    for body in [cut_from_adts, cut_from_tracks] {
        peer.feed(&peer.client.audio(0, &body)).unwrap();
        let data = peer.frames(Audio)[0].data.clone();
        assert_eq!(data[..], [0x21; 100]);
        peer.events.clear();
        let unique = data.try_into_mut().expect("nobody else holds it");
        assert!(unique.capacity() <= 100, "{}", unique.capacity());
    }
}
