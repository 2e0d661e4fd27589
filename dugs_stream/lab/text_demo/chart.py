"""Histogram of similarities to the nearest earlier unique, originals above repeats, as SVG with the threshold in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dugs_stream.lab.text_demo.findings import Judged
from dugs_stream.lab.text_demo.repeats import EXACT, ORIGINAL

_BINS = 50  # over similarities 0 to 1
_WIDTH, _LEFT, _RIGHT, _TOP = 960, 130, 20, 26
_ROW, _BAR = 64, 46  # height of a row, and of its tallest bar
_ROWS = ("originals", "near repeats", "exact repeats")


def draw_chart(judged: Sequence[Judged], threshold: float) -> str:
    """Three rows of bars, each scaled to its own tallest; green is unique, blue duplicate."""
    step = (_WIDTH - _LEFT - _RIGHT) / _BINS
    bottom = _TOP + _ROW * len(_ROWS)
    parts = []
    for number, name in enumerate(_ROWS):
        base = _TOP + _ROW * (number + 1) - 8
        found = [each.event["similarity"] for each in judged if _row(each.text.role) == name]
        similarities = [each for each in found if each is not None]
        heights = np.histogram(np.clip(similarities, 0.0, 1.0), _BINS, (0.0, 1.0))[0]
        tallest = max(int(heights.max()), 1)
        parts.append(f'<text class="name" x="12" y="{base - 8}">{name}</text>')
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>')
        for place, count in enumerate(heights.tolist()):
            if count:
                height = max(_BAR * count / tallest, 1.5)
                colour = "caught" if (place + 0.5) / _BINS >= threshold else "kept"
                x = _LEFT + step * place
                bar = (
                    f'x="{x + 0.5:.1f}" y="{base - height:.1f}" width="{step - 1:.1f}" height="{height:.1f}"'
                )
                parts.append(f'<rect class="{colour}" {bar}><title>{count}</title></rect>')
    at = _LEFT + threshold * step * _BINS
    parts.append(f'<line class="threshold" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 6}" y2="{bottom}"/>')
    parts.append(f'<text x="{at + 6:.1f}" y="{_TOP + 4}">τ = {threshold:g}: duplicate from here on</text>')
    for tenth in range(0, 11, 2):
        x = _LEFT + tenth / 10 * step * _BINS
        parts.append(f'<text x="{x:.1f}" y="{bottom + 12}" text-anchor="middle">{tenth / 10:g}</text>')
    label = "Similarity to the nearest earlier unique"
    parts.append(f'<text x="{_LEFT}" y="{bottom + 32}">{label}; each row scaled to its tallest bar</text>')
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {bottom + 44}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _row(role: str) -> str:
    return {ORIGINAL: "originals", EXACT: "exact repeats"}.get(role, "near repeats")
