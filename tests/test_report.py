"""The HTML report: everything is in it, hostile text is only text, and a browser shows it well."""

from __future__ import annotations

import re
import struct
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.cli.main import main
from mrtd.compare import Comparison, compare_sides
from mrtd.eventlog import Event, EventLog, EventType, InputName, Origin, replay
from mrtd.explain.findings import Change, Explanation, Finding, FindingKind
from mrtd.registers import Exact, RegisterName, Rule, Sha384, Target, Unpinned
from mrtd.report import write_html
from mrtd.side import Side, SideKind
from tests.conftest import require_tool
from tests.launches import Launch

PHONE: Final = (390, 844)
DESKTOP: Final = (1280, 900)
HOSTILE: Final = "<script>alert(1)</script>\"'&\x1b[31m\u202egnp.exe"
LONG: Final = "x" * 500


def event(
    register: RegisterName,
    what: str,
    *,
    digest: str = "",
    unknown: str = "",
    data: bytes = b"",
    kind: EventType = EventType.EV_PLATFORM_CONFIG_FLAGS,
) -> Event:
    value = Unpinned(unknown) if unknown else Sha384.of((digest or what).encode())
    origin = Origin(InputName.ACPI, f"from {what}")
    return Event(register, kind, value, what, origin, data)


def side(origin: str, log: EventLog, *, mrtd: str = "") -> Side:
    registers: dict[RegisterName, Rule] = {**replay(log)}
    if mrtd:
        registers[RegisterName.MRTD] = Exact(Sha384.of(mrtd.encode()))
    return Side(
        origin=origin, kind=SideKind.DOCUMENT, target=Target.CC, registers=registers, log=log
    )


def comparison(text: str = "etc/acpi/tables") -> Comparison:
    """Match, change, insertion, deletion and an event that nobody could predict."""
    r0, r1 = RegisterName.RTMR0, RegisterName.RTMR1
    one, two = (
        tuple(event(r0, f"{name}", digest=f"{name}{tables}", data=name.encode()) for name in names)
        for names, tables in (
            (("a", "b", text, "gone"), "1"),
            (("a", "b", text, LONG), "2"),
        )
    )
    one = (event(r0, "same", data=b"same"), *one, event(r1, "kernel", unknown=f"no file: {text}"))
    two = (event(r0, "same", data=b"same"), *two, event(r1, "kernel"))
    one = (event(r0, "only here", kind=EventType.EV_SEPARATOR), *one)
    two = (*two, event(r0, "only there", kind=EventType.EV_EFI_ACTION))
    return compare_sides(side(text, one, mrtd="a"), side(f"/long/{LONG}", two, mrtd="a"))


def explanation(compared: Comparison, text: str) -> Explanation:
    change = Change("memory", text, 'machine.memory = "2 GiB"', f"meaning {text}")
    findings = (
        Finding(RegisterName.RTMR0, FindingKind.EXPLAINED, f"finding {text}", (change,)),
        Finding(RegisterName.RTMR0, FindingKind.RECOGNISED, f"event {text}", event_index=1),
        Finding(RegisterName.RTMR1, FindingKind.UNEXPLAINED, LONG),
    )
    return Explanation(
        observed=compared.observed,
        comparison=compared,
        findings=findings,
        changes=(change,),
        explained=True,
        tried=42,
        next_steps=(f"step {text}",),
    )


class Page(HTMLParser):
    """What a page consists of: elements, attributes and text outside of its style."""

    VOID: Final = frozenset({"meta", "br", "!doctype"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def test_everything_is_on_the_page() -> None:
    compared = comparison()
    page = Page(write_html(compared, explanation(compared, "2 GiB")))
    for register in compared.registers:
        assert register.name.upper() in page.text
        assert register.reason in page.text
        for row in register.rows:
            for one in (row.expected, row.observed):
                assert one is None or one.description in page.text
                assert (
                    one is None
                    or not isinstance(one.digest, Sha384)
                    or str(one.digest) in page.text
                )
            assert all(depends.text in page.text for depends in row.depends)
    for text in ("finding 2 GiB", "event 2 GiB", "meaning 2 GiB", "step 2 GiB", "42 hypotheses"):
        assert text in page.text
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    links = [value for name, value in page.attributes if name == "href"]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_nothing_is_fetched_or_run() -> None:
    html = write_html(comparison(HOSTILE), explanation(comparison(HOSTILE), HOSTILE))
    page = Page(html)
    assert not {"script", "img", "link", "iframe", "object", "form"} & set(page.tags)
    names = {name for name, _ in page.attributes}
    assert "src" not in names
    assert not any(name.startswith("on") for name in names)
    assert "url(" not in html
    assert "http://" not in html
    assert "https://" not in html
    assert "default-src 'none'" in html


def test_hostile_text_is_only_text() -> None:
    html = write_html(comparison(HOSTILE), explanation(comparison(HOSTILE), HOSTILE))
    assert "<script>" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "<script>alert(1)</script>\"'&\\x1b[31m\\u202egnp.exe" in Page(html).text


@given(st.text(max_size=60))
def test_any_text_stays_text(text: str) -> None:
    page = Page(write_html(comparison(f"<{text}>")))
    assert set(page.tags) <= set(Page(write_html(comparison())).tags)


def test_the_same_values_give_the_same_page() -> None:
    assert write_html(comparison()) == write_html(comparison())


def test_verdicts() -> None:
    same = compare_sides(comparison().expected, comparison().expected)
    assert "Match" in Page(write_html(same)).text
    log = (event(RegisterName.RTMR0, "x"),)
    nothing = compare_sides(side("a", log), side("b", (), mrtd="m"))
    assert "No register is known on both sides" in Page(write_html(nothing)).text


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = str(Launch().write(tmp_path))
    document, report = tmp_path / "document.json", tmp_path / "report.html"
    assert main(["measure", spec, "--output", str(document), "--quiet"]) == 0
    main(["compare", str(document), str(document), "--html", str(report), "--quiet"])
    capsys.readouterr()
    assert "MRTD" in Page(report.read_text(encoding="utf-8")).text


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    compared = comparison(HOSTILE)
    path.write_text(write_html(compared, explanation(compared, HOSTILE)), encoding="utf-8")
    return path


def browse(page: Path, *options: str, size: tuple[int, int] = DESKTOP) -> str:
    """Open a page in Chromium without a window, and without its own wish to call home."""
    flags = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--hide-scrollbars", "--disable-dev-shm-usage", "--no-pdf-header-footer"),
    )
    profile = page.with_suffix(".profile")
    window = f"--window-size={size[0]},{size[1]}"
    done = subprocess.run(
        [require_tool("chromium"), *flags, f"--user-data-dir={profile}", window, *options,
         page.as_uri()],
        capture_output=True,
        check=True,
        encoding="utf-8",
        errors="replace",
        stdin=subprocess.DEVNULL,
        timeout=120,
    )  # fmt: skip
    return done.stdout


def pixels(png: Path) -> tuple[int, int, list[bytes]]:
    """Width, height and rows of an 8-bit RGB or RGBA picture whose filters do not matter to us."""
    data = png.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    channels = {2: 3, 6: 4}[data[25]]
    at, packed = 8, b""
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        if data[at + 4 : at + 8] == b"IDAT":
            packed += data[at + 8 : at + 8 + size]
        at += size + 12
    raw = zlib.decompress(packed)
    stride = 1 + width * channels
    return width, height, [raw[y * stride : (y + 1) * stride] for y in range(height)]


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_a_browser_shows_it(report: Path, size: tuple[int, int], tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    browse(report, f"--screenshot={picture}", size=size)
    width, height, rows = pixels(picture)
    assert (width, height) == size
    # filters make equal neighbours zero: a row with anything drawn into it has something else
    drawn = sum(any(row[1:]) for row in rows)
    assert drawn > height // 4


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_window(report: Path, width: int, tmp_path: Path) -> None:
    """A frame as wide as a phone measures the page; a frame has no smallest size, a window has."""
    html = report.read_text(encoding="utf-8")
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    script = (
        "<script>addEventListener('load', () => parent.postMessage("
        "[innerWidth, document.documentElement.scrollWidth].join(' '), '*'))</script>"
    )
    (tmp_path / "inner.html").write_text(html.replace("</body>", f"{script}</body>"), "utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(
        "<!doctype html><body><script>addEventListener('message', e => "
        "document.body.dataset.widths = e.data)</script>"
        f'<iframe src="inner.html" style="width:{width}px;height:800px;border:0"></iframe>',
        "utf-8",
    )
    dom = browse(frame, "--dump-dom", "--virtual-time-budget=5000", size=(1400, 900))
    found = re.search(r'data-widths="(\d+) (\d+)"', dom)
    assert found is not None, dom[:500]
    assert int(found[1]) == width
    assert int(found[2]) <= width


def test_it_prints(report: Path, tmp_path: Path) -> None:
    paper = tmp_path / "report.pdf"
    browse(report, f"--print-to-pdf={paper}")
    data = paper.read_bytes()
    assert data.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", data)) >= 2
