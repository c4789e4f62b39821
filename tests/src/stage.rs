//! The scene of fault tests: a cluster, an S3 server that can fail, numbered publishers, crashes that are remembered.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use recorder_proto::pb::v1;
use v1::storage::{S3, Target};

use crate::accounting::{Crash, Ledger};
use crate::bucket::{BUCKET, S3Server};
use crate::cluster::Cluster;
use crate::numbered::Publisher;
use crate::scene::Clients;
use crate::verify::{self, Told, Verdict};
use crate::{probe, wait};

/// The domain of all streams.
pub const DOMAIN: &str = "push.example.com";
/// The storage.
pub const STORAGE: &str = "bucket";
/// Access key of the test bucket.
pub const KEY: &str = "AKTEST";
/// Secret of the test bucket: it must be nowhere but in requests' signatures.
pub const SECRET: &str = "SKTEST-keep-me-secret";
/// What no log may show.
pub const SECRETS: &[&str] = &[SECRET];

/// Seeds to run a test with: `RECORDER_TEST_SEED` alone if set, else `RECORDER_TEST_SEEDS` (default `count`) new ones.
pub fn seeds(count: usize) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("RECORDER_TEST_SEED") {
        Some(seed) => vec![seed],
        None => {
            let count = number("RECORDER_TEST_SEEDS").map_or(count, |count| count as usize);
            (0..count).map(|_| rand::rng().random_range(0..1_000_000)).collect()
        }
    }
}

/// Everything that a fault test needs.
pub struct Stage {
    /// Control plane and nodes.
    pub cluster: Cluster,
    /// The bucket.
    pub s3: S3Server,
    /// Every random choice comes from here.
    pub random: StdRng,
    /// Nodes killed so far.
    pub crashes: Vec<Crash>,
    seed: u64,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with RECORDER_TEST_SEED={}", self.seed);
        }
    }
}

impl Stage {
    /// A cluster of one node with a storage in an S3 server.
    pub async fn start(seed: u64) -> Self {
        Self::start_with(seed, &[], &[]).await
    }

    /// The same with settings of the nodes and of the control plane.
    pub async fn start_with(seed: u64, settings: &[(&str, &str)], control_settings: &[(&str, &str)]) -> Self {
        Self::on(seed, Cluster::with_all_settings(settings, control_settings).await).await
    }

    /// On a cluster that is there already.
    pub async fn on(seed: u64, cluster: Cluster) -> Self {
        eprintln!("seed {seed}");
        let s3 = S3Server::start(KEY, SECRET).await;
        Clients::of(&cluster).await.storage(STORAGE, s3_target(&s3)).await;
        Self { cluster, s3, random: StdRng::seed_from_u64(seed), crashes: Vec::new(), seed }
    }

    /// Creates a template on the storage and binds it to a domain of the same name under [`DOMAIN`].
    pub async fn template(&mut self, id: &str, template: v1::Template) -> String {
        let domain = format!("{id}.{DOMAIN}");
        let mut clients = Clients::of(&self.cluster).await;
        clients.template(id, v1::Template { storage: STORAGE.into(), ..template }).await;
        clients.bind(id, &domain).await;
        domain
    }

    /// Waits for a random time.
    pub async fn random_pause(&mut self, from: Duration, to: Duration) {
        let pause = self.random.random_range(from..=to);
        tokio::time::sleep(pause).await;
    }

    /// SIGKILL to node `m{number}`; what its publishers lose is explained by it.
    pub fn kill_node(&mut self, number: usize) {
        self.crashes.push(Crash { node: number, at: Instant::now() });
        self.cluster.nodes[number - 1].kill();
    }

    /// Waits until every recording of a stream is over and at least `count` are there.
    pub async fn outcome(&self, domain: &str, stream: &str, count: usize) -> Vec<Told> {
        let mut clients = Clients::of(&self.cluster).await;
        let last = std::cell::RefCell::new(String::new());
        let what = format!("{count} recordings of {stream} to be over");
        wait::until_or(
            &what,
            || last.borrow().clone(),
            async || {
                let told = verify::told(&mut clients, domain, stream).await?;
                let summary = |(recording, files): &Told| {
                    let files: Vec<_> = files.iter().map(|file| (&file.name, file.state().as_str_name())).collect();
                    format!("{} {} {files:?}", recording.name, recording.state().as_str_name())
                };
                let over = told.iter().all(|(recording, _)| verify::is_over(recording)) && told.len() >= count;
                *last.borrow_mut() = told.iter().map(summary).collect::<Vec<_>>().join("\n");
                over.then_some(told)
            },
        )
        .await
    }

    /// Holds what a publisher sent against what was recorded.
    pub fn verify(&self, publisher: &Publisher, told: &[Told], formats: &[&'static str]) -> Verdict {
        let sessions = publisher.sent();
        let ledger = Ledger {
            stream: publisher.number,
            footage: &publisher.footage,
            sessions: &sessions,
            crashes: &self.crashes,
        };
        verify::verify(&ledger, told, formats, verify::ALLOWANCE, &|key| self.fetch(key))
    }

    /// An object's bytes.
    pub fn fetch(&self, key: &str) -> Option<Bytes> {
        self.s3.object(key).map(|object| object.body)
    }

    /// Every playable file, written below `folder`, decodes without a complaint.
    pub fn decodes(&self, told: &[Told], folder: &Path) {
        for (key, path) in self.download(told, folder) {
            eprintln!("decoding {key}");
            probe::decodes(&path);
            probe::describe(&path, "format=duration");
        }
    }

    /// Writes all objects below `folder`; returns what a player would open, by key.
    pub fn download(&self, told: &[Told], folder: &Path) -> Vec<(String, PathBuf)> {
        for key in self.s3.keys() {
            let path = folder.join(&key);
            std::fs::create_dir_all(path.parent().expect("folder")).expect("folder");
            std::fs::write(path, self.fetch(&key).expect("listed")).expect("write");
        }
        let files = told.iter().flat_map(|(_, files)| files);
        let available = files.filter(|file| file.state() == v1::file::State::Available);
        available.map(|file| (file.object_key.clone(), folder.join(&file.object_key))).collect()
    }

    /// Waits until no multipart upload is open.
    pub async fn no_open_uploads(&self) {
        wait::until("no upload to be open", async || (self.s3.open_uploads() == 0).then_some(())).await;
    }

    /// Objects that belong to none of the files, manifests aside.
    pub fn unclaimed(&self, claimed: &BTreeSet<String>) -> Vec<String> {
        let known = |key: &String| claimed.contains(key) || key.ends_with("manifest.json");
        self.s3.keys().into_iter().filter(|key| !known(key)).collect()
    }
}

/// The test bucket as a storage.
pub fn s3_target(server: &S3Server) -> Target {
    Target::S3(S3 {
        bucket: BUCKET.into(),
        region: "us-east-1".into(),
        endpoint: server.endpoint(),
        path_style: true,
        access_key_id: server.options().access_key.clone(),
        secret_access_key: server.options().secret_key.clone(),
        ..Default::default()
    })
}
