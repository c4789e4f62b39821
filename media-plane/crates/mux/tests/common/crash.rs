//! Crashes: what a spool keeps of a store when the process dies, and what a restart makes of it.

use bytes::Bytes;
use mux::{Format, Muxer, ObjectPart, Options, Output, Restored, RestoredFile, RestoredObject};

use super::{Step, Store, go_on, tell};

impl Store {
    /// Everything behind the last marks is gone. What is left, and what a restart would be told of it.
    pub fn crash(mut self) -> (Self, Restored) {
        let done = self.done.len() as u32;
        let mut durable: u64 = self.done.iter().map(|done| done.video_frames + done.audio_frames).sum();
        let mut open = RestoredFile { file: done, ..RestoredFile::default() };
        for (id, object) in self.objects.iter_mut().filter(|(id, _)| id.file == done) {
            if id.part == ObjectPart::Playlist {
                continue;
            }
            let (mut len, mut mark) = (object.data.len(), None);
            if object.closed.is_none() {
                let last = object.marks.last().copied();
                len = last.map_or(0, |(len, _)| len);
                mark = last.map(|(_, mark)| mark);
                object.head = None;
            }
            object.data.truncate(len);
            object.notes.truncate(object.noted);
            let counted = match &object.closed {
                Some(closed) => closed.video_frames + closed.audio_frames,
                None => mark.map_or(0, |mark| mark.video_frames + mark.audio_frames),
            };
            durable += counted;
            open.objects.push(RestoredObject {
                spec: object.spec.unwrap(),
                notes: Bytes::copy_from_slice(&object.notes),
                len: len as u64,
                mark,
                closed: object.closed.clone(),
            });
        }
        open.playlist = self.playlists.get(&done).and_then(|texts| texts.last()).map(|(text, _)| text.clone().into());
        let is_begun = self.objects.keys().any(|id| id.file == done);
        self.taken.truncate(durable as usize);
        let restored = Restored { files: done + u32::from(is_begun), open: is_begun.then_some(open) };
        (self, restored)
    }

    /// Restarts and goes on with these steps, up to the end.
    pub fn restart(self, format: Format, options: &Options, steps: &[Step]) -> Self {
        let (mut store, restored) = self.crash();
        // A new process may open what was opened before it died but has no byte yet.
        store
            .objects
            .retain(|id, _| restored.open.as_ref().is_none_or(|open| open.file != id.file) || is_known(&restored, *id));
        go_on(mux::restore(format, options, restored).unwrap(), store, steps)
    }
}

fn is_known(restored: &Restored, id: mux::ObjectId) -> bool {
    let objects = || restored.open.iter().flat_map(|open| &open.objects);
    objects().any(|object| object.spec.object == id)
        || id.part == ObjectPart::Playlist
            && (objects().next().is_some() || restored.open.as_ref().is_some_and(|open| open.playlist.is_some()))
}

/// All that a muxer says, in order, with the number of the step that made it say so (`steps.len()` for the end).
pub fn script(format: Format, options: &Options, steps: &[Step]) -> Vec<(usize, Output)> {
    script_of(mux::open(format, options).unwrap(), steps)
}

/// The same of any muxer.
pub fn script_of(mut muxer: Box<dyn Muxer>, steps: &[Step]) -> Vec<(usize, Output)> {
    let (mut store, mut all) = (Store::default(), Vec::new());
    for (number, step) in steps.iter().enumerate() {
        tell(&mut muxer, &mut store, step);
        all.extend(std::iter::from_fn(|| muxer.poll()).map(|output| (number, output)));
    }
    all.extend(muxer.finish().outputs.into_iter().map(|output| (steps.len(), output)));
    all
}

/// A store that has obeyed the first outputs only; `taken` are the frames that muxers of this format take.
pub fn played(script: &[(usize, Output)], taken: &[media::Frame]) -> Store {
    let mut store = Store { taken: taken.to_vec(), ..Store::default() };
    script.iter().for_each(|(_, output)| store.obey(output.clone()));
    store
}
