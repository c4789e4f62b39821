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
    "recorder/node/v1/node_link.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=recorder");
    let google_rpc = prost::Message::decode(tonic_types::pb::FILE_DESCRIPTOR_SET)?;
    let mut resolver = ChainFileResolver::new();
    resolver.add(IncludeFileResolver::new(PathBuf::from(".")));
    resolver.add(DescriptorSetFileResolver::new(google_rpc));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true);
    // error_details is imported by none of ours, but clients decode the Any details of a Status through reflection.
    compiler.open_files(FILES)?.open_file("google/rpc/error_details.proto")?;
    let set = compiler.file_descriptor_set();
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), set.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").extern_path(".google.rpc", "::tonic_types::pb").compile_fds(set)?;
    Ok(())
}
