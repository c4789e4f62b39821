//! Publishers that users have: ffmpeg, GStreamer. Sources are generated at test time.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What a generated source carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracks {
    /// H.264 and AAC.
    Both,
    /// H.264 only.
    Video,
    /// AAC only.
    Audio,
}

/// A source to generate with ffmpeg.
#[derive(Clone, Debug)]
pub struct Source {
    /// Which tracks.
    pub tracks: Tracks,
    /// Length in seconds.
    pub seconds: u32,
    /// Video bit rate in kbit/s.
    pub kilobits: u32,
    /// Frames between key frames, at 30 frames per second.
    pub gop: u32,
    /// Consecutive B-frames.
    pub b_frames: u32,
}

impl Default for Source {
    fn default() -> Self {
        Self { tracks: Tracks::Both, seconds: 12, kilobits: 1_000, gop: 30, b_frames: 2 }
    }
}

impl Source {
    /// Encodes the source into `folder` as FLV and returns its path; the publisher then copies it packet by packet.
    pub fn generate(&self, folder: &Path) -> PathBuf {
        let path = folder.join(format!("source-{:?}-{}s-{}k.flv", self.tracks, self.seconds, self.kilobits));
        let seconds = self.seconds.to_string();
        let mut command = ffmpeg();
        if self.tracks != Tracks::Audio {
            command.args(["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30"]);
        }
        if self.tracks != Tracks::Video {
            command.args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"]);
        }
        if self.tracks != Tracks::Audio {
            let rate = format!("{}k", self.kilobits);
            command.args([
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "-pix_fmt",
                "yuv420p",
                "-g",
                &self.gop.to_string(),
            ]);
            command.args([
                "-keyint_min",
                &self.gop.to_string(),
                "-sc_threshold",
                "0",
                "-bf",
                &self.b_frames.to_string(),
            ]);
            command.args(["-b:v", &rate, "-minrate", &rate, "-maxrate", &rate, "-bufsize", &rate]);
            // The test picture alone cannot fill a high bit rate.
            let noise = if self.kilobits > 2_000 { "noise=alls=40:allf=t" } else { "null" };
            command.args(["-vf", noise]);
        }
        if self.tracks != Tracks::Video {
            command.args(["-c:a", "aac", "-b:a", "128k", "-ac", "2"]);
        }
        command.args(["-t", &seconds, "-f", "flv"]).arg(&path);
        run(&mut command);
        path
    }
}

/// ffmpeg with quiet output and no terminal.
pub fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y"]).stdin(Stdio::null());
    command
}

/// Runs a command to its end; panics with its own words when it fails.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Pushes a file packet by packet, as fast as the server takes it; returns when everything is sent.
pub fn push_file(source: &Path, url: &str) {
    run(ffmpeg().arg("-i").arg(source).args(["-map", "0", "-c", "copy", "-f", "flv", url]));
}

/// A publisher in the background; ends when dropped.
pub struct Live(Child);

impl Live {
    /// Pushes a file at its own pace, round and round.
    pub fn file(source: &Path, url: &str) -> Self {
        let mut command = ffmpeg();
        command
            .args(["-re", "-stream_loop", "-1", "-i"])
            .arg(source)
            .args(["-map", "0", "-c", "copy", "-f", "flv", url]);
        Self::spawn(command)
    }

    /// Pushes a file once, at its own pace.
    pub fn once(source: &Path, url: &str) -> Self {
        let mut command = ffmpeg();
        command.args(["-re", "-i"]).arg(source).args(["-map", "0", "-c", "copy", "-f", "flv", url]);
        Self::spawn(command)
    }

    /// Any other publisher.
    pub fn spawn(mut command: Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("publisher starts"))
    }

    /// Ends it as ctrl-c does: unpublish, then close.
    pub fn stop(&mut self) {
        let _ = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }

    /// Waits for its own end.
    pub fn wait(&mut self) -> bool {
        self.0.wait().expect("publisher").success()
    }

    /// Cuts it off without a goodbye.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("publisher").is_none()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.kill();
    }
}
