//! The tokens that are there before any can be created: from settings or files, in memory only. One is made on the first
//! start, or nobody could ever create another.
use std::path::{Path, PathBuf};

use recorder_proto::pb::v1::token::Role;
use recorder_runtime::secret::Redacted;

use super::{Caller, secret};
use crate::Error;

/// A token that is not in the database.
#[derive(Debug, Clone)]
pub struct Standing {
    pub(super) hash: [u8; 32],
    pub(super) caller: Caller,
}

/// Where one of them comes from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The token itself.
    pub token: Option<Redacted<String>>,
    /// The file that holds it.
    pub file: Option<PathBuf>,
}

impl Origin {
    fn read(&self) -> Result<Option<String>, Error> {
        match (&self.token, &self.file) {
            (Some(token), _) => Ok(Some(token.expose().trim().to_owned())),
            (None, Some(file)) => read(file).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// The standing tokens. Without one for an administrator, that of `default` counts, which is made if it is missing.
///
/// # Errors
/// When a file cannot be read or written, or a token is too short to be one.
pub fn standing(admin: &Origin, node: &Origin, default: &Path) -> Result<Vec<Standing>, Error> {
    let admin = match admin.read()? {
        Some(token) => token,
        None => read_or_make(default)?,
    };
    let mut standing = vec![one("access.admin_token", &admin, Role::Admin)?];
    if let Some(node) = node.read()? {
        standing.push(one("access.node_token", &node, Role::Node)?);
    }
    Ok(standing)
}

fn one(setting: &'static str, token: &str, role: Role) -> Result<Standing, Error> {
    let sound = (secret::MIN_CHOSEN_BYTES..=secret::MAX_BYTES).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !sound {
        let (min, max) = (secret::MIN_CHOSEN_BYTES, secret::MAX_BYTES);
        return Err(Error::StandingToken { setting, reason: format!("must be {min} to {max} printable characters") });
    }
    Ok(Standing { hash: secret::hash(token), caller: Caller::with(setting, vec![role]) })
}

fn read(file: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(file).map_err(|source| Error::Folder { path: file.to_owned(), source })?;
    Ok(text.trim().to_owned())
}

fn read_or_make(file: &Path) -> Result<String, Error> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |source| Error::Folder { path: file.to_owned(), source };
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut made) => {
            let token = secret::make();
            made.write_all(format!("{token}\n").as_bytes()).and_then(|()| made.sync_all()).map_err(failed)?;
            tracing::warn!(
                file = %file.display(),
                "a token for the first administrator was made: create others with it, and keep the file to yourself"
            );
            Ok(token)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => read(file),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_administrators_token_is_made_once_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("admin.token");
        let none = Origin::default();
        let made = standing(&none, &none, &file).unwrap();
        assert_eq!(made.len(), 1);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(made[0].hash, secret::hash(text.trim()));
        assert_eq!(standing(&none, &none, &file).unwrap()[0].hash, made[0].hash);
        assert!(!format!("{made:?}").contains(text.trim()));
    }

    #[test]
    fn what_is_set_counts_and_what_is_too_short_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("admin.token");
        let set = |text: &str| Origin { token: Some(Redacted::new(text.to_owned())), file: None };
        let (admin, node) = ("a".repeat(32), "n".repeat(32));
        let both = standing(&set(&admin), &set(&node), &file).unwrap();
        assert_eq!((both[0].hash, both[1].hash), (secret::hash(&admin), secret::hash(&node)));
        assert!(!file.exists(), "none is made where one is set");
        let short = standing(&set("hunter2"), &set(&node), &file).unwrap_err().to_string();
        assert!(short.contains("access.admin_token") && !short.contains("hunter2"), "{short}");
        let missing = Origin { token: None, file: Some(folder.path().join("nothing")) };
        assert!(standing(&missing, &set(&node), &file).is_err(), "a file that somebody named is not made up");
    }
}
