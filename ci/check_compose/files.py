"""Where the files lie, and how Compose reads them: YAML, and variables in it."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE, ENV, MAKE_ENV = "compose/compose.yaml", "compose/.env.example", "compose/make-env"
DOCKERFILE, IGNORE = "compose/Dockerfile", "compose/Dockerfile.dockerignore"
NODE, CLUSTER = "compose/redis-node.sh", "compose/redis-cluster.sh"
SERVICES = "lablib/lab/src/service/"
KAFKA_POM = "ci/kafka/pom.xml"

VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|\{(?P<name>[A-Za-z_]\w*)(?:(?P<how>:?[-?+])(?P<rest>[^}]*))?\}|(?P<bare>[A-Za-z_]\w*)|(?P<bad>))"
)
SECRET = re.compile(r"PASSWORD$|TOKEN$|AUTH$|SECRET$")


def strings(value, path=""):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from strings(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from strings(inner, f"{path}[{index}]")
    elif isinstance(value, str):
        yield path, value


def resolve(value, env):
    """The value as Compose passes it on; a variable that is missing becomes nothing, and is a fault elsewhere."""
    if isinstance(value, dict):
        return {key: resolve(inner, env) for key, inner in value.items()}
    if isinstance(value, list):
        return [resolve(inner, env) for inner in value]
    if isinstance(value, str):
        return VARIABLE.sub(
            lambda match: "$" if match["escaped"] else env.get(match["name"] or match["bare"] or "", ""), value
        )
    return value


class Strict(yaml.SafeLoader):
    """YAML in which a key that stands twice in one mapping is an error; PyYAML lets the last one win."""

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        return node
