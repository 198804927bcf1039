//! Compiles the .proto files with `protox`, so that cargo alone builds everything.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["hanfs/op.proto", "hanfs/peer.proto", "hanfs/admin.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
