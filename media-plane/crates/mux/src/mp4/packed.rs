//! Samples in the order of their file, one to three bytes each: what a file's index is made of when it is closed.
//!
//! Steps of time and composition offsets come from a short list of those before; sizes are written as their distance
//! from those of late, in Rice codes whose parameter follows them. Exact for any values.

use media::{MediaTime, TrackKind};

use crate::notes::Sample;

/// Taken from the allocator at a time.
const CHUNK: usize = 1 << 10;
/// Values that are expected to come again; one that is not among them is written out.
const KNOWN: usize = 3;
/// Quotients from here on are not written in ones: the value follows as it is.
const LONGEST: u64 = 20;
/// A mean moves by a sixteenth of what differs.
const INERTIA: u32 = 4;
/// Means follow values up to here only.
const CREDIBLE: i64 = 1 << 40;

/// The samples so far.
#[derive(Debug, Default)]
pub(super) struct Packed {
    count: usize,
    bits: Writer,
    models: Models,
}

/// What is expected of either track.
#[derive(Debug, Default)]
struct Models {
    video: Model,
    audio: Model,
}

#[derive(Debug, Default)]
struct Model {
    last: i64,
    steps: Familiar,
    offsets: Familiar,
    sizes: Rice,
}

impl Models {
    fn of(&mut self, track: TrackKind) -> &mut Model {
        match track {
            TrackKind::Video => &mut self.video,
            TrackKind::Audio => &mut self.audio,
        }
    }
}

impl Packed {
    pub(super) fn push(&mut self, sample: &Sample) {
        let Sample { track, dts, pts, keyframe, size } = *sample;
        let (bits, is_sound) = (&mut self.bits, track == TrackKind::Audio);
        let model = self.models.of(track);
        bits.put(is_sound.into(), 1);
        // Every frame of sound is one to start with, hardly any picture is.
        bits.put(u64::from(keyframe != is_sound), 1);
        model.steps.write(dts.0.wrapping_sub(model.last), bits);
        model.offsets.write(pts.0.wrapping_sub(dts.0), bits);
        model.sizes.write(size.into(), bits);
        model.last = dts.0;
        self.count += 1;
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Bytes of memory.
    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        let Writer { full, chunk, .. } = &self.bits;
        full.len() * CHUNK + full.capacity() * size_of::<Box<[u8]>>() + chunk.capacity()
    }
}

impl IntoIterator for Packed {
    type Item = Sample;
    type IntoIter = Samples;

    fn into_iter(self) -> Samples {
        Samples { left: self.count, bits: self.bits.into_reader(), models: Models::default() }
    }
}

/// Gives them back in order, and the memory with them.
#[derive(Debug)]
pub(super) struct Samples {
    left: usize,
    bits: Reader,
    models: Models,
}

impl Iterator for Samples {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        self.left = self.left.checked_sub(1)?;
        let bits = &mut self.bits;
        let is_sound = bits.get(1) == 1;
        let track = if is_sound { TrackKind::Audio } else { TrackKind::Video };
        let keyframe = (bits.get(1) == 1) != is_sound;
        let model = self.models.of(track);
        model.last = model.last.wrapping_add(model.steps.read(bits));
        let dts = MediaTime(model.last);
        let pts = MediaTime(dts.0.wrapping_add(model.offsets.read(bits)));
        let size = u32::try_from(model.sizes.read(bits)).unwrap_or(u32::MAX);
        Some(Sample { track, dts, pts, keyframe, size })
    }
}

/// Values of which a few come again and again, the usual ones in the shortest codes.
#[derive(Debug, Default)]
struct Familiar {
    known: [i64; KNOWN],
    others: Rice,
}

impl Familiar {
    fn write(&mut self, value: i64, bits: &mut Writer) {
        let place = self.known.iter().position(|known| *known == value).unwrap_or(KNOWN);
        bits.ones(place as u64, KNOWN as u64);
        if place == KNOWN {
            self.others.write(value, bits);
        }
        self.seen(place, value);
    }

    fn read(&mut self, bits: &mut Reader) -> i64 {
        let place = usize::try_from(bits.ones(KNOWN as u64)).unwrap_or(KNOWN);
        let value = match self.known.get(place) {
            Some(known) => *known,
            None => self.others.read(bits),
        };
        self.seen(place, value);
        value
    }

    /// One that comes again moves up by one place; a new one takes the first, and the last is forgotten.
    fn seen(&mut self, place: usize, value: i64) {
        if place >= KNOWN {
            self.known.rotate_right(1);
            if let Some(first) = self.known.first_mut() {
                *first = value;
            }
        } else if place > 0 {
            self.known.swap(place - 1, place);
        }
    }
}

/// Numbers near their mean.
#[derive(Debug, Default)]
struct Rice {
    /// Of the values, in sixteenths.
    mean: i64,
    /// Of the folded distances from it, likewise.
    spread: u64,
}

impl Rice {
    fn expected(&self) -> i64 {
        self.mean >> INERTIA
    }

    /// Bits that are written as they are: best for distances that get rarer by the same factor each.
    fn plain(&self) -> u32 {
        let scaled = (self.spread >> INERTIA) * 31 / 64;
        u64::BITS - scaled.leading_zeros()
    }

    fn write(&mut self, value: i64, bits: &mut Writer) {
        let distance = value.wrapping_sub(self.expected());
        let folded = (distance << 1 ^ distance >> 63).cast_unsigned();
        let plain = self.plain();
        let quotient = folded >> plain;
        if quotient < LONGEST {
            bits.ones(quotient, LONGEST);
            bits.put(folded, plain);
        } else {
            bits.ones(LONGEST, LONGEST);
            bits.put(folded, u64::BITS);
        }
        self.follow(value, folded);
    }

    fn read(&mut self, bits: &mut Reader) -> i64 {
        let plain = self.plain();
        let folded = match bits.ones(LONGEST) {
            LONGEST => bits.get(u64::BITS),
            quotient => quotient << plain | bits.get(plain),
        };
        let distance = (folded >> 1).cast_signed() ^ -(folded & 1).cast_signed();
        let value = self.expected().wrapping_add(distance);
        self.follow(value, folded);
        value
    }

    fn follow(&mut self, value: i64, folded: u64) {
        self.mean += value.clamp(-CREDIBLE, CREDIBLE) - self.expected();
        self.spread += folded.min(CREDIBLE.cast_unsigned());
        self.spread -= self.spread >> INERTIA;
    }
}

/// Bits into bytes, the lowest first.
#[derive(Debug, Default)]
struct Writer {
    full: Vec<Box<[u8]>>,
    chunk: Vec<u8>,
    held: u64,
    count: u32,
}

impl Writer {
    /// The lowest `count` bits of a value.
    fn put(&mut self, value: u64, count: u32) {
        if count > u32::BITS {
            self.put(value, u32::BITS);
            return self.put(value >> u32::BITS, count - u32::BITS);
        }
        self.held |= (value & ((1 << count) - 1)) << self.count;
        self.count += count;
        while self.count >= u8::BITS {
            self.byte();
        }
    }

    fn byte(&mut self) {
        if self.chunk.len() == CHUNK {
            self.full.push(std::mem::take(&mut self.chunk).into_boxed_slice());
        }
        if self.chunk.capacity() == 0 {
            self.chunk.reserve_exact(CHUNK);
        }
        self.chunk.push(self.held as u8);
        self.held >>= u8::BITS;
        self.count = self.count.saturating_sub(u8::BITS);
    }

    /// So many ones and, unless there are as many as there can be, a zero.
    fn ones(&mut self, ones: u64, most: u64) {
        let stop = u32::from(ones < most);
        self.put((1 << ones) - 1, ones as u32 + stop);
    }

    fn into_reader(mut self) -> Reader {
        if self.count > 0 {
            self.byte();
        }
        let mut chunks = self.full;
        chunks.push(self.chunk.into_boxed_slice());
        Reader { chunks: chunks.into_iter(), chunk: Vec::new().into_iter(), held: 0, count: 0 }
    }
}

/// The other way.
#[derive(Debug)]
struct Reader {
    chunks: std::vec::IntoIter<Box<[u8]>>,
    chunk: std::vec::IntoIter<u8>,
    held: u64,
    count: u32,
}

impl Reader {
    fn get(&mut self, count: u32) -> u64 {
        if count > u32::BITS {
            let low = self.get(u32::BITS);
            return low | self.get(count - u32::BITS) << u32::BITS;
        }
        while self.count < count {
            self.held |= u64::from(self.byte()) << self.count;
            self.count += u8::BITS;
        }
        let value = self.held & ((1 << count) - 1);
        self.held >>= count;
        self.count -= count;
        value
    }

    fn byte(&mut self) -> u8 {
        loop {
            if let Some(byte) = self.chunk.next() {
                return byte;
            }
            match self.chunks.next() {
                Some(chunk) => self.chunk = chunk.into_vec().into_iter(),
                // Nobody reads more than was written.
                None => return 0,
            }
        }
    }

    fn ones(&mut self, most: u64) -> u64 {
        let mut ones = 0;
        while ones < most && self.get(1) == 1 {
            ones += 1;
        }
        ones
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ten minutes as a publisher sends them: milliseconds, a group of pictures every two seconds, sizes that vary.
    fn stream(composed: bool) -> Vec<Sample> {
        let (mut seed, mut samples) = (1_u32, Vec::new());
        let mut random = move |most: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % most
        };
        // The sum of some is spread like the sizes of frames.
        let mut size = |mean: u32| mean / 2 + (0..4).map(|_| random(mean / 4)).sum::<u32>();
        let mut sounds = 0;
        for n in 0..18_000_i64 {
            let dts = MediaTime::from_millis(n * 1_000 / 30);
            let offset = if composed { [67, 133, 33][n as usize % 3] } else { 0 };
            let (keyframe, mean) = if n % 60 == 0 { (true, 12_000) } else { (false, 1_100) };
            let pts = dts + MediaTime::from_millis(offset);
            samples.push(Sample { track: TrackKind::Video, dts, pts, keyframe, size: size(mean) });
            while sounds * 1_024 * 30 < (n + 1) * 48_000 {
                let dts = MediaTime::from_millis(sounds * 1_024_000 / 48_000);
                samples.push(Sample { track: TrackKind::Audio, dts, pts: dts, keyframe: true, size: size(340) });
                sounds += 1;
            }
        }
        samples
    }

    #[test]
    fn a_sample_of_a_growing_file_costs_two_bytes_of_memory() {
        for composed in [false, true] {
            let samples = stream(composed);
            let mut packed = Packed::default();
            samples.iter().for_each(|sample| packed.push(sample));
            let each = packed.heap() as f64 / packed.len() as f64;
            println!("{} samples, composed {composed}: {each:.2} bytes each", packed.len());
            assert!(each < 2.0, "{each:.2} bytes a sample");
            assert!(packed.into_iter().eq(samples));
        }
    }

    fn wild() -> impl Strategy<Value = i64> {
        prop_oneof![-3_i64..3, 2_900_i64..3_100, any::<i64>()]
    }

    proptest! {
        #[test]
        fn samples_come_back(
            input in proptest::collection::vec((any::<bool>(), any::<bool>(), wild(), wild(), any::<u32>(), any::<bool>()), 0..300)
        ) {
            let (mut packed, mut sent, mut at) = (Packed::default(), Vec::new(), 0_i64);
            for (is_sound, keyframe, step, offset, size, is_small) in input {
                let track = if is_sound { TrackKind::Audio } else { TrackKind::Video };
                at = at.wrapping_add(step);
                let size = if is_small { size % 2_000 } else { size };
                let sample = Sample { track, dts: MediaTime(at), pts: MediaTime(at.wrapping_add(offset)), keyframe, size };
                packed.push(&sample);
                sent.push(sample);
            }
            prop_assert_eq!(packed.into_iter().collect::<Vec<_>>(), sent);
        }
    }
}
