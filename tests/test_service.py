"""The service: an installation below a scratch root, its units, and what the doctor says of it."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.checks_service import BACKUPS, FOLDERS, service_findings

ROOT = Path(__file__).parents[1]
INSTALL = ROOT / "deploy" / "install.sh"
SERVICE = ROOT / "deploy" / "service"
UNITS = sorted(path.name for path in SERVICE.glob("*.*") if path.suffix in {".service", ".timer"})
EXPOSURE = {
    "monitoring-drilldown": 1.5,
    "monitoring-retention": 1.7,  # it may unlink what the hosts own
    "monitoring-backup": 1.5,
    "monitoring-restore-drill": 1.3,
}
"""At most what `systemd-analyze security` says of each; 0 is unreachable, 10 is no protection."""


def tool(name: str) -> str:
    """Return the path of a program, or skip."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not there: apt-get install systemd")
    return found


def install(root: Path, *options: str) -> str:
    """Run the installation below a root with this run's environment; return what it said."""
    done = subprocess.run(
        ["sh", str(INSTALL), "--root", str(root), *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert 0 == done.returncode, done.stderr
    assert "" == done.stderr
    return done.stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root with an installation in it."""
    install(tmp_path, "--venv", sys.prefix)
    return tmp_path


def listing(root: Path) -> dict[str, tuple[object, ...]]:
    """Return kind, owner, mode, time and content of everything below a root."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, names in os.walk(root):
        for path in (Path(folder, name) for name in (*folders, *names)):
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            facts = (status.st_mode, status.st_uid, status.st_gid, content)
            found[str(path.relative_to(root))] = facts
    return found


def test_accounts_and_folders_are_made(root: Path) -> None:
    """The user may hear sound and log in nowhere; no other user looks into sound or spool."""
    passwd, group = ((root / "etc" / name).read_text() for name in ("passwd", "group"))

    assert re.search(r"^monitoring:.*:/var/monitoring:/usr/sbin/nologin$", passwd, re.MULTILINE)
    assert re.search(r"^monitoring-audio:.*:monitoring$", group, re.MULTILINE)
    for name, (_, _, mode) in FOLDERS.items():
        assert mode == stat.S_IMODE((root / name).stat().st_mode), name
    for name in ("monitoring.env", "signing.key"):
        assert 0o640 == stat.S_IMODE((root / "etc/monitoring" / name).stat().st_mode)
    assert 64 == (root / "etc/monitoring/signing.key").stat().st_size


def test_a_second_installation_changes_nothing(root: Path) -> None:
    """Repeated, the script finds everything done; settings that somebody changed stay."""
    (root / "etc/monitoring/monitoring.env").write_text("MONITORING_DB=calls\n")
    before = listing(root)

    said = install(root, "--venv", sys.prefix)

    assert said.startswith("\nNext:")
    assert before == listing(root)


def test_a_rehearsal_does_nothing(tmp_path: Path) -> None:
    """With --dry-run every step is named, and none is taken."""
    said = install(tmp_path, "--venv", sys.prefix, "--dry-run")

    assert [] == list(tmp_path.iterdir())
    for line in ("would make user monitoring", "would write /usr/local/bin/monitoring"):
        assert line in said.splitlines()


def test_an_uninstallation_keeps_data_unless_told(tmp_path: Path) -> None:
    """Units, programs and environment go; a purge takes all that was made, and nothing else."""
    for name in ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nann:x:7:7::/:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nann:x:7:\n")
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/other.service").write_text("[Service]\n")
    before = listing(tmp_path)
    install(tmp_path, "--venv", sys.prefix)
    sound = tmp_path / "var/monitoring/audio/2026-01-01/a.wav"
    sound.parent.mkdir()
    sound.write_bytes(b"RIFF")

    said = install(tmp_path, "--uninstall")

    assert "kept: settings, accounts, sound, spool and backups" in said
    assert sound.exists()
    assert not (tmp_path / "opt/monitoring").exists()
    assert [] == list((tmp_path / "etc/systemd/system").glob("monitoring-*"))
    assert (tmp_path / "etc/monitoring/monitoring.env").exists()

    install(tmp_path, "--uninstall", "--purge")

    after = listing(tmp_path)
    assert [] == [path for path in after if "monitoring" in path]
    for path in ("etc/passwd", "etc/group", "etc/systemd/system/other.service"):
        assert before[path] == after[path]


def test_what_was_there_before_is_not_taken_away(tmp_path: Path) -> None:
    """A purge leaves a sound folder that the installation did not make."""
    sound = tmp_path / "var/monitoring/audio/old.wav"
    sound.parent.mkdir(parents=True)
    sound.write_bytes(b"RIFF")
    install(tmp_path, "--venv", sys.prefix)

    install(tmp_path, "--uninstall", "--purge")

    assert b"RIFF" == sound.read_bytes()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--purgatory"], 2, "unknown option --purgatory"),
        (["--root"], 2, "--root wants a value"),
        (["--uninstall", "--root", "{}"], 1, "nothing is installed here"),
        (["--root", "{}", "--venv", "/nowhere"], 1, "--venv /nowhere: there is no bin/python"),
        (["--root", "{}", "--wheel", "/no.whl"], 1, "--wheel /no.whl: there is no such file"),
    ],
)
def test_wrong_use_is_named(tmp_path: Path, options: list[str], code: int, said: str) -> None:
    """A wrong option ends the script with its name."""
    arguments = [option.format(tmp_path) for option in options]
    done = subprocess.run(
        ["sh", str(INSTALL), *arguments], check=False, capture_output=True, text=True
    )

    assert code == done.returncode
    assert said in done.stderr


def test_the_lock_is_cut_to_what_is_needed() -> None:
    """Of the lock, the entries with their hashes that pip's report names, whatever the spelling."""
    lock = 'num_py==1 ; python < "3" \\\n    --hash=sha256:a\nnum-py==2 \\\n    --hash=sha256:b\n'
    lock = f"# head\n{lock}rich==3 \\\n    --hash=sha256:c\n"
    names: dict[str, Callable[..., str]] = {}
    exec((SERVICE / "needed.py").read_text(), names)  # noqa: S102 - it is no module of a package
    report = '{"install": [{"metadata": {"name": "Num.Py"}}, {"metadata": {"name": "own"}}]}'

    cut = names["needed"](lock, report, "own")

    assert lock.removeprefix("# head\n").partition("rich")[0] == cut


def test_the_command_has_the_settings_of_the_service(root: Path) -> None:
    """The installed command reads monitoring.env, and the configuration file beside it."""
    folder = root / "etc/monitoring"
    (folder / "monitoring.env").write_text('MONITORING_DB="host=127.0.0.1 port=1"\n')
    (folder / "monitoring.config.json").write_text('{"knobs": {"no.such_knob": 1}}')

    done = subprocess.run(
        [root / "usr/local/bin/monitoring", "db", "status"],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    (folder / "monitoring.config.json").unlink()
    without = subprocess.run(
        [root / "usr/local/bin/monitoring", "db", "status"],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )

    assert 2 == done.returncode
    assert "no.such_knob" in done.stderr
    assert 1 == without.returncode
    assert "port 1 failed" in without.stderr


def analyze(root: Path, *units: str) -> subprocess.CompletedProcess[str]:
    """Let systemd check units below a root, beside those that it brings itself."""
    program = tool("systemd-analyze")
    shutil.copytree("/usr/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True)
    # A link out of the root leads nowhere for it, so the command lies in the root for once.
    (root / "opt/monitoring/venv").unlink()
    (root / "opt/monitoring/venv/bin").mkdir(parents=True)
    shutil.copy(Path(sys.prefix, "bin/monitoring"), root / "opt/monitoring/venv/bin")
    paths = [str(root / "etc/systemd/system" / unit) for unit in units]
    return subprocess.run(
        [program, "verify", "--man=no", f"--root={root}", *paths],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("unit", UNITS)
def test_units_are_what_systemd_takes(root: Path, unit: str) -> None:
    """There is no unknown setting, and each program that is to be started is there."""
    for program in re.findall(r"^ExecStart=(\S+)", (SERVICE / unit).read_text(), re.MULTILINE):
        assert os.access(root / program.lstrip("/"), os.X_OK), program

    done = analyze(root, unit)

    assert 0 == done.returncode
    assert "" == done.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_units_start_commands_that_there_are(unit: str) -> None:
    """What a unit asks of the command is a subcommand of this version."""
    started = re.findall(
        r"^ExecStart=\S+/monitoring (.+)$", (SERVICE / unit).read_text(), re.MULTILINE
    )
    for words in started:
        arguments = [sys.executable, "-m", "deploy.cli", *words.split(), "--help"]
        assert 0 == subprocess.run(arguments, check=False, capture_output=True).returncode


def test_a_wrong_unit_would_be_noticed(root: Path) -> None:
    """The check above fails where it should."""
    path = root / "etc/systemd/system/monitoring-drilldown.service"
    path.write_text(path.read_text().replace("ProtectSystem=", "ProtectSytem="))

    assert "Unknown key 'ProtectSytem'" in analyze(root, path.name).stderr


def test_the_drop_in_fits_a_host(root: Path) -> None:
    """A phone server's own unit with our drop-in is a unit that systemd takes."""
    folder = root / "etc/systemd/system"
    (folder / "phone.service").write_text("[Service]\nExecStart=/usr/local/bin/monitoring serve\n")
    (folder / "phone.service.d").mkdir()
    shutil.copy(root / "opt/monitoring/share/host.conf", folder / "phone.service.d/a.conf")

    done = analyze(root, "phone.service")

    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("name", EXPOSURE)
def test_units_are_confined(name: str) -> None:
    """What systemd calls the exposure of each service stays as low as it is."""
    done = subprocess.run(
        [tool("systemd-analyze"), "security", "--offline=true", str(SERVICE / f"{name}.service")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)

    assert found
    assert float(found[1]) <= EXPOSURE[name]


def test_every_service_has_its_limit() -> None:
    """No unit is left out above, and every timer starts a service that is there."""
    services = {name.removesuffix(".service") for name in UNITS if name.endswith(".service")}

    assert set(EXPOSURE) == services
    assert {name.removesuffix(".timer") for name in UNITS if name.endswith(".timer")} <= services


def test_the_doctor_finds_the_installation_well(root: Path) -> None:
    """Once timers are enabled and there is a backup, the doctor has nothing to say."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away: run the tests as root")
    enable(root)
    (root / BACKUPS / "monitoring-20260101T000000Z.tar").touch()

    problems = [finding for finding in service_findings(root) if not finding.is_well]

    assert [] == problems


def enable(root: Path) -> None:
    """Enable service and timers below a root."""
    units = [unit for unit in UNITS if "drilldown" in unit or unit.endswith(".timer")]
    subprocess.run(
        [tool("systemctl"), f"--root={root}", "enable", *units], check=True, capture_output=True
    )


def _drop_audio_group(root: Path) -> None:
    path = root / "etc/group"
    path.write_text(re.sub(r"(monitoring-audio:.*:)monitoring", r"\1", path.read_text()))


def _old_backup(root: Path) -> None:
    os.utime(root / BACKUPS / "monitoring-20260101T000000Z.tar", (0, 0))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "accounts": (_drop_audio_group, "usermod -aG monitoring-audio monitoring"),
    "folder /var/monitoring/audio": (
        lambda r: (r / "var/monitoring/audio").chmod(0o777),
        "chmod 3770",
    ),
    "folder /var/monitoring/spool": (
        lambda r: (r / "var/monitoring/spool").rmdir(),
        "run deploy/install.sh again",
    ),
    "settings": (lambda r: (r / "etc/monitoring/monitoring.env").chmod(0o644), "chmod o="),
    "backup": (_old_backup, "journalctl -u monitoring-backup"),
    "monitoring-backup.timer": (
        lambda r: (r / "etc/systemd/system/timers.target.wants/monitoring-backup.timer").unlink(),
        "systemctl enable --now monitoring-backup.timer",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_doctor_says_what_to_do(root: Path, name: str) -> None:
    """Each thing that is wrong is one finding, with the command that mends it."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away: run the tests as root")
    enable(root)
    (root / BACKUPS / "monitoring-20260101T000000Z.tar").touch()
    fault, remedy = FAULTS[name]
    fault(root)

    (problem,) = [finding for finding in service_findings(root) if not finding.is_well]

    assert name == problem.name
    assert remedy in problem.text


def test_without_an_installation_there_is_nothing_to_say(tmp_path: Path) -> None:
    """On a developer's machine the doctor does not ask for a service."""
    assert [] == list(service_findings(tmp_path))
