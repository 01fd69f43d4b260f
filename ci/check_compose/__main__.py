"""Checks compose/ without a container engine: one sentence per fault, and exit code 1 if there is any.

python ci/check_compose              checks the repository
python ci/check_compose --self-test  breaks the files in memory, one fault at a time, and demands that each is found

Whether Compose takes the file is said by the schema of the Compose Specification, which check-jsonschema brings. Here
stands what no schema can know and no first `up` tells: that the files agree with each other and with the lab.
"""

import os
import re
import subprocess
import sys
import tempfile
from functools import cached_property
from pathlib import Path

import yaml
from mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[2]
COMPOSE, ENV, MAKE_ENV = "compose/compose.yaml", "compose/.env.example", "compose/make-env"
DOCKERFILE, IGNORE, NODE = "compose/Dockerfile", "compose/Dockerfile.dockerignore", "compose/redis-node.sh"
SERVICES, POM = "lablib/lab/src/service/", "ci/kafka/pom.xml"

SECRET, FROM_ENV = r"(PASSWORD|TOKEN|AUTH)", r"\$\{LAB_\w+:\?[^}]*\}"

# --- what each service keeps to -----------------------------------------------------------------------------------
# A place in a service, what a value there looks like, and what it is if it does not.
HOUSE = [
    (r"image", r":\d+\.\d+\.\d+(-[a-z0-9.]+)?(@sha256:[0-9a-f]{64})?$", "is not pinned to an exact version"),
    (r"ports\..*", rf"^127\.0\.0\.1:{FROM_ENV}:(\d+|{FROM_ENV})$", "is not 127.0.0.1:${LAB_…_PORT:?…}:PORT"),
    (r"network_mode", r"^service:", "leads around the published ports"),
    (r"depends_on\.(\d+|.*\.condition)", r"^service_healthy$", "does not wait for health"),
]

# --- what a file must say, or never -------------------------------------------------------------------------------
MUST, NEVER, UNREAD = True, False, "the lab reads another variable than .env.example sets"
SAID = [
    (COMPOSE, NEVER, r"(?<!\$)\$(?!\$|\{\w+:\?)", "a variable is ${NAME:?…}, or its loss goes unnoticed; a $ is $$"),
    (COMPOSE, NEVER, r"://\w*:[^$@/\s]+@|(requirepass|masterauth|password)[= ]+\w", "a password stands in the file"),
    (COMPOSE, NEVER, rf"(?<!RANDOM_ROOT_){SECRET}(: |=)(?!{FROM_ENV}).*", "a secret does not come from .env"),
    (ENV, NEVER, rf"^\w+{SECRET}=.+", "a secret has a value that everybody knows"),
    (ENV, NEVER, r"^(?!#|$|[A-Z0-9_]+=[\w.,:/@${}-]*$).*", "Compose and the shell may read a value differently"),
    ("compose/.gitignore", MUST, r"^\.env$", "the passwords could be committed"),
    (DOCKERFILE, NEVER, rf"\b\w+{SECRET}=", "the image holds a secret"),
    (DOCKERFILE, MUST, r"^USER (?!root|0\b)\w+\n(?!(.|\n)*^USER )", "the image runs as root"),
    (f"{SERVICES}mariadb.rs", MUST, '"LAB_MYSQL_URL"', UNREAD),
    (f"{SERVICES}redis.rs", MUST, '"LAB_REDIS_URL"', UNREAD),
    (f"{SERVICES}redis_cluster.rs", MUST, '"LAB_REDIS_CLUSTER_URL"', UNREAD),
    (f"{SERVICES}kafka.rs", MUST, '"LAB_KAFKA_URL"', UNREAD),
    ("lablib/placing/hot_tenants/src/shards.rs", MUST, '"LAB_SEARCH_URL"', UNREAD),
    (IGNORE, MUST, r"\A(#.*\n)*\*\n", "the whole folder is let into the image's build"),
]

# --- what must be the same in two places --------------------------------------------------------------------------
# File, place in it, and what must stand there, or among others there. {service[NAME]} is a variable of the service's
# environment, {service[80]} where its port 80 is published; COMMENTED_ is a line that waits behind a #.
ACCOUNT = ["USER", "PASSWORD", "DATABASE"]
SQL = "mysql://{mariadb[MARIADB_USER]}:{mariadb[MARIADB_PASSWORD]}@"
REDIS = "redis://:{redis[REDISCLI_AUTH]}@"
NODES = [f"redis-cluster-{number}" for number in range(1, 7)]
CLUSTER = ",".join(f"{REDIS}127.0.0.1:{{{node}[REDIS_PORT]}}" for node in NODES)
SHARED, INSIDE = "redis-cluster-host", "jupyter-with-servers"
CONTROLLER = "CONTROLLER://127.0.0.1:9093"
AGREEMENT = [
    (ENV, "LAB_MYSQL_URL", SQL + "127.0.0.1:{mariadb[3306]}/{mariadb[MARIADB_DATABASE]}"),
    (ENV, "COMMENTED_LAB_MYSQL_URL", SQL + "127.0.0.1:{mysql[3306]}/{mariadb[MARIADB_DATABASE]}"),
    (COMPOSE, f"{INSIDE}.environment.LAB_MYSQL_URL", SQL + "mariadb:3306/{mariadb[MARIADB_DATABASE]}"),
    *((COMPOSE, f"mysql.environment.MYSQL_{key}", f"{{mariadb[MARIADB_{key}]}}") for key in ACCOUNT),
    # Redis. A node is named by the same port inside, outside, in the list of the whole cluster and in the URL.
    (ENV, "LAB_REDIS_URL", REDIS + "127.0.0.1:{redis[6379]}"),
    (COMPOSE, f"{INSIDE}.environment.LAB_REDIS_URL", REDIS + "redis:{redis[REDIS_PORT]}"),
    (COMPOSE, "redis.environment.REDIS_PORT", "6379"),
    (ENV, "LAB_REDIS_CLUSTER_URL", CLUSTER),
    (COMPOSE, f"{INSIDE}.environment.LAB_REDIS_CLUSTER_URL", CLUSTER),
    (COMPOSE, "redis-cluster.environment.REDIS_PORTS", " ".join(f"{{{node}[REDIS_PORT]}}" for node in NODES)),
    *((COMPOSE, f"{SHARED}.ports", f"127.0.0.1:{{{node}[REDIS_PORT]}}:{{{node}[REDIS_PORT]}}") for node in NODES),
    # Only by the script does a server get its settings and its password.
    *((COMPOSE, f"{name}.entrypoint", "/lab/redis-node.sh") for name in ("redis", *NODES)),
    *((COMPOSE, f"{name}.environment.REDISCLI_AUTH", "{redis[REDISCLI_AUTH]}") for name in ("redis-cluster", *NODES)),
    # Redirects lead to 127.0.0.1, which names a node only in the network that the nodes share.
    *((COMPOSE, f"{name}.network_mode", f"service:{SHARED}") for name in ("redis-cluster", INSIDE, *NODES)),
    # Kafka sends a client to the advertised address of the listener that it came in by.
    (COMPOSE, "kafka.image", "apache/kafka:{lab[kafka]}"),
    (ENV, "LAB_KAFKA_URL", "127.0.0.1:{kafka[9092]}"),
    (COMPOSE, f"{INSIDE}.environment.LAB_KAFKA_URL", "kafka:9094"),
    (COMPOSE, "kafka.environment.KAFKA_LISTENERS", f"HOST://0.0.0.0:9092,INSIDE://0.0.0.0:9094,{CONTROLLER}"),
    (COMPOSE, "kafka.environment.KAFKA_ADVERTISED_LISTENERS", "HOST://127.0.0.1:{kafka[9092]},INSIDE://kafka:9094"),
    (COMPOSE, "kafka.environment.KAFKA_INTER_BROKER_LISTENER_NAME", "INSIDE"),
    (COMPOSE, "kafka.volumes", "kafka:{kafka[KAFKA_LOG_DIRS]}"),
    (ENV, "COMMENTED_LAB_SEARCH_URL", "http://127.0.0.1:{opensearch[9200]}"),
    # The image. Behind the container's own loopback a published port would lead nowhere.
    (DOCKERFILE, "rust", "{lab[rust]}"),
    (DOCKERFILE, "LAB_JUPYTER_IP", "0.0.0.0"),
    (DOCKERFILE, "LAB_JUPYTER_PORT", "8888"),
    (ENV, "LAB_JUPYTER_PUBLISHED_PORT", "{jupyter[8888]}"),
    (ENV, "LAB_JUPYTER_WITH_SERVERS_PUBLISHED_PORT", f"{{{SHARED}[8888]}}"),
]
# What the lab needs in its image, where the repository has it.
PARTS = ["Cargo.toml", "Cargo.lock", "ci", "data", "lablib", "notebooks", ".cargo", "rust-toolchain.toml"]

# --- where a container's settings are not the lab's own -----------------------------------------------------------
# MySQL's name for it, or None where MySQL has no such thing.
IN_MYSQL = {
    "log_slave_updates": "log_replica_updates",
    "slave_net_timeout": "replica_net_timeout",
    "innodb_log_file_size": "innodb_redo_log_capacity",
    **dict.fromkeys(["gtid_strict_mode", "loose_innodb_snapshot_isolation", "query_cache_size", "query_cache_type"]),
}
# The lab reads MySQL's row locks from the performance schema.
ONLY_MYSQL = {"gtid_mode": "ON", "enforce_gtid_consistency": "ON", "performance_schema": "ON"}
# Not compared: where sockets lie is the image's business; Kafka has three listeners instead of two, and a volume.
SQL_ELSEWHERE = {"bind_address", "socket"}
KAFKA_ELSEWHERE = """LISTENERS ADVERTISED_LISTENERS LISTENER_SECURITY_PROTOCOL_MAP INTER_BROKER_LISTENER_NAME LOG_DIRS
    CONTROLLER_QUORUM_VOTERS HEAP_OPTS JVM_PERFORMANCE_OPTS"""


class Files:
    """The repository's files, some of them perhaps replaced."""

    def __init__(self, replaced=None):
        self.replaced = replaced or {}

    def text(self, path):
        return self.replaced[path] if path in self.replaced else (ROOT / path).read_text()

    @cached_property
    def env(self):
        """What the shell makes of .env.example, secrets filled in and the lines behind a # as COMMENTED_NAME."""
        text = re.sub(r"^(\w+_(?:PASSWORD|TOKEN))=$", r"\1=secret_\1", self.text(ENV), flags=re.M)
        text = re.sub(r"^#(?=LAB_\w+_URL=)", "COMMENTED_", text, flags=re.M)
        shell = ["env", "-i", "sh", "-c", f"set -aeu\n{text}\nenv -0"]
        said = subprocess.run(shell, capture_output=True, text=True)
        if said.returncode:
            raise ValueError(f"{ENV}: the shell says {said.stderr.strip()}")
        return dict(entry.split("=", 1) for entry in said.stdout.split("\0") if "=" in entry)

    @cached_property
    def raw(self):
        """compose.yaml as it stands: "kafka.ports.0" and its value, for everything in every service."""
        # By libyaml where it is there: the self-test reads the file a hundred times.
        content = yaml.load(self.text(COMPOSE), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return dict(leaves(content.get("services", {})))

    @cached_property
    def services(self):
        """The same as Compose passes it on, variables filled in."""
        used = re.compile(r"\$\{(\w+):\?[^}]*\}")
        return {path: used.sub(lambda name: self.env.get(name[1], ""), text) for path, text in self.raw.items()}

    def below(self, path):
        """What stands below a place, by the rest of its path."""
        return {key[len(path) + 1 :]: value for key, value in self.services.items() if key.startswith(f"{path}.")}

    def settings(self, name):
        """The lab's own, from its Rust source."""
        block = re.search(r"const SETTINGS:[^=]*= &\[(.*?)\n\];", self.text(f"{SERVICES}{name}.rs"), re.S)
        pairs = re.findall(r'\("([^"]+)", "((?:[^"\\]|\\.)*)"\)', block[1] if block else "")
        return {name: value.replace('\\"', '"') for name, value in pairs}


def leaves(value, path=""):
    if not isinstance(value, (dict, list)):
        yield path, str(value)
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(inner, f"{path}.{key}".lstrip("."))


# --- the checks: each yields a sentence per fault -----------------------------------------------------------------


def schema(files):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    command += ["--default-filetype", "yaml", "-"]
    said = subprocess.run(command, input=files.text(COMPOSE), capture_output=True, text=True)
    if said.returncode:
        errors = re.findall(r"^  -::\$(?:\.|: )?(.*)", said.stdout, re.M)
        for error in errors or [" ".join((said.stdout + said.stderr).split())]:
            yield f"{COMPOSE}: {error}"


def house(files):
    for path, value in files.raw.items():
        for place, pattern, reason in HOUSE:
            if re.fullmatch(place, path.partition(".")[2]) and not re.search(pattern, value):
                yield f"{COMPOSE}: {path}: {value} {reason}"


def said(files):
    for path, wanted, pattern, sentence in SAID:
        found = re.search(pattern, files.text(path), re.M)
        if bool(found) != wanted:
            yield f"{path}: {sentence}" + (f": {found[0]}" if found else "")


def variables(files):
    for name in sorted(set(re.findall(r"\$\{(\w+)", files.text(COMPOSE))) - set(files.env)):
        yield f"{COMPOSE} uses {name}, which {ENV} does not set"
    profiles = {value for path, value in files.services.items() if ".profiles." in path}
    for profile in sorted(set(files.env.get("COMPOSE_PROFILES", "").split(",")) - profiles):
        yield f"{ENV}: COMPOSE_PROFILES names {profile!r}, which is no profile in {COMPOSE}"


def make_env(files):
    """Runs it in a copy: every secret filled in, different, private; an existing file left alone."""
    with tempfile.TemporaryDirectory() as folder:
        for path in (MAKE_ENV, ENV):
            Path(folder, Path(path).name).write_text(files.text(path))
        run = ["sh", f"{folder}/make-env"]
        first = subprocess.run(run, capture_output=True, text=True)
        made = Path(folder, ".env")
        if first.returncode or not made.is_file():
            yield f"{MAKE_ENV} failed: {first.stderr.strip()}"
            return
        secrets = re.findall(r"^\w+_(?:PASSWORD|TOKEN)=(.*)", made.read_text(), re.M)
        if len(set(secrets)) < 3 or not all(re.fullmatch("[A-Za-z0-9]{24,}", secret) for secret in secrets):
            yield f"{MAKE_ENV} does not give every secret a value of its own"
        if made.stat().st_mode & 0o077:
            yield f"{MAKE_ENV} lets others read the passwords"
        if subprocess.run(run, capture_output=True).returncode == 0:
            yield f"{MAKE_ENV} overwrites passwords that volumes were created with"


def agreement(files):
    dockerfile = files.text(DOCKERFILE)
    image = dict(re.findall(r"\b(LAB_\w+)=(\S+)", dockerfile))
    image |= re.findall(r"^FROM (rust):(\d+\.\d+)\.\d+-", dockerfile, re.M)
    places = {ENV: files.env, COMPOSE: files.services, DOCKERFILE: image}
    versions = re.findall("<(kafka).version>(.*)</kafka.version>", files.text(POM))
    versions += re.findall('^(rust)-version = "(.*)"', files.text("Cargo.toml"), re.M)
    known = {"lab": dict(versions)}
    for name in {path.split(".")[0] for path in files.services}:
        ports = re.findall(r":(\d+):(\d+)$", "\n".join(files.below(f"{name}.ports").values()), re.M)
        known[name] = files.below(f"{name}.environment") | {int(inside): outside for outside, inside in ports}
    for file, place, template in AGREEMENT:
        found = [value for path, value in places[file].items() if re.fullmatch(rf"{place}(\.\d+)?", path)]
        try:
            want = template.format_map(known)
        except KeyError as error:
            yield f"{file}: {place} cannot be {template}: there is no {error}"
            continue
        if want not in found:
            yield f"{file}: {place} is {', '.join(found) or 'missing'}, and {want} is needed"


def settings(files):
    sql = {**files.settings("mariadb"), "server_id": "1"}
    mysql = {IN_MYSQL.get(name, name): value for name, value in sql.items()} | ONLY_MYSQL
    mysql.pop(None, None)
    mysql["sql_mode"] = mysql.get("sql_mode", "").replace("NO_AUTO_CREATE_USER,", "")
    for name, want in (("mariadb", sql), ("mysql", mysql)):
        have = dict(option.removeprefix("--").partition("=")[::2] for option in files.below(f"{name}.command").values())
        yield from compare(f"{COMPOSE}: {name}", have, want, SQL_ELSEWHERE)

    kafka = {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in files.settings("kafka").items()}
    have = {name: value for name, value in files.below("kafka.environment").items() if name.startswith("KAFKA_")}
    yield from compare(f"{COMPOSE}: kafka", have, kafka, {f"KAFKA_{name}" for name in KAFKA_ELSEWHERE.split()})

    redis = {**files.settings("redis"), "bind": "0.0.0.0", "port": "1", "requirepass": "key", "masterauth": "key"}
    bus = {"cluster-enabled": "yes", "cluster-port": "2", "cluster-announce-ip": "127.0.0.1"}
    node = {**redis, **bus, "cluster-config-file": "nodes.conf", **files.settings("redis_cluster")}
    for name, more, want in (("a server", {}, redis), ("a node", {"REDIS_BUS_PORT": "2"}, node)):
        told = {"REDIS_PORT": "1", "REDISCLI_AUTH": "key", **more}
        yield from compare(f"{NODE}: {name}", redis_configuration(files, told), want)


def redis_configuration(files, environment):
    """What the script tells redis-server, found out by putting `cat` in its place."""
    script = files.text(NODE).replace("exec redis-server - <<", "exec cat <<")
    if "redis-server" in re.sub("#.*", "", script):
        return {}
    environment = {**environment, "PATH": os.environ["PATH"]}
    told = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True)
    return dict(line.split(" ", 1) for line in told.stdout.splitlines() if " " in line)


def compare(where, have, want, elsewhere=frozenset()):
    for name in sorted((have.keys() | want.keys()) - elsewhere):
        if have.get(name) != want.get(name):
            yield f"{where} has {name} = {have.get(name)}, and the lab's own server has {want.get(name)}"


def image(files):
    copies = re.findall(r"^COPY (?!.*--from=)(?:--\S+ )*(.+) \S+$", files.text(DOCKERFILE), re.M)
    copied = {source for sources in copies for source in sources.split()}
    let_in = {line[1:] for line in files.text(IGNORE).splitlines() if line.startswith("!")}
    for source in sorted(copied ^ let_in):
        yield f"{source} is either let into the image's build by {IGNORE} or copied by {DOCKERFILE}, and not both"
    for source in sorted(copied):
        if not (ROOT / source).exists():
            yield f"{DOCKERFILE}: COPY {source}: there is no such thing in the repository"
    for part in PARTS:
        if (ROOT / part).exists() and part not in copied:
            yield f"{DOCKERFILE} does not copy {part}, which the lab needs"


CHECKS = [house, said, variables, agreement, image, settings, make_env]


def faults_of(files, checks):
    try:
        for check in checks:
            yield from check(files)
    except (OSError, ValueError, yaml.YAMLError) as error:
        yield " ".join(str(error).split())


def self_test():
    """Each mutant breaks one file, and must be found for its reason; each row of the tables must have found one."""
    missed, heard = 0, ""
    for file, (old, new, reason) in ((file, mutant) for file, mutants in MUTANTS.items() for mutant in mutants):
        text = (ROOT / file).read_text()
        # The schema comes last and only if need be: it takes a second.
        faults = faults_of(Files({file: text.replace(old, new, 1)}), [*CHECKS, schema])
        fault = next((fault for fault in faults if reason in fault), None)
        heard += f"{fault}\n"
        if not fault:
            missed += 1
            print(f"{file}: {old!r} → {new!r} is not found because {reason!r}")
    # A node stands for all six.
    heard = re.sub(r"-\d", "-N", heard)
    rows = {re.sub(r"-\d", "-N", f"{file}: {place} ") for file, place, _ in AGREEMENT}
    for row in sorted(rows.union(sentence for *_, sentence in SAID + HOUSE)):
        if row not in heard:
            missed += 1
            print(f"no mutant shows that this is found: {row}")
    print(f"compose/: {sum(map(len, MUTANTS.values()))} known-bad changes, {missed} missed")
    return 1 if missed else 0


def main():
    if sys.argv[1:] not in ([], ["--self-test"]):
        print(__doc__, file=sys.stderr)
        return 2
    files = Files()
    faults = list(faults_of(files, [schema])) or list(faults_of(files, CHECKS))
    print(*faults or ["compose/: no faults"], sep="\n")
    return 1 if faults else self_test() if sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
