"""What Prometheus, Alertmanager, Grafana and compose are given is current, valid and whole."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.alerting import RuleGroup

from archiver.migrations import READER, migrate
from dashboards.alerts import ALERTS
from dashboards.annotations import Addresses
from dashboards.grafana_rules import POSTGRES_UID, PROMETHEUS_UID, grafana_rules
from dashboards.links import DEFAULT_PUBLIC_URL
from dashboards.provisioning import GRAFANA_RULES, PROMETHEUS_RULES, files
from dashboards.yaml_text import render
from deploy.cli import main
from deploy.postgres import EmbeddedPostgres
from exporter.config import Limits
from tests.fix_prometheus import program, promtool

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "provisioning"
RULES = [
    rule for group in yaml.safe_load(files()[GRAFANA_RULES])["groups"] for rule in group["rules"]
]


def read(name: str) -> Any:
    """Return what a YAML file below deploy/provisioning says."""
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", [PROMETHEUS_RULES, GRAFANA_RULES])
def test_the_committed_files_are_current(name: str) -> None:
    """The files of rules are what `monitoring dashboards build` writes now."""
    assert files()[name] == (FOLDER / name).read_text(encoding="utf-8")


def test_addresses_are_those_of_the_build() -> None:
    """Every link of every rule leads to the address that the build was told."""
    there = Addresses("https://calls.test", "https://grafana.test", "https://docs.test/R")

    for text in files(there).values():
        assert set(re.findall(r"https?://[a-z0-9.:]+", text)) == {
            "https://calls.test",
            "https://grafana.test",
            "https://docs.test",
        }
        assert "RUNBOOK.md#" not in text


def test_yaml_is_read_as_it_was_meant() -> None:
    """Text that looks like something else, or has quotes or lines, comes back as it was."""
    data: dict[str, object] = {
        "words": ["yes", "null", "1.5", "30s", "a: b", "# c", "it's", "- d", "", "{e}"],
        "lines": "one\n  two\nthree",
        "nested": [{"a": {"b": [1, 2.5, True]}, "c": "d"}, {"e": []}],
        "empty": {},
    }

    assert data == yaml.safe_load(render(data, "a comment\nof two lines"))


def test_grafana_knows_every_key_of_the_rules() -> None:
    """Grafana's own model of rules takes each of ours and gives it back without a loss."""
    register_default_plugins()
    for group in grafana_rules(ALERTS, Addresses())["groups"]:  # type: ignore[attr-defined] # a list
        # What the file says of the group, Grafana's model says of each rule.
        more = {"ruleGroup": group["name"], "folderUID": group["folder"], "orgID": group["orgId"]}
        rules = [{**rule, **more} for rule in group["rules"]]
        model = RuleGroup.from_json(
            {"title": group["name"], "rules": json.loads(json.dumps(rules))}
        )

        assert rules == json.loads(JSONEncoder().encode(model))["rules"]


def test_grafana_evaluates_what_the_file_says() -> None:
    """Intervals are those of Grafana's clock, names are unique, no environment is filled in."""
    document = yaml.safe_load(files()[GRAFANA_RULES])

    assert 1 == document["apiVersion"]
    assert [alert.name for alert in ALERTS] == [rule["title"] for rule in RULES]
    assert len(RULES) == len({rule["uid"] for rule in RULES})
    for group in document["groups"]:
        assert 0 == int(group["interval"].removesuffix("s")) % 10
    for rule in RULES:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", rule["uid"])
        assert re.fullmatch(r"[0-9]+s", rule["for"])
        assert {"OK", "Error"} == {rule["noDataState"], rule["execErrState"]}
        # Grafana replaces ${...} in annotations, from 12 on.
        assert "${" not in json.dumps(rule["annotations"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["title"])
def test_grafanas_queries_belong_together(rule: dict[str, Any]) -> None:
    """Queries ask known data sources, expressions follow them, templates use what there is."""
    refs = {query["refId"]: query for query in rule["data"]}
    texts = json.dumps(rule["annotations"])

    assert len(refs) == len(rule["data"])
    assert "threshold" == refs[rule["condition"]]["model"]["type"]
    for ref, query in refs.items():
        assert (ref, query["datasourceUid"]) == (
            query["model"]["refId"],
            query["model"]["datasource"]["uid"],
        )
        if query["datasourceUid"] == "__expr__":
            assert query["model"]["expression"] in refs
        else:
            assert query["datasourceUid"] in {PROMETHEUS_UID, POSTGRES_UID}
            assert query["relativeTimeRange"]["from"] > query["relativeTimeRange"]["to"] == 0
    reduced = {ref for ref, query in refs.items() if query["model"].get("type") == "reduce"}
    assert set(re.findall(r"\$values\.(\w+)", texts)) <= reduced
    labels = set(re.findall(r"\$labels\.(\w+)", texts))
    assert labels <= {"instance", "job", "part", "thread", "disk", "station", "tap", "trace_id"}
    assert texts.count("{{") == texts.count("}}")


def test_a_search_gives_one_number_and_labels() -> None:
    """SQL of rules has the columns that Grafana needs: labels, and exactly one number."""
    searches = [alert.search(alert.window_s) for alert in ALERTS if alert.search]

    for search in searches:
        assert 1 == len(re.findall(r" AS (?:value|at)\b", search.value))
        assert [" AS bucket", " AS at"] == re.findall(r" AS (?:bucket|at)\b", search.moment)


def test_data_sources_are_those_of_rules_and_boards() -> None:
    """Both data sources have the ids that rules use; an exemplar's dot leads to its call."""
    sources = {
        each["uid"]: each for each in read("grafana/datasources/monitoring.yaml")["datasources"]
    }

    assert {PROMETHEUS_UID, POSTGRES_UID} == set(sources)
    assert READER == sources[POSTGRES_UID]["user"]
    assert "grafana-postgresql-datasource" == sources[POSTGRES_UID]["type"]
    (exemplar,) = sources[PROMETHEUS_UID]["jsonData"]["exemplarTraceIdDestinations"]
    # A dollar that is Grafana's own is written twice in such a file.
    assert "${MONITORING_PUBLIC_URL}/call/$${__value.raw}" == exemplar["url"]
    assert "trace_id" == exemplar["name"]


def test_grafana_finds_its_variables_and_dashboards() -> None:
    """Each variable of the data sources is set, and the folder of the dashboards is mounted."""
    grafana = read("compose.yaml")["services"]["grafana"]
    text = (FOLDER / "grafana/datasources/monitoring.yaml").read_text(encoding="utf-8")
    set_there = set(grafana["environment"]) | set(secrets("grafana"))
    (provider,) = read("grafana/dashboards/monitoring.yaml")["providers"]
    mounted = {volume.split(":")[1] for volume in grafana["volumes"]}

    assert set() == set(re.findall(r"\$\{([A-Z_]+)\}", text)) - set_there
    assert provider["options"]["path"] in mounted
    assert DEFAULT_PUBLIC_URL == grafana["environment"]["MONITORING_PUBLIC_URL"]


def test_a_contact_point_is_shown() -> None:
    """The example has a receiver for every route, and is no file that Grafana reads by itself."""
    example = read("grafana/alerting/contact-points.yaml.example")
    points = {point["name"] for point in example["contactPoints"]}
    (policy,) = example["policies"]

    assert {policy["receiver"], *(route["receiver"] for route in policy["routes"])} <= points
    assert [FOLDER / GRAFANA_RULES] == list((FOLDER / "grafana/alerting").glob("*.yaml"))


def test_promtool_accepts_the_configuration() -> None:
    """`promtool check config` takes prometheus.yml with its rules."""
    code, said = promtool("check", "config", FOLDER / "prometheus/prometheus.yml")

    assert 0 == code, said
    assert f"{len(ALERTS)} rules found" in said


def test_every_scrape_has_limits() -> None:
    """No job scrapes without limits; a full page of ours fits; what is far away has a password."""
    jobs = {job["job_name"]: job for job in read("prometheus/prometheus.yml")["scrape_configs"]}
    limits = ("label_limit", "label_name_length_limit", "label_value_length_limit", "target_limit")

    assert all(name.startswith("monitoring") for name in jobs)  # MonitoringTargetDown looks there
    for job in jobs.values():
        assert job["sample_limit"] > Limits().max_series
        assert all(job[limit] > 0 for limit in limits)
        assert job["body_size_limit"]
    remote = jobs["monitoring-remote"]
    assert ("https", {"username", "password_file"}) == (remote["scheme"], set(remote["basic_auth"]))


def test_amtool_accepts_the_configuration() -> None:
    """`amtool check-config` takes alertmanager.yml; what it holds back are alerts of ours."""
    path = FOLDER / "alertmanager/alertmanager.yml"
    done = subprocess.run(
        [program("amtool"), "check-config", path], capture_output=True, text=True, check=False
    )
    named = set(re.findall(r"\b(?:Call|Monitoring)[A-Z]\w+", path.read_text(encoding="utf-8")))

    assert 0 == done.returncode, done.stdout + done.stderr
    assert set() == named - {alert.name for alert in ALERTS}


def secrets(service: str) -> dict[str, str]:
    """Return what the file of a service's secrets sets."""
    lines = (FOLDER / f"env/{service}.env").read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name: value for name, _, value in pairs}


def test_compose_is_a_compose_file() -> None:
    """A reader of the Compose Specification that is not ours takes it, key by key."""
    compose_spec = pytest.importorskip("compose_spec", reason="compose-spec is missing: make venv")
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")

    found = compose_spec.PyCompose.from_yaml(text).to_spec()

    assert list(yaml.safe_load(text)["services"]) == list(found.services)


@pytest.mark.parametrize("service", ["postgres", "demo", "prometheus", "alertmanager", "grafana"])
def test_a_service_is_pinned_watched_and_private(service: str) -> None:
    """A service has a version, a health check, ports on this machine alone, and its mounts."""
    document = read("compose.yaml")
    found = document["services"][service]

    assert re.fullmatch(r"[a-z_/0-9-]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", found["image"])
    assert "CMD" == found["healthcheck"]["test"][0]
    assert all(port.startswith("127.0.0.1:") for port in found["ports"])
    for volume in found["volumes"]:
        source = volume.split(":")[0]
        is_there = (FOLDER / source).exists() if "/" in source else source in document["volumes"]
        assert is_there, volume
    assert set(found.get("depends_on", {})) <= set(document["services"])
    if "env_file" in found:
        assert (FOLDER / found["env_file"]).is_file()
    assert not re.search(r"(?i)password|secret", json.dumps(found.get("environment", {})))


def test_services_have_the_same_passwords() -> None:
    """Who logs in has the password that PostgreSQL was given."""
    server = secrets("postgres")

    assert server["POSTGRES_PASSWORD"] == secrets("demo")["PGPASSWORD"]
    name = "MONITORING_READER_PASSWORD"
    assert server[name] == secrets("grafana")[name]


def test_the_demos_image_has_all_it_copies() -> None:
    """The Dockerfile has a pinned base, and copies what the repository has."""
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    sources = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ")]

    assert re.search(r"^FROM python:\d+\.\d+\.\d+-slim-", text, flags=re.MULTILINE)
    assert all((ROOT / name).exists() for names in sources for name in names)


def test_the_readers_role_can_log_in_and_read(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """The script of the first start makes the role; migrations let it read views, and only them."""
    with EmbeddedPostgres(tmp_path / "data", bin_dir=postgres.bin_dir, fsync=False) as server:
        admin = psycopg.conninfo.conninfo_to_dict(server.conninfo("postgres"))
        environment = {
            "PATH": f"{server.bin_dir}:{os.environ['PATH']}",
            "PGHOST": str(admin["host"]),
            "PGPORT": str(admin["port"]),
            "POSTGRES_USER": str(admin["user"]),
            "POSTGRES_DB": "postgres",
            "MONITORING_READER_PASSWORD": 'it\'s "odd" $1',
        }
        script = FOLDER / "postgres/10-reader.sh"
        subprocess.run(["sh", script], env=environment, check=True, capture_output=True)
        migrate(server.conninfo("postgres"))
        reader = psycopg.conninfo.make_conninfo(server.conninfo("postgres"), user=READER)
        with psycopg.connect(reader) as connection:
            assert (0,) == connection.execute("SELECT count(*) FROM v_metrics").fetchone()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT file_path FROM audio_segments_5s")


@pytest.mark.parametrize("has_folder", [True, False])
def test_the_demo_uses_a_database_that_is_there(
    database: str, tmp_path: Path, *, has_folder: bool
) -> None:
    """`demo --use-db` archives in MONITORING_DB; sound stays where settings or --data say."""
    command = ["demo", "--use-db", "--duration", "6"]
    variables = {"MONITORING_DB": database, "MONITORING_METRICS_PORT": "19464-19999"}
    if has_folder:
        command += ["--data", str(tmp_path / "demo")]
    else:
        variables["MONITORING_AUDIO_PATH"] = str(tmp_path / "demo" / "audio")
        variables["MONITORING_SPOOL_PATH"] = str(tmp_path / "demo" / "spool")
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli", *command],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert not (tmp_path / "demo" / "postgres").exists()
    with psycopg.connect(database) as connection:
        query = "SELECT count(DISTINCT station_key) FROM tap_buckets_5s"
        assert (2,) == connection.execute(query).fetchone()
        paths = connection.execute("SELECT file_path FROM audio_segments_5s").fetchall()
    assert paths
    assert all((tmp_path / "demo" / "audio" / path).exists() for (path,) in paths)


def test_build_writes_the_rules_with_its_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`monitoring dashboards build` writes what `files` says, for the addresses that it is told."""
    monkeypatch.setenv("MONITORING_PUBLIC_URL", "https://calls.test")
    there = Addresses("https://calls.test", "https://grafana.test", "https://docs.test/R")
    options = ["--grafana-url", there.grafana_url, "--runbook-url", there.runbook_url]

    assert 0 == main(["dashboards", "build", "-o", str(tmp_path), *options])

    for name, text in files(there).items():
        assert text == (tmp_path / name).read_text(encoding="utf-8")
