"""The page of the text demo: one HTML file of texts as cards, each duplicate beside its nearest earlier unique.

It loads nothing and runs nothing: the file's own policy lets the browser run no script at all, and every text is
escaped. Words that two texts do not share are marked. Its colours are those of the page that the daemon serves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from html import escape
from importlib import resources

from dugs_stream.lab.text_demo.chart import draw_chart
from dugs_stream.lab.text_demo.findings import Judged
from dugs_stream.lab.text_demo.repeats import EXACT, ORIGINAL
from dugs_stream.lab.text_demo.summary import Summary

MOST_CARDS = 200
"""Cards of one section; the file stays below a megabyte."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_PIECE = re.compile(r"\w+|\s+|[^\w\s]")


def render_page(judged: Sequence[Judged], summary: Summary) -> str:
    """The page, to be written as UTF-8; `judged` in the order of deciding."""
    duplicates = [each for each in judged if each.is_duplicate]
    originals = _most_similar_first(each for each in duplicates if each.text.role == ORIGINAL)
    near = [each for each in duplicates if each.text.role not in {ORIGINAL, EXACT}]
    missed = [each for each in judged if each.text.role != ORIGINAL and each.is_unique]
    uniques = [each for each in judged if each.is_unique]
    sections = [
        _section(
            "Repeats that the standard library holds itself",
            "Nobody planted these: originals judged duplicates of another one with which they share half their words or more.",
            [_pair(each) for each in originals if each.is_worded_alike],
        ),
        _section(
            "Near repeats caught",
            "Planted: an edited copy on the left, the unique that it was held to repeat on the right.",
            [_pair(each) for each in near],
        ),
        _section(
            "Repeats missed",
            "Planted, and judged unique: the edit turned the gradient further than the threshold allows, or the original is "
            "not among the uniques, being a duplicate itself.",
            [_pair(each) for each in missed],
        ),
        _section(
            "Judged duplicates, though worded differently",
            "Originals that share less than half their words with the nearest: what the threshold costs.",
            [_pair(each) for each in originals if not each.is_worded_alike],
        ),
        _section(
            "Uniques",
            "In order of discovery: sequence number, and similarity to the nearest earlier unique.",
            [_single(each) for each in uniques],
            columns=True,
        ),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>dugs demo: texts</title>\n<style>{_style()}</style>\n</head>\n<body>\n"
        f"{_head(summary)}{draw_chart(judged, summary.threshold)}\n{''.join(sections)}</body>\n</html>\n"
    )


def _style() -> str:
    shared = resources.files("dugs_stream.ops.gallery").joinpath("static", "page.css")
    own = resources.files("dugs_stream.lab.text_demo").joinpath("page.css")
    return shared.read_text(encoding="utf-8") + own.read_text(encoding="utf-8")


def _head(summary: Summary) -> str:
    caught = sum(each.duplicates for each in summary.repeats)
    planted = sum(each.records for each in summary.repeats)
    facts = {
        "texts": f"{summary.records:,}",
        "unique": f"{summary.uniques:,}",
        "repeats caught": f"{caught:,} of {planted:,}",
        "threshold τ": f"{summary.threshold:g}",
        "dimension k": f"{summary.dimension:,}",
        "layers": ", ".join(summary.layers),
        "records/s": f"{summary.records_per_second:,.0f}",
    }
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items()
    )
    return (
        '<p class="brand">dugs-stream</p>\n<h1>Which texts teach the model something new?</h1>\n'
        f'<p class="lead">{escape(summary.model)}</p>\n<dl class="facts">{rows}</dl>\n'
    )


def _section(title: str, intro: str, cards: Sequence[str], *, columns: bool = False) -> str:
    if not cards:
        return ""
    left_out = len(cards) - MOST_CARDS
    note = f" The first {MOST_CARDS:,} of {len(cards):,} are shown." if left_out > 0 else ""
    body = "".join(cards[:MOST_CARDS])
    body = f'<div class="columns">{body}</div>' if columns else body
    return (
        f'<section>\n<h2>{escape(title)}: {len(cards):,}</h2>\n<p class="intro">{escape(intro + note)}</p>\n'
        f"{body}\n</section>\n"
    )


def _pair(judged: Judged) -> str:
    """A card of two texts; what they do not share is marked in both, unless that is most of them."""
    if judged.nearest is None:
        return _single(judged)
    one, other = judged.text, judged.nearest
    is_close = judged.is_worded_alike or one.of == other.of
    left, right = _marked(one.text, other.text) if is_close else (escape(one.text), escape(other.text))
    nearest = judged.event["nearest"]["sequence"]
    about = f"<b>{escape(one.role)}</b><span>{escape(judged.event['type'])}, nearest #{nearest:,}</span>"
    return (
        f'<article class="compared"><div class="about">{about}{_similarity(judged)}</div>'
        f'<div class="side">{_source(one.kind, one.source)}<p class="text">{left}</p></div>'
        f'<div class="side">{_source(other.kind, other.source)}<p class="text">{right}</p></div></article>\n'
    )


def _similarity(judged: Judged) -> str:
    similarity = judged.event["similarity"]
    share = min(max(similarity, 0.0), 1.0)
    return (
        f'<span class="value">similarity {similarity:.3f}</span>'
        f'<div class="track"><span style="width:{share:.1%}"></span></div>'
    )


def _source(kind: str, source: str) -> str:
    return f'<p class="source">{escape(kind)} · {escape(source)}</p>'


def _single(judged: Judged) -> str:
    similarity = judged.event["similarity"]
    shown = "first" if similarity is None else f"{round(similarity, 3) + 0.0:.3f}"
    return (
        f'<article class="lone"><p class="source"><span>#{judged.event["sequence"]:,}</span>'
        f"<span>{escape(judged.text.kind)} · {escape(judged.text.source)}</span><span>{shown}</span></p>"
        f'<p class="text">{escape(judged.text.text)}</p></article>\n'
    )


def _marked(one: str, other: str) -> tuple[str, str]:
    """Both texts escaped, with the pieces that the other lacks in <ins> or <del>."""
    pieces, others = _PIECE.findall(one), _PIECE.findall(other)
    left, right = [], []
    for operation, i, j, k, m in SequenceMatcher(None, pieces, others, autojunk=False).get_opcodes():
        mine, theirs = escape("".join(pieces[i:j])), escape("".join(others[k:m]))
        is_shared = operation == "equal"
        left.append(mine if is_shared or not mine else f"<ins>{mine}</ins>")
        right.append(theirs if is_shared or not theirs else f"<del>{theirs}</del>")
    return "".join(left), "".join(right)


def _most_similar_first(judged: Iterable[Judged]) -> list[Judged]:
    return sorted(judged, key=lambda each: -each.event["similarity"])
