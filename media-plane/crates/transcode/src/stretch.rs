//! Makes a piece of sound a few samples longer or shorter, by cubic interpolation.

/// Replaces `pcm` (channels interleaved, `channels` > 0) by as many samples more as `by` says, or fewer. The first and
/// the last sample stay what they are, so that neighbours join without a seam. Does nothing to fewer than two samples.
pub(crate) fn stretch(pcm: &[i16], channels: usize, by: isize, out: &mut Vec<i16>) {
    let from = pcm.len() / channels;
    let Some(to) = from.checked_add_signed(by).filter(|to| from > 1 && *to > 1 && by != 0) else {
        return out.extend_from_slice(pcm);
    };
    let step = (from - 1) as f64 / (to - 1) as f64;
    let value = |sample: usize, channel: usize| {
        pcm.get(sample.min(from - 1) * channels + channel).map_or(0.0, |value| f32::from(*value))
    };
    out.reserve(to * channels);
    for n in 0..to {
        let at = n as f64 * step;
        let left = at as usize;
        let part = (at - left as f64) as f32;
        for channel in 0..channels {
            let around = [left.saturating_sub(1), left, left + 1, left + 2].map(|sample| value(sample, channel));
            // Float to integer saturates.
            out.push(hermite(around, part).round() as i16);
        }
    }
}

/// Catmull-Rom: through the two middle values.
fn hermite([before, left, right, after]: [f32; 4], part: f32) -> f32 {
    let slope = (right - before) * 0.5;
    let bend = before - 2.5 * left + 2.0 * right - 0.5 * after;
    let twist = (after - before) * 0.5 + (left - right) * 1.5;
    ((twist * part + bend) * part + slope) * part + left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(samples: usize, hertz: f64) -> Vec<i16> {
        let value = |n: usize| (n as f64 * hertz / 48_000.0 * std::f64::consts::TAU).sin() * 16_000.0;
        (0..samples).flat_map(|n| [value(n) as i16, -value(n) as i16]).collect()
    }

    #[test]
    fn length_changes_as_asked_and_the_ends_stay() {
        let pcm = sine(960, 440.0);
        for by in [-4isize, -1, 0, 1, 4] {
            let mut out = Vec::new();
            stretch(&pcm, 2, by, &mut out);
            assert_eq!(out.len(), (960 + by) as usize * 2);
            assert_eq!((&out[..2], &out[out.len() - 2..]), (&pcm[..2], &pcm[pcm.len() - 2..]));
        }
    }

    #[test]
    fn a_tone_stays_that_tone_without_clicks() {
        let mut out = Vec::new();
        stretch(&sine(960, 1_000.0), 2, 4, &mut out);
        let left: Vec<f64> = out.chunks(2).map(|frame| f64::from(frame[0])).collect();
        let expected = |n: usize| {
            let at = n as f64 * 959.0 / 963.0;
            (at * 1_000.0 / 48_000.0 * std::f64::consts::TAU).sin() * 16_000.0
        };
        let worst = left.iter().enumerate().map(|(n, value)| (value - expected(n)).abs()).fold(0.0, f64::max);
        assert!(worst < 30.0, "off by {worst} of 16000");
    }

    #[test]
    fn what_is_too_short_passes_as_it_is() {
        for pcm in [&[][..], &[5, 6]] {
            let mut out = Vec::new();
            stretch(pcm, 2, -1, &mut out);
            assert_eq!(out, pcm);
        }
    }
}
