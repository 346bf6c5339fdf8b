"""What is counted, as Prometheus reads it, and the description for programs."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import msgspec

from mrtd.service.metrics import Counter, Histogram
from mrtd.service.openapi import description
from mrtd.verifier.verdict import Reason
from tests.service.fleet import Agent, Fleet, run

_NAME: Final = "[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL: Final = rf'{_NAME}="(?:[^"\\\n]|\\["\\n])*"'
_SAMPLE: Final = re.compile(rf"({_NAME})(?:\{{({_LABEL}(?:,{_LABEL})*)\}})? ([0-9.e+-]+|\+Inf)")


def parse(text: str) -> dict[str, dict[str, float]]:
    """Samples by metric and labels; text format 0.0.4 and nothing else."""
    assert text.endswith("\n")
    found: dict[str, dict[str, float]] = {}
    families: dict[str, str] = {}
    name = ""
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name = line.split(" ")[2]
            assert name not in families
        elif line.startswith("# TYPE "):
            _, _, typed, families[name] = line.split(" ")
            assert typed == name
        else:
            match = _SAMPLE.fullmatch(line)
            assert match, line
            base = re.sub("_(bucket|sum|count)$", "", match[1])
            assert (base if families[name] == "histogram" else match[1]) == name
            assert families[name] != "counter" or name.endswith("_total")
            samples = found.setdefault(match[1], {})
            assert (match[2] or "") not in samples
            samples[match[2] or ""] = float(match[3])
    return found


def test_values_of_labels_are_escaped() -> None:
    counter = Counter("c", "text\nwith a \\", ("l",))
    counter.add('a"b\\c\nd')
    lines = [*counter.lines()]
    assert lines == [
        r"# HELP c_total text\nwith a \\",
        "# TYPE c_total counter",
        r'c_total{l="a\"b\\c\nd"} 1',
    ]
    parse("\n".join([*lines, ""]))


def test_buckets_add_up() -> None:
    histogram = Histogram("h", "t", "p")
    for seconds in (0.0, 0.001, 0.0011, 0.2, 31.0):
        histogram.observe("/", seconds)
    found = parse("\n".join([*histogram.lines(), ""]))
    buckets = found["h_bucket"]
    assert buckets['p="/",le="0.001"'] == 2
    assert buckets['p="/",le="0.0025"'] == 3
    assert buckets['p="/",le="30"'] == 4
    assert buckets['p="/",le="+Inf"'] == found["h_count"]['p="/"'] == 5
    assert list(buckets.values()) == sorted(buckets.values())


def test_everything_is_counted_and_can_be_read() -> None:
    fleet = Fleet()
    fleet.publish()

    async def work(fleet: Fleet) -> None:
        await fleet.get("/register/" + "x" * 500)
        for image in ("image", "image", "other"):
            await fleet.post(
                "/v1/verify", fleet.verification(Agent(image=image), await fleet.nonce())
            )
        got = await fleet.get("/metrics")
        assert got.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        found = parse(got.body.decode())
        assert sum(found["mrtd_verdicts_total"].values()) == 3
        assert found["mrtd_http_requests_total"]['path="(unknown)",status="404"'] == 1
        assert found["mrtd_upstream_requests_total"]['upstream="keys"'] == 1
        assert found["mrtd_lookups_total"][""] >= 2
        assert found["mrtd_highest_sequence"][""] == 412
        assert found["mrtd_trust_root_age_seconds"][""] == 86400
        for name in (
            "mrtd_cache_hits_total",
            "mrtd_store_write_failures_total",
            "mrtd_log_lines_dropped_total",
            "mrtd_http_in_flight",
            "mrtd_draining",
        ):
            assert found[name][""] == 0 or name == "mrtd_cache_hits_total"

    run(fleet, work)


def references(tree: Any) -> set[str]:
    if isinstance(tree, dict):
        own = {tree["$ref"]} if isinstance(tree.get("$ref"), str) else set()
        return own.union(*map(references, tree.values()))
    return set().union(*map(references, tree)) if isinstance(tree, list) else set()


def test_the_description_says_what_there_is() -> None:
    async def work(fleet: Fleet) -> None:
        got = await fleet.get("/openapi.json")
        assert got.json == json.loads(msgspec.json.encode(description(reference=False)))
        for path, item in got.json["paths"].items():
            for method in item:
                asked = await fleet.get(path) if method == "get" else await fleet.post(path, b"")
                assert str(asked.status) in item[method]["responses"], path

    run(Fleet(), work)


def test_the_description_of_a_control_plane_has_its_pages() -> None:
    async def work(fleet: Fleet) -> None:
        got = await fleet.get("/openapi.json")
        assert got.json == json.loads(msgspec.json.encode(description(reference=True)))
        names = [item["get"]["operationId"] for item in got.json["paths"].values() if "get" in item]
        assert len(set(names)) == len(names)
        assert {"/", "/agent/{agent_id}", "/static/fleet.css"} <= got.json["paths"].keys()
        for path, item in got.json["paths"].items():
            if "get" in item:
                asked = await fleet.get(path.replace("{agent_id}", "none"))
                content = item["get"]["responses"][str(asked.status)].get("content", {})
                assert asked.headers["content-type"].partition(";")[0] in content, path

    run(Fleet(kind="reference"), work)


def test_the_description_is_whole() -> None:
    for reference in (False, True):
        document = json.loads(msgspec.json.encode(description(reference=reference)))
        schemas = document["components"]["schemas"]
        known = {f"#/components/schemas/{name}" for name in schemas}
        assert references(document) <= known
        assert schemas["VerifyRequest"]["additionalProperties"] is False
        assert set(schemas["Reason"]["enum"]) == {str(reason) for reason in Reason}
        for path in document["paths"]:
            if path in {"/v1/verify", "/register"}:
                answers = document["paths"][path]["post"]["responses"]
                assert [code for code in answers if code < "400"] == ["200"]
