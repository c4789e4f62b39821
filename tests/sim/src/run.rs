//! Worlds as processes: one each, because its entropy is the process's.

use std::process::{Command, Stdio};

use crate::plan::{Kind, Mutant};
use crate::world::World;

/// The shared library that stands in for the system's entropy.
const ENTROPY: &str = env!("RECORDER_SIM_ENTROPY");
/// Tells a child its seed; the entropy reads it too.
const SEED: &str = "RECORDER_SIM_SEED";

/// Which world.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// All of it follows from this.
    pub seed: u64,
    /// Which faults.
    pub kind: Kind,
    /// What is broken on purpose.
    pub mutant: Option<Mutant>,
}

/// How a world ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Every promise kept.
    pub clean: bool,
    /// The log.
    pub log: String,
    /// What was broken, or what the process said when it died.
    pub trouble: String,
}

impl Order {
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--seed".to_owned(), self.seed.to_string()];
        if self.kind == Kind::Asymmetric {
            arguments.push("--asymmetric".to_owned());
        }
        if let Some((name, _)) = Mutant::ALL.iter().find(|(_, mutant)| Some(*mutant) == self.mutant) {
            arguments.extend(["--mutant".to_owned(), (*name).to_owned()]);
        }
        arguments
    }

    /// The command that shows this world again.
    pub fn replay(&self) -> String {
        format!("cargo run -q -p recorder-sim -- {}", self.arguments().join(" "))
    }

    /// Runs the world in a process of `program`.
    ///
    /// # Panics
    /// When no process can be started.
    pub fn run(&self, program: &str) -> Outcome {
        let output = Command::new(program)
            .arg("--child")
            .args(self.arguments())
            .env("LD_PRELOAD", ENTROPY)
            .env(SEED, self.seed.to_string())
            .stdin(Stdio::null())
            .output()
            .expect("a process");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Outcome { clean: output.status.success(), log: text(&output.stdout), trouble: text(&output.stderr) }
    }

    /// Runs the world in this process, which was started by [`Self::run`], and prints its log; true when it is clean.
    pub fn live(&self) -> bool {
        let memory = std::path::Path::new("/dev/shm");
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("recorder-sim-");
        let folder = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() }.expect("a folder");
        let mut world = World::new(self.seed, self.kind, self.mutant, folder.path());
        world.run();
        let broken = world.log.all_broken();
        println!("{}", world.log.lines().join("\n"));
        broken.iter().for_each(|broken| eprintln!("{broken}"));
        broken.is_empty()
    }
}
