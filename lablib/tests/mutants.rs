//! Every way in which a notebook can fail, as the passing fixture plus one bad cell: the run must notice each, and say why.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// (name, the bad cell in front of the verdict, what the run must report)
const MUTANTS: &[(&str, &str, &str)] = &[
    ("panic", "panic!(\"boom\")", "code cell 4 panicked: boom"),
    (
        "assert",
        "assert_eq!(1 + 1, 3, \"arithmetic\");",
        "code cell 4 panicked: assertion `left == right` failed: arithmetic",
    ),
    (
        "unwrap",
        "let number: i32 = \"x\".parse().unwrap();",
        "code cell 4 panicked: called `Result::unwrap()` on an `Err` value",
    ),
    ("question-mark", "let number = \"x\".parse::<i32>()?;", "code cell 4 has a `?` at its top level"),
    ("thread-panic", "let _ = std::thread::spawn(|| panic!(\"unseen\")).join();", "panicked: unseen"),
    (
        "late-panic",
        "std::thread::spawn(|| { std::thread::sleep(Duration::from_millis(30)); panic!(\"late\") });\nlet quiet = 1;",
        "panicked: late",
    ),
    ("abort", "std::process::abort();", "code cell 4 ended its process"),
    ("exit", "std::process::exit(0);", "code cell 4 ended its process"),
    (
        "cell-killed",
        "let _ = std::process::Command::new(\"kill\").args([\"-9\", &std::process::id().to_string()]).status();\nloop {}",
        "code cell 4 ended its process",
    ),
    (
        "kernel-killed",
        "let _ = std::process::Command::new(\"kill\").args([\"-9\", &std::os::unix::process::parent_id().to_string()]).status();\nloop {}",
        "the kernel died",
    ),
    ("compile-error", "let number: i32 = \"text\";", "code cell 4 failed: "),
    (
        "claim",
        "lab.claim(\"one and one is three\").predicted(two).measured(1 + 1).exactly(3);",
        "claim does not hold: ✗ one and one is three: predicted 2, measured 2, bound exactly 3",
    ),
    ("server-unnamed", "let redis = lab::redis();", "its metadata (lab.servers) names none, and it used redis"),
    (
        "nothing-measured",
        "lab.claim(\"an empty claim\").measured(Samples::default()).at_least(0.0);",
        "claim does not hold: ✗ an empty claim: measured nothing",
    ),
];

fn fixture() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel/passing.ipynb");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Writes the fixture, with `bad` in front of its verdict, or without its verdict.
fn write(folder: &Path, name: &str, bad: Option<&str>) -> PathBuf {
    let mut notebook = fixture();
    let cells = notebook["cells"].as_array_mut().unwrap();
    match bad {
        Some(code) if !code.is_empty() => {
            let cell = json!({"cell_type": "code", "id": "bad", "metadata": {}, "execution_count": null, "outputs": [], "source": code});
            cells.insert(cells.len() - 1, cell);
        }
        Some(_) => {}
        None => drop(cells.pop()),
    }
    let path = folder.join(format!("{name}.ipynb"));
    std::fs::write(&path, notebook.to_string()).unwrap();
    path
}

/// Runs notebooks as `ci/lab report` does; returns what it printed, and whether it called all of them good.
fn report(out: &Path, notebooks: &[PathBuf]) -> (String, bool) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_lab")).arg("report").args(notebooks).env("LAB_OUT", out).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (String::from_utf8_lossy(&output.stdout).into_owned() + &errors, output.status.success())
}

#[test]
#[ignore = "needs the kernel: ci/lab test"]
fn each_hidden_failure_is_reported_with_its_reason() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    // The good one first: its verdict is what a mutant without one must not be credited with.
    let mut notebooks = vec![write(&folder, "good", Some(""))];
    notebooks.extend(MUTANTS.iter().map(|(name, code, _)| write(&folder, name, Some(code))));
    notebooks.push(write(&folder, "no-verdict", None));
    let (printed, all_good) = report(&folder, &notebooks);
    assert!(!all_good, "{printed}");
    let section = |name: &str| {
        let start = printed.lines().skip_while(|line| !line.contains(&format!(" {name}: ")));
        start
            .enumerate()
            .take_while(|(index, line)| *index == 0 || line.starts_with(' '))
            .map(|(_, line)| line)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert!(section("good").starts_with("✓ good: ") && section("good").contains("1 claims"), "{printed}");
    for (name, _, reason) in
        MUTANTS.iter().chain([&("no-verdict", "", "no verdict: the run ended without writing one")])
    {
        assert!(section(name).starts_with("✗ "), "{name}: {printed}");
        assert!(section(name).contains(reason), "{name} should say {reason:?}:\n{}\nof\n{printed}", section(name));
    }
    let page = std::fs::read_to_string(folder.join("reports/good.html")).unwrap();
    assert!(page.contains("The first of two charts") && page.contains("The second of two charts"));
    let index = std::fs::read_to_string(folder.join("reports/index.html")).unwrap();
    assert!(index.contains("code cell 4 panicked: boom"), "a notebook that crashed is in the index, with its reason");
}

/// A page is for people who never run anything, on a train.
#[test]
#[ignore = "needs the kernel: ci/lab test"]
fn a_page_loads_nothing_from_elsewhere_and_leads_nowhere_in_vain() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("offline");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let (printed, good) = report(&folder, &[write(&folder, "good", Some(""))]);
    assert!(good, "{printed}");
    for file in ["good.html", "index.html"] {
        let page = std::fs::read_to_string(folder.join("reports").join(file)).unwrap();
        for attribute in ["src=\"", "src='", "<link ", "@import", "import(", "url(http", "url(//"] {
            for (at, _) in page.match_indices(attribute) {
                let rest: String = page[at..].chars().take(60).collect();
                assert!(rest.contains("data:"), "{file} loads {rest}");
            }
        }
    }
    let page = std::fs::read_to_string(folder.join("reports/good.html")).unwrap();
    for there in [
        "<title>A notebook that passes · System design lab</title>",
        "<a class=\"skip\" href=\"#main\">",
        "<h2 id=\"1.-What-is-one-and-one?\">1. <em>What</em> is one and one?</h2>",
        "<li><a href=\"#1.-What-is-one-and-one?\">1. What is one and one?</a></li>",
        "<a href=\"code/lab.html#claim.rs\">the code</a>",
        "<a data-href=\"00-tour.html\">the tour</a>",
        "<summary>✓ 1 claim holds</summary><p class=\"lab-claim holds\" title=\"one and one is two\">✓ one and one is two: predicted 2",
        "<strong>Two</strong>, as <a href=\"#1.-What-is-one-and-one?\">counted</a>. Always.",
        "<details class=\"result\"><summary><span>Show what happened</span>",
        "<a href=\"#01-the-first-of-two-charts\">Where this chart stands</a>",
        "<a href=\"fixture/02-the-second-of-two-charts.csv\">Data (CSV)</a>",
    ] {
        assert!(page.contains(there), "{there}");
    }
    let once = [
        "<h1",
        "id=\"01-the-first-of-two-charts\"",
        "as <a href=\"#1.-What",
        "@font-face{font-family:Inter;font-weight:400",
    ];
    assert_eq!(once.map(|what| page.matches(what).count()), [1; 4]);
    let index = std::fs::read_to_string(folder.join("reports/index.html")).unwrap();
    assert!(
        index
            .contains("<p><strong>Two</strong>, as <a href=\"good.html#1.-What-is-one-and-one?\">counted</a>.</p><svg")
    );
    assert!(!page.contains('¶') && !page.contains("tabindex"));
    let listing = std::fs::read_to_string(folder.join("reports/code/lab.html")).unwrap();
    assert!(listing.contains("<h2 id=\"claim.rs\">") && listing.contains("<h2 id=\"chart/bars.rs\">"));
    for (at, _) in page.match_indices(" href=\"") {
        let target = page[at + " href=\"".len()..].split('"').next().unwrap();
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let there = match file {
            "" => page.contains(&format!(" id=\"{anchor}\"")),
            file => folder.join("reports").join(file).exists(),
        };
        assert!(there, "{target} leads nowhere");
    }
    for extension in ["svg", "csv", "png"] {
        let kept = std::fs::read_dir(folder.join("reports/fixture")).unwrap().flatten();
        assert_eq!(kept.filter(|file| file.path().extension().is_some_and(|found| found == extension)).count(), 2);
    }
}

/// The runner, the kernel, the cell's process, the guardian and the server: a chain that must not outlive its first link.
#[test]
#[ignore = "needs the kernel: ci/lab test"]
fn a_report_that_is_killed_leaves_no_process() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("killed");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let pids = folder.join("pids");
    let code = format!(
        "let redis = lab::redis();\nlet me = std::process::id();\n\
         let pids = [me, std::os::unix::process::parent_id(), redis.pid().unwrap_or(0)];\n\
         std::fs::write({:?}, format!(\"{{pids:?}}\")).ok();\nloop {{ std::hint::spin_loop() }}",
        pids.display().to_string()
    );
    let notebook = write(&folder, "endless", Some(&code));
    let mut report = Command::new(env!("CARGO_BIN_EXE_lab"))
        .arg("report")
        .arg(notebook)
        .env("LAB_OUT", &folder)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let within = |seconds: u64, done: &dyn Fn() -> bool| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
        while !done() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        done()
    };
    let written = within(120, &|| std::fs::read_to_string(&pids).is_ok_and(|text| text.ends_with(']')));
    report.kill().unwrap();
    report.wait().unwrap();
    assert!(written, "the endless cell never ran");
    let listed = std::fs::read_to_string(&pids).unwrap();
    let listed: Vec<u32> = listed.trim_matches(['[', ']']).split(", ").map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(listed.len(), 3);
    let alive = |pid: &u32| Path::new(&format!("/proc/{pid}")).exists();
    assert!(within(20, &|| !listed.iter().any(alive)), "still there: {listed:?}");
}

/// After a minute, a kernel and all cells it would be as true, and of less use.
#[test]
fn what_a_run_cannot_use_is_said_before_it_starts() {
    let cases = [
        ("LAB_SCALE", "huge", "could not read LAB_SCALE: \"huge\" is no scale"),
        ("LAB_SET", "ages", "could not set the knobs: \"ages\" sets nothing"),
        ("LAB_SET", "nothing=1", "the notebook has no knob \"nothing\""),
        ("LAB_SEED", "abc", "could not read LAB_SEED: \"abc\" is no seed"),
        ("LAB_MYSQL_URL", "not an address", "LAB_MYSQL_URL"),
        ("LAB_MYSQL_URL", "mysql://nobody:x@127.0.0.1:1/lab", "127.0.0.1:1"),
        ("LAB_REDIS_URL", "redis://127.0.0.1:1", "127.0.0.1:1"),
        ("LAB_REDIS_CLUSTER_URL", "redis://127.0.0.1:1,redis://127.0.0.1:1", "LAB_REDIS_CLUSTER_URL"),
        ("LAB_KAFKA_URL", "127.0.0.1:1", "LAB_KAFKA_URL"),
        ("LAB_SEARCH_URL", "ftp://127.0.0.1", "could not read LAB_SEARCH_URL: it is no http URL"),
        ("LAB_SEARCH_URL", "http://127.0.0.1:1", "could not reach the search server (http://127.0.0.1:1)"),
    ];
    for (variable, value, why) in cases {
        let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"));
        let output = lab.args(["report", "00"]).env(variable, value).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{variable}={value}: {output:?}");
        assert!(said.contains(why) && said.trim().lines().count() == 1, "{variable}={value}: {said}");
    }
}

#[test]
fn an_unknown_notebook_is_one_sentence() {
    let (printed, good) = report(Path::new(env!("CARGO_TARGET_TMPDIR")), &[PathBuf::from("99-nothing")]);
    assert!(!good);
    assert!(printed.contains("could not find the notebook: there is no \"99-nothing\"; there is "), "{printed}");
    assert_eq!(printed.trim().lines().count(), 1, "{printed}");
}
