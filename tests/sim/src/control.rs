//! The control plane: its link service over the simulated network, its database in a file that outlives it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use prost_types::Duration as WireDuration;
use recorder_control::api::Api;
use recorder_control::link::Link;
use recorder_control::pulse::Pulse;
use recorder_control::timers;
use recorder_db::{Db, Options};
use recorder_proto::pb::node::node_link_service_server::NodeLinkServiceServer;
use recorder_proto::pb::v1::domain_service_server::DomainService;
use recorder_proto::pb::v1::template::{Aac, Flv, Hls, Mp4};
use recorder_proto::pb::v1::template_service_server::TemplateService;
use recorder_proto::pb::v1::{BindTemplateRequest, CreateTemplateRequest, Template};
use recorder_runtime::clock::Clock;
use recorder_runtime::drain::Drain;
use recorder_runtime::secret::{Keys, Sealer};
use tonic::Request;
use tonic::transport::Server;

use crate::clock::HostClock;
use crate::host::Host;
use crate::net::Network;
use crate::plan::{CONTROL, Plan};

/// The push domain of every world.
pub const DOMAIN: &str = "push.example.com";

/// How long a node counts as alive after its last word.
const LEASE: Duration = Duration::from_secs(4);

/// A control plane that runs. Dropping it is a crash.
pub struct Control {
    /// Its machine.
    pub host: Host,
    /// Its database.
    pub db: Db,
    api: Api,
    _drain: Drain,
}

impl Control {
    /// Starts it on the database in `folder`.
    pub fn start(now: u64, folder: &Path, network: &Network) -> Self {
        let host = Host::start(now);
        let (db, api, drain) = host.block_on(open(now, folder.to_owned(), network.clone()));
        network.listen(CONTROL, true);
        Self { host, db, api, _drain: drain }
    }

    /// What is recorded, and how.
    pub fn prepare(&self, plan: &Plan) {
        let template = template(plan);
        let name = "simulated";
        let create = CreateTemplateRequest {
            template_id: name.into(),
            template: Some(template),
            ..CreateTemplateRequest::default()
        };
        let bind = BindTemplateRequest {
            template: name.into(),
            domains: vec![DOMAIN.into()],
            create_domains: true,
            ..BindTemplateRequest::default()
        };
        self.host.block_on(async {
            self.api.create_template(Request::new(create)).await.expect("a template");
            self.api.bind_template(Request::new(bind)).await.expect("a binding");
        });
    }
}

fn template(plan: &Plan) -> Template {
    let wait = |seconds: u64| Some(WireDuration { seconds: seconds as i64, nanos: 0 });
    let [hls, flv, mp4, aac] = plan.formats;
    let grows = plan.grows;
    Template {
        hls: hls.map(|resume| Hls { segment_duration: wait(2), resume_timeout: wait(resume), ..Hls::default() }),
        flv: flv.map(|resume| Flv { upload_while_recording: grows, resume_timeout: wait(resume), ..Flv::default() }),
        mp4: mp4.map(|resume| Mp4 { upload_while_recording: grows, resume_timeout: wait(resume), ..Mp4::default() }),
        aac: aac.map(|resume| Aac {
            upload_while_recording: grows,
            resume_timeout: wait(resume),
            when: recorder_proto::pb::v1::template::aac::When::Always.into(),
            ..Aac::default()
        }),
        ..Template::default()
    }
}

async fn open(now: u64, folder: PathBuf, network: Network) -> (Db, Api, Drain) {
    let clock: Arc<dyn Clock> = Arc::new(HostClock::at(Duration::from_millis(now), 0));
    let options = Options { connections: 1, inline: true, ..Options::default() };
    let db = Db::open_with(&format!("sqlite://{}/control.db", folder.display()), &options).expect("database");
    let sealer = Arc::new(Sealer::new(&Keys::parse(&"5e".repeat(32)).expect("a key")).expect("a sealer"));
    let api = Api::start(db.clone(), Arc::clone(&sealer), Arc::clone(&clock), folder.join("library")).await;
    let api = api.expect("the API starts");
    let pulse = Pulse::new(&db).await.expect("heads");
    let drain = Drain::new();
    tokio::spawn(pulse.clone().run(db.clone(), drain.signal()));
    tokio::spawn(timers::run(db.clone(), Arc::clone(&clock), LEASE, Duration::from_secs(86_400), drain.signal()));
    let link = Link::new(db.clone(), clock, sealer, pulse, drain.signal(), LEASE);
    let incoming = stream::unfold(network, |network| async move {
        let socket = network.accept(CONTROL).await;
        Some((Ok::<_, std::io::Error>(socket), network))
    });
    let server = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .add_service(NodeLinkServiceServer::new(link));
    tokio::spawn(server.serve_with_incoming(Box::pin(incoming)));
    (db, api, drain)
}
