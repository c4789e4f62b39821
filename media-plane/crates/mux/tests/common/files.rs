//! Recordings as files on a disk, for judges who read those.

use std::path::{Path, PathBuf};

use mux::{Format, ObjectPart};

use super::Store;

/// Writes what was recorded as files, and names the one to open for every API file.
pub fn write(store: &Store, directory: &Path, name: &str, format: Format) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for file in 0..store.done.len() as u32 {
        let folder = directory.join(format!("{}-{file}", name.replace([' ', ',', '>'], "-")));
        std::fs::create_dir_all(&folder).unwrap();
        for (id, object) in store.objects.iter().filter(|(id, _)| id.file == file) {
            let path = match id.part {
                ObjectPart::Segment(number) => folder.join(mux::hls::segment_name(number)),
                ObjectPart::Playlist => continue,
                _ => folder.join(format!("file.{}", format.row().extension)),
            };
            std::fs::write(path, object.bytes()).unwrap();
        }
        if let Some(texts) = store.playlists.get(&file) {
            std::fs::write(folder.join(mux::hls::PLAYLIST_NAME), &texts.last().unwrap().0).unwrap();
        }
        let opened = if format == Format::Hls {
            mux::hls::PLAYLIST_NAME.to_owned()
        } else {
            format!("file.{}", format.row().extension)
        };
        paths.push(folder.join(opened));
    }
    paths
}
