//! The part size of a multipart upload, chosen when it is opened (mission R33, architecture A.10).

/// Parts after which the caller cuts a new file: a hundred short of the stores' 10,000, for a larger first part and
/// for what is in flight when the limit is noticed.
pub const MAX_PART_COUNT: u64 = 9_900;

/// Small enough to keep in memory per upload, large enough that 12 h of 15 Mbit/s fit.
const SMALLEST: u64 = 8 << 20;

/// More would make one lost part too dear.
const LARGEST: u64 = 512 << 20;

/// Sizes are whole MiB: a multiple of Google's 256 KiB quantum.
const STEP: u64 = 1 << 20;

/// Bytes a part for a file of about `expected_bytes`: 8 MiB to 512 MiB, so that at most [`MAX_PART_COUNT`] are needed.
pub fn part_size(expected_bytes: u64) -> u64 {
    expected_bytes.div_ceil(MAX_PART_COUNT).div_ceil(STEP).saturating_mul(STEP).clamp(SMALLEST, LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r33_part_size_adapts() {
        assert_eq!(part_size(0), 8 << 20);
        assert_eq!(part_size(15_000_000 / 8 * 12 * 3600), 8 << 20, "12 h of 15 Mbit/s");
        assert_eq!(part_size(20_000_000 / 8 * 12 * 3600), 11 << 20, "12 h of 20 Mbit/s");
        assert_eq!(part_size(u64::MAX), 512 << 20);
    }

    proptest::proptest! {
        #[test]
        fn r33_never_more_than_9900_parts(bytes in 0_u64..(9_900 * (512 << 20))) {
            let size = part_size(bytes);
            assert!(bytes.div_ceil(size) <= MAX_PART_COUNT);
            assert_eq!(size % (256 << 10), 0);
        }
    }
}
