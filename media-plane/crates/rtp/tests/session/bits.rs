//! Parameter sets and slices, written bit by bit.

use bytes::Bytes;

struct BitWriter {
    bytes: Vec<u8>,
    free: u32,
}

impl BitWriter {
    fn bits(&mut self, value: u32, count: u32) {
        for n in (0..count).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            *self.bytes.last_mut().unwrap() |= ((value >> n & 1) as u8) << self.free;
        }
    }

    fn golomb(&mut self, value: u32) {
        let length = 32 - (value + 1).leading_zeros();
        self.bits(0, length - 1);
        self.bits(value + 1, length);
    }
}

/// A constrained baseline SPS of this size (multiples of 16).
pub fn sps(width: u32, height: u32) -> Bytes {
    let mut w = BitWriter { bytes: vec![0x67, 66, 0xc0, 31], free: 0 };
    // id, log2_max_frame_num - 4, picture order type 2, one reference frame, no gaps
    for value in [0, 0, 2, 1] {
        w.golomb(value);
    }
    w.bits(0, 1);
    w.golomb(width / 16 - 1);
    w.golomb(height / 16 - 1);
    // frames only, direct 8x8, no cropping, no VUI, stop bit
    w.bits(0b11001, 5);
    w.bytes.into()
}

/// A PPS with this id and initial quantiser, so that sets can differ.
pub fn pps(id: u32, quantiser: u32) -> Bytes {
    let mut w = BitWriter { bytes: vec![0x68], free: 0 };
    w.golomb(id);
    w.golomb(0);
    w.bits(0, 2);
    for value in [0, 0, 0] {
        w.golomb(value);
    }
    w.bits(0, 3);
    w.golomb(quantiser);
    w.bits(0b1, 1);
    w.bytes.into()
}

/// NAL units as the recorder keeps them.
pub fn avcc(nals: &[&[u8]]) -> Bytes {
    let mut data = Vec::new();
    for nal in nals {
        data.extend((nal.len() as u32).to_be_bytes());
        data.extend_from_slice(nal);
    }
    data.into()
}

#[test]
fn the_sets_written_here_say_what_they_should() {
    for (width, height) in [(640, 352), (352, 640), (1280, 720)] {
        let record = [&[0, 0, 0, 1][..], &sps(width, height), &[0, 0, 0, 1], &pps(0, 0)].concat();
        let config = media::AvcConfig::parse(record.into()).unwrap();
        assert_eq!((config.width, config.height), (width, height));
    }
}
