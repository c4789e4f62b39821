//! One API file on its way: which of its objects are in the bucket, which playlist may follow, when it is complete.
//! No I/O.

use std::collections::BTreeMap;

use bytes::Bytes;
use mux::{ObjectId, Summary};
use recorder_proto::facts::Failure;
use store::Stored;

use super::storage::internal;
use crate::manifest::Piece;

/// A playlist text and how many closed objects it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The playlist object.
    pub object: ObjectId,
    /// Its whole text.
    pub body: Bytes,
    /// It carries `EXT-X-ENDLIST`.
    pub last: bool,
    /// Objects closed before it.
    pub names: u32,
}

/// The object a customer opens: the file itself, or the playlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Main {
    /// Which.
    pub object: ObjectId,
    /// The provider's tag.
    pub etag: String,
    /// CRC-32C; none for playlists, because it would not be the file's.
    pub crc32c: Option<u32>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct File {
    /// Sequence of its `file.opened`.
    pub opened: Option<u64>,
    /// What it holds, once all of it is closed.
    pub summary: Option<Summary>,
    /// Objects closed so far; each has its place as its number.
    closed: u32,
    /// Closed but not in the bucket.
    pending: BTreeMap<u32, ObjectId>,
    /// In the bucket, not handed out for release.
    stored: BTreeMap<u32, ObjectId>,
    /// The playlist that ships next; a newer one waits behind it, so that under load some playlist always ships.
    due: Option<Text>,
    newest: Option<Text>,
    /// A text is on its way. The next one waits: requests can overtake each other, and an older text must never
    /// replace a newer one.
    under_way: bool,
    /// Objects before this one are named by a playlist in the bucket.
    named: u32,
    main: Option<Main>,
    objects: u32,
    bytes: u64,
    /// What of an HLS file is in the bucket, for the manifest.
    pieces: Vec<Piece>,
    /// Reported as available or failed: nothing more will happen.
    pub settled: bool,
    /// It failed and its bytes are kept: nothing more happens until somebody asks for it.
    pub kept: bool,
}

impl File {
    /// An object that was shipped and reported before a restart.
    pub fn add_released(&mut self, object: ObjectId, size: u64, crc32c: u32) {
        self.objects += 1;
        self.bytes += size;
        if object.part != mux::ObjectPart::Whole {
            self.pieces.push(Piece { part: object.part, size, crc32c });
        }
    }

    /// An object is complete in the spool; returns its place.
    pub fn close(&mut self, object: ObjectId) -> u32 {
        let place = self.closed;
        self.closed += 1;
        self.pending.insert(place, object);
        place
    }

    /// An object is in the bucket.
    pub fn store(&mut self, place: u32, stored: &Stored, crc32c: u32) {
        let Some(object) = self.pending.remove(&place) else { return };
        self.objects += 1;
        self.bytes += stored.size;
        if object.part == mux::ObjectPart::Whole {
            self.main = Some(Main { object, etag: stored.etag.clone(), crc32c: Some(crc32c) });
        } else {
            self.pieces.push(Piece { part: object.part, size: stored.size, crc32c });
            self.stored.insert(place, object);
        }
    }

    /// Nothing of it has arrived anywhere.
    pub fn is_untouched(&self) -> bool {
        self.objects == 0
    }

    /// What an HLS file consists of; empty for others.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The playlist has a new text, which names everything closed so far.
    pub fn playlist(&mut self, object: ObjectId, body: Bytes, last: bool) {
        let text = Text { object, body, last, names: self.closed };
        if self.due.is_none() {
            self.due = Some(text);
        } else {
            self.newest = Some(text);
        }
    }

    /// Takes the playlist that may ship now: every object it names is in the bucket, and no other text is on its way
    /// there.
    pub fn next_playlist(&mut self) -> Option<Text> {
        let ready = |text: &Text, pending: &BTreeMap<u32, ObjectId>| {
            pending.first_key_value().is_none_or(|(first, _)| *first >= text.names)
        };
        if self.newest.as_ref().is_some_and(|text| ready(text, &self.pending)) {
            self.due = self.newest.take();
        }
        if self.under_way || !self.due.as_ref().is_some_and(|text| ready(text, &self.pending)) {
            return None;
        }
        self.under_way = true;
        std::mem::replace(&mut self.due, self.newest.take())
    }

    /// A playlist is in the bucket.
    pub fn playlist_stored(&mut self, text: &Text, etag: &str) {
        self.under_way = false;
        self.named = self.named.max(text.names);
        if text.last {
            self.objects += 1;
            let size = text.body.len() as u64;
            self.bytes += size;
            self.pieces.push(Piece { part: text.object.part, size, crc32c: crc32c::crc32c(&text.body) });
            self.main = Some(Main { object: text.object, etag: etag.to_owned(), crc32c: None });
        }
    }

    /// The bucket does not take a playlist. A newer text says as much.
    pub fn playlist_failed(&mut self, text: Text) {
        self.under_way = false;
        if self.due.is_none() {
            self.due = self.newest.take().or(Some(text));
        }
    }

    /// Bytes of the playlist that waits.
    pub fn playlist_bytes(&self) -> u64 {
        let text = self.newest.as_ref().or(self.due.as_ref());
        text.map_or(0, |text| text.body.len() as u64)
    }

    /// Segments the customer can reach, which need not be kept here.
    pub fn take_reachable(&mut self) -> Vec<ObjectId> {
        let named = if self.is_complete() { self.closed } else { self.named };
        let rest = self.stored.split_off(&named);
        std::mem::replace(&mut self.stored, rest).into_values().collect()
    }

    /// Segments in the bucket that were never handed out for release.
    pub fn take_stored(&mut self) -> Vec<ObjectId> {
        std::mem::take(&mut self.stored).into_values().collect()
    }

    /// Every object is in the bucket, the final playlist too.
    pub fn is_complete(&self) -> bool {
        self.summary.is_some() && self.main.is_some() && self.pending.is_empty()
    }

    /// Why a file whose output has ended is not complete.
    pub fn missing(&self) -> Failure {
        let is_empty = |summary: &Summary| summary.video_frames == 0 && summary.audio_frames == 0;
        if self.summary.as_ref().is_some_and(is_empty) {
            return internal("FILE_EMPTY", "the node died before anything of this file was on its disk".to_owned());
        }
        internal("FILE_INCOMPLETE", "the output ended without the whole of this file".to_owned())
    }

    /// What a customer opens.
    pub fn main(&self) -> Option<&Main> {
        self.main.as_ref()
    }

    /// Objects in the bucket and their bytes.
    pub fn totals(&self) -> (u32, u64) {
        (self.objects, self.bytes)
    }

    /// Nothing is under way or may come, once the output is over.
    pub fn is_idle(&self) -> bool {
        self.settled || (self.pending.is_empty() && self.due.is_none())
    }
}

#[cfg(test)]
mod tests {
    use mux::ObjectPart;

    use super::*;

    const PLAYLIST: ObjectId = ObjectId { file: 0, part: ObjectPart::Playlist };

    fn segment(number: u32) -> ObjectId {
        ObjectId { file: 0, part: ObjectPart::Segment(number) }
    }

    fn stored(size: u64) -> Stored {
        Stored { size, etag: "e".into(), crc32c: None }
    }

    #[test]
    fn r8_a_playlist_waits_for_every_object_it_names() {
        let mut file = File::default();
        let places: Vec<_> = (0..3).map(|number| file.close(segment(number))).collect();
        file.playlist(PLAYLIST, Bytes::from_static(b"012"), false);
        file.store(places[2], &stored(1), 0);
        file.store(places[0], &stored(1), 0);
        assert_eq!(file.next_playlist(), None);
        file.store(places[1], &stored(1), 0);
        let text = file.next_playlist().unwrap();
        assert_eq!(text.body, "012");
        assert!(file.take_reachable().is_empty(), "nothing is named before the playlist is there");
        file.playlist_stored(&text, "p");
        assert_eq!(file.take_reachable(), [segment(0), segment(1), segment(2)]);
        assert_eq!(file.next_playlist(), None);
    }

    #[test]
    fn a_backlog_does_not_starve_the_playlist() {
        let mut file = File::default();
        for number in 0..4 {
            file.close(segment(number));
            file.playlist(PLAYLIST, Bytes::from(number.to_string()), number == 3);
        }
        file.store(0, &stored(1), 0);
        let oldest = file.next_playlist().unwrap();
        assert_eq!(oldest.body, "0", "the oldest is kept");
        file.playlist_stored(&oldest, "p");
        file.store(1, &stored(1), 0);
        assert_eq!(file.next_playlist(), None, "those between were replaced");
        file.store(2, &stored(1), 0);
        file.store(3, &stored(1), 0);
        let text = file.next_playlist().unwrap();
        assert!(text.last && !file.is_complete());
        file.playlist_stored(&text, "p");
        file.summary = Some(Summary::default());
        assert!(file.is_complete());
        assert_eq!(file.totals(), (5, 5));
        assert_eq!(file.take_reachable().len(), 4);
    }

    /// Found by the simulation: two requests with texts of one playlist overtook each other, and the older one stayed.
    #[test]
    fn r8_an_older_playlist_cannot_overtake_a_newer_one() {
        let mut file = File::default();
        file.playlist(PLAYLIST, Bytes::from_static(b"0"), false);
        let older = file.next_playlist().unwrap();
        file.playlist(PLAYLIST, Bytes::from_static(b"1"), true);
        assert_eq!(file.next_playlist(), None, "the older one is still on its way");
        file.playlist_stored(&older, "p");
        assert_eq!(file.next_playlist().unwrap().body, "1");
    }

    #[test]
    fn the_newest_playlist_ships_when_it_can() {
        let mut file = File::default();
        for number in 0..3 {
            let place = file.close(segment(number));
            file.playlist(PLAYLIST, Bytes::from(number.to_string()), false);
            file.store(place, &stored(1), 0);
        }
        assert_eq!(file.next_playlist().unwrap().body, "2");
        assert_eq!(file.next_playlist(), None);
    }

    #[test]
    fn a_single_file_is_complete_with_its_object_and_summary() {
        let mut file = File::default();
        let whole = ObjectId { file: 0, part: ObjectPart::Whole };
        let place = file.close(whole);
        file.summary = Some(Summary::default());
        assert!(!file.is_complete() && !file.is_idle());
        file.store(place, &stored(10), 7);
        assert!(file.is_complete());
        assert_eq!(file.main(), Some(&Main { object: whole, etag: "e".into(), crc32c: Some(7) }));
    }
}
