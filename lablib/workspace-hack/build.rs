//! Nothing to build: without this file, Cargo would not build the build-dependencies either.

fn main() {
    // Else it would run again, and everything be built again, where a file's age has changed and nothing else.
    println!("cargo::rerun-if-changed=build.rs");
}
