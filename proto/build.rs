//! Compiles the .proto files in pure Rust (protox), so that no protoc is needed.

use std::path::PathBuf;

use prost::Message;

const FILES: &[&str] = &[
    "conflux/v1/config.proto",
    "conflux/v1/management.proto",
    "conflux/internal/v1/placement.proto",
    "conflux/internal/v1/principal.proto",
    "conflux/internal/v1/raft.proto",
    "conflux/internal/v1/shard.proto",
    "conflux/log/v1/placement_log.proto",
    "conflux/log/v1/raft_log.proto",
    "conflux/log/v1/shard_log.proto",
    "conflux/store/v1/placement_store.proto",
    "conflux/store/v1/shard_store.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // Only the public package is shown by reflection.
    let public = prost_types_public(&descriptors);
    std::fs::write(out.join("conflux.v1.bin"), public)?;
    tonic_prost_build::configure().bytes(".").btree_map(".").compile_fds(descriptors)?;
    Ok(())
}

fn prost_types_public(all: &prost_types::FileDescriptorSet) -> Vec<u8> {
    let file = all.file.iter().filter(|f| f.package() == "conflux.v1").cloned().collect();
    prost_types::FileDescriptorSet { file }.encode_to_vec()
}
