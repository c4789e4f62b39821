//! Compiles the protos without protoc: protox parses them, tonic-prost-build generates from the descriptor set.

use std::path::PathBuf;

use prost::Message;
use protox::file::{ChainFileResolver, DescriptorSetFileResolver, GoogleFileResolver, IncludeFileResolver};

const FILES: &[&str] = &[
    "recorder/v1/access.proto",
    "recorder/v1/common.proto",
    "recorder/v1/domain.proto",
    "recorder/v1/node.proto",
    "recorder/v1/picture.proto",
    "recorder/v1/recording.proto",
    "recorder/v1/rule.proto",
    "recorder/v1/storage.proto",
    "recorder/v1/stream.proto",
    "recorder/v1/task.proto",
    "recorder/v1/template.proto",
    "recorder/v1/usage.proto",
    "recorder/v1/webhook.proto",
    "recorder/node/v1/directive.proto",
    "recorder/node/v1/node_link.proto",
];

/// Messages that may carry a secret: their `Debug` is written by hand in `src/redact.rs`.
const SECRETIVE: &[&str] = &[
    ".recorder.v1.Storage.S3",
    ".recorder.v1.Storage.Gcs",
    ".recorder.v1.Domain.PublishAuth",
    ".recorder.v1.Token",
    ".recorder.v1.Webhook",
    ".recorder.node.v1.Directive.DomainPolicy",
    ".recorder.node.v1.FetchCredentialResponse",
];

/// Enums nested in the messages above: `skip_debug` reaches them too, and they hold no secret.
const PLAIN_ENUMS: &[&str] = &[
    ".recorder.v1.Domain.PublishAuth.Mode",
    ".recorder.v1.Token.Role",
    ".recorder.v1.Webhook.Signature",
    ".recorder.v1.Webhook.State",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=recorder");
    println!("cargo:rerun-if-changed=build.rs");
    let mut resolver = ChainFileResolver::new();
    resolver.add(IncludeFileResolver::new(PathBuf::from(".")));
    resolver.add(DescriptorSetFileResolver::new(google_rpc()?));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true);
    // error_details is imported by none of ours, but clients decode the Any details of a Status through reflection.
    compiler.open_files(FILES)?.open_file("google/rpc/error_details.proto")?;
    let set = compiler.file_descriptor_set();
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), set.encode_to_vec())?;
    let builder = PLAIN_ENUMS
        .iter()
        .fold(tonic_prost_build::configure(), |builder, path| builder.enum_attribute(path, "#[derive(Debug)]"));
    builder
        .bytes(".")
        // Equal messages must encode to equal bytes: request_id compares a hash of the body.
        .btree_map(".")
        .skip_debug(SECRETIVE)
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(set)?;
    Ok(())
}

/// The google.rpc descriptors that tonic-types ships, under the paths everyone imports them by.
fn google_rpc() -> Result<prost_types::FileDescriptorSet, prost::DecodeError> {
    let mut set = prost_types::FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET)?;
    for file in &mut set.file {
        if let Some(name) = &mut file.name
            && !name.contains('/')
        {
            *name = format!("google/rpc/{name}");
        }
    }
    Ok(set)
}
