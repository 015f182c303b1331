"""The page of the benchmarks: what is written by the command, and what is not touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.serving.page import MarkerMissing, replace
from benchmarks.serving.parts import PARTS

PAGE = Path(__file__).resolve().parents[2] / "benchmarks/README.md"
SMALL = "By hand.\n<!-- begin a -->\nold\n<!-- end a -->\nBetween.\n<!-- begin b -->\nkept\n<!-- end b -->\nAfter.\n"


@given(st.text(st.characters(codec="utf-8", exclude_characters="<")))
def test_writing_a_section_again_changes_nothing(text: str) -> None:
    """And what is outside of it is never touched, whatever is written (backslashes among it)."""
    once = replace(SMALL, "a", text)
    assert replace(once, "a", text) == once
    assert replace(once, "a", "old") == SMALL
    assert text.strip() in once


def test_a_page_without_a_place_for_a_section_is_refused() -> None:
    """Figures are never dropped silently, nor written twice."""
    with pytest.raises(MarkerMissing, match="begin c"):
        replace(SMALL, "c", "new")
    with pytest.raises(MarkerMissing, match="begin a"):
        replace(SMALL + SMALL, "a", "new")


@pytest.mark.parametrize("name", [*(part.name for part in PARTS), "verdicts"])
def test_the_page_has_a_section_for_every_part(name: str) -> None:
    """And its table the command of each."""
    page = PAGE.read_text()
    replace(page, f"serving:{name}", "")
    if name != "verdicts":
        assert f"`python -m benchmarks.serving {name}`" in page
