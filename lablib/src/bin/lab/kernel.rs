//! The notebook kernel: evcxr with lablib prebuilt as a dynamic library.
//!
//! Everything that a kernel needs lies in one folder, `target/lab/kernel/KEY`, where KEY is a fingerprint of the sources and
//! the compiler: a library that a running kernel has mapped is never overwritten, and a kernel that is up to date costs
//! nothing to find. Beside the library lies its *face*: a crate of the same name, and one for each room, that have no other
//! dependencies. They show our sources to the kernel's rust-analyzer (for type inference and completion) and the prebuilt library
//! to its compiler.
//!
//! Two builds: at full speed, for whatever is measured; and incremental, after an edit, for who explores. See [`Build`].

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use lablib::lab::{Doing, Error, Result, freshness, paths};
use nix::fcntl::{Flock, FlockArg};

use crate::{command, explore, path_from_env};

/// A kernel that is ready to start.
pub struct Kernel {
    folder: PathBuf,
    /// Seconds that building it took; none where it was up to date.
    pub built_in: Option<f64>,
    /// Says to whoever prunes that this process has notebooks left to run on it.
    _held: Flock<fs::File>,
}

/// How lablib is compiled for a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// From the artifacts of tests and benches, in `target/release`.
    FullSpeed,
    /// Incrementally, in `target/explore/release`: an edit costs seconds, and the smallest paths are up to twice as slow. What
    /// others wrote is linked there, not compiled again. Where the sources are built at full speed already, that is used.
    Exploring,
}

impl Build {
    fn target(self, root: &Path) -> PathBuf {
        match self {
            Self::FullSpeed => root.join("target"),
            Self::Exploring => root.join("target/explore"),
        }
    }

    /// Runs cargo for this build, and returns what it says.
    fn cargo(self, root: &Path, arguments: &[&str]) -> Result<Vec<String>> {
        let mut command = command::cargo(root, arguments);
        let incremental = if self == Self::Exploring { "1" } else { "0" };
        command.env("CARGO_TARGET_DIR", self.target(root)).env("CARGO_INCREMENTAL", incremental);
        if self == Self::Exploring {
            // Read while compiling, by `freshness::EXPLORING`.
            command.env("LAB_EXPLORING", "1");
        }
        command::run(command, |_| ()).map_err(|failure| {
            // What is in JSON is for `room_in`.
            let lines: Vec<&str> = failure.cause().lines().filter(|line| !line.starts_with('{')).collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            Error::new("build lablib for the kernel", format!("cargo says:\n{}", last.join("\n")))
        })
    }
}

/// How a kernel treats a panic.
#[derive(Clone, Copy)]
pub enum Mode {
    /// Variables survive it: right for a person.
    Interactive,
    /// The process ends, so that even a plain `nbconvert --execute` fails: right for a run that nobody watches.
    Headless,
}

impl Mode {
    fn folder(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Headless => "headless",
        }
    }
}

impl Kernel {
    /// What to put in front of `JUPYTER_PATH`.
    pub fn jupyter_path(&self, mode: Mode) -> PathBuf {
        self.folder.join(mode.folder()).join("jupyter")
    }
}

/// Builds the kernel from the current sources, unless that has been done.
pub fn build(how: Build) -> Result<Kernel> {
    let root = paths::root();
    let home = root.join("target/lab/kernel");
    fs::create_dir_all(&home).doing(format!("create {}", home.display()))?;
    let _lock = lock(&home.join("lock"), FlockArg::LockExclusive)?;
    let sources = freshness::fingerprint(&root);
    let rustc = compiler()?;
    let evcxr = path_from_env("LAB_EVCXR")?;
    let mut key =
        fingerprint_of(&[&sources, &rustc.version, &evcxr.display().to_string(), &root.display().to_string()]);
    if how == Build::Exploring && !home.join(&key).exists() {
        key = fingerprint_of(&[&key, "exploring"]);
    }
    let folder = home.join(&key);
    let mut built_in = None;
    if !folder.exists() {
        let start = Instant::now();
        if how == Build::Exploring {
            explore::prepare(&root, &rustc.version)?;
        }
        let rooms = build_library(&root, how)?;
        let part = home.join(format!("{key}.part"));
        let _ = fs::remove_dir_all(&part);
        let parts = Parts { root: &root, evcxr: &evcxr, rustc: &rustc, folder: &folder, how };
        write_kernel(&parts, &rooms, &sources, &part)
            .and_then(|()| fs::rename(&part, &folder))
            .doing(format!("write the kernel {}", folder.display()))?;
        built_in = Some(start.elapsed().as_secs_f64());
    }
    point_current_at(&home, &key).doing("point at the new kernel")?;
    prune(&home, &key);
    let held = lock(&folder.join(HELD), FlockArg::LockShared)?;
    Ok(Kernel { folder, built_in, _held: held })
}

struct Compiler {
    version: String,
    libraries: PathBuf,
}

fn compiler() -> Result<Compiler> {
    let ask = |argument: &str| {
        let output = Command::new("rustc").arg(argument).output().doing("run rustc")?;
        Ok::<_, Error>(String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    Ok(Compiler { version: ask("-vV")?, libraries: PathBuf::from(ask("--print=target-libdir")?) })
}

fn fingerprint_of(parts: &[&str]) -> String {
    freshness::fingerprint_of(parts.join("\n").into_bytes())
}

/// A kernel's file that whoever runs notebooks on it holds a lock on.
const HELD: &str = "held";

fn lock(path: &Path, how: FlockArg) -> Result<Flock<fs::File>> {
    let file = fs::File::create(path).doing(format!("open {}", path.display()))?;
    Flock::lock(file, how).map_err(|(_, error)| error).doing(format!("lock {}", path.display()))
}

/// A crate of ours, as cargo built it: where its sources lie, and which file it is. The file that cargo puts where a person
/// looks for it is that of another day, unless the last build was a plain one.
#[derive(Debug, PartialEq)]
struct Room {
    name: String,
    folder: PathBuf,
    library: PathBuf,
}

/// All rooms and their map, linked as one dynamic library.
fn build_library(root: &Path, how: Build) -> Result<Vec<Room>> {
    let json = "--message-format=json-render-diagnostics";
    let said = how.cargo(root, &["rustc", "-p", "lablib-kernel", "--release", json, "--", "-Cprefer-dynamic"])?;
    if how == Build::Exploring {
        // What plays a part in a process of its own is of the same sources. At full speed, whoever runs this has just been built.
        how.cargo(root, &["build", "--release", "-p", "lablib", "--bin", "lab"])?;
    }
    let rooms: Vec<Room> = said.iter().filter_map(|line| room_in(line, root)).collect();
    match rooms.iter().any(|room| room.name == "lablib") {
        true => Ok(rooms),
        false => Err(Error::new("build lablib for the kernel", "cargo does not say which file lablib is")),
    }
}

/// A crate of ours, where a line of cargo's tells of it.
fn room_in(line: &str, root: &Path) -> Option<Room> {
    let told: serde_json::Value = serde_json::from_str(line).ok()?;
    let folder = Path::new(told["manifest_path"].as_str()?).parent()?;
    let is_room = told["target"]["kind"][0] == "lib" && folder.starts_with(root.join("lablib"));
    let mut files = told["filenames"].as_array().filter(|_| is_room)?.iter().filter_map(|file| file.as_str());
    let library = files.find(|file| file.ends_with(".rlib")).map(PathBuf::from)?;
    Some(Room { name: told["target"]["name"].as_str()?.to_string(), folder: folder.to_path_buf(), library })
}

struct Parts<'a> {
    root: &'a Path,
    evcxr: &'a Path,
    rustc: &'a Compiler,
    /// Where the folder will lie once it is complete.
    folder: &'a Path,
    how: Build,
}

impl Parts<'_> {
    /// What cargo has built.
    fn built(&self) -> PathBuf {
        self.how.target(self.root).join("release")
    }
}

/// `rooms` are what the dynamic library was linked from; `sources` the fingerprint of what they are built from.
fn write_kernel(parts: &Parts<'_>, rooms: &[Room], sources: &str, part: &Path) -> std::io::Result<()> {
    fs::create_dir_all(part)?;
    fs::copy(parts.built().join("liblablib_kernel.so"), part.join(freshness::LIBRARY))?;
    // Cells would find it there as well, and map what the next build replaces. Linking it again takes three seconds.
    for left in ["liblablib_kernel.so", "deps/liblablib_kernel.so"] {
        fs::remove_file(parts.built().join(left))?;
    }
    // What the compiler of a cell reads about our own types, under the name by which it asks for it. The original is
    // overwritten by the next build.
    fs::create_dir_all(part.join("deps"))?;
    for room in rooms {
        fs::copy(&room.library, part.join("deps").join(room.library.file_name().unwrap_or_default()))?;
    }
    fs::write(part.join(freshness::BUILT_FROM), sources)?;
    fs::copy(parts.built().join("lab"), part.join("lab"))?;
    write_face(rooms, &part.join("face"))?;
    for mode in [Mode::Interactive, Mode::Headless] {
        let config = part.join(mode.folder()).join("config");
        fs::create_dir_all(&config)?;
        fs::write(config.join("init.evcxr"), init_script(parts, mode))?;
        let spec = part.join(mode.folder()).join("jupyter/kernels/rust");
        fs::create_dir_all(&spec)?;
        fs::write(spec.join("kernel.json"), kernel_json(parts, "Rust (system design lab)", parts.folder, mode))?;
    }
    Ok(())
}

/// Runs before a kernel's first cell.
fn init_script(parts: &Parts<'_>, mode: Mode) -> String {
    let folder = parts.folder.display();
    let flags = [
        "-Cprefer-dynamic".to_string(),
        // A cell is small: what rustc does to optimise across sixteen pieces of it takes longer than the pieces.
        "-Clto=off".to_string(),
        "-Ccodegen-units=2".to_string(),
        format!("--extern real_lablib={folder}/{}", freshness::LIBRARY),
        // The library itself once more: what the face re-exports is looked for by its own name.
        format!("-Ldependency={folder}"),
        format!("-Ldependency={folder}/deps"),
        format!("-Ldependency={}/deps", parts.built().display()),
        format!("-Clink-arg=-Wl,-rpath,{folder}"),
        format!("-Clink-arg=-Wl,-rpath,{}", parts.rustc.libraries.display()),
    ];
    let on_panic = match mode {
        Mode::Interactive => "",
        Mode::Headless => ":preserve_vars_on_panic 0\n",
    };
    format!(
        ":opt 1\n:offline 1\n{on_panic}:build_env RUSTFLAGS={}\n:dep lablib = {{ path = \"{folder}/face/lablib\" }}\n",
        flags.join(" ")
    )
}

fn kernel_json(parts: &Parts<'_>, name: &str, folder: &Path, mode: Mode) -> String {
    let lab = folder.join("lab");
    let argv = match mode {
        // A person's kernel may be started by any thread of any program, whose end is not the program's; the runner's is its main.
        Mode::Headless => serde_json::json!([lab, "tether", parts.evcxr, "--control_file", "{connection_file}"]),
        Mode::Interactive => serde_json::json!([lab, "start-kernel", "{connection_file}"]),
    };
    let spec = serde_json::json!({
        "argv": argv,
        "display_name": name,
        "language": "rust",
        "interrupt_mode": "message",
        "env": {
            "EVCXR_CONFIG_DIR": folder.join(mode.folder()).join("config"),
            // evcxr_jupyter installs itself anew over any kernel that it finds there, and would overwrite this file.
            "JUPYTER_PATH": "",
            "LAB_ROOT": parts.root,
            "LAB_EVCXR": parts.evcxr,
            "LAB_BIN": lab,
            // Whether somebody is there whom a cell may ask for a guess.
            "LAB_ASK": match mode { Mode::Interactive => "1", Mode::Headless => "" },
        },
    });
    format!("{spec:#}\n")
}

/// `lab start-kernel CONNECTION_FILE`: becomes a person's kernel, on the sources as they are now; on those that it was written
/// for, where what is there now does not compile.
pub fn start(arguments: &[String]) -> Result<ExitCode> {
    let [connection] = arguments else {
        return Err(Error::new("start a kernel", "say where its connection file is"));
    };
    let mut evcxr = Command::new(path_from_env("LAB_EVCXR")?);
    evcxr.args(["--control_file", connection]);
    // evcxr never removes what it makes there: the next kernel does. It is this process's, which becomes evcxr.
    let scratch = paths::root().join("target/lab/kernel-tmp");
    paths::sweep(&scratch);
    let scratch = scratch.join(std::process::id().to_string());
    fs::create_dir_all(&scratch).doing(format!("create {}", scratch.display()))?;
    evcxr.env("TMPDIR", scratch);
    // Held until then: from there on, whoever prunes finds it in this process's environment.
    let kernel = build(Build::Exploring);
    match &kernel {
        Ok(kernel) => {
            evcxr.env("EVCXR_CONFIG_DIR", kernel.folder.join(Mode::Interactive.folder()).join("config"));
            evcxr.env("LAB_BIN", kernel.folder.join("lab"));
        }
        Err(error) => {
            evcxr.env(freshness::DOES_NOT_COMPILE, error.to_string());
        }
    }
    Err(Error::new("start the kernel", evcxr.exec()))
}

/// The crates that the kernel's analyzer sees, a folder each: our own files, in crates that are empty for a compiler.
fn write_face(rooms: &[Room], face: &Path) -> std::io::Result<()> {
    for room in rooms {
        let (sources, folder) = (room.folder.join("src"), face.join(&room.name));
        let library = fs::read_to_string(sources.join("lib.rs"))?;
        // `workspace-hack` is there for cargo, and has nothing to show.
        if !library.lines().any(|line| line.starts_with("pub ")) {
            continue;
        }
        fs::create_dir_all(folder.join("src"))?;
        fs::write(folder.join("Cargo.toml"), face_manifest(room, rooms)?)?;
        for entry in fs::read_dir(&sources)? {
            let entry = entry?;
            if entry.file_name() != "lib.rs" && entry.file_name() != "bin" {
                symlink(entry.path(), folder.join("src").join(entry.file_name()))?;
            }
        }
        fs::write(folder.join("src/lib.rs"), if room.name == "lablib" { face_of(&library) } else { hidden(&library) })?;
    }
    Ok(())
}

/// A room's face depends on the faces of the rooms that it names, and on nothing else.
fn face_manifest(room: &Room, rooms: &[Room]) -> std::io::Result<String> {
    let manifest = fs::read_to_string(room.folder.join("Cargo.toml"))?;
    let named = |other: &&Room| manifest.lines().any(|line| line == format!("{}.workspace = true", other.name));
    let uses: String =
        rooms.iter().filter(named).map(|other| format!("{0} = {{ path = \"../{0}\" }}\n", other.name)).collect();
    Ok(format!(
        "[package]\nname = \"{}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n{uses}",
        room.name
    ))
}

/// A crate that is not there for a compiler.
fn hidden(library: &str) -> String {
    format!("#![allow(unexpected_cfgs)]\n#![cfg(rust_analyzer)]\n{library}")
}

/// lablib itself: for a compiler, what was built.
fn face_of(library: &str) -> String {
    let mut face = String::from("#![allow(unexpected_cfgs)]\n#[cfg(not(rust_analyzer))]\npub use real_lablib::*;\n");
    for line in library.lines().filter(|line| line.starts_with("pub mod ") || line.starts_with("pub use ")) {
        face.push_str(&format!("#[cfg(rust_analyzer)]\n{line}\n"));
    }
    face
}

fn point_current_at(home: &Path, key: &str) -> std::io::Result<()> {
    let part = home.join("current.part");
    let _ = fs::remove_file(&part);
    symlink(key, &part)?;
    fs::rename(&part, home.join("current"))
}

/// Removes kernels of older sources that no process uses any more.
fn prune(home: &Path, current: &str) {
    let used = environments_of_all_processes();
    // A kernel that was started from a list of Jupyter's, through `current`, does not say which one it runs.
    if used.contains(&format!("{}/current/", home.display())) {
        return;
    }
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_kernel = name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_kernel && name != current && !used.contains(&name) && !is_held(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_held(kernel: &Path) -> bool {
    fs::File::open(kernel.join(HELD)).is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err())
}

fn environments_of_all_processes() -> String {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| fs::read(process.path().join("environ")).ok())
        .map(|environment| String::from_utf8_lossy(&environment).into_owned())
        .filter(|environment| environment.contains("EVCXR_CONFIG_DIR="))
        .collect()
}

/// `--install` lists the kernel for VS Code and other Jupyters of this user, under the clone's name; `--uninstall`
/// takes it off the list.
pub fn list_or_unlist(arguments: &[String]) -> Result<ExitCode> {
    let root = paths::root();
    let clone = root.file_name().map_or_else(|| "lab".into(), |name| name.to_string_lossy().into_owned());
    let name = format!("lab-{}", paths::slug(&clone));
    let folder = user_kernels()?.join(&name);
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--install"] => {
            build(Build::FullSpeed)?;
            let (evcxr, rustc) = (path_from_env("LAB_EVCXR")?, compiler()?);
            // Through `current`, so that the entry stays right when lablib is built again.
            let current = root.join("target/lab/kernel/current");
            let parts = Parts { root: &root, evcxr: &evcxr, rustc: &rustc, folder: &current, how: Build::FullSpeed };
            let shown = format!("Rust (system design lab, {clone})");
            let spec = kernel_json(&parts, &shown, &current, Mode::Interactive);
            paths::write_whole(&folder.join("kernel.json"), spec).doing(format!("write {}", folder.display()))?;
            println!("The kernel is listed as {shown:?}. `ci/lab kernel --uninstall` takes it off the list.");
            Ok(ExitCode::SUCCESS)
        }
        ["--uninstall"] => {
            fs::remove_dir_all(&folder).doing(format!("remove {}", folder.display()))?;
            println!("{name} is off the list.");
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(Error::new("list the kernel", "say what to do").remedy("ci/lab kernel --install, or --uninstall")),
    }
}

/// Where this user's Jupyter looks for kernels.
fn user_kernels() -> Result<PathBuf> {
    let data = std::env::var_os("JUPYTER_DATA_DIR").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let share = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).or(home.map(|home| home.join(".local/share")));
        share.map(|share| share.join("jupyter"))
    });
    data.map(|data| data.join("kernels"))
        .ok_or_else(|| Error::new("list the kernel", "neither HOME nor JUPYTER_DATA_DIR is set"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_with_notebooks_left_to_run_is_not_pruned() {
        let home = std::env::temp_dir().join(format!("lab-prune-{}", std::process::id()));
        let [current, held, old] = ["0123456789abcdef", "00000000feedbeef", "00000000deadbeef"];
        for name in [current, held, old] {
            fs::create_dir_all(home.join(name)).unwrap();
        }
        let left = |home: &Path| [current, held, old].map(|name| home.join(name).exists());
        let hold = lock(&home.join(held).join(HELD), FlockArg::LockShared).unwrap();
        prune(&home, current);
        assert_eq!(left(&home), [true, true, false]);
        drop(hold);
        prune(&home, current);
        assert_eq!(left(&home), [true, false, false]);
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn cargo_tells_which_files_the_rooms_are() {
        let line = |folder: &str, kind: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"{folder}/Cargo.toml","target":{{"kind":["{kind}"],"name":"sql"}},"filenames":["/t/deps/x.rmeta","/t/deps/libsql-1f.rlib"]}}"#
            )
        };
        let room = |line: &str| room_in(line, Path::new("/clone"));
        let sql =
            Room { name: "sql".into(), folder: "/clone/lablib/sql".into(), library: "/t/deps/libsql-1f.rlib".into() };
        assert_eq!(room(&line("/clone/lablib/sql", "lib")), Some(sql));
        assert_eq!(room(&line("/clone/lablib/sql", "bin")), None);
        assert_eq!(room(&line("/clone/lablib/kernel", "dylib")), None);
        assert_eq!(room(&line("/registry/sql", "lib")), None);
        assert_eq!(room("   Compiling sql"), None);
    }

    #[test]
    fn the_face_hides_every_module_from_the_compiler() {
        let face = face_of("//! Docs with pub mod inside.\n\npub use {lab, sql};\npub mod prelude;\n");
        assert_eq!(
            face,
            "#![allow(unexpected_cfgs)]\n#[cfg(not(rust_analyzer))]\npub use real_lablib::*;\n\
             #[cfg(rust_analyzer)]\npub use {lab, sql};\n#[cfg(rust_analyzer)]\npub mod prelude;\n"
        );
    }
}
