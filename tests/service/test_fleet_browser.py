"""The fleet's pages in Chromium: they show, they fit, they can be read and used by everybody."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from mrtd.errors import TransportError
from tests.lab.agents import RUNS, MadeFleet, health, serving, verdict
from tests.service.chromium import Tab, chromium
from tests.service.fleet import Fleet as Lab

DESKTOP: Final = (1280, 900)
PHONE: Final = (390, 844)
ENTER: Final = 13
TAB: Final = 9


def empty(_: MadeFleet) -> None:
    pass


def all_green(fleet: MadeFleet) -> None:
    for name in ("vm-berlin-1", "vm-berlin-2", "vm-oslo-1"):
        fleet.add(name, "green", "green too")


def mixed(fleet: MadeFleet) -> None:
    all_green(fleet)
    old = verdict("host_acpi_unmeasured", tag="v1.4.1", sequence=207)
    fleet.add("gpu-7", "green", "exception", "lenient", admitted=old)
    fleet.add("gpu-8", "green", "unsigned", "away")
    fleet.add("gpu-9", down="gpu-9: no usable answer: ConnectionRefusedError")
    fleet.add("idle")


def red(fleet: MadeFleet) -> None:
    fleet.add("gpu-8", *RUNS)


SCENES: Final[dict[str, tuple[Callable[[MadeFleet], None], str]]] = {
    "all green": (all_green, "/"),
    "mixed": (mixed, "/"),
    "red agent": (red, "/agent/gpu-8-id"),
    "empty fleet": (empty, "/"),
    "no such agent": (empty, "/agent/none"),
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(tmp_path_factory.mktemp("chromium") / "profile") as tab:
        yield tab


@contextmanager
def site(fill: Callable[[MadeFleet], None]) -> Iterator[tuple[str, MadeFleet]]:
    """The address of a control plane with a fleet."""
    fleet = MadeFleet()
    fill(fleet)
    fleet.look()
    lab = Lab(kind="reference", fleet=fleet.fleet, owner="devopsdefender", environment="staging")
    try:
        with serving(lab.app) as base:
            yield base, fleet
    finally:
        assert lab.service.close(60)


# Contrast as WCAG 2.2 (1.4.3) counts it: of every text with what is painted behind it
CONTRAST: Final = """
(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => {
    const curve = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = rgb.map((v) => curve(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const back = parts(getComputedStyle(node).backgroundColor);
      if (back.length === 3 || back[3] === 1) return back.slice(0, 3);
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; (text = walker.nextNode());) {
    if (!text.data.trim()) continue;
    const node = text.parentElement;
    const one = light(parts(getComputedStyle(node).color).slice(0, 3)), two = light(behind(node));
    const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (ratio < 4.5) poor.push(`${text.data.trim()}: ${ratio.toFixed(2)}`);
  }
  return poor;
})()
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scene", SCENES)
def test_it_is_shown_and_fits(
    browser: Tab, scene: str, size: tuple[int, int], theme: str, tmp_path: Path
) -> None:
    fill, path = SCENES[scene]
    with site(fill) as (base, _):
        browser.problems.clear()
        browser.show(width=size[0], height=size[1], dark=theme == "dark")
        browser.open(base + path)
        back = browser.value("getComputedStyle(document.body).backgroundColor")
        assert back == ("rgb(20, 23, 27)" if theme == "dark" else "rgb(255, 255, 255)")
        assert browser.value("document.documentElement.scrollWidth") <= size[0]
        assert browser.value(CONTRAST) == []
        picture = tmp_path / "page.png"
        browser.picture(picture)
        assert picture.stat().st_size > 5000
        expected = ["404"] if scene == "no such agent" else []
        assert [p for p in browser.problems if "404" not in p] == []
        assert len(browser.problems) == len(expected), browser.problems


@pytest.mark.parametrize("width", [320, 768, 1024])
def test_nothing_is_wider_than_the_window_even_if_names_are_long(browser: Tab, width: int) -> None:
    def long(fleet: MadeFleet) -> None:
        agent_id = fleet.add("x" * 63)
        says = [
            one.__class__("a" * 256, f"ghcr.io/{'b' * 400}", "c" * 500) for one in RUNS.values()
        ]
        fleet.agents.says[f"https://{agent_id}.example"] = health(says)

    with site(long) as (base, _):
        browser.show(width=width, height=800)
        for path in ("/", f"/agent/{'x' * 63}-id"):
            browser.open(base + path)
            assert browser.value("document.documentElement.scrollWidth") <= width


def test_it_says_everything_without_scripts(browser: Tab) -> None:
    with site(mixed) as (base, _):
        browser.show(width=1280, height=900, scripts=False)
        browser.open(base)
        browser.show(width=1280, height=900)
        text = browser.value("document.body.innerText")
        assert "gpu-8" in text
        assert "1 green, 1 red, 1 unknown" in text


def test_it_can_be_used_with_the_keyboard_alone(browser: Tab) -> None:
    with site(red) as (base, _):
        browser.show(width=1280, height=900)
        browser.open(base)
        browser.press("Tab", TAB)
        skip = "document.activeElement.getAttribute('href')"
        assert browser.value(skip) == "#main"
        assert browser.value("document.activeElement.getBoundingClientRect().left") >= 0
        seen = []
        while browser.value(skip) != "/agent/gpu-8-id":
            seen.append(browser.value(skip))
            assert len(seen) < 10, seen
            browser.press("Tab", TAB)
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert browser.value(outline) == "solid"
        browser.value("document.activeElement.click()")
        browser.until("location.pathname === '/agent/gpu-8-id'")
        browser.until("document.readyState === 'complete'")
        assert browser.value("document.querySelector('h1').innerText") == "gpu-8"


def tree(browser: Tab) -> list[tuple[str, str]]:
    """Roles and names, as screen readers get them."""
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    return [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    ]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_screen_readers_get_landmarks_and_a_table(browser: Tab, size: tuple[int, int]) -> None:
    with site(mixed) as (base, _):
        browser.show(width=size[0], height=size[1])
        browser.open(base)
        found = tree(browser)
        roles = {role for role, _ in found}
        assert {"main", "banner", "contentinfo", "navigation", "status"} <= roles
        assert [name for role, name in found if role == "columnheader"] == [
            "Agent", "Workloads", "Measurement", "Release", "TCB", "Admitted",
        ]  # fmt: skip
        assert sum(role == "row" for role, _ in found) == 8
        assert sum(role == "rowheader" for role, _ in found) == 7
        assert ("table", "Agents, their measurements and their workloads") in found
        assert browser.value("document.documentElement.lang") == "en"
        assert browser.value("document.querySelectorAll('h1').length") == 1


def test_it_looks_again_by_itself_and_says_what_changed(browser: Tab) -> None:
    with site(all_green) as (base, fleet):
        browser.show(width=1280, height=900)
        browser.open(base)
        browser.value("document.querySelector('main a[href=\"/agent/vm-oslo-1-id\"]').focus()")
        fleet.add("gpu-8", "unsigned")
        fleet.look()
        # as if the tab had been behind another one: it looks at once, and not with the timer
        browser.value("document.dispatchEvent(new Event('visibilitychange'))")
        browser.until("document.body.innerText.includes('gpu-8')")
        assert browser.value("document.getElementById('news').textContent") == (
            "4 agents; workloads: green 3, red 1"
        )
        assert browser.value("document.activeElement.getAttribute('href')") == "/agent/vm-oslo-1-id"


def test_it_says_that_nobody_answers(browser: Tab) -> None:
    with site(all_green) as (base, _):
        browser.show(width=1280, height=900)
        browser.open(base)
    browser.value("document.dispatchEvent(new Event('visibilitychange'))")
    browser.until("document.body.classList.contains('offline')")
    assert "does not answer" in browser.value("document.getElementById('news').textContent")
    assert "vm-oslo-1" in browser.value("document.body.innerText")


def test_scripts_of_agents_do_not_run(browser: Tab) -> None:
    hostile = "<img src=x onerror='document.body.dataset.owned=1'><script>owned=1</script>"

    def fill(fleet: MadeFleet) -> None:
        agent_id = fleet.add("vm-1")
        says = [RUNS["green"].__class__(hostile, hostile, hostile)]
        fleet.agents.says[f"https://{agent_id}.example"] = health(says)
        down = fleet.add("vm-2")
        fleet.agents.says[f"https://{down}.example"] = TransportError(hostile)

    with site(fill) as (base, _):
        browser.problems.clear()
        browser.show(width=1280, height=900)
        for path in ("/", "/agent/vm-1-id", "/agent/vm-2-id"):
            browser.open(base + path)
            browser.value("document.dispatchEvent(new Event('visibilitychange'))")
            assert browser.value("document.images.length") == 0
            assert browser.value("document.body.dataset.owned") is None
            # and the policy would not let them, if they were there
            browser.value(
                "(() => { const s = document.createElement('script'); s.textContent = 'owned = 1';"
                "document.body.append(s); })()"
            )
            assert browser.value("typeof owned") == "undefined"
        assert any(re.search("Content Security Policy", text) for text in browser.problems)
