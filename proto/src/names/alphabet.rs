//! Which characters and lengths each kind of name may have (mission R2, R3; the id rule of the contract).

use super::{NameError, quoted};
use crate::limits;

/// Ids that callers choose: `^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`.
pub fn check_id(id: &str) -> Result<(), NameError> {
    let starts = id.starts_with(|c: char| c.is_ascii_lowercase());
    let body = id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if starts && body && !id.ends_with('-') && id.len() <= limits::ID_MAX_CHARACTERS {
        return Ok(());
    }
    Err(NameError::new(format!(
        "must be 1 to 63 lower-case letters, digits and hyphens, starting with a letter and not ending with a hyphen, got {}",
        quoted(id)
    )))
}

/// Push domains: lower-case DNS names of 1 to 253 characters; addresses such as `127.0.0.1` qualify.
pub fn check_domain(domain: &str) -> Result<(), NameError> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if (1..=limits::DOMAIN_MAX_CHARACTERS).contains(&domain.len()) && domain.split('.').all(label) {
        return Ok(());
    }
    Err(NameError::new(format!("must be a lower-case DNS name of 1 to 253 characters, got {}", quoted(domain))))
}

/// Push paths: 1 to 255 of `[A-Za-z0-9_.-/]`, no empty, `.` or `..` step.
pub fn check_app(app: &str) -> Result<(), NameError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'/');
    let sound = |step: &str| !matches!(step, "" | "." | "..");
    if (1..=limits::APP_MAX_CHARACTERS).contains(&app.len()) && app.bytes().all(allowed) && app.split('/').all(sound) {
        return Ok(());
    }
    Err(NameError::new(format!(
        "must be 1 to 255 of A-Z a-z 0-9 _ . - / without an empty, `.` or `..` step, got {}",
        quoted(app)
    )))
}

/// Stream ids: 1 to 512 bytes, no `/`, no control characters.
pub fn check_stream(stream: &str) -> Result<(), NameError> {
    let allowed = |c: char| c != '/' && !c.is_control();
    if (1..=limits::STREAM_MAX_BYTES).contains(&stream.len()) && stream.chars().all(allowed) {
        return Ok(());
    }
    Err(NameError::new(format!("must be 1 to 512 bytes without `/` or control characters, got {}", quoted(stream))))
}

/// Template names for people (R2): 1 to 255 bytes of Chinese characters, English letters, digits, `_`, `-`.
pub fn check_display_name(name: &str) -> Result<(), NameError> {
    if (1..=limits::DISPLAY_NAME_MAX_BYTES).contains(&name.len()) && name.chars().all(is_display) {
        return Ok(());
    }
    Err(NameError::new(format!(
        "must be 1 to 255 bytes of Chinese characters, English letters, digits, `_` and `-`, got {}",
        quoted(name)
    )))
}

/// Template descriptions (R3): up to 1024 bytes of the same and spaces.
pub fn check_description(text: &str) -> Result<(), NameError> {
    if text.len() <= limits::DESCRIPTION_MAX_BYTES && text.chars().all(|c| is_display(c) || c == ' ') {
        return Ok(());
    }
    Err(NameError::new(format!(
        "must be at most 1024 bytes of Chinese characters, English letters, digits, space, `_` and `-`, got {}",
        quoted(text)
    )))
}

fn is_display(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || is_chinese(c)
}

/// The Han blocks of Unicode: unified ideographs with their extensions, compatibility ideographs, the zero 〇 and 々.
fn is_chinese(c: char) -> bool {
    matches!(u32::from(c),
        0x3005 | 0x3007 | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff
        | 0x2_0000..=0x2_ebef | 0x2_f800..=0x2_fa1f | 0x3_0000..=0x3_23af)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids() {
        let longest = format!("a{}z", "-".repeat(61));
        for id in ["a", "t1", "show-2", longest.as_str()] {
            assert_eq!(check_id(id), Ok(()), "{id}");
        }
        let too_long = "a".repeat(64);
        for id in ["", "1a", "-a", "a-", "A", "a_b", "a.b", "ä", "a b", "a\n", too_long.as_str()] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn domains() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(longest.len(), 253);
        for domain in ["push.example.com", "localhost", "127.0.0.1", "xn--fiqs8s.cn", longest.as_str()] {
            assert_eq!(check_domain(domain), Ok(()), "{domain}");
        }
        let too_long = format!("{longest}a");
        let long_label = format!("{label}a.com");
        for domain in ["", "Push.example.com", "a..b", ".a", "a.", "-a.b", "a_b", "a/b", &too_long, &long_label] {
            assert!(check_domain(domain).is_err(), "{domain}");
        }
    }

    #[test]
    fn apps_and_streams() {
        for app in ["live", "a/b", "A_1.x-y", &"a".repeat(255)] {
            assert_eq!(check_app(app), Ok(()), "{app}");
        }
        for app in ["", "/live", "live/", "a//b", "..", "a/../b", "a/.", "a b", "ä", "a~b", &"a".repeat(256)] {
            assert!(check_app(app).is_err(), "{app}");
        }
        for stream in ["cam1", "..", "直播 1", "a%2fb", &"a".repeat(512)] {
            assert_eq!(check_stream(stream), Ok(()), "{stream}");
        }
        for stream in ["", "a/b", "a\0", "a\nb", "\u{85}", &"a".repeat(513)] {
            assert!(check_stream(stream).is_err(), "{stream:?}");
        }
    }

    #[test]
    fn r2_template_name_alphabet() {
        for name in ["Show_1-x", "晚间新闻", "𠀀", &"中".repeat(85)] {
            assert_eq!(check_display_name(name), Ok(()), "{name}");
        }
        for name in ["", "a b", "a.b", "émission", "あ", "a\u{200b}", &"中".repeat(86), &"a".repeat(256)] {
            assert!(check_display_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn r3_template_description_alphabet() {
        for text in ["", "Evening news 晚间 _-", &" ".repeat(1024)] {
            assert_eq!(check_description(text), Ok(()), "{text}");
        }
        for text in ["a\tb", "a, b", "a\n", &"a".repeat(1025)] {
            assert!(check_description(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn messages_are_short_and_printable(text in ".{0,2000}") {
            for error in [check_id(&text), check_domain(&text), check_app(&text), check_stream(&text)] {
                if let Err(error) = error {
                    let message = error.to_string();
                    prop_assert!(message.len() < 600 && !message.chars().any(char::is_control));
                }
            }
        }

        #[test]
        fn ids_agree_with_the_published_expression(id in "[a-zA-Z0-9_-]{0,66}") {
            let letters: Vec<char> = id.chars().collect();
            let expected = match letters.as_slice() {
                [] => false,
                [first, rest @ ..] => {
                    first.is_ascii_lowercase()
                        && rest.len() <= 62
                        && rest.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')
                        && rest.last() != Some(&'-')
                }
            };
            prop_assert_eq!(check_id(&id).is_ok(), expected);
        }
    }
}
