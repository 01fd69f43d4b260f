"""Known-bad compose files: each is the good one with one change, and the reason that must be given."""

from checks import Check
from files import CLUSTER, COMPOSE, DOCKERFILE, ENV, IGNORE, KAFKA_POM, MAKE_ENV, NODE, ROOT, SERVICES

REQUIRED = ":?run compose/make-env}"

# What is broken, the file, what stands there, what stands there instead, and a part of the sentence that must come.
MUTANTS = [
    # Structure
    ("no YAML", COMPOSE, "services:\n", "services: [\n", "is not YAML"),
    (
        "a key twice",
        COMPOSE,
        "    image: apache/kafka:4.1.1\n",
        "    image: apache/kafka:4.1.1\n    image: apache/kafka:4.1.1\n",
        "stands twice",
    ),
    (
        "a key that Compose does not know",
        COMPOSE,
        "    user: redis\n    profiles",
        "    usr: redis\n    profiles",
        "usr is no key that Compose knows",
    ),
    (
        "a top-level key that Compose does not know",
        COMPOSE,
        "\nvolumes:\n",
        "\nvolume: {}\nvolumes:\n",
        "volume is no key that Compose knows",
    ),
    ("a duration without a unit", COMPOSE, "interval: 30s", "interval: 30", "30 is not of type 'string'"),
    (
        "an unknown condition",
        COMPOSE,
        "      kafka: {condition: service_healthy}",
        "      kafka: {condition: healthy}",
        "'healthy' is not one of",
    ),
    (
        "a service without a health check",
        COMPOSE,
        "    healthcheck: *redis-health\n\n  # `docker",
        "\n  # `docker",
        "'healthcheck' is a required",
    ),
    ("a service without a profile", COMPOSE, "    profiles: [mysql]\n", "", "'profiles' is a required"),
    # Variables
    (
        "a variable that is not set",
        COMPOSE,
        "${LAB_KAFKA_PORT" + REQUIRED + ":9092",
        "${LAB_KAFKA_PRT" + REQUIRED + ":9092",
        "LAB_KAFKA_PRT, which",
    ),
    (
        "a variable whose loss goes unnoticed",
        COMPOSE,
        "${LAB_KAFKA_PORT" + REQUIRED + ":9092",
        "${LAB_KAFKA_PORT}:9092",
        "goes unnoticed",
    ),
    (
        "a default password",
        COMPOSE,
        "MARIADB_PASSWORD: ${LAB_SQL_PASSWORD" + REQUIRED,
        "MARIADB_PASSWORD: ${LAB_SQL_PASSWORD:-lab}",
        "instead of taken from .env",
    ),
    ("a single $", COMPOSE, '"$$REDIS_PORT" ping', '"$REDIS_PORT" ping', "uses REDIS_PORT, which"),
    ("a $ before a bracket", COMPOSE, '[ "$$(redis-cli', '[ "$(redis-cli', "must be written $$"),
    (
        "a variable that nobody uses",
        ENV,
        "LAB_KAFKA_PORT=19092\n",
        "LAB_KAFKA_PORT=19092\nLAB_ZOOKEEPER_PORT=12181\n",
        "LAB_ZOOKEEPER_PORT, which neither",
    ),
    ("a URL that lablib does not read", ENV, "LAB_REDIS_URL=", "LAB_REDIS_URI=", "LAB_REDIS_URI, which neither"),
    (
        "a variable before it is set",
        ENV,
        "LAB_SQL_PASSWORD=\n",
        "LAB_EARLY=${LAB_MARIADB_PORT}\nLAB_SQL_PASSWORD=\n",
        "not set above it",
    ),
    (
        "a value that the shell would split",
        ENV,
        "LAB_KAFKA_PORT=19092",
        "LAB_KAFKA_PORT=19092 # Kafka",
        "is not NAME=value",
    ),
    (
        "a variable set twice",
        ENV,
        "LAB_KAFKA_PORT=19092",
        "LAB_KAFKA_PORT=19092\nLAB_KAFKA_PORT=19093",
        "a second time",
    ),
    ("a password in the example", ENV, "LAB_SQL_PASSWORD=\n", "LAB_SQL_PASSWORD=lab\n", "a value that everybody knows"),
    (
        "a profile that does not exist",
        ENV,
        "redis-cluster,kafka\n",
        "redis-cluster,kafak\n",
        "'kafak', which is no profile",
    ),
    # Secrets
    (
        "a password in compose.yaml",
        COMPOSE,
        "MYSQL_PASSWORD: ${LAB_SQL_PASSWORD" + REQUIRED,
        "MYSQL_PASSWORD: lab",
        "written into the file",
    ),
    (
        "a password in a URL",
        COMPOSE,
        "redis://:${LAB_REDIS_PASSWORD" + REQUIRED + "@redis:6379",
        "redis://:lab@redis:6379",
        "holds a password",
    ),
    (
        "a password in a command",
        COMPOSE,
        "entrypoint: [sleep, infinity]",
        "entrypoint: [redis-server, --requirepass lab]",
        "holds a password",
    ),
    ("one secret for all", MAKE_ENV, "$(secret)", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a value of its own"),
    ("passwords for everybody to read", MAKE_ENV, "umask 077\n", "umask 022\n", "lets others read"),
    ("passwords overwritten", MAKE_ENV, "if [ -e .env ]; then", "if [ -e .nev ]; then", "overwrites passwords"),
    ("a script that does not parse", CLUSTER, "while :; do\n    now", "while :\n    now", "is no shell script"),
    ("an env file that git would take", "compose/.gitignore", ".env\n", "env\n", "could be committed"),
    # Images
    ("the tag latest", COMPOSE, "apache/kafka:4.1.1", "apache/kafka:latest", "not pinned to an exact version"),
    ("no tag", COMPOSE, "image: mysql:8.4.11-oraclelinux9", "image: mysql", "not pinned to an exact version"),
    ("a tag that moves", COMPOSE, "mariadb:10.11.18-jammy", "mariadb:10.11", "not pinned to an exact version"),
    ("a Kafka other than the lab's", KAFKA_POM, "<kafka.version>", "<kafka.version>9.", "pins 9."),
    (
        "a disabled health check",
        COMPOSE,
        "test: [CMD, getent, hosts, redis-cluster-host]",
        "test: [NONE, getent]",
        "has no health check",
    ),
    (
        "a start script that is not mounted",
        COMPOSE,
        "target: /lab/redis-cluster.sh",
        "target: /lab/cluster.sh",
        "which no volume brings",
    ),
    # Ports
    (
        "a port open to the network",
        COMPOSE,
        '"127.0.0.1:${LAB_MYSQL_PORT',
        '"${LAB_MYSQL_PORT',
        "which is not 127.0.0.1",
    ),
    (
        "a port on all addresses",
        COMPOSE,
        '"127.0.0.1:${LAB_MYSQL_PORT',
        '"0.0.0.0:${LAB_MYSQL_PORT',
        "which is not 127.0.0.1",
    ),
    (
        "a port that cannot be changed",
        COMPOSE,
        "${LAB_MYSQL_PORT" + REQUIRED + ":3306",
        "13307:3306",
        "without a variable",
    ),
    ("a port published twice", ENV, "LAB_MYSQL_PORT=13307", "LAB_MYSQL_PORT=13306", "both publish port 13306"),
    ("a port that needs root", ENV, "LAB_MYSQL_PORT=13307", "LAB_MYSQL_PORT=306", "which is not from 1024"),
    (
        "a port published from a shared network",
        COMPOSE,
        "    network_mode: service:redis-cluster-host\n    depends_on:\n      mariadb",
        '    network_mode: service:redis-cluster-host\n    ports: ["127.0.0.1:${LAB_JUPYTER_WITH_SERVERS_PUBLISHED_PORT'
        + REQUIRED
        + ':8888"]\n    depends_on:\n      mariadb',
        "shares another's network",
    ),
    (
        "the host's own network",
        COMPOSE,
        "    init: true\n    # A node's port",
        "    init: true\n    network_mode: host\n    # A node's port",
        "around the published ports",
    ),
    # Order
    (
        "a dependency that does not exist",
        COMPOSE,
        "      redis-cluster-6: {condition",
        "      redis-cluster-7: {condition",
        "which is no service",
    ),
    (
        "a dependency outside the profile",
        COMPOSE,
        "    image: apache/kafka:4.1.1\n    profiles: [kafka, with-servers]",
        "    image: apache/kafka:4.1.1\n    profiles: [kafka]",
        "not in its profile with-servers",
    ),
    (
        "a circle",
        COMPOSE,
        "    profiles: [kafka, with-servers]\n",
        "    profiles: [kafka, with-servers]\n    depends_on:\n      jupyter-with-servers: {condition: service_healthy}\n",  # noqa: E501
        "in a circle",
    ),
    (
        "no wait for health",
        COMPOSE,
        "      mariadb: {condition: service_healthy}",
        "      mariadb: {condition: service_started}",
        "not until it is healthy",
    ),
    (
        "a server that nobody waits for",
        COMPOSE,
        "      redis: {condition: service_healthy}\n",
        "",
        "does not wait for redis",
    ),
    # Volumes
    ("a volume not declared", COMPOSE, "\nvolumes:\n  mariadb:\n", "\nvolumes:\n", "mariadb is used but not declared"),
    ("a volume not used", COMPOSE, "\nvolumes:\n", "\nvolumes:\n  postgres:\n", "postgres is declared but not used"),
    ("a mount of nothing", COMPOSE, "source: ./grant.sql", "source: ./grants.sql", "no file of the repository"),
    ("a mount from elsewhere", COMPOSE, "source: ./grant.sql", "source: /etc/hostname", "no file of the repository"),
    ("a mount to write to", COMPOSE, "grant.sql\n        read_only: true\n", "grant.sql\n", "could write to"),
    # The image
    (
        "a base that moves",
        DOCKERFILE,
        "FROM rust:1.95.0-bookworm",
        "FROM rust:bookworm",
        "not pinned to an exact version of Rust",
    ),
    ("another Rust", DOCKERFILE, "FROM rust:1.95.0-bookworm", "FROM rust:1.94.0-bookworm", "is not the Rust 1.95"),
    (
        "a source that does not exist",
        DOCKERFILE,
        "COPY --chown=lab:lab lablib lablib",
        "COPY --chown=lab:lab lablib benches lablib",
        "COPY benches: there is no such thing",
    ),
    (
        "a part that is not copied",
        DOCKERFILE,
        "COPY --chown=lab:lab notebooks notebooks\n",
        "",
        "does not copy notebooks",
    ),
    ("a source that is ignored", IGNORE, "!lablib\n", "", "keeps lablib out"),
    ("secrets in the build", IGNORE, "!notebooks\n", "!notebooks\n!compose\n", "lets compose/.env into"),
    ("everything in the build", IGNORE, "*\n!Cargo.toml", "!Cargo.toml", "lets .git/config into"),
    (
        "ADD of a URL",
        DOCKERFILE,
        "WORKDIR /lab\n",
        "WORKDIR /lab\nADD https://example.org/evcxr.tar.gz /tmp/\n",
        "ADD https://example.org",
    ),
    (
        "a download piped into a shell",
        DOCKERFILE,
        "USER lab\n",
        "RUN curl -sSf https://example.org/install | sh\nUSER lab\n",
        "pipes a download",
    ),
    ("the image as root", DOCKERFILE, "USER lab\n", "", "runs as root"),
    (
        "a secret in the image",
        DOCKERFILE,
        "    LAB_JUPYTER_PORT=8888\n",
        "    LAB_JUPYTER_PORT=8888 LAB_JUPYTER_TOKEN=lab\n",
        "puts a secret into the image",
    ),
    (
        "an entry point that does not exist",
        DOCKERFILE,
        '["/lab/ci/lab"]',
        '["/lab/ci/open"]',
        "is no program that was copied",
    ),
    ("no command", DOCKERFILE, 'CMD ["open"]\n', "", 'lacks CMD ["open"]'),
    ("no entry point", DOCKERFILE, 'ENTRYPOINT ["/lab/ci/lab"]\n', "", "lacks ENTRYPOINT"),
    ("set-up not tried as the user", DOCKERFILE, "RUN ci/lab setup\n", "", "and again as the user"),
    ("what set-up made left to root", DOCKERFILE, " \\\n    && chown -R lab:lab /lab /home/lab", "", "does not hand"),
    (
        "JupyterLab on the container's loopback",
        DOCKERFILE,
        "LAB_JUPYTER_IP=0.0.0.0",
        "LAB_JUPYTER_IP=127.0.0.1",
        "leads nowhere",
    ),
    (
        "JupyterLab on another port",
        DOCKERFILE,
        "LAB_JUPYTER_PORT=8888",
        "LAB_JUPYTER_PORT=8889",
        "does not publish 8889",
    ),
    ("another build context", COMPOSE, "context: ..", "context: .", "is not built from"),
    (
        "JupyterLab without a token",
        COMPOSE,
        "    profiles: [jupyter]\n    environment:\n      LAB_JUPYTER_TOKEN:",
        "    profiles: [jupyter]\n    environment:\n      JUPYTER_NAME:",
        "has no LAB_JUPYTER_TOKEN",
    ),
    # URLs
    ("another user", ENV, "LAB_MYSQL_URL=mysql://lab:", "LAB_MYSQL_URL=mysql://root:", "has the user 'root'"),
    (
        "another port",
        ENV,
        "LAB_REDIS_URL=redis://:${LAB_REDIS_PASSWORD}@127.0.0.1:${LAB_REDIS_PORT}",
        "LAB_REDIS_URL=redis://:${LAB_REDIS_PASSWORD}@127.0.0.1:6379",
        "has the port 6379",
    ),
    (
        "another password",
        ENV,
        "LAB_REDIS_URL=redis://:${LAB_REDIS_PASSWORD}",
        "LAB_REDIS_URL=redis://:${LAB_SQL_PASSWORD}",
        "has the password",
    ),
    ("another host", ENV, "LAB_KAFKA_URL=127.0.0.1:", "LAB_KAFKA_URL=kafka:", "has the host 'kafka'"),
    (
        "a node missing from the list",
        ENV,
        ",redis://:${LAB_REDIS_PASSWORD}@127.0.0.1:${LAB_REDIS_CLUSTER_PORT_6}",
        "",
        "each of the six nodes once",
    ),
    (
        "MySQL's URL to MariaDB's port",
        ENV,
        "#LAB_MYSQL_URL=mysql://lab:${LAB_SQL_PASSWORD}@127.0.0.1:${LAB_MYSQL_PORT}",
        "#LAB_MYSQL_URL=mysql://lab:${LAB_SQL_PASSWORD}@127.0.0.1:${LAB_MARIADB_PORT}",
        "for MySQL has the port 13306",
    ),
    (
        "a node under another number outside",
        COMPOSE,
        ":${LAB_REDIS_CLUSTER_PORT_3" + REQUIRED + '"',
        ':17013"',
        "redirects lead nowhere",
    ),
    (
        "a node in a network of its own",
        COMPOSE,
        "  network_mode: service:redis-cluster-host\n  depends_on",
        "  depends_on",
        "127.0.0.1 names no node",
    ),
    (
        "JupyterLab outside the cluster's network",
        COMPOSE,
        "    network_mode: service:redis-cluster-host\n    depends_on:\n      mariadb",
        "    depends_on:\n      mariadb",
        "cannot follow its redirects",
    ),
    (
        "Kafka that sends clients elsewhere",
        COMPOSE,
        "ADVERTISED_LISTENERS: HOST://127.0.0.1:${LAB_KAFKA_PORT" + REQUIRED,
        "ADVERTISED_LISTENERS: HOST://127.0.0.1:9092",
        "which is not published",
    ),
    (
        "Kafka that sends containers elsewhere",
        COMPOSE,
        "INSIDE://kafka:9094",
        "INSIDE://kafka:9092",
        "where it does not listen",
    ),
    (
        "JupyterLab at Kafka's outer listener",
        COMPOSE,
        "LAB_KAFKA_URL: kafka:9094",
        "LAB_KAFKA_URL: kafka:9092",
        "has the port 9092",
    ),
    # Settings
    (
        "MariaDB that may lose commits",
        COMPOSE,
        "      - --innodb_flush_log_at_trx_commit=1\n",
        "      - --innodb_flush_log_at_trx_commit=2\n",
        "mariadb has innodb_flush_log_at_trx_commit = 2",
    ),
    (
        "MariaDB whose binary log is not synced",
        COMPOSE,
        "      - --sync_binlog=1\n",
        "      - --sync_binlog=0\n",
        "mariadb has sync_binlog = 0",
    ),
    ("MariaDB without a binary log", COMPOSE, "      - --log_bin=binlog\n", "", "mariadb has log_bin = None"),
    (
        "MariaDB in another character set",
        COMPOSE,
        "      - --character_set_server=utf8mb4\n",
        "      - --character_set_server=latin1\n",
        "mariadb has character_set_server = latin1",
    ),
    ("MySQL without GTIDs", COMPOSE, "      - --gtid_mode=ON\n", "", "mysql has gtid_mode = None"),
    (
        "MySQL with an option of MariaDB's",
        COMPOSE,
        "      - --gtid_mode=ON\n",
        "      - --gtid_mode=ON\n      - --query_cache_size=0\n",
        "mysql has query_cache_size, which",
    ),
    (
        "a change in the lab that did not come here",
        SERVICES + "mariadb.rs",
        '("innodb_lock_wait_timeout", "50")',
        '("innodb_lock_wait_timeout", "5")',
        "innodb_lock_wait_timeout = 50, and the lab's own server has 5",
    ),
    (
        "Redis without its script",
        COMPOSE,
        "  entrypoint: [/lab/redis-node.sh]\n",
        "",
        "redis does not start with redis-node.sh",
    ),
    (
        "a node without a port",
        COMPOSE,
        "      REDIS_PORT: ${LAB_REDIS_CLUSTER_PORT_4" + REQUIRED + "\n",
        "",
        "redis-cluster-4 has no REDIS_PORT",
    ),
    (
        "a node with another password",
        COMPOSE,
        '"61002"\n      REDISCLI_AUTH: ${LAB_REDIS_PASSWORD',
        '"61002"\n      REDISCLI_AUTH: ${LAB_SQL_PASSWORD',
        "redis-cluster-2 has another password",
    ),
    ("two nodes on one bus port", COMPOSE, '"61002"', '"61001"', "share a bus port"),
    ("Redis not started", NODE, "exec redis-server - <<CONFIG", "cat > /dev/null <<CONFIG", "has port = None"),
    ("Redis that reads no configuration", NODE, "redis-server -", "redis-server", "does not start redis-server"),
    (
        "a single Redis in a cluster",
        NODE,
        '    [ -n "${REDIS_BUS_PORT:-}" ] || return 0\n',
        "    REDIS_BUS_PORT=61001\n",
        "makes a single server",
    ),
    ("Redis that saves", NODE, 'save ""', "save 60 1", "has save = 60 1"),
    ("Redis without a password", NODE, "requirepass $REDISCLI_AUTH\n", "", "has requirepass = None"),
    (
        "a node that does not announce itself",
        NODE,
        "cluster-announce-ip 127.0.0.1\n",
        "",
        "has cluster-announce-ip = None",
    ),
    (
        "Kafka that talks to itself by the outer listener",
        COMPOSE,
        "LISTENER_NAME: INSIDE",
        "LISTENER_NAME: HOST",
        "LISTENER_NAME = HOST",
    ),
    (
        "Kafka whose data is not in its volume",
        COMPOSE,
        "kafka:/var/lib/kafka/data",
        "kafka:/data",
        "does not keep its data",
    ),
    (
        "Kafka that waits for groups",
        COMPOSE,
        'KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS: "0"',
        'KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS: "3000"',
        "REBALANCE_DELAY_MS = 3000",
    ),
    (
        "OpenSearch that speaks HTTPS",
        COMPOSE,
        'DISABLE_SECURITY_PLUGIN: "true"',
        'DISABLE_SECURITY_PLUGIN: "false"',
        "DISABLE_SECURITY_PLUGIN = false",
    ),
    (
        "OpenSearch that waits for other nodes",
        COMPOSE,
        "discovery.type: single-node",
        "discovery.type: zen",
        "discovery.type = zen",
    ),
    ("OpenSearch without a limit", COMPOSE, "-Xms512m -Xmx512m\n      # A disk", "-Xms512m\n      # A disk", "no -Xmx"),
    (
        "OpenSearch whose data is not in its volume",
        COMPOSE,
        "opensearch:/usr/share/opensearch/data",
        "opensearch:/data",
        "opensearch does not keep its data",
    ),
    (
        "a search URL that leads elsewhere",
        ENV,
        "LAB_SEARCH_URL=http://127.0.0.1:${LAB_SEARCH_PORT}",
        "LAB_SEARCH_URL=http://127.0.0.1:9200",
        "LAB_SEARCH_URL has the port 9200",
    ),
    (
        "a search URL that Compose cannot serve",
        ENV,
        "#LAB_SEARCH_URL=http:",
        "#LAB_SEARCH_URL=https:",
        "LAB_SEARCH_URL has the scheme 'https'",
    ),
    ("no word on how to use OpenSearch", ENV, "#LAB_SEARCH_URL=", "#LAB_SEARCH=", "LAB_SEARCH_URL is missing"),
]


def run():
    if faults := Check().run():
        print("the files are not good to begin with:", *faults, sep="\n")
        return 1
    missed = 0
    for name, file, old, new, reason in MUTANTS:
        text = (ROOT / file).read_text()
        if old not in text:
            problem = f"{old!r} does not stand in {file} any more"
        else:
            faults = Check({file: text.replace(old, new, 1)}).run()
            problem = (
                None
                if any(reason in fault for fault in faults)
                else f"found {faults or 'nothing'} instead of {reason!r}"
            )
        if problem:
            missed += 1
            print(f"{name}: {problem}")
    print(f"compose/: {len(MUTANTS) - missed} of {len(MUTANTS)} known-bad changes found")
    return 1 if missed else 0
