//! Reads and prints the units of the configuration: sizes (`200GiB`), durations (`1m30s`) and percentages (`80%`).
use std::time::Duration;

/// What `unlimited` stands for, in bytes.
pub const UNLIMITED: u64 = u64::MAX;

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Longest first, so that `ms` is not taken for `m`; the value is in nanoseconds.
const DURATION_UNITS: [(&str, u128); 7] = [
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
];

/// Why a text is not a size, duration or percentage; lower-case, fit to follow the name of a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a number of bytes with a unit.
    #[error("is not a size; write a number with B, KiB, MiB, GiB, TiB (or KB, MB, GB, TB), like 200GiB, or unlimited")]
    Size,
    /// Not numbers with units.
    #[error("is not a duration; write numbers with units, like 500ms, 30s, 10m, 1h30m, 7d")]
    Duration,
    /// Not a whole number from 0 to 100 followed by a percent sign.
    #[error("is not a percentage; write 0% to 100%, like 80%")]
    Percent,
    /// More than 64 bits hold.
    #[error("is too large")]
    TooLarge,
}

/// A size in bytes. Takes whole and decimal numbers (`1.5GiB`), any letter case, spaces before the unit, a bare number
/// (bytes) and `unlimited`.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("unlimited") {
        return Ok(UNLIMITED);
    }
    let (digits, unit) = split_number(text).ok_or(UnitError::Size)?;
    let factor = match unit.trim_start() {
        "" => 1,
        unit => SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or(UnitError::Size)?.1,
    };
    let bytes = scaled(digits, u128::from(factor)).ok_or(UnitError::Size)?;
    u64::try_from(bytes).map_err(|_| UnitError::TooLarge)
}

/// Prints a size so that [`parse_size`] reads the same number back.
pub fn format_size(bytes: u64) -> String {
    if bytes == UNLIMITED {
        return "unlimited".to_owned();
    }
    let exact = SIZE_UNITS.iter().find(|(name, factor)| {
        (name.contains('i') || !bytes.is_multiple_of(1024)) && bytes >= *factor && bytes.is_multiple_of(*factor)
    });
    exact.map_or_else(|| format!("{bytes}B"), |(name, factor)| format!("{}{name}", bytes / factor))
}

/// A duration: one or more numbers with units, largest to smallest or not, added up. `0` needs no unit.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(UnitError::Duration);
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (digits, after) = split_number(rest).ok_or(UnitError::Duration)?;
        let (unit, nanoseconds) =
            DURATION_UNITS.iter().find(|(unit, _)| after.starts_with(unit)).ok_or(UnitError::Duration)?;
        let part = scaled(digits, *nanoseconds).ok_or(UnitError::Duration)?;
        total = total.checked_add(part).ok_or(UnitError::TooLarge)?;
        rest = after.get(unit.len()..).unwrap_or_default().trim_start();
    }
    let nanoseconds = u64::try_from(total).map_err(|_| UnitError::TooLarge)?;
    Ok(Duration::from_nanos(nanoseconds))
}

/// Prints a duration so that [`parse_duration`] reads the same back (for durations that it can produce).
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    let mut units = DURATION_UNITS;
    units.sort_by_key(|(_, nanoseconds)| std::cmp::Reverse(*nanoseconds));
    for (unit, nanoseconds) in units {
        let count = rest / nanoseconds;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
            rest %= nanoseconds;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A whole percentage from 0 to 100.
pub fn parse_percent(text: &str) -> Result<u8, UnitError> {
    let digits = text.trim().strip_suffix('%').ok_or(UnitError::Percent)?.trim_end();
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|percent| plain && *percent <= 100).ok_or(UnitError::Percent)
}

/// Splits a leading decimal number off; the number has a digit at both ends.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(end)?;
    (!number.is_empty() && !number.starts_with('.') && !number.ends_with('.')).then_some((number, rest))
}

/// `number * factor` in whole units, without floating point; None when malformed, cut off below one unit.
fn scaled(number: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // Nine decimals are a nanosecond of a second; more digits would only risk overflow.
    if fraction.contains('.') || fraction.len() > 9 || whole.len() > 20 {
        return None;
    }
    let whole = whole.parse::<u128>().ok()?.checked_mul(factor)?;
    let denominator = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    whole.checked_add(fraction.parse::<u128>().ok()?.checked_mul(factor)? / denominator)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("200GiB", 200 << 30),
            ("1.5 gib", 3 << 29),
            ("64KB", 64_000),
            ("17", 17),
            ("0", 0),
            ("8 MiB", 8 << 20),
            ("unlimited", UNLIMITED),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "-1GiB", "1.GiB", ".5GiB", "1.2.3GiB", "12 parsecs", "1e9", "0.1234567891GiB"] {
            assert_eq!(parse_size(text), Err(UnitError::Size), "{text}");
        }
        assert_eq!(parse_size("99999999TiB"), Err(UnitError::TooLarge));
        assert_eq!(format_size(200 << 30), "200GiB");
        assert_eq!(format_size(1_500_000), "1500KB");
        assert_eq!(format_size(0), "0B");
    }

    #[test]
    fn durations() {
        for (text, milliseconds) in
            [("30s", 30_000), ("500ms", 500), ("1h30m", 5_400_000), ("1.5s", 1_500), ("7d", 604_800_000), ("0", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "30", "s", "30 parsecs", "-1s", "1s2", "1..5s"] {
            assert_eq!(parse_duration(text), Err(UnitError::Duration), "{text}");
        }
        assert_eq!(parse_duration("300000d"), Err(UnitError::TooLarge));
        assert_eq!(format_duration(Duration::from_millis(5_430_500)), "1h30m30s500ms");
    }

    #[test]
    fn percentages() {
        assert_eq!(parse_percent("80%"), Ok(80));
        assert_eq!(parse_percent(" 0 %"), Ok(0));
        for text in ["80", "101%", "-1%", "+5%", "%", "0.5%"] {
            assert_eq!(parse_percent(text), Err(UnitError::Percent), "{text}");
        }
    }

    proptest! {
        #[test]
        fn printed_sizes_read_back(bytes: u64) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn printed_durations_read_back(nanoseconds: u64) {
            let duration = Duration::from_nanos(nanoseconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_answered(text in "\\PC*") {
            let _ = (parse_size(&text), parse_duration(&text), parse_percent(&text));
        }
    }
}
