"""Every command of the pages about servers, in their order, on an installation in a scratch root.

What a command needs of a real server is turned to the root: paths, systemctl's --root, the test's
PostgreSQL. A command that cannot be turned fails the test.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.postgres import EmbeddedPostgres

ROOT = Path(__file__).parents[1]
LOGIN, NAME = "server_page_login", "server_page_archive"
OURS = re.compile(r"^/(etc|opt|usr|var)/")


def commands(page: str) -> list[str]:
    """Return the lines of a page's shell blocks."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines()]


class Server:
    """A machine in a folder."""

    def __init__(self, root: Path, postgres: EmbeddedPostgres) -> None:
        self.root = root
        self.postgres = postgres
        host = {"PGHOST": "127.0.0.1", "PGPORT": str(postgres.port), "PGUSER": "monitoring"}
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        self.environment = kept | host

    def configure(self, database: str) -> None:
        """Write settings as an administrator does."""
        settings = self.root / "etc/monitoring/monitoring.env"
        lines = {
            "MONITORING_DB": f"host=127.0.0.1 port={self.postgres.port} user={LOGIN} {database}",
            "MONITORING_AUDIO_PATH": f"{self.root}/var/monitoring/audio",
            "MONITORING_SPOOL_PATH": f"{self.root}/var/monitoring/spool",
            "MONITORING_SIGNING_KEY_FILE": f"{self.root}/etc/monitoring/signing.key",
        }
        text = "".join(f'{name}="{value}"\n' for name, value in lines.items())
        settings.write_text(settings.read_text() + text)

    def run(self, line: str) -> str:
        """Run a command of a page; return what it printed."""
        words = shlex.split(line)
        words = words[1:] if words[0] == "sudo" else words
        words = words[2:] if words[0] == "-u" else words
        words = [OURS.sub(rf"{self.root}/\1/", word) for word in words]
        allowed = {0}
        match words:
            case ["sh", "deploy/install.sh", *options]:
                options += [] if "--uninstall" in options else ["--venv", sys.prefix]
                words = ["sh", str(ROOT / "deploy/install.sh"), *options, "--root", str(self.root)]
            case ["createuser" | "createdb" as program, *options]:
                names = {"monitoring": LOGIN, "monitoring_v2": NAME}
                words = [str(self.postgres.bin_dir / program), *(names.get(o, o) for o in options)]
            case ["monitoring", "doctor"]:
                # This machine's clock and disks are not ours to mend.
                words, allowed = [f"{self.root}/usr/local/bin/monitoring", "doctor"], {0, 1}
            case ["monitoring", *options]:
                words = [f"{self.root}/usr/local/bin/monitoring", *options]
            case ["systemctl", "daemon-reload"]:
                return ""
            case ["systemctl", "start" | "stop" | "restart", unit]:
                assert (self.root / "etc/systemd/system" / unit).is_file(), unit
                return ""
            case ["systemctl", "enable", "--now", unit]:
                words = ["systemctl", f"--root={self.root}", "enable", unit]
            case ["mkdir" | "cp", *_]:
                pass
            case _:
                pytest.fail(f"no way to run in a test: {line}")
        done = subprocess.run(
            words,
            check=False,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=60,
        )
        assert done.returncode in allowed, (line, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout


@pytest.fixture
def server(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Server]:
    """Yield a machine with a phone server and nothing of ours."""
    if shutil.which("systemctl") is None:
        pytest.skip("systemctl is not there: apt-get install systemd")
    unit = tmp_path / "etc/systemd/system/phone.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/usr/bin/phone\n")
    yield Server(tmp_path, postgres)
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)".encode())
        connection.execute(f"DROP ROLE IF EXISTS {LOGIN}".encode())


def test_the_page_about_installing(server: Server) -> None:
    """From nothing to a service and back to nothing; in between, the doctor finds it well."""
    said: dict[str, str] = {}
    before = sorted(server.root.rglob("*"))
    for line in commands("install.md"):
        if "--dry-run" in line:
            assert "would make user monitoring" in server.run(line)
            assert before == sorted(server.root.rglob("*"))
            continue
        said[line] = server.run(line)
        if line == "sudo sh deploy/install.sh":
            server.configure(f"dbname={NAME}")
        if line.endswith("doctor"):
            assert (server.root / "etc/systemd/system/phone.service.d/monitoring.conf").is_file()

    report = said["sudo -u monitoring monitoring doctor"]
    for name in ("database: schema", "database release", "retention", "spool room", "secret"):
        assert re.search(rf"^ok +{name}", report, re.MULTILINE), report
    assert "schema is at migration" in said["sudo -u monitoring monitoring db init"]
    assert 10 < len(said)
    assert not (server.root / "etc/monitoring").exists()
    assert not (server.root / "opt/monitoring").exists()


def test_the_page_about_upgrading(server: Server) -> None:
    """On an installation, each step of an upgrade and of a downgrade does what it says."""
    for line in commands("install.md"):
        if "--uninstall" in line:
            break
        server.run(line)
        if line == "sudo sh deploy/install.sh":
            server.configure(f"dbname={NAME}")
    said = [server.run(line) for line in commands("upgrade.md")]

    assert any("uploaded 0 samples" in each for each in said)
    assert any(re.search(r"schema (\d+), need \1", each) for each in said)


def test_the_page_names_its_tests() -> None:
    """Each promise about versions has a test of that name."""
    page = (ROOT / "docs/upgrade.md").read_text(encoding="utf-8")
    tests = (ROOT / "tests/test_upgrade.py").read_text(encoding="utf-8")

    named = re.findall(r"`(test_\w+)`", page)
    assert named
    assert [] == [name for name in named if f"def {name}(" not in tests]


@pytest.mark.parametrize("name", ["install.md", "upgrade.md", "sizing.md"])
def test_links_lead_somewhere(name: str) -> None:
    """Every relative link of a page names a file of the repository."""
    targets = re.findall(r"\]\(([^)#:]+)", (ROOT / "docs" / name).read_text(encoding="utf-8"))

    assert [] == [each for each in targets if not (ROOT / "docs" / each).exists()]
