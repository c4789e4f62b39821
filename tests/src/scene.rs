//! The steps that nearly every whole-system test takes: storages, templates, bindings, and waiting for files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use recorder_proto::pb::v1;
use v1::domain_service_client::DomainServiceClient;
use v1::recording_service_client::RecordingServiceClient;
use v1::storage_service_client::StorageServiceClient;
use v1::stream_service_client::StreamServiceClient;
use v1::template_service_client::TemplateServiceClient;

use crate::cluster::{Api, Cluster};
use crate::wait;

/// Short names for the service clients.
pub struct Clients {
    /// Templates.
    pub templates: TemplateServiceClient<Api>,
    /// Domains and bindings.
    pub domains: DomainServiceClient<Api>,
    /// Recordings and files.
    pub recordings: RecordingServiceClient<Api>,
    /// Storages.
    pub storages: StorageServiceClient<Api>,
    /// Live streams.
    pub streams: StreamServiceClient<Api>,
}

/// A template with every format, AAC always.
pub fn all_formats() -> v1::Template {
    v1::Template {
        hls: Some(v1::template::Hls::default()),
        flv: Some(v1::template::Flv::default()),
        mp4: Some(v1::template::Mp4::default()),
        aac: Some(v1::template::Aac { when: v1::template::aac::When::Always.into(), ..Default::default() }),
        ..Default::default()
    }
}

/// The same, each waiting so many seconds for a lost publisher; segments of one second.
pub fn all_formats_waiting(seconds: i64) -> v1::Template {
    let wait = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let (base, resume_timeout) = (all_formats(), wait(seconds));
    v1::Template {
        hls: Some(v1::template::Hls { segment_duration: wait(1), resume_timeout, ..Default::default() }),
        flv: Some(v1::template::Flv { resume_timeout, ..Default::default() }),
        mp4: Some(v1::template::Mp4 { resume_timeout, ..Default::default() }),
        aac: base.aac.map(|aac| v1::template::Aac { resume_timeout, ..aac }),
        ..base
    }
}

/// A pair with these settings of the node, and one template bound to one domain.
pub async fn recorded(domain: &str, template: v1::Template, settings: &[(&str, &str)]) -> (Cluster, Clients) {
    let cluster = Cluster::with_settings(settings).await;
    let mut clients = Clients::of(&cluster).await;
    clients.template("all", template).await;
    clients.bind("all", domain).await;
    (cluster, clients)
}

impl Clients {
    /// Clients of a cluster's API.
    pub async fn of(cluster: &Cluster) -> Self {
        Self::over(&cluster.api().await)
    }

    /// Clients over a channel.
    pub fn over(api: &Api) -> Self {
        Self {
            templates: TemplateServiceClient::new(api.clone()),
            domains: DomainServiceClient::new(api.clone()),
            recordings: RecordingServiceClient::new(api.clone()),
            storages: StorageServiceClient::new(api.clone()),
            streams: StreamServiceClient::new(api.clone()),
        }
    }

    /// Creates a storage.
    pub async fn storage(&mut self, id: &str, target: v1::storage::Target) {
        let storage = v1::Storage { target: Some(target), ..Default::default() };
        let request = v1::CreateStorageRequest { storage_id: id.into(), storage: Some(storage), ..Default::default() };
        self.storages.create_storage(request).await.expect("create storage");
    }

    /// Creates a template.
    pub async fn template(&mut self, id: &str, template: v1::Template) -> v1::Template {
        let request =
            v1::CreateTemplateRequest { template_id: id.into(), template: Some(template), ..Default::default() };
        self.templates.create_template(request).await.expect("create template").into_inner()
    }

    /// Binds a template to a domain and waits until every node has applied it.
    pub async fn bind(&mut self, template: &str, domain: &str) {
        let request = v1::BindTemplateRequest {
            template: template.into(),
            domains: vec![domain.into()],
            create_domains: true,
            ..Default::default()
        };
        self.domains.bind_template(request).await.expect("bind");
        let request =
            v1::ListBindingsRequest { template: template.into(), domain: domain.into(), ..Default::default() };
        wait::until("the binding to be active", async || {
            let bindings = self.domains.list_bindings(request.clone()).await.ok()?.into_inner().bindings;
            let active = |binding: &v1::Binding| binding.state() == v1::binding::State::Active;
            (!bindings.is_empty() && bindings.iter().all(active)).then_some(())
        })
        .await;
    }

    /// Unbinds a template from a domain.
    pub async fn unbind(&mut self, template: &str, domain: &str) {
        let request =
            v1::UnbindTemplateRequest { template: template.into(), domains: vec![domain.into()], ..Default::default() };
        self.domains.unbind_template(request).await.expect("unbind");
    }

    /// Every recording of a stream, oldest first.
    pub async fn recordings_of(&mut self, domain: &str, stream: &str) -> Vec<v1::Recording> {
        let stream = v1::StreamRef { domain: domain.into(), app: "live".into(), stream: stream.into() };
        let request = v1::ListRecordingsRequest { stream: Some(stream), ..Default::default() };
        let mut recordings = self.recordings.list_recordings(request).await.expect("list").into_inner().recordings;
        recordings.sort_by(|a, b| a.name.cmp(&b.name));
        recordings
    }

    /// Waits until a stream has `count` recordings, all of them in `state`.
    pub async fn wait_for(
        &mut self,
        domain: &str,
        stream: &str,
        count: usize,
        state: v1::recording::State,
    ) -> Vec<v1::Recording> {
        wait::until(&format!("{count} recordings of {stream} to be {}", state.as_str_name()), async || {
            let recordings = self.recordings_of(domain, stream).await;
            let there = recordings.iter().filter(|recording| recording.state() == state).count();
            (there == count && recordings.len() == count).then_some(recordings)
        })
        .await
    }

    /// The files of a recording by format name, in index order.
    pub async fn files(&mut self, recording: &v1::Recording) -> BTreeMap<&'static str, Vec<v1::File>> {
        let request = v1::ListFilesRequest { parent: recording.name.clone(), page_size: 1_000, ..Default::default() };
        let files = self.recordings.list_files(request).await.expect("files").into_inner().files;
        let mut by_format: BTreeMap<&'static str, Vec<v1::File>> = BTreeMap::new();
        for file in files {
            assert_eq!(file.state(), v1::file::State::Available, "{file:?}");
            by_format.entry(file.format().as_str_name()).or_default().push(file);
        }
        by_format.values_mut().for_each(|files| files.sort_by_key(|file| file.index));
        by_format
    }
}

/// What a player would open: the file itself, or the playlist.
pub fn library_path(cluster: &Cluster, file: &v1::File) -> PathBuf {
    let path = cluster.library().join(&file.object_key);
    assert!(path.is_file(), "{} is missing", path.display());
    path
}

/// All files below a folder, relative to it.
pub fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(relative) = path.strip_prefix(folder) {
                found.push(relative.display().to_string());
            }
        }
    }
    found.sort();
    found
}
