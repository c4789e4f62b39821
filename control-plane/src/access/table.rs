//! The one table of what a call needs: the least role, and which domains it concerns. A test walks the contract, so that
//! no rpc is forgotten.
use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message;
use recorder_proto::pb::v1;

use super::scope::{Scope, Target};

/// The least role that a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Least {
    /// None, and no token.
    Anyone,
    /// Reads.
    Viewer,
    /// Changes what is recorded.
    Operator,
    /// Changes the installation.
    Admin,
    /// Speaks for a media node.
    Node,
}

impl Least {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anyone => "none",
            Self::Viewer => "VIEWER",
            Self::Operator => "OPERATOR",
            Self::Admin => "ADMIN",
            Self::Node => "NODE",
        }
    }
}

/// What one method needs.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Role.
    pub least: Least,
    /// Domains.
    pub scope: Scope,
}

/// What the method behind this request path needs; None when the contract has no such method.
pub fn rule(path: &str) -> Option<Rule> {
    static BY_PATH: LazyLock<HashMap<String, Rule>> = LazyLock::new(|| {
        let rule = |(method, least, scope): &Row| (format!("/{method}"), Rule { least: *least, scope: *scope });
        rows().iter().map(rule).collect()
    });
    BY_PATH.get(path).copied()
}

type Row = (&'static str, Least, Scope);

/// What a request of this type names.
macro_rules! named {
    ($request:ident, $targets:expr) => {
        Scope::Named(|bytes| {
            let read: fn(v1::$request) -> Vec<Target> = $targets;
            v1::$request::decode(bytes).map(read)
        })
    };
}

/// Every method of the contract.
pub fn rows() -> Vec<Row> {
    [own(), domains(), rules(), tasks(), recordings(), installation(), picture(), link()].concat()
}

use Least::{Admin, Anyone, Node, Operator, Viewer};
use Scope::{Free, Server};

/// The server itself, and what tools ask first.
fn own() -> Vec<Row> {
    vec![
        ("grpc.health.v1.Health/Check", Anyone, Free),
        ("grpc.health.v1.Health/List", Anyone, Free),
        ("grpc.health.v1.Health/Watch", Anyone, Free),
        ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Anyone, Free),
        ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Anyone, Free),
        ("recorder.v1.SystemService/GetServerInfo", Anyone, Free),
        ("recorder.v1.AccessService/CreateToken", Admin, Server),
        ("recorder.v1.AccessService/ListTokens", Admin, Server),
        ("recorder.v1.AccessService/RevokeToken", Admin, Server),
        ("recorder.v1.UsageService/QueryConcurrency", Viewer, named!(QueryConcurrencyRequest, |r| all(r.domains))),
        ("recorder.v1.UsageService/QueryVolume", Viewer, named!(QueryVolumeRequest, |r| all(r.domains))),
    ]
}

fn domains() -> Vec<Row> {
    vec![
        ("recorder.v1.DomainService/CreateDomain", Operator, named!(CreateDomainRequest, |r| domain(&r.domain_id))),
        ("recorder.v1.DomainService/GetDomain", Viewer, named!(GetDomainRequest, |r| domain(&r.name))),
        ("recorder.v1.DomainService/ListDomains", Viewer, Server),
        (
            "recorder.v1.DomainService/UpdateDomain",
            Operator,
            named!(UpdateDomainRequest, |r| domain(&r.domain.unwrap_or_default().name)),
        ),
        ("recorder.v1.DomainService/DeleteDomain", Operator, named!(DeleteDomainRequest, |r| domain(&r.name))),
        ("recorder.v1.DomainService/BindTemplate", Operator, named!(BindTemplateRequest, |r| all(r.domains))),
        ("recorder.v1.DomainService/UnbindTemplate", Operator, named!(UnbindTemplateRequest, |r| all(r.domains))),
        ("recorder.v1.DomainService/ListBindings", Viewer, named!(ListBindingsRequest, |r| domain(&r.domain))),
        // The URL is a secret: whoever has it can publish.
        (
            "recorder.v1.DomainService/GeneratePublishUrl",
            Operator,
            named!(GeneratePublishUrlRequest, |r| domain(&r.domain)),
        ),
    ]
}

fn rules() -> Vec<Row> {
    vec![
        (
            "recorder.v1.RuleService/CreateRule",
            Operator,
            named!(CreateRuleRequest, |r| domain(&r.rule.unwrap_or_default().domain)),
        ),
        ("recorder.v1.RuleService/GetRule", Viewer, named!(GetRuleRequest, |r| vec![Target::Rule(r.name)])),
        ("recorder.v1.RuleService/ListRules", Viewer, named!(ListRulesRequest, |r| domain(&r.domain))),
        ("recorder.v1.RuleService/UpdateRule", Operator, named!(UpdateRuleRequest, changed_rule)),
        ("recorder.v1.RuleService/DeleteRule", Operator, named!(DeleteRuleRequest, |r| vec![Target::Rule(r.name)])),
        ("recorder.v1.RuleService/ExplainMatch", Viewer, named!(ExplainMatchRequest, |r| of(&r.stream))),
    ]
}

fn tasks() -> Vec<Row> {
    vec![
        (
            "recorder.v1.TaskService/CreateTask",
            Operator,
            named!(CreateTaskRequest, |r| of(&r.task.unwrap_or_default().stream)),
        ),
        ("recorder.v1.TaskService/GetTask", Viewer, named!(GetTaskRequest, |r| vec![Target::Task(r.name)])),
        ("recorder.v1.TaskService/ListTasks", Viewer, named!(ListTasksRequest, |r| of(&r.stream))),
        ("recorder.v1.TaskService/StopTask", Operator, named!(StopTaskRequest, |r| vec![Target::Task(r.name)])),
        ("recorder.v1.TaskService/CancelTask", Operator, named!(CancelTaskRequest, |r| vec![Target::Task(r.name)])),
    ]
}

/// Recordings and live streams.
fn recordings() -> Vec<Row> {
    vec![
        ("recorder.v1.RecordingService/GetRecording", Viewer, named!(GetRecordingRequest, |r| recording(r.name))),
        ("recorder.v1.RecordingService/ListRecordings", Viewer, named!(ListRecordingsRequest, |r| of(&r.stream))),
        ("recorder.v1.RecordingService/WatchRecordings", Viewer, named!(WatchRecordingsRequest, |r| of(&r.stream))),
        ("recorder.v1.RecordingService/StopRecording", Operator, named!(StopRecordingRequest, |r| recording(r.name))),
        ("recorder.v1.RecordingService/SplitRecording", Operator, named!(SplitRecordingRequest, |r| recording(r.name))),
        ("recorder.v1.RecordingService/RetryUploads", Operator, named!(RetryUploadsRequest, |r| recording(r.name))),
        ("recorder.v1.RecordingService/VerifyRecording", Viewer, named!(VerifyRecordingRequest, |r| recording(r.name))),
        (
            "recorder.v1.RecordingService/DeleteRecording",
            Operator,
            named!(DeleteRecordingRequest, |r| recording(r.name)),
        ),
        ("recorder.v1.RecordingService/GetFile", Viewer, named!(GetFileRequest, |r| recording(r.name))),
        ("recorder.v1.RecordingService/ListFiles", Viewer, named!(ListFilesRequest, |r| recording(r.parent))),
        (
            "recorder.v1.RecordingService/GeneratePlaybackUrl",
            Viewer,
            named!(GeneratePlaybackUrlRequest, |r| recording(r.name)),
        ),
        ("recorder.v1.StreamService/ListStreams", Viewer, named!(ListStreamsRequest, |r| of(&r.stream))),
        ("recorder.v1.StreamService/GetStream", Viewer, named!(GetStreamRequest, |r| vec![Target::Stream(r.name)])),
        ("recorder.v1.StreamService/WatchStreams", Viewer, named!(WatchStreamsRequest, |r| of(&r.stream))),
        (
            "recorder.v1.StreamService/DisconnectPublisher",
            Operator,
            named!(DisconnectPublisherRequest, |r| vec![Target::Stream(r.name)]),
        ),
    ]
}

/// What all domains share. Templates are to be read by whoever may bind them.
fn installation() -> Vec<Row> {
    vec![
        ("recorder.v1.TemplateService/CreateTemplate", Operator, Server),
        ("recorder.v1.TemplateService/GetTemplate", Viewer, Free),
        ("recorder.v1.TemplateService/ListTemplates", Viewer, Free),
        ("recorder.v1.TemplateService/UpdateTemplate", Operator, Server),
        ("recorder.v1.TemplateService/DeleteTemplate", Operator, Server),
        ("recorder.v1.StorageService/CreateStorage", Admin, Server),
        ("recorder.v1.StorageService/GetStorage", Viewer, Server),
        ("recorder.v1.StorageService/ListStorages", Viewer, Server),
        ("recorder.v1.StorageService/UpdateStorage", Admin, Server),
        ("recorder.v1.StorageService/DeleteStorage", Admin, Server),
        // Writes into the bucket, and dials wherever the storage says.
        ("recorder.v1.StorageService/TestStorage", Admin, Server),
        ("recorder.v1.WebhookService/CreateWebhook", Admin, Server),
        ("recorder.v1.WebhookService/GetWebhook", Viewer, Server),
        ("recorder.v1.WebhookService/ListWebhooks", Viewer, Server),
        ("recorder.v1.WebhookService/UpdateWebhook", Admin, Server),
        ("recorder.v1.WebhookService/DeleteWebhook", Admin, Server),
        ("recorder.v1.WebhookService/RotateSecret", Admin, Server),
        ("recorder.v1.WebhookService/TestWebhook", Admin, Server),
        ("recorder.v1.WebhookService/ListDeliveries", Viewer, Server),
        ("recorder.v1.WebhookService/Redeliver", Admin, Server),
        ("recorder.v1.EventService/ListEvents", Viewer, Server),
        ("recorder.v1.EventService/WatchEvents", Viewer, Server),
        ("recorder.v1.NodeService/ListNodes", Viewer, Server),
        ("recorder.v1.NodeService/GetNode", Viewer, Server),
        ("recorder.v1.NodeService/DrainNode", Admin, Server),
        ("recorder.v1.NodeService/ResumeNode", Admin, Server),
        ("recorder.v1.NodeService/ForgetNode", Admin, Server),
        ("recorder.v1.NodeService/WatchNodes", Viewer, Server),
    ]
}

fn picture() -> Vec<Row> {
    vec![
        ("recorder.v1.WatermarkService/CreateWatermark", Operator, Server),
        ("recorder.v1.WatermarkService/GetWatermark", Viewer, Free),
        ("recorder.v1.WatermarkService/ListWatermarks", Viewer, Free),
        ("recorder.v1.WatermarkService/UpdateWatermark", Operator, Server),
        ("recorder.v1.WatermarkService/DeleteWatermark", Operator, Server),
        ("recorder.v1.TranscodingService/CreateTranscoding", Operator, Server),
        ("recorder.v1.TranscodingService/GetTranscoding", Viewer, Free),
        ("recorder.v1.TranscodingService/ListTranscodings", Viewer, Free),
        ("recorder.v1.TranscodingService/UpdateTranscoding", Operator, Server),
        ("recorder.v1.TranscodingService/DeleteTranscoding", Operator, Server),
        ("recorder.v1.StandbyService/CreateStandby", Operator, Server),
        ("recorder.v1.StandbyService/GetStandby", Viewer, Free),
        ("recorder.v1.StandbyService/ListStandbys", Viewer, Free),
        ("recorder.v1.StandbyService/UpdateStandby", Operator, Server),
        ("recorder.v1.StandbyService/DeleteStandby", Operator, Server),
        ("recorder.v1.StandbyService/StartStandby", Operator, Server),
        ("recorder.v1.StandbyService/StopStandby", Operator, Server),
    ]
}

/// The node link, on its own port.
fn link() -> Vec<Row> {
    vec![
        ("recorder.node.v1.NodeLinkService/Register", Node, Free),
        ("recorder.node.v1.NodeLinkService/StreamDirectives", Node, Free),
        ("recorder.node.v1.NodeLinkService/ReportFacts", Node, Free),
        ("recorder.node.v1.NodeLinkService/ClaimRecording", Node, Free),
        ("recorder.node.v1.NodeLinkService/ValidateEpochs", Node, Free),
        ("recorder.node.v1.NodeLinkService/FetchCredential", Node, Free),
        ("recorder.node.v1.NodeLinkService/Deregister", Node, Free),
        ("recorder.node.v1.NodeLinkService/GetSnapshot", Node, Free),
    ]
}

fn domain(text: &str) -> Vec<Target> {
    Target::domain(text)
}

/// Every domain, an empty name included: that one is nobody's.
fn all(domains: Vec<String>) -> Vec<Target> {
    domains.into_iter().map(Target::Domain).collect()
}

fn of(stream: &Option<v1::StreamRef>) -> Vec<Target> {
    Target::stream(stream.as_ref())
}

fn recording(name: String) -> Vec<Target> {
    vec![Target::Recording(name)]
}

/// A rule must lie within the domains before the change and after it.
fn changed_rule(request: v1::UpdateRuleRequest) -> Vec<Target> {
    let rule = request.rule.unwrap_or_default();
    let after = domain(&rule.domain);
    [vec![Target::Rule(rule.name)], after].concat()
}
