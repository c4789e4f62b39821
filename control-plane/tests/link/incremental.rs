//! Directives after a change are what compiling everything anew would make: random changes of every kind, one after the
//! other, on every database.
use prost::Message as _;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use recorder_control::directives::changelog::Effect;
use recorder_control::directives::{changelog, compile};
use recorder_db::directives;
use recorder_db::scratch::Scratch;
use recorder_proto::pb::node::Directive;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::domain::PublishAuth;
use recorder_proto::pb::v1::domain::publish_auth::Mode;
use recorder_proto::pb::v1::rule_service_client::RuleServiceClient;
use recorder_proto::pb::v1::storage::{FileSystem, Target};
use recorder_proto::pb::v1::task_service_client::TaskServiceClient;
use recorder_proto::time;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::control::{Control, on_each, until};
use super::node::Node;
use super::story::{Story, at};

const CHANGES: usize = 250;

/// A caller who changes things at random.
struct Caller<'a> {
    control: &'a Control,
    rules: RuleServiceClient<Channel>,
    tasks: TaskServiceClient<Channel>,
    random: StdRng,
    /// Streams that can be disconnected.
    live: Vec<String>,
    changed: usize,
}

impl Caller<'_> {
    /// One of a few ids, so that changes meet.
    fn id(&mut self, kind: &str, of: u32) -> String {
        format!("{kind}-{}", self.random.random_range(0..of))
    }

    fn domain(&mut self) -> String {
        format!("{}.example.com", self.id("push", 4))
    }

    fn template(&mut self) -> String {
        if self.random.random_bool(0.1) { "default".to_owned() } else { self.id("show", 5) }
    }

    fn chance(&mut self, share: f64) -> bool {
        self.random.random_bool(share)
    }

    fn text(&mut self) -> String {
        self.random.random_range(0..1_000_000).to_string()
    }

    /// A change may be refused, but not fail.
    fn note<T>(&mut self, what: &str, outcome: Result<Response<T>, Status>) {
        match outcome {
            Ok(_) => self.changed += 1,
            Err(status) => assert!(
                !matches!(status.code(), Code::Internal | Code::Unavailable | Code::Unknown | Code::Unimplemented),
                "{what}: {status}"
            ),
        }
    }

    async fn change(&mut self) {
        match self.random.random_range(0..14) {
            0 | 1 => self.put_domain().await,
            2 => self.delete_domain().await,
            3 | 4 => self.put_template().await,
            5 => self.delete_template().await,
            6 | 7 => self.bind().await,
            8 | 9 => self.put_rule().await,
            10 => self.delete_rule().await,
            11 => self.put_storage().await,
            12 => self.order().await,
            _ => self.disconnect().await,
        }
    }

    async fn put_domain(&mut self) {
        let (id, external_url) = (self.domain(), "https://auth.example.com/".to_owned() + &self.text());
        let mode = [Mode::Open, Mode::SignedUrl, Mode::StreamKey, Mode::External][self.random.random_range(0..4)];
        let key = if matches!(mode, Mode::SignedUrl | Mode::StreamKey) { "k".repeat(32) } else { String::new() };
        let external_url = if mode == Mode::External { external_url } else { String::new() };
        let auth = PublishAuth { mode: mode.into(), primary_key: key, external_url, ..Default::default() };
        let disabled = self.chance(0.2);
        let domain = v1::Domain { publish_auth: Some(auth), disabled, ..Default::default() };
        let mut domains = self.control.domains();
        let create =
            v1::CreateDomainRequest { domain_id: id.clone(), domain: Some(domain.clone()), ..Default::default() };
        let outcome = domains.create_domain(create).await;
        self.note("CreateDomain", outcome);
        let domain = v1::Domain { name: format!("domains/{id}"), ..domain };
        let outcome = domains.update_domain(v1::UpdateDomainRequest { domain: Some(domain), update_mask: None }).await;
        self.note("UpdateDomain", outcome);
    }

    async fn delete_domain(&mut self) {
        let (name, force) = (format!("domains/{}", self.domain()), self.chance(0.5));
        let request = v1::DeleteDomainRequest { name, force, ..Default::default() };
        let outcome = self.control.domains().delete_domain(request).await;
        self.note("DeleteDomain", outcome);
    }

    async fn put_template(&mut self) {
        let id = self.template();
        let storage = if self.chance(0.5) { format!("storages/{}", self.id("disk", 3)) } else { String::new() };
        let pre_roll = Some(prost_types::Duration { seconds: self.random.random_range(0..5), nanos: 0 });
        let template = v1::Template { description: self.text(), storage, pre_roll, ..Default::default() };
        let mut templates = self.control.templates();
        let create = v1::CreateTemplateRequest {
            template_id: id.clone(),
            template: Some(template.clone()),
            ..Default::default()
        };
        let outcome = templates.create_template(create).await;
        self.note("CreateTemplate", outcome);
        let template = v1::Template { name: format!("templates/{id}"), ..template };
        let update = v1::UpdateTemplateRequest { template: Some(template), ..Default::default() };
        let outcome = templates.update_template(update).await;
        self.note("UpdateTemplate", outcome);
    }

    async fn delete_template(&mut self) {
        let (name, force) = (format!("templates/{}", self.template()), self.chance(0.7));
        let request = v1::DeleteTemplateRequest { name, force, ..Default::default() };
        let outcome = self.control.templates().delete_template(request).await;
        self.note("DeleteTemplate", outcome);
    }

    async fn bind(&mut self) {
        let (template, domains) = (self.template(), vec![self.domain(), self.domain()]);
        let app = if self.chance(0.3) { "live".to_owned() } else { String::new() };
        let create_domains = self.chance(0.5);
        let (one, two) = (template.clone(), domains.clone());
        let bind =
            v1::BindTemplateRequest { template, domains, app: app.clone(), create_domains, ..Default::default() };
        let outcome = self.control.domains().bind_template(bind).await;
        self.note("BindTemplate", outcome);
        if self.chance(0.3) {
            let unbind = v1::UnbindTemplateRequest { template: one, domains: two, app };
            let outcome = self.control.domains().unbind_template(unbind).await;
            self.note("UnbindTemplate", outcome);
        }
    }

    async fn put_rule(&mut self) {
        let id = self.id("rule", 8);
        let skip = self.chance(0.2);
        let rule = v1::Rule {
            domain: self.domain(),
            stream: self.id("cam", 6),
            template: if skip { String::new() } else { self.template() },
            action: if skip { v1::rule::Action::Skip } else { v1::rule::Action::Record }.into(),
            disabled: self.chance(0.2),
            priority: self.random.random_range(0..100),
            ..Default::default()
        };
        let create = v1::CreateRuleRequest { rule_id: id.clone(), rule: Some(rule.clone()), ..Default::default() };
        let outcome = self.rules.create_rule(create).await;
        self.note("CreateRule", outcome);
        let rule = v1::Rule { name: format!("rules/{id}"), ..rule };
        let update = v1::UpdateRuleRequest { rule: Some(rule), ..Default::default() };
        let outcome = self.rules.update_rule(update).await;
        self.note("UpdateRule", outcome);
    }

    async fn delete_rule(&mut self) {
        let name = format!("rules/{}", self.id("rule", 8));
        let outcome = self.rules.delete_rule(v1::DeleteRuleRequest { name, ..Default::default() }).await;
        self.note("DeleteRule", outcome);
    }

    async fn put_storage(&mut self) {
        let id = self.id("disk", 3);
        let backup = if self.chance(0.3) { format!("storages/{}", self.id("disk", 3)) } else { String::new() };
        let target = Some(Target::FileSystem(FileSystem { directory: self.id("folder", 3) }));
        let is_default = self.chance(0.3);
        let storage = v1::Storage { prefix: self.text(), backup, target, is_default, ..Default::default() };
        let mut storages = self.control.storages();
        if self.chance(0.2) {
            let name = format!("storages/{id}");
            let outcome = storages.delete_storage(v1::DeleteStorageRequest { name, ..Default::default() }).await;
            return self.note("DeleteStorage", outcome);
        }
        let create =
            v1::CreateStorageRequest { storage_id: id.clone(), storage: Some(storage.clone()), ..Default::default() };
        let outcome = storages.create_storage(create).await;
        self.note("CreateStorage", outcome);
        let storage = v1::Storage { name: format!("storages/{id}"), ..storage };
        let update = v1::UpdateStorageRequest { storage: Some(storage), ..Default::default() };
        let outcome = storages.update_storage(update).await;
        self.note("UpdateStorage", outcome);
    }

    async fn order(&mut self) {
        let (id, start) = (self.id("task", 6), self.random.random_range(60..600));
        let stream = v1::StreamRef { domain: self.domain(), app: String::new(), stream: self.id("cam", 6) };
        let wire = |seconds| Some(time::timestamp(at(seconds)));
        let (start_time, end_time) = (wire(start), wire(start + 600));
        let template = format!("templates/{}", self.template());
        let task = v1::Task { stream: Some(stream), template, start_time, end_time, ..Default::default() };
        let create = v1::CreateTaskRequest { task_id: id.clone(), task: Some(task), ..Default::default() };
        let outcome = self.tasks.create_task(create).await;
        self.note("CreateTask", outcome);
        if self.chance(0.3) {
            let name = format!("tasks/{id}");
            let outcome = self.tasks.cancel_task(v1::CancelTaskRequest { name }).await;
            self.note("CancelTask", outcome);
        }
    }

    async fn disconnect(&mut self) {
        let name = self.live[self.random.random_range(0..self.live.len())].clone();
        let block_for = Some(prost_types::Duration { seconds: self.random.random_range(0..300), nanos: 0 });
        let request = v1::DisconnectPublisherRequest { name, reason: self.text(), block_for };
        let outcome = self.control.streams().disconnect_publisher(request).await;
        self.note("DisconnectPublisher", outcome);
    }

    /// Compiling everything anew finds nothing to change; gives how many directives there are.
    async fn check(&self, change: usize) -> usize {
        let checked = self.control.scratch.db.write(|db| {
            let before = (changelog::snapshot(db)?, changelog::version(db)?);
            let version = compile::recompile(db, at(0))?;
            let after = changelog::snapshot(db)?;
            let changed = changelog::since(db, before.1)?;
            Ok::<_, recorder_db::Error>((before.0, after, (before.1, version), changed))
        });
        let (before, after, (told, version), changed) = checked.await.unwrap();
        assert_eq!(told, version, "change {change} was not followed: {changed:?}");
        assert_eq!(before, after);
        after.upserts.len()
    }
}

#[test]
fn directives_after_any_sequence_of_changes_are_those_of_a_full_compilation() {
    let seed: u64 = std::env::var("RECORDER_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed}");
    on_each(async |control| {
        let mut node = Node::register(&control, "m1", "boot-1").await;
        let mut live = Vec::new();
        for number in 0..3 {
            let mut story = Story::new(&format!("push-{number}.example.com"), "cam-1");
            live.push(format!("streams/{}", story.session));
            story.sequence = number;
            node.report(vec![story.published()]).await;
        }
        let mut caller = Caller {
            rules: RuleServiceClient::new(control.api.clone()),
            tasks: TaskServiceClient::new(control.api.clone()),
            random: StdRng::seed_from_u64(seed),
            control: &control,
            live,
            changed: 0,
        };
        let mut most = 0;
        for change in 0..CHANGES {
            caller.change().await;
            most = most.max(caller.check(change).await);
        }
        assert!(caller.changed > CHANGES / 3, "most changes are refused: {}", caller.changed);
        assert!(most > 10, "there is hardly anything to compile: {most}");
    });
}

/// Regression of what would have been: each change only touches what it concerns, so that directives of an older release
/// would have stayed as they were.
#[test]
fn directives_that_an_older_release_compiled_are_put_right_after_a_start() {
    on_each(async |control| {
        control.bind("default", "push.example.com").await;
        let expected = control.scratch.db.read(changelog::snapshot).await.unwrap();
        let control = control.restart_after(async |scratch| age(scratch).await).await;
        until("the directives to be those of this release", async || {
            let found = control.scratch.db.read(changelog::snapshot).await.unwrap();
            let plain = |effect: &Effect| {
                let upserts = effect.upserts.iter();
                upserts.map(|directive| Directive { version: 0, ..directive.clone() }).collect::<Vec<_>>()
            };
            (found.version > expected.version + 1 && plain(&found) == plain(&expected)).then_some(())
        })
        .await;
    });
}

/// One directive is otherwise, one is missing, and one is of a rule that is gone.
async fn age(scratch: &Scratch) {
    let aged = scratch.db.write(|db| {
        let version = directives::next_version(db)?;
        let mut put = |name: &str, body: Option<Vec<u8>>| {
            directives::apply(db, &directives::Change { version, name: name.to_owned(), body, time: 0 })
        };
        let gone = Directive { name: "rule/gone".to_owned(), ..Directive::default() };
        put("rule/gone", Some(gone.encode_to_vec()))?;
        let less = Directive { name: "binding/push.example.com/default".to_owned(), ..Directive::default() };
        put("binding/push.example.com/default", Some(less.encode_to_vec()))?;
        put("domain/push.example.com", None)
    });
    aged.await.unwrap();
}
