//! Which build this is, for `GetServerInfo`, `--version` and `recorder_build_info`.

/// Version of the workspace, like `0.1.0`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Commit the build was made from: twelve hex digits, with `-dev` appended by a development build (the commit it was
/// configured at, changes may follow), or `unknown` outside a git checkout. `RECORDER_BUILD_SHA` at build time wins.
pub const SHA: &str = env!("RECORDER_GIT_SHA");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_always_says_what_it_is() {
        assert_eq!(VERSION.split('.').count(), 3);
        assert!(!SHA.is_empty() && !SHA.contains(char::is_whitespace), "{SHA:?}");
    }
}
