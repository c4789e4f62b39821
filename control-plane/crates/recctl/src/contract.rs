//! The API by its descriptors: which resources there are, which methods they have, and messages as JSON.

use std::sync::OnceLock;

use prost::Message;
use prost::bytes::Bytes;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use recorder_proto::pb::FILE_DESCRIPTOR_SET;
use serde_json::Value;

use crate::failure::Failure;

const PACKAGE: &str = "recorder.v1";

/// One kind of resource and the methods that serve it; an empty name = there is none.
pub struct Resource {
    /// As in `recctl create template`.
    pub singular: &'static str,
    /// As in `recctl list templates`, and the collection in its names.
    pub plural: &'static str,
    /// Lists it.
    pub list: &'static str,
    /// Reads one.
    pub get: &'static str,
    /// Makes one.
    pub create: &'static str,
    /// Changes one.
    pub update: &'static str,
    /// Takes one away.
    pub delete: &'static str,
}

const fn resource(singular: &'static str, plural: &'static str, methods: [&'static str; 5]) -> Resource {
    let [list, get, create, update, delete] = methods;
    Resource { singular, plural, list, get, create, update, delete }
}

/// Every resource that the verbs know; everything else is reached by `recctl call`.
pub const RESOURCES: &[Resource] = &[
    resource("storage", "storages", ["ListStorages", "GetStorage", "CreateStorage", "UpdateStorage", "DeleteStorage"]),
    resource(
        "template",
        "templates",
        ["ListTemplates", "GetTemplate", "CreateTemplate", "UpdateTemplate", "DeleteTemplate"],
    ),
    resource("domain", "domains", ["ListDomains", "GetDomain", "CreateDomain", "UpdateDomain", "DeleteDomain"]),
    resource("binding", "bindings", ["ListBindings", "", "BindTemplate", "", "UnbindTemplate"]),
    resource("rule", "rules", ["ListRules", "GetRule", "CreateRule", "UpdateRule", "DeleteRule"]),
    resource("recording", "recordings", ["ListRecordings", "GetRecording", "", "", "DeleteRecording"]),
    resource("file", "files", ["ListFiles", "GetFile", "", "", ""]),
    resource("task", "tasks", ["ListTasks", "GetTask", "CreateTask", "", "CancelTask"]),
    resource("stream", "streams", ["ListStreams", "GetStream", "", "", "DisconnectPublisher"]),
    resource("node", "nodes", ["ListNodes", "GetNode", "", "", "ForgetNode"]),
    resource("webhook", "webhooks", ["ListWebhooks", "GetWebhook", "CreateWebhook", "UpdateWebhook", "DeleteWebhook"]),
    resource("delivery", "deliveries", ["ListDeliveries", "", "", "", ""]),
    resource("token", "tokens", ["ListTokens", "", "CreateToken", "", "RevokeToken"]),
    resource("event", "events", ["ListEvents", "", "", "", ""]),
];

/// The resource called so, in the singular or the plural.
pub fn resource_called(word: &str) -> Result<&'static Resource, Failure> {
    let found = RESOURCES.iter().find(|resource| resource.singular == word || resource.plural == word);
    let known = || RESOURCES.iter().map(|resource| resource.plural).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| Failure::Usage(format!("{word} is no kind of resource; there are {}", known())))
}

/// The resource that a full name like `domains/push.example.com/bindings/show` is of.
pub fn resource_of(name: &str) -> Result<&'static Resource, Failure> {
    let mut parts = name.rsplit('/');
    let collection = parts.nth(1);
    let wrong = || Failure::Usage(format!("{name} is no full name like templates/show"));
    resource_called(collection.ok_or_else(wrong)?)
}

/// The contract; our own build made it, and a test walks it.
pub fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap_or_default())
}

/// A method by its name alone, or as `Service/Method`, `recorder.v1.Service/Method` or `recorder.v1.Service.Method`.
pub fn method(name: &str) -> Result<MethodDescriptor, Failure> {
    let wanted = name.trim_start_matches('/').trim_start_matches(&format!("{PACKAGE}.")).replace('/', ".");
    let services = pool().services().filter(|service| service.package_name() == PACKAGE);
    let methods: Vec<MethodDescriptor> = services.flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
    let is_called = |method: &&MethodDescriptor| {
        method.name() == wanted || format!("{}.{}", method.parent_service().name(), method.name()) == wanted
    };
    let found = methods.iter().find(is_called).cloned();
    found.ok_or_else(|| Failure::Usage(format!("there is no method {name}; proto/REFERENCE.md lists them")))
}

/// The path under which a method is called.
pub fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// JSON as a message; unknown fields and wrong values are told.
pub fn from_json(descriptor: MessageDescriptor, json: Value) -> Result<DynamicMessage, Failure> {
    let name = descriptor.name().to_owned();
    DynamicMessage::deserialize(descriptor, json).map_err(|error| Failure::Usage(format!("{name}: {error}")))
}

/// A message of the wire as JSON, with the field names of the contract or of the JSON mapping.
pub fn to_json(descriptor: MessageDescriptor, bytes: &Bytes, contract_names: bool) -> Result<Value, Failure> {
    let unreadable = |error: String| Failure::Answer(error);
    let message = DynamicMessage::decode(descriptor, bytes.clone()).map_err(|error| unreadable(error.to_string()))?;
    let options = SerializeOptions::new().use_proto_field_name(contract_names);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| unreadable(error.to_string()))
}

/// The same for a message whose type is known here.
pub fn shown<T: Message>(name: &str, message: &T, contract_names: bool) -> Result<Value, Failure> {
    let descriptor = pool().get_message_by_name(&format!("{PACKAGE}.{name}"));
    let descriptor = descriptor.ok_or_else(|| Failure::Answer(format!("{name} is unknown")))?;
    to_json(descriptor, &message.encode_to_vec().into(), contract_names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_every_resource_exists() {
        for resource in RESOURCES {
            for name in [resource.list, resource.get, resource.create, resource.update, resource.delete] {
                assert!(name.is_empty() || method(name).is_ok(), "{name}");
            }
        }
        assert_eq!(path(&method("StopRecording").unwrap()), "/recorder.v1.RecordingService/StopRecording");
        for spelling in ["RuleService/GetRule", "recorder.v1.RuleService/GetRule", "recorder.v1.RuleService.GetRule"] {
            assert_eq!(path(&method(spelling).unwrap()), "/recorder.v1.RuleService/GetRule");
        }
        assert!(method("Register").is_err(), "the nodes' own calls are not the API");
    }

    #[test]
    fn a_name_says_what_it_is_of() {
        for (name, singular) in [
            ("templates/show", "template"),
            ("domains/push.example.com/bindings/show~live", "binding"),
            ("recordings/01JD/files/mp4-0", "file"),
        ] {
            assert_eq!(resource_of(name).unwrap().singular, singular);
        }
        assert!(resource_of("show").is_err() && resource_of("shows/a").is_err());
    }
}
