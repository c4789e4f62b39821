//! The whole program on ports of its own, as `main` puts it together.
use std::collections::BTreeMap;
use std::path::Path;

use recorder_control::app::{App, Environment};
use recorder_control::config::{Config, PROGRAM};
use recorder_runtime::config::Invocation;
use recorder_runtime::drain::Drain;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

use super::FREE_PORTS;

/// A running program; stops when [`Running::stop`] is called.
pub struct Running {
    pub api: Channel,
    pub link: Channel,
    drain: Drain,
    task: JoinHandle<()>,
}

impl Running {
    /// Starts on a database that is there already, with keys and library below `folder`.
    pub async fn start(database_url: &str, folder: &Path) -> Self {
        let key_file = folder.join("seal.key");
        let library = folder.join("library");
        let arguments = [
            ("--database-url", database_url.to_owned()),
            ("--seal-key-file", key_file.display().to_string()),
            ("--library-root", library.display().to_string()),
        ];
        let arguments = arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        let arguments = arguments.chain(FREE_PORTS.map(str::to_owned));
        let config: Config = match PROGRAM.load(arguments, &BTreeMap::new()).unwrap() {
            Invocation::Run(settings) => settings.deserialize().unwrap(),
            Invocation::Print(text) => panic!("{text}"),
        };
        let drain = Drain::new();
        let app = App::build(config, Environment::detached().unwrap(), drain.clone()).await.unwrap();
        let connect = |address| Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        let (api, link) = (connect(app.api_addr), connect(app.link_addr));
        let task = tokio::spawn(async move { app.run().await.unwrap() });
        Self { api, link, drain, task }
    }

    pub async fn stop(self) {
        drop((self.api, self.link));
        self.drain.begin();
        self.task.await.unwrap();
    }
}
