//! Making a value from outside harmless within a key, and short enough.

/// Characters that may not appear in a key: they separate, hide, escape or break things in file systems, URLs, HTTP
/// headers, shells on other systems, or the XML a bucket lists its objects in.
pub(super) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '/' | '\\' | '%' | '?' | '#' | '{' | '}')
        || matches!(c, '\u{2028}' | '\u{2029}')
        // Marks that reorder or hide text: two keys that look alike should be alike.
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        // Not characters at all; XML 1.0 cannot carry them, so a listing that holds one cannot be parsed.
        || (u32::from(c) & 0xfffe) == 0xfffe
}

/// One folder or file name: unsafe characters, `..` and a leading dot become `_`; nothing becomes `_`.
pub(super) fn segment(value: &str) -> String {
    let mut clean: String = value.chars().map(|c| if is_unsafe(c) { '_' } else { c }).collect();
    clean = clean.replace("..", "_");
    if clean.starts_with('.') {
        clean.replace_range(..1, "_");
    }
    if clean.is_empty() {
        clean.push('_');
    }
    clean
}

/// Several folder names: each is cleaned by itself and `/` stays what it is; empty ones are dropped.
pub(super) fn hierarchy(value: &str) -> String {
    let parts: Vec<String> = value.split('/').filter(|part| !part.is_empty()).map(segment).collect();
    if parts.is_empty() { "_".to_owned() } else { parts.join("/") }
}

/// Cuts a value to `most` bytes: what fits of it, `~`, and a fingerprint of the whole, so that names which differ only
/// past the cut stay apart. Shorter values stay as they are.
pub(super) fn shorten(value: &str, most: usize) -> String {
    if value.len() <= most {
        return value.to_owned();
    }
    let mark = format!("~{:016x}", fingerprint(value.as_bytes()));
    let mut end = most.saturating_sub(mark.len());
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    let kept = value.get(..end).unwrap_or_default().trim_end_matches('/');
    format!("{kept}{mark}")
}

/// FNV-1a, 64 bit. Not for security: uniqueness rests on the recording's id, this only keeps long names apart for people.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
