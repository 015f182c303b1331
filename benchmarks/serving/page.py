"""
The page: sections between markers are written from results, everything else on it by hand.

    <!-- begin serving:start -->
    ...
    <!-- end serving:start -->
"""

from __future__ import annotations

import re


class MarkerMissing(Exception):
    """The page has no place for a section."""


def replace(page: str, section: str, text: str) -> str:
    """*page* with *text* in *section*; the same again for the same text. Raises MarkerMissing."""
    begin, end = f"<!-- begin {section} -->", f"<!-- end {section} -->"
    pattern = re.compile(re.escape(begin) + r"\n.*?" + re.escape(end), re.S)
    if len(pattern.findall(page)) != 1:
        raise MarkerMissing(f"the page needs one `{begin}` with one `{end}` after it")
    return pattern.sub(lambda _: f"{begin}\n{text.strip()}\n{end}", page)
