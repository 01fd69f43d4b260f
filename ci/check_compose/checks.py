"""Whether Compose, the shell and a careful reader would accept the files."""

import os
import re
import stat
import subprocess
import tempfile
from pathlib import Path

import jsonschema
import yaml

import agreement
from files import CLUSTER, COMPOSE, ENV, MAKE_ENV, NODE, ROOT, SECRET, SERVICES, VARIABLE, Strict, resolve, strings
from schema import SCHEMA


class Check:
    """The files, some of them perhaps replaced, and the faults found in them."""

    def __init__(self, replaced=None):
        self.replaced = replaced or {}
        self.faults = []

    def text(self, path):
        if path in self.replaced:
            return self.replaced[path]
        file = ROOT / path
        if not file.is_file():
            self.fault(f"{path} is missing")
            return ""
        return file.read_text()

    def fault(self, sentence):
        self.faults.append(sentence)

    def run(self):
        self.env, self.defined = self.read_env()
        try:
            self.raw = yaml.load(self.text(COMPOSE), Strict)
        except yaml.YAMLError as error:
            self.fault(f"{COMPOSE} is not YAML: {' '.join(str(error).split())}")
            return self.faults
        for error in sorted(
            jsonschema.Draft202012Validator(SCHEMA).iter_errors(self.raw), key=lambda error: list(map(str, error.path))
        ):
            unknown = (
                [key for key in error.instance if key not in error.schema["properties"] and not key.startswith("x-")]
                if error.validator == "additionalProperties" and "properties" in error.schema
                else []
            )
            message = f"{', '.join(unknown)} is no key that Compose knows here" if unknown else error.message[:300]
            self.fault(f"{COMPOSE}: {'.'.join(map(str, error.path)) or 'the file'}: {message}")
        if self.faults:
            return self.faults  # The other checks rely on the shape.
        self.services = resolve(self.raw["services"], self.env)
        for check in (
            self.variables,
            self.secrets,
            self.images,
            self.ports,
            self.dependencies,
            self.volumes,
            self.make_env,
        ):
            check()
        agreement.run(self)
        return self.faults

    def read_env(self):
        """Values with the secrets filled in, and the names in the order in which they stand."""
        env, lines, secrets = {}, [], 0
        for number, line in enumerate(self.text(ENV).splitlines(), 1):
            if not line or line.startswith("#"):
                continue
            match = re.fullmatch(r"([A-Z][A-Z0-9_]*)=([A-Za-z0-9_.,:/@${}-]*)", line)
            if not match:
                self.fault(
                    f"{ENV}:{number} is not NAME=value with a plain value, which Compose and the shell read alike"
                )
                continue
            name, value = match.groups()
            if name in env:
                self.fault(f"{ENV}:{number} sets {name} a second time")
            if SECRET.search(name):
                if value:
                    self.fault(
                        f"{ENV}:{number} gives {name} a value that everybody knows; leave it empty for {MAKE_ENV}"
                    )
                secrets += 1
                value = f"secret{secrets}"
            elif not value:
                self.fault(f"{ENV}:{number} leaves {name} empty")
            for used in VARIABLE.finditer(value):
                if used["name"] not in env:
                    self.fault(f"{ENV}:{number} uses {used['name'] or used[0]!r}, which is not set above it")
            lines.append(f"{name}={value}")
            env[name] = resolve(value, env)
        script = "set -a\n" + "\n".join(lines) + "\nenv -0\n"
        shell = subprocess.run(["env", "-i", "sh", "-c", script], capture_output=True, text=True)
        seen = dict(entry.split("=", 1) for entry in shell.stdout.split("\0") if "=" in entry)
        for name, value in env.items():
            if seen.get(name) != value:
                self.fault(f"{ENV}: the shell reads {name} as {seen.get(name)!r}, Compose as {value!r}")
        return env, list(env)

    def variables(self):
        used = set()
        for path, value in strings(self.raw):
            for match in VARIABLE.finditer(value):
                if match["escaped"]:
                    continue
                name = match["name"] or match["bare"]
                if match["bad"] is not None:
                    self.fault(f"{COMPOSE}: {path}: a $ that starts no variable must be written $$")
                    continue
                used.add(name)
                if name not in self.env and match["how"] not in ("-", ":-"):
                    self.fault(f"{COMPOSE}: {path} uses {name}, which {ENV} does not set")
                elif match["how"] != ":?" and name in self.env:
                    self.fault(f"{COMPOSE}: {path} must use {name} as ${{{name}:?…}}, or a missing one goes unnoticed")
        used |= {
            match["name"]
            for line in self.text(ENV).splitlines()
            if not line.startswith("#")
            for match in VARIABLE.finditer(line)
        }
        read = "".join(
            (ROOT / SERVICES / name).read_text() for name in sorted(os.listdir(ROOT / SERVICES)) if name.endswith(".rs")
        )
        for name in self.defined:
            if name not in used and not name.startswith("COMPOSE_") and f'"{name}"' not in read:
                self.fault(f"{ENV} sets {name}, which neither {COMPOSE} nor lablib uses")
        profiles = {profile for service in self.raw["services"].values() for profile in service["profiles"]}
        for profile in self.env.get("COMPOSE_PROFILES", "").split(","):
            if profile not in profiles:
                self.fault(f"{ENV}: COMPOSE_PROFILES names {profile!r}, which is no profile in {COMPOSE}")

    def secrets(self):
        for name, service in self.raw["services"].items():
            for key, value in service.get("environment", {}).items():
                if SECRET.search(key) and "RANDOM" not in key and not re.fullmatch(r"\$\{\w+:\?[^}]*\}", str(value)):
                    self.fault(f"{COMPOSE}: {name} has {key} written into the file instead of taken from .env")
        for path, value in strings(self.raw):
            if re.search(
                r"://[^$@/\s]*:(?!\$)[^@/\s]+@|(?:pass(?:word)?|requirepass|masterauth|token)[= ]+[\w\"']", value
            ):
                self.fault(f"{COMPOSE}: {path} holds a password")

    # --- what Compose does with it --------------------------------------------------------------------------------

    def images(self):
        for name, service in self.services.items():
            image = service.get("image", "")
            if not re.fullmatch(r"[a-z0-9./_-]+:\d+\.\d+\.\d+(-[a-z0-9.]+)?(@sha256:[0-9a-f]{64})?", image):
                self.fault(f"{COMPOSE}: {name} runs {image or 'no image'!r}, which is not pinned to an exact version")
            if not service.get("network_mode", "service:").startswith("service:"):
                self.fault(f"{COMPOSE}: {name} uses network_mode {service['network_mode']}, around the published ports")
            if service["healthcheck"]["test"][0] not in ("CMD", "CMD-SHELL"):
                self.fault(
                    f"{COMPOSE}: {name} has no health check: its test starts with {service['healthcheck']['test'][0]}"
                )
            for script in service.get("entrypoint", [])[:1]:
                sources = [
                    mount["source"]
                    for mount in service.get("volumes", [])
                    if isinstance(mount, dict) and mount["target"] == script
                ]
                if script.startswith("/lab/") and not sources:
                    self.fault(f"{COMPOSE}: {name} starts {script}, which no volume brings")
                for source in sources:
                    file = ROOT / "compose" / source
                    if file.is_file() and not file.stat().st_mode & stat.S_IXUSR:
                        self.fault(f"{COMPOSE}: {name} starts {source}, which is not executable")

    def published(self, service):
        """Container port to port on this machine; malformed ones are left to `ports`."""
        matches = [
            re.fullmatch(r"([\d.]+):(\d+):(\d+)", port) for port in self.services.get(service, {}).get("ports", [])
        ]
        return {int(match[3]): int(match[2]) for match in matches if match}

    def ports(self):
        owners = {}
        for name, service in self.services.items():
            if service.get("ports") and "network_mode" in service:
                self.fault(f"{COMPOSE}: {name} shares another's network, so it cannot publish ports")
            for port, raw in zip(service.get("ports", []), self.raw["services"][name].get("ports", []), strict=True):
                match = re.fullmatch(r"127\.0\.0\.1:(\d+):(\d+)", port)
                if not match:
                    self.fault(f"{COMPOSE}: {name} publishes {port!r}, which is not 127.0.0.1:PORT:PORT")
                    continue
                if not raw.startswith("127.0.0.1:${"):
                    self.fault(f"{COMPOSE}: {name} publishes {port!r} without a variable to change it by")
                outside = int(match[1])
                if not 1024 <= outside <= 55535:
                    self.fault(f"{COMPOSE}: {name} publishes port {outside}, which is not from 1024 to 55535")
                if outside in owners:
                    self.fault(f"{COMPOSE}: {name} and {owners[outside]} both publish port {outside}")
                owners[outside] = name

    def dependencies(self):
        needs = {}
        for name, service in self.services.items():
            needs[name] = set(service.get("depends_on", {}))
            for other, how in service.get("depends_on", {}).items():
                if other in self.services and how["condition"] != "service_healthy":
                    self.fault(f"{COMPOSE}: {name} waits for {other} until {how['condition']}, not until it is healthy")
            mode = service.get("network_mode", "")
            if mode.startswith("service:"):
                needs[name].add(mode.removeprefix("service:"))
            for other in sorted(needs[name]):
                if other not in self.services:
                    self.fault(f"{COMPOSE}: {name} depends on {other}, which is no service")
                elif missing := set(service["profiles"]) - set(self.services[other]["profiles"]):
                    self.fault(
                        f"{COMPOSE}: {name} depends on {other}, which is not in its profile {sorted(missing)[0]}"
                    )
        ready = set()
        while following := [name for name in needs if name not in ready and needs[name] & set(needs) <= ready]:
            ready.update(following)
        if waiting := sorted(set(needs) - ready):
            self.fault(f"{COMPOSE}: {', '.join(waiting)} wait for each other in a circle")

    def volumes(self):
        declared, used = set(self.raw["volumes"]), set()
        for name, service in self.services.items():
            for mount in service.get("volumes", []):
                if isinstance(mount, str):
                    used.add(mount.split(":")[0])
                elif mount["type"] == "bind":
                    source = (ROOT / "compose" / mount.get("source", "")).resolve()
                    if not source.is_relative_to(ROOT) or not source.is_file():
                        self.fault(
                            f"{COMPOSE}: {name} mounts {mount.get('source')}, which is no file of the repository"
                        )
                    if not mount.get("read_only"):
                        self.fault(f"{COMPOSE}: {name} could write to {mount.get('source')}")
        for name in sorted(used - declared):
            self.fault(f"{COMPOSE}: the volume {name} is used but not declared")
        for name in sorted(declared - used):
            self.fault(f"{COMPOSE}: the volume {name} is declared but not used")

    def make_env(self):
        """Runs it in a copy: secrets filled in, different, private; the rest unchanged; an existing file left alone."""
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "make-env").write_text(self.text(MAKE_ENV))
            (folder / ".env.example").write_text(self.text(ENV))
            first = subprocess.run(["sh", folder / "make-env"], capture_output=True, text=True)
            made = folder / ".env"
            if first.returncode or not made.is_file():
                return self.fault(f"{MAKE_ENV} failed: {first.stderr.strip()[:200]}")
            pairs = list(zip(self.text(ENV).splitlines(), made.read_text().splitlines(), strict=False))
            secrets = [
                new.removeprefix(old) for old, new in pairs if re.fullmatch(r"\w*(PASSWORD|TOKEN|AUTH|SECRET)=", old)
            ]
            if any(not re.fullmatch("[A-Za-z0-9]{24,}", secret) for secret in secrets) or len(set(secrets)) < len(
                secrets
            ):
                self.fault(f"{MAKE_ENV} does not give every secret a value of its own")
            if any(old != new for old, new in pairs if not old.endswith("=")):
                self.fault(f"{MAKE_ENV} changes more than the secrets")
            if made.stat().st_mode & 0o077:
                self.fault(f"{MAKE_ENV} lets others read the passwords")
            if subprocess.run(["sh", folder / "make-env"], capture_output=True).returncode == 0:
                self.fault(f"{MAKE_ENV} overwrites passwords that volumes were created with")
        if not os.access(ROOT / MAKE_ENV, os.X_OK):
            self.fault(f"{MAKE_ENV} is not executable")
        for script in (MAKE_ENV, NODE, CLUSTER):
            syntax = subprocess.run(["sh", "-n"], input=self.text(script), capture_output=True, text=True)
            if syntax.returncode:
                self.fault(f"{script} is no shell script: {syntax.stderr.strip()[:200]}")
        if ".env" not in self.text("compose/.gitignore").split():
            self.fault("compose/.gitignore does not name .env, so the passwords could be committed")
