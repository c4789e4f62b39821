//! The keys that secrets are sealed with: from a file that only its owner may read, or from the environment.
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use aes_gcm::aead::OsRng;
use aes_gcm::aead::rand_core::RngCore;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use zeroize::{Zeroize, Zeroizing};

use crate::Error;

/// Length of a key in bytes (AES-256).
pub(super) const KEY_BYTES: usize = 32;

/// No sane key file is longer; a wrong path (a device, a log) must not be read into memory.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// One or more keys: the first seals, all of them open. Printing shows nothing.
pub struct Keys(pub(super) Vec<Zeroizing<[u8; KEY_BYTES]>>);

/// Where the keys of [`Keys::load_or_generate`] came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The file was there.
    Loaded,
    /// The file was made now: whoever loses it loses every sealed secret, which the log should say loudly.
    Generated,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    /// Reads keys as a file or `RECORDER_SEAL_KEY` holds them: 64 hexadecimal digits or base64 each, separated by
    /// white space or commas; lines that begin with `#` are comments. The newest comes first.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let words = lines.flat_map(|line| line.split(|c: char| c.is_whitespace() || c == ','));
        let keys = words.filter(|word| !word.is_empty()).map(parse_key).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(Error::NoKey) } else { Ok(Self(keys)) }
    }

    /// Reads a file, which must not be readable by group or others.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::KeyFile { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(Error::KeyFileMode { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
        Self::parse(&text)
    }

    /// [`Keys::load`]; where there is no file, makes one with a new key first (mode 0600, directories 0700), so that
    /// the embedded default starts without ceremony. Several processes may start at once: all get the same key.
    pub fn load_or_generate(path: &Path) -> Result<(Self, Origin), Error> {
        match Self::load(path) {
            Err(Error::KeyFile { source, .. }) if source.kind() == ErrorKind::NotFound => {
                let generated = generate(path).map_err(|source| Error::KeyFile { path: path.to_owned(), source })?;
                Ok((Self::load(path)?, if generated { Origin::Generated } else { Origin::Loaded }))
            }
            loaded => Ok((loaded?, Origin::Loaded)),
        }
    }
}

fn parse_key(word: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, Error> {
    let decoded = match word.len() {
        64 => hex::decode(word).ok(),
        44 => STANDARD.decode(word).ok(),
        43 => URL_SAFE_NO_PAD.decode(word).ok(),
        _ => None,
    };
    let mut decoded = decoded.ok_or(Error::KeyFormat)?;
    let key = <[u8; KEY_BYTES]>::try_from(decoded.as_slice()).map(Zeroizing::new).map_err(|_| Error::KeyFormat);
    decoded.zeroize();
    key
}

/// False when another process was faster.
fn generate(path: &Path) -> std::io::Result<bool> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    OsRng.fill_bytes(key.as_mut_slice());
    let line = Zeroizing::new(format!("{}\n", hex::encode(key.as_slice())));
    // Written aside and linked into place, so that nobody ever reads half a key; a link, unlike a rename, refuses to
    // replace the key of a process that was faster.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let aside = directory.join(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    let linked = file
        .write_all(line.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::hard_link(&aside, path))
        .and_then(|()| File::open(directory)?.sync_all());
    std::fs::remove_file(&aside)?;
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
