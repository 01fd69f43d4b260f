"""Whether compose/ agrees with the rest: the image with the repository, URLs with servers, settings with lablib's."""

import fnmatch
import os
import re
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from files import COMPOSE, DOCKERFILE, ENV, IGNORE, KAFKA_POM, NODE, ROOT, SECRET, SERVICES, resolve


def run(check):
    for part in (dockerfile, jupyter, urls, search, mysql_settings, redis_settings, kafka_settings):
        part(check)


# --- the image ------------------------------------------------------------------------------------------------


def dockerfile(check):
    lines = [line for line in check.text(DOCKERFILE).splitlines() if not line.lstrip().startswith("#")]
    steps = [step.strip().split(None, 1) for step in "\n".join(lines).replace("\\\n", " ").splitlines() if step.strip()]
    check.image_env, copied, user, workdir = {}, [], "root", "/"
    rust = re.search(r'^rust-version = "(.*)"', check.text("Cargo.toml"), re.M)
    for word, rest in ((step[0].upper(), step[1] if len(step) > 1 else "") for step in steps):
        if word == "FROM" and not re.fullmatch(r"rust:\d+\.\d+\.\d+-[a-z]+(@sha256:[0-9a-f]{64})?", rest):
            check.fault(f"{DOCKERFILE}: FROM {rest} is not pinned to an exact version of Rust")
        elif word == "FROM" and rust and not rest.startswith(f"rust:{rust[1]}."):
            check.fault(f"{DOCKERFILE}: FROM {rest} is not the Rust {rust[1]} of Cargo.toml")
        elif word == "ADD":
            check.fault(
                f"{DOCKERFILE}: ADD {rest}: what comes from a network comes pinned, by ci/lab; use COPY for files"
            )
        elif word == "RUN" and re.search(r"(curl|wget)\b[^&;]*\|\s*(ba)?sh", rest):
            check.fault(f"{DOCKERFILE}: a RUN pipes a download into a shell")
        elif word == "COPY" and "--from=" not in rest:
            copied += [part for part in rest.split()[:-1] if not part.startswith("--")]
        elif word == "USER":
            user = rest
        elif word == "WORKDIR":
            workdir = rest
        elif word == "ENV":
            check.image_env.update(re.findall(r"(\w+)=(\S+)", rest))
        elif word == "ENTRYPOINT":
            program = re.match(r'\["([^"]+)"', rest)
            inside = os.path.relpath(program[1], workdir) if program else rest
            if not os.access(ROOT / inside, os.X_OK):
                check.fault(f"{DOCKERFILE}: ENTRYPOINT {rest} is no program that was copied")
    said = [" ".join(step) for step in steps]
    for needed in ('ENTRYPOINT ["/lab/ci/lab"]', 'CMD ["open"]'):
        if needed not in said:
            check.fault(f"{DOCKERFILE} lacks {needed}, with which a container opens JupyterLab")
    if sum(step.startswith("RUN ci/lab setup") for step in said) != 2:
        check.fault(f"{DOCKERFILE} must run `ci/lab setup` as root and again as the user")
    if not any(step.startswith("RUN ci/lab setup") and f"chown -R {user}:{user} {workdir}" in step for step in said):
        check.fault(f"{DOCKERFILE} does not hand what set-up made over to {user} in the same step")
    if user in ("root", "0"):
        check.fault(f"{DOCKERFILE}: the image runs as root")
    for name in check.image_env:
        if SECRET.search(name):
            check.fault(f"{DOCKERFILE}: ENV {name} puts a secret into the image")
    for source in copied:
        if not (ROOT / source).exists():
            check.fault(f"{DOCKERFILE}: COPY {source}: there is no such thing in the repository")
        elif ignored(check, source):
            check.fault(f"{IGNORE} keeps {source} out, which {DOCKERFILE} copies")
    for part in ("Cargo.lock", "ci", "data", "lablib", "notebooks", ".cargo", "rust-toolchain.toml", "rust-toolchain"):
        there = any((ROOT / part).iterdir()) if (ROOT / part).is_dir() else (ROOT / part).is_file()
        if there and part not in copied:
            check.fault(f"{DOCKERFILE} does not copy {part}, which the lab needs")
    for private in ("compose/.env", "target/release/lab", ".git/config"):
        if not ignored(check, private):
            check.fault(f"{IGNORE} lets {private} into the image's build")


def ignored(check, path):
    """As BuildKit decides it: the last pattern that matches the path or a folder above it."""
    out = False
    parents = ["/".join(path.split("/")[: depth + 1]) for depth in range(path.count("/") + 1)]
    for pattern in check.text(IGNORE).splitlines():
        pattern = pattern.strip()
        if pattern and not pattern.startswith("#"):
            bare = pattern.removeprefix("!").removeprefix("/")
            tail = bare.removeprefix("**/")
            hit = any(
                fnmatch.fnmatchcase(parent, bare) if tail == bare else fnmatch.fnmatchcase(parent.split("/")[-1], tail)
                for parent in parents
            )
            out = not pattern.startswith("!") if hit else out
    return out


def jupyter(check):
    inside = int(check.image_env.get("LAB_JUPYTER_PORT", 0))
    if check.image_env.get("LAB_JUPYTER_IP") != "0.0.0.0":
        check.fault(f"{DOCKERFILE}: LAB_JUPYTER_IP must be 0.0.0.0, or a published port leads nowhere")
    for name, service in check.services.items():
        if "build" not in service:
            continue
        build = service["build"]
        if (ROOT / "compose" / build["context"]).resolve() != ROOT or build.get("dockerfile") != DOCKERFILE:
            check.fault(f"{COMPOSE}: {name} is not built from {DOCKERFILE} with the repository's root as its context")
        owner = service.get("network_mode", name).removeprefix("service:")
        if inside not in check.published(owner):
            check.fault(f"{COMPOSE}: {owner} does not publish {inside}, where {name}'s JupyterLab listens")
        if f"127.0.0.1:{inside}/" not in " ".join(service["healthcheck"]["test"]):
            check.fault(f"{COMPOSE}: {name}'s health check does not ask port {inside}")
        if "LAB_JUPYTER_TOKEN" not in service.get("environment", {}):
            check.fault(f"{COMPOSE}: {name} has no LAB_JUPYTER_TOKEN")


# --- the URLs -------------------------------------------------------------------------------------------------


def agrees(check, where, text, expected):
    parts = urlsplit(text if "://" in text else f"kafka://{text}")
    try:
        found = (
            parts.scheme,
            parts.username or "",
            parts.password or "",
            parts.hostname,
            parts.port,
            parts.path.strip("/"),
        )
    except ValueError as error:
        return check.fault(f"{where} is no URL: {error}")
    for part, have, want in zip(
        ("scheme", "user", "password", "host", "port", "database"), found, expected, strict=True
    ):
        if have not in (want if isinstance(want, (set, list)) else [want]):
            check.fault(f"{where} has the {part} {have!r}, and the server has {want!r}")


def urls(check):
    services = check.services
    sql, redis = {}, services.get("redis", {}).get("environment", {})
    for name, prefix in (("mariadb", "MARIADB"), ("mysql", "MYSQL")):
        environment = services.get(name, {}).get("environment", {})
        sql[name] = tuple(environment.get(f"{prefix}_{key}", "") for key in ("USER", "PASSWORD", "DATABASE"))
    nodes = {
        name: service["environment"]
        for name, service in services.items()
        if "REDIS_BUS_PORT" in service.get("environment", {})
    }
    kafka = services.get("kafka", {}).get("environment", {})
    advertised = dict(re.findall(r"(\w+)://([^,]+)", kafka.get("KAFKA_ADVERTISED_LISTENERS", "")))
    listeners = {
        name: int(port) for name, port in re.findall(r"(\w+)://[\d.]+:(\d+)", kafka.get("KAFKA_LISTENERS", ""))
    }
    for name, service in services.items():
        script = "redis-cluster" if name == "redis-cluster" else "redis-node"
        if name == "redis" or name in nodes or name == "redis-cluster":
            environment = service.get("environment", {})
            if service.get("entrypoint") != [f"/lab/{script}.sh"]:
                return check.fault(
                    f"{COMPOSE}: {name} does not start with {script}.sh, so without the lab's settings and password"
                )
            for needed in ("REDISCLI_AUTH", "REDIS_PORTS" if name == "redis-cluster" else "REDIS_PORT"):
                if not environment.get(needed):
                    return check.fault(f"{COMPOSE}: {name} has no {needed}")
            if environment["REDISCLI_AUTH"] != redis.get("REDISCLI_AUTH"):
                check.fault(f"{COMPOSE}: {name} has another password than redis")
    if not (sql["mariadb"][0] and sql["mysql"][0] and redis and nodes and advertised and listeners):
        return check.fault(f"{COMPOSE} lacks one of mariadb, mysql, redis, the cluster's nodes and kafka")

    published = {check.published(name).get(3306) for name in sql}
    user, password, database = sql["mariadb"]
    if sql["mysql"] != sql["mariadb"]:
        check.fault(f"{COMPOSE}: mariadb and mysql differ in user, password or database, so one URL cannot suit both")
    agrees(
        check,
        f"{ENV}: LAB_MYSQL_URL",
        check.env.get("LAB_MYSQL_URL", ""),
        ("mysql", user, password, "127.0.0.1", published, database),
    )
    for line in re.findall(r"^#LAB_MYSQL_URL=(.*)", check.text(ENV), re.M):
        agrees(
            check,
            f"{ENV}: the LAB_MYSQL_URL for MySQL",
            resolve(line, check.env),
            ("mysql", user, password, "127.0.0.1", check.published("mysql").get(3306), database),
        )

    redis_port = int(redis["REDIS_PORT"])
    secret = redis["REDISCLI_AUTH"]
    agrees(
        check,
        f"{ENV}: LAB_REDIS_URL",
        check.env.get("LAB_REDIS_URL", ""),
        ("redis", "", secret, "127.0.0.1", check.published("redis").get(redis_port), ""),
    )

    # A node is named by the same port inside, outside, in the list of the whole cluster and in the URL.
    ports = sorted(int(node["REDIS_PORT"]) for node in nodes.values())
    if len(set(ports)) != 6:
        check.fault(f"{COMPOSE}: the cluster has nodes at {ports}, not six")
    if len({node["REDIS_BUS_PORT"] for node in nodes.values()} - set(map(str, ports))) != len(nodes):
        check.fault(f"{COMPOSE}: two nodes of the cluster share a bus port")
    hosts = {services[name].get("network_mode", "").removeprefix("service:") for name in nodes}
    if len(hosts) != 1 or "" in hosts:
        return check.fault(
            f"{COMPOSE}: the cluster's nodes do not share one service's network, so 127.0.0.1 names no node"
        )
    host = hosts.pop()
    outside = check.published(host)
    for port in ports:
        if outside.get(port) != port:
            check.fault(
                f"{COMPOSE}: {host} does not publish the node {port} under its own number, so redirects lead nowhere"
            )
    whole = services.get("redis-cluster", {})
    if sorted(map(int, whole.get("environment", {}).get("REDIS_PORTS", "").split())) != ports:
        check.fault(f"{COMPOSE}: redis-cluster's REDIS_PORTS are not the nodes' ports")
    if not set(nodes) <= set(whole.get("depends_on", {})):
        check.fault(f"{COMPOSE}: redis-cluster does not wait for every node")
    cluster = check.env.get("LAB_REDIS_CLUSTER_URL", "").split(",")
    for url in cluster:
        agrees(check, f"{ENV}: LAB_REDIS_CLUSTER_URL", url, ("redis", "", secret, "127.0.0.1", ports, ""))
    if len(set(cluster)) != len(ports):
        check.fault(f"{ENV}: LAB_REDIS_CLUSTER_URL does not list each of the six nodes once")

    host_port = check.published("kafka").get(listeners.get("HOST"))
    agrees(
        check,
        f"{ENV}: LAB_KAFKA_URL",
        check.env.get("LAB_KAFKA_URL", ""),
        ("kafka", "", "", "127.0.0.1", host_port, ""),
    )
    if advertised.get("HOST") != f"127.0.0.1:{host_port}":
        check.fault(
            f"{COMPOSE}: kafka sends this machine's clients to {advertised.get('HOST')}, which is not published"
        )
    if advertised.get("INSIDE") != f"kafka:{listeners.get('INSIDE')}":
        check.fault(f"{COMPOSE}: kafka sends containers to {advertised.get('INSIDE')}, where it does not listen")

    for name, service in services.items():
        environment = service.get("environment", {})
        if "LAB_MYSQL_URL" not in environment:
            continue
        where = f"{COMPOSE}: {name}'s"
        agrees(
            check,
            f"{where} LAB_MYSQL_URL",
            environment["LAB_MYSQL_URL"],
            ("mysql", user, password, set(sql), 3306, database),
        )
        agrees(
            check,
            f"{where} LAB_REDIS_URL",
            environment.get("LAB_REDIS_URL", ""),
            ("redis", "", secret, "redis", redis_port, ""),
        )
        agrees(
            check,
            f"{where} LAB_KAFKA_URL",
            environment.get("LAB_KAFKA_URL", ""),
            ("kafka", "", "", "kafka", listeners.get("INSIDE"), ""),
        )
        if environment.get("LAB_REDIS_CLUSTER_URL") != check.env.get("LAB_REDIS_CLUSTER_URL"):
            check.fault(f"{where} LAB_REDIS_CLUSTER_URL is not the one of {ENV}")
        if service.get("network_mode") != f"service:{host}":
            check.fault(f"{COMPOSE}: {name} is not in the cluster's network, so it cannot follow its redirects")
        server = urlsplit(environment["LAB_MYSQL_URL"]).hostname
        for needed in {server, "redis", "redis-cluster", "kafka"} - set(service.get("depends_on", {})):
            check.fault(f"{COMPOSE}: {name} does not wait for {needed}")


def search(check):
    where = f"{COMPOSE}: opensearch"
    service = check.services.get("opensearch", {})
    environment = service.get("environment", {})
    # Without these it speaks HTTPS with a certificate of its own, or waits for other nodes.
    for name, want in (
        ("DISABLE_SECURITY_PLUGIN", "true"),
        ("DISABLE_INSTALL_DEMO_CONFIG", "true"),
        ("discovery.type", "single-node"),
    ):
        if environment.get(name) != want:
            check.fault(f"{where} has {name} = {environment.get(name)}, and the lab needs {want}")
    if "-Xmx" not in environment.get("OPENSEARCH_JAVA_OPTS", ""):
        check.fault(f"{where} may take half of the machine's memory: OPENSEARCH_JAVA_OPTS sets no -Xmx")
    if "opensearch:/usr/share/opensearch/data" not in service.get("volumes", []):
        check.fault(f"{where} does not keep its data in its volume")
    lines = re.findall(r"^#?LAB_SEARCH_URL=(.*)", check.text(ENV), re.M)
    if not lines:
        check.fault(f"{ENV} does not say how to use opensearch: LAB_SEARCH_URL is missing")
    for line in lines:
        port = check.published("opensearch").get(9200)
        agrees(check, f"{ENV}: LAB_SEARCH_URL", resolve(line, check.env), ("http", "", "", "127.0.0.1", port, ""))


# --- the servers' settings are the lab's own ------------------------------------------------------------------


def pinned(check, file):
    text = check.text(SERVICES + file)
    block = re.search(r"const SETTINGS:[^=]*= &\[(.*?)\n\];", text, re.S)
    settings = dict(re.findall(r'\("([^"]+)", "((?:[^"\\]|\\.)*)"\)', block[1])) if block else {}
    if not settings:
        check.fault(f"{SERVICES}{file} has no SETTINGS to compare with")
    return {name: value.replace('\\"', '"') for name, value in settings.items()}


def compare(check, where, have, want):
    for name, value in want.items():
        if have.get(name) != value:
            check.fault(f"{where} has {name} = {have.get(name)}, and the lab's own server has {value}")


def mysql_settings(check):
    lab = pinned(check, "mariadb.rs")
    # Where files and sockets lie is the image's business.
    lab = {name: value for name, value in lab.items() if name not in ("bind_address", "socket")}
    renamed = {
        "log_slave_updates": "log_replica_updates",
        "slave_net_timeout": "replica_net_timeout",
        "innodb_log_file_size": "innodb_redo_log_capacity",
    }
    only_mariadb = {"gtid_strict_mode", "loose_innodb_snapshot_isolation", "query_cache_size", "query_cache_type"}
    mysql = {renamed.get(name, name): value for name, value in lab.items() if name not in only_mariadb}
    mysql |= {
        "gtid_mode": "ON",
        "enforce_gtid_consistency": "ON",
        "performance_schema": "ON",
        "sql_mode": lab.get("sql_mode", "").replace("NO_AUTO_CREATE_USER,", ""),
    }
    for name, want in (("mariadb", lab), ("mysql", mysql)):
        command = check.services.get(name, {}).get("command", [])
        have = dict(option.removeprefix("--").split("=", 1) for option in command if "=" in option)
        if len(have) != len(command):
            check.fault(f"{COMPOSE}: {name}'s command has an option twice, or one without a value")
        compare(check, f"{COMPOSE}: {name}", have, {**want, "server_id": "1"})
        for option in sorted(set(have) - set(want) - {"server_id"}):
            check.fault(f"{COMPOSE}: {name} has {option}, which the lab's own server has not")


def redis_settings(check):
    alone = configuration(check, {"REDIS_PORT": "6379"})
    node = configuration(check, {"REDIS_PORT": "17001", "REDIS_BUS_PORT": "61001"})
    want = {**pinned(check, "redis.rs"), "bind": "0.0.0.0", "requirepass": "secret", "masterauth": "secret"}
    compare(check, f"{NODE}: a server", alone, {**want, "port": "6379"})
    if "cluster-enabled" in alone:
        check.fault(f"{NODE} makes a single server a node of a cluster")
    want |= {"port": "17001", "cluster-port": "61001", "cluster-enabled": "yes", "cluster-announce-ip": "127.0.0.1"}
    compare(check, f"{NODE}: a node", node, {**want, **pinned(check, "redis_cluster.rs")})


def configuration(check, environment):
    """What the script tells redis-server, found out by standing in for it."""
    with tempfile.TemporaryDirectory() as folder:
        stand_in = Path(folder) / "redis-server"
        stand_in.write_text('#!/bin/sh\n[ "$1" = - ] && exec cat\n')
        stand_in.chmod(0o755)
        environment = {**environment, "REDISCLI_AUTH": "secret", "PATH": f"{folder}:{os.environ['PATH']}"}
        command = ["sh", "-c", check.text(NODE)]
        told = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if told.returncode:
        check.fault(f"{NODE} does not start redis-server: {told.stderr.strip()[:200]}")
    return dict(line.split(" ", 1) for line in told.stdout.splitlines() if " " in line)


def kafka_settings(check):
    where = f"{COMPOSE}: kafka"
    # Three names of listeners instead of two, and a volume.
    lab = {
        name: value
        for name, value in pinned(check, "kafka.rs").items()
        if name not in ("inter.broker.listener.name", "listener.security.protocol.map", "log.dirs")
    }
    kafka = check.services.get("kafka", {})
    compare(
        check,
        where,
        kafka.get("environment", {}),
        {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in lab.items()},
    )
    listeners = dict(
        re.findall(r"(\w+):(\w+)", kafka.get("environment", {}).get("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", ""))
    )
    if listeners != dict.fromkeys(("HOST", "INSIDE", "CONTROLLER"), "PLAINTEXT"):
        check.fault(f"{where} has the listeners {listeners}, not HOST, INSIDE and CONTROLLER in plain text")
    compare(check, where, kafka.get("environment", {}), {"KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE"})
    mounts = [mount for mount in kafka.get("volumes", []) if isinstance(mount, str)]
    if f"kafka:{kafka.get('environment', {}).get('KAFKA_LOG_DIRS')}" not in mounts:
        check.fault(f"{where} does not keep its data in its volume")
    version = re.search("<kafka.version>(.*)</kafka.version>", check.text(KAFKA_POM))
    if not version or not kafka.get("image", "").endswith(f":{version[1]}"):
        check.fault(f"{where} runs {kafka.get('image')}, and {KAFKA_POM} pins {version[1] if version else 'nothing'}")
