//! Recordings as files on a disk, for judges who read those.

use std::path::{Path, PathBuf};

use mux::{Format, ObjectPart, Segment};

use super::Store;

/// Writes what was recorded as files, and names the one to open for every API file.
pub fn write(store: &Store, directory: &Path, name: &str, format: Format) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for file in 0..store.done.len() as u32 {
        let folder = directory.join(format!("{}-{file}", name.replace([' ', ',', '>'], "-")));
        std::fs::create_dir_all(&folder).unwrap();
        for (id, object) in store.objects.iter().filter(|(id, _)| id.file == file) {
            let path = match id.part {
                ObjectPart::Segment(number) => folder.join(mux::hls::segment_name(Segment::Ts, number)),
                ObjectPart::Fragment(number) => folder.join(mux::hls::segment_name(Segment::Fmp4, number)),
                ObjectPart::Init(number) => folder.join(mux::hls::init_name(number)),
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

/// A playlist as one for every initialisation segment that it names: ffmpeg goes on decoding by the first of them.
pub fn parts(path: &Path) -> Vec<PathBuf> {
    let text = if path.extension().is_some_and(|kind| kind == "m3u8") {
        std::fs::read_to_string(path).unwrap()
    } else {
        String::new()
    };
    let count = text.matches("#EXT-X-MAP:").count();
    if count < 2 {
        return vec![path.to_owned()];
    }
    let (head, rest) = text.split_once("#EXT-X-MAP:").unwrap();
    let part = |(number, map): (usize, &str)| {
        let path = path.with_file_name(format!("part-{number}.m3u8"));
        std::fs::write(&path, format!("{head}#EXT-X-MAP:{map}#EXT-X-ENDLIST\n")).unwrap();
        path
    };
    rest.split("#EXT-X-MAP:").enumerate().map(part).collect()
}
