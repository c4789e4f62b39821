//! Tells whoever started the process that it serves, and where: scripts and tests use port 0 and read this.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

/// Writes `{"api":"127.0.0.1:7080",...}` to `file` in one step, so that a reader never sees half of it.
pub fn announce(file: &Path, addresses: &[(&str, SocketAddr)]) -> std::io::Result<()> {
    let addresses: BTreeMap<&str, String> = addresses.iter().map(|(name, at)| (*name, at.to_string())).collect();
    let staged = file.with_extension("new");
    std::fs::write(&staged, serde_json::to_vec(&addresses)?)?;
    std::fs::rename(staged, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_by_listener() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ready.json");
        announce(&file, &[("api", "127.0.0.1:1".parse().unwrap())]).unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), r#"{"api":"127.0.0.1:1"}"#);
    }
}
