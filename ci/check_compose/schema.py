"""The shape of compose.yaml: the keys of the Compose Specification, those that the lab uses with their types."""

TEXT = {"type": "string", "minLength": 1}
TEXTS = {"type": "array", "items": TEXT, "minItems": 1}
COMMAND = {"anyOf": [TEXT, TEXTS]}
SCALARS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
DURATION = {"type": "string", "pattern": r"^(\d+(h|m|s|ms|us))+$"}


def closed(properties, required=(), unconstrained=""):
    properties = {**{name: {} for name in unconstrained.split()}, **properties}
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
        "patternProperties": {"^x-": {}},
    }


HEALTH = closed(
    {
        "test": {"type": "array", "items": TEXT, "minItems": 2},
        "interval": DURATION,
        "timeout": DURATION,
        "start_period": DURATION,
        "start_interval": DURATION,
        "retries": {"type": "integer", "minimum": 1},
    },
    ["test", "interval", "timeout", "retries", "start_period"],
)
MOUNT = closed(
    {
        "type": {"enum": ["bind", "volume", "tmpfs"]},
        "source": TEXT,
        "target": TEXT,
        "read_only": {"type": "boolean"},
        "bind": closed(
            {"create_host_path": {"type": "boolean"}, "selinux": {"enum": ["z", "Z"]}}, [], "propagation recursive"
        ),
    },
    ["type", "target"],
    "volume tmpfs consistency image",
)
# Stricter than the specification where it allows two spellings.
SERVICE = closed(
    {
        "image": TEXT,
        "build": closed({"context": TEXT, "dockerfile": TEXT}, ["context"], "args target labels tags platforms"),
        "command": COMMAND,
        "entrypoint": COMMAND,
        "environment": SCALARS,
        "profiles": TEXTS,
        "init": {"type": "boolean"},
        "network_mode": TEXT,
        "user": TEXT,
        "working_dir": TEXT,
        "healthcheck": HEALTH,
        "ports": {"type": "array", "items": TEXT, "minItems": 1},
        "volumes": {"type": "array", "items": {"anyOf": [{"type": "string", "pattern": "^[a-z0-9-]+:/[^:]+$"}, MOUNT]}},
        "depends_on": {
            "type": "object",
            "additionalProperties": closed(
                {"condition": {"enum": ["service_healthy", "service_started", "service_completed_successfully"]}},
                ["condition"],
                "restart required",
            ),
        },
    },
    ["profiles", "healthcheck"],
    "annotations attach blkio_config cap_add cap_drop cgroup cgroup_parent configs container_name cpu_count"
    " cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset credential_spec"
    " deploy develop device_cgroup_rules devices dns dns_opt dns_search domainname env_file expose extends"
    " external_links extra_hosts gpus group_add hostname ipc isolation label_file labels links logging"
    " mac_address mem_limit mem_reservation mem_swappiness memswap_limit models networks oom_kill_disable"
    " oom_score_adj pid pids_limit platform post_start pre_stop privileged provider pull_policy"
    " pull_refresh_after read_only restart runtime scale secrets security_opt shm_size stdin_open"
    " stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket userns_mode uts"
    " volumes_from",
)
SCHEMA = closed(
    {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "services": {
            "type": "object",
            "patternProperties": {"^[a-zA-Z0-9._-]+$": SERVICE},
            "additionalProperties": False,
        },
        "volumes": {"type": "object", "additionalProperties": {"type": ["object", "null"]}},
    },
    ["name", "services", "volumes"],
    "networks configs secrets include models",
)
