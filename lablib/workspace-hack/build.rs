//! Nothing to build: without this file, Cargo would not build the build-dependencies either.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
