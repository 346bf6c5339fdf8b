"""Hypothesis strategies that parser tests share: hostile bytes, TDVF layouts, UEFI variables."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from hypothesis import strategies as st

from fixtures import tdvf, varstore
from mrtd.errors import InputError

PAGE: Final = 0x1000
# Values that break size arithmetic: nothing, one, almost all, all
EDGES: Final = (0, 1, 7, 8, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def refused(call: Callable[[], object]) -> InputError | None:
    """The error of ours that a call ends with; None if it gives a value; others fail the test."""
    try:
        call()
    except InputError as error:
        return error
    return None


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """Valid bytes with a few of them replaced by others or by edge values, maybe cut or longer."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        if draw(st.booleans()):
            size = draw(st.sampled_from([1, 2, 4, 8]))
            data[at : at + size] = (draw(st.sampled_from(EDGES)) % (1 << 8 * size)).to_bytes(
                size, "little"
            )
        else:
            new = draw(st.binary(min_size=1, max_size=8))
            data[at : at + len(new)] = new
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    if draw(st.booleans()):
        data += draw(st.binary(max_size=64))
    return bytes(data)


def hostile(*valid: bytes) -> st.SearchStrategy[bytes]:
    """Random bytes, truncations and mutations of valid inputs."""
    return st.one_of(st.binary(max_size=512), *(mutated(data) for data in valid))


@st.composite
def tdvf_layouts(draw: st.DrawFn) -> tuple[tuple[tdvf.Section, ...], bytes]:
    """Sections of every type, in any order, without overlaps; and the file they point into.

    Raw sizes need not be multiples of a page, nor fill the memory; every attribute occurs.
    """
    seed = draw(st.binary(max_size=8))
    image = hashlib.shake_128(seed).digest(4 * PAGE)  # no two chunks are alike
    kinds = [
        tdvf.BFV,
        *draw(
            st.lists(
                st.sampled_from(
                    [
                        tdvf.BFV,
                        tdvf.CFV,
                        tdvf.TEMP_MEM,
                        tdvf.PERM_MEM,
                        tdvf.PAYLOAD,
                        tdvf.PAYLOAD_PARAM,
                        tdvf.TD_INFO,
                        tdvf.TD_PARAMS,
                    ]
                ),
                max_size=5,
            )
        ),
        *draw(st.sampled_from([(), (tdvf.TD_HOB,)])),
    ]
    address, sections = 0x800000, []
    for kind in draw(st.permutations(kinds)):
        pages = draw(st.integers(1, 3))
        address += draw(st.integers(0, 2)) * PAGE
        raw = draw(st.integers(1, min(pages * PAGE, len(image))))
        if kind in {tdvf.TEMP_MEM, tdvf.TD_HOB}:
            raw = 0
        elif kind not in {tdvf.BFV, tdvf.CFV}:
            raw = draw(st.sampled_from([0, raw]))
            pages = draw(st.sampled_from([pages, 0])) if kind == tdvf.TD_INFO else pages
        offset = draw(st.integers(0, len(image) - raw))
        attributes = draw(st.integers(0, 3))
        sections.append(tdvf.Section(kind, offset, raw, address, pages * PAGE, attributes))
        address += pages * PAGE
    return tuple(sections), image


def variable_names() -> st.SearchStrategy[str]:
    """Names that a variable store can hold: UTF-16 without NUL."""
    return st.text(
        st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12
    )


def variables() -> st.SearchStrategy[list[varstore.Variable]]:
    """Variables for a store, in every state that firmware leaves them in."""
    return st.lists(
        st.builds(
            varstore.Variable,
            vendor=st.sampled_from([varstore.GLOBAL, varstore.SECURITY_DATABASE]),
            name=variable_names(),
            data=st.binary(max_size=32),
            attributes=st.just(7),
            state=st.sampled_from(
                [varstore.ADDED, varstore.IN_DELETED_TRANSITION, varstore.DELETED]
            ),
        ),
        max_size=8,
    )
