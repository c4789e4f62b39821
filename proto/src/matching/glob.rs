//! Patterns with `*`, matched in time linear in pattern and text whatever an attacker writes into either.

/// Whether a pattern names exactly one text.
pub fn is_exact(pattern: &str) -> bool {
    !pattern.is_empty() && !pattern.contains('*')
}

/// What every match begins with.
pub fn literal_prefix(pattern: &str) -> &str {
    pattern.split('*').next().unwrap_or_default()
}

/// Whether `text` matches `pattern`: `*` stands for any characters, none included; an empty pattern matches everything.
/// Case counts.
pub fn matches(pattern: &str, text: &str) -> bool {
    if pattern.is_empty() {
        return true;
    }
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    // Taking the leftmost place for each part leaves the most room for the others, so no choice is ever revisited; the
    // standard search is linear, and every byte of the text is passed once.
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        match text.find(part).and_then(|at| text.get(at + part.len()..)) {
            Some(after) => text = after,
            None => return false,
        }
    }
    text.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        for (pattern, text) in [
            ("", "anything"),
            ("*", ""),
            ("**", "x"),
            ("cam1", "cam1"),
            ("vip-*", "vip-"),
            ("vip-*", "vip-7"),
            ("*-hd", "a-hd"),
            ("a*b*c", "abc"),
            ("a*b*c", "aXbbYc"),
            ("*a*", "bab"),
            ("a*a", "aa"),
            ("直*间", "直播间"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("cam1", "cam10"),
            ("cam1", ""),
            ("vip-*", "VIP-7"),
            ("*-hd", "a-hdx"),
            ("a*b*c", "acb"),
            ("a*a", "a"),
            ("a*b*b", "ab"),
            ("*a*a*", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_costs_nothing() {
        let pattern = "a*".repeat(256) + "b";
        let text = "a".repeat(512);
        let started = std::time::Instant::now();
        for _ in 0..1_000 {
            assert!(!matches(&pattern, &text));
        }
        assert!(started.elapsed().as_secs() < 5, "backtracking would take longer than the universe");
    }

    /// The definition, as slow as it is plain.
    fn plain(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => plain(rest, text) || (!text.is_empty() && plain(pattern, &text[1..])),
            ([p, rest @ ..], [t, after @ ..]) if p == t => plain(rest, after),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*]{1,8}", text in "[ab]{0,10}") {
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(matches(&pattern, &text), plain(&p, &t));
        }

        #[test]
        fn prefix_is_a_prefix(pattern in ".{0,20}", text in ".{0,20}") {
            if matches(&pattern, &text) { prop_assert!(text.starts_with(literal_prefix(&pattern))); }
        }
    }
}
