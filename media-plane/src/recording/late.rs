//! Formats that could not begin because the track they are made of had not come: they begin with its first frame.

use media::{Presence, Timed, TrackKind, Tracks};
use mux::registry::Segment;
use recorder_proto::pb::v1::Template;

use super::report::{api_format, mux_format};
use super::start::{Inheritance, Refused, open, place};
use super::{Feed, Recording, formats};
use crate::manifest::{Entry, Late};
use crate::shipping::Wall;

/// What a template asks for that these tracks do not make, but could with sound.
pub(super) fn of_template(template: &Template, tracks: Tracks, left: Option<&Inheritance>, wall: Wall) -> Vec<Late> {
    let with_sound = Tracks { audio: Presence::Present, ..tracks };
    let is_late = |kind| !formats::is_made(kind, template, tracks) && formats::is_made(kind, template, with_sound);
    let late = formats::of_template(template, None).into_iter().filter(|(kind, _)| is_late(*kind));
    late.map(|(kind, _)| {
        let format = api_format(kind);
        let place = left.map(|left| place(left, format, formats::resume_timeout(kind, template), wall.at));
        Late { format, first_file: place.map_or(0, |place| place.first_file) }
    })
    .collect()
}

/// Whether an earlier process noted anything of the format: then it has begun.
pub(super) fn has_begun(entries: &[Entry], late: &Late) -> bool {
    entries.iter().any(|entry| match entry {
        Entry::File(file) => file.format == late.format,
        Entry::Settled(format) | Entry::Objects { format, .. } => *format == late.format,
        Entry::OutputFailed(totals) => totals.format == late.format,
        _ => false,
    })
}

impl Recording {
    /// Begins what becomes possible with these items, which it then gets like everything else.
    pub(super) fn begin_late(&mut self, items: &[Timed]) {
        if self.late.is_empty() {
            return;
        }
        let before = self.tracks;
        for item in items {
            if let Timed::Frame(frame) = item {
                match frame.track {
                    TrackKind::Video => self.tracks.video = Presence::Present,
                    TrackKind::Audio => self.tracks.audio = Presence::Present,
                }
            }
        }
        if self.tracks == before {
            return;
        }
        let template: Template = self.meta.plan().and_then(|plan| plan.template).unwrap_or_default();
        let is_made = |late: &Late| formats::is_made(mux_format(late.format), &template, self.tracks);
        let (now, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.late).into_iter().partition(is_made);
        self.late = later;
        now.iter().for_each(|late| self.begin_format(&template, late));
    }

    /// Whether a format that has not begun takes the sound in AAC whatever it comes in.
    pub(super) fn late_wants_aac(&self) -> bool {
        if self.late.is_empty() {
            return false;
        }
        let template: Template = self.meta.plan().and_then(|plan| plan.template).unwrap_or_default();
        let wish = formats::wish(&template);
        // Only AAC begins late, which has no segments.
        self.late.iter().any(|late| Feed::of(mux_format(late.format), Segment::Ts, wish) == Feed::Aac)
    }

    fn begin_format(&mut self, template: &Template, late: &Late) {
        let kind = mux_format(late.format);
        let options = formats::options_of(kind, template, self.wall());
        match open(&self.node, &self.meta, template, late.into(), (kind, &options)) {
            Ok(output) => {
                tracing::info!(recording = %self.id(), format = %late.format, "its track has come: the format begins");
                // Before anything is heard of the end of the others.
                self.node.manifests.begun(output.key());
                // One that takes the same sound has heard everything.
                let alike = self.outputs.iter().find(|other| other.feed() == output.feed());
                let known = alike.or(self.outputs.first());
                let output = match known {
                    Some(other) => output.knowing(other),
                    None => output,
                };
                self.outputs.push(output);
            }
            // The process is on its way out: the next start finds it missing still.
            Err(Refused::Spool(spool::Error::Closed)) => self.late.push(late.clone()),
            Err(refused) => {
                let totals = refused.note(&self.manifest, self.id(), kind);
                self.failed.push(totals);
            }
        }
    }
}
