"""Page of clusters: one HTML file with a section for each category, the map, and the curve of the number of categories."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dugs_stream.lab.clusters.clusters import Clustering
from dugs_stream.lab.clusters.figures import colour_of, map_figure, silhouette_figure
from dugs_stream.lab.clusters.plane import Plane
from dugs_stream.lab.clusters.report import MOST_LABELS, Category, Example, Report
from dugs_stream.lab.clusters.uniques import Uniques
from dugs_stream.lab.study_page import Pictures, document, facts_markup, notices_markup

MOST_SECTIONS = 100
"""Categories with a section, the largest ones; the report has more."""


def render_page(clustering: Clustering, uniques: Uniques) -> str:
    """The page, to be written as UTF-8. Reads the pictures or texts of the uniques that it shows."""
    report = clustering.report
    shown = report.items[:MOST_SECTIONS]
    wanted = [each.sequence for item in shown for each in (item.medoid, *item.typical, *item.edges)]
    pictures = Pictures(uniques.thumbnails(wanted))
    sections = "".join(_section(item, pictures) for item in shown)
    left_out = report.categories - len(shown)
    more = f'<p class="intro">{left_out:,} smaller categories are left out.</p>' if left_out > 0 else ""
    return document(
        f"{report.categories:,} categories",
        f"{_head(report)}{_figures(clustering)}{_contents(shown)}{sections}{more}",
    )


def facts_of(report: Report) -> dict[str, str]:
    """The head of the report as name → text, for the page and for the terminal."""
    source, method, found = report.source, report.method, report.agreement
    facts = {
        "uniques": f"{source.uniques:,}",
        "categories": f"{report.categories:,}",
        "duplicates": "not known" if source.duplicates is None else f"{source.duplicates:,}",
        "method": method.name if method.similarity is None else f"{method.name} at {method.similarity:g}",
        "dimension k": f"{source.dimension:,}",
    }
    if found is not None:
        facts["purity"] = f"{found.purity:.3f}"
        facts["adjusted Rand index"] = f"{found.adjusted_rand:.3f}"
        labels = "labels" if source.labels == "given" else "predicted labels"
        facts[labels] = f"{found.classes:,}, on {found.labelled:,} uniques"
    return facts


def _head(report: Report) -> str:
    return (
        '<p class="brand">dugs-stream</p>\n<h1>What is in the list of uniques?</h1>\n'
        f'<p class="lead">Uniques of <bdi>{escape(report.source.place)}</bdi>, grouped by the direction of their '
        f"gradients.</p>\n{facts_markup(facts_of(report))}{notices_markup(report.remarks, report.interrupted)}"
    )


def _figures(clustering: Clustering) -> str:
    report, plane = clustering.report, clustering.plane
    curve = silhouette_figure(report.silhouettes, report.categories)
    return (
        f'<section>\n<h2>Map</h2>\n<p class="intro">{escape(_on_map(plane, report))}</p>\n'
        f"{map_figure(plane, clustering.assignment, report)}\n</section>\n"
        + (
            '<section>\n<h2>How many categories?</h2>\n<p class="intro">A silhouette near 1 means groups far apart, near '
            f"0 none; below 0.25 one number is as good as another.</p>\n{curve}\n</section>\n"
            if curve
            else ""
        )
    )


def _on_map(plane: Plane, report: Report) -> str:
    how = (
        "by UMAP: near means alike, far means little"
        if plane.share is None
        else f"on two principal directions, which hold {plane.share:.0%} of the variance: what overlaps here may lie apart"
    )
    count = len(plane.sequences)
    some = f"{count:,} of them, drawn at random" if count < report.source.uniques else "each a circle"
    return f"The uniques, {some}, {how}. Numbers stand on the medoids."


def _contents(shown: Sequence[Category]) -> str:
    if len(shown) < 2:  # noqa: PLR2004  one is found without a table
        return ""
    has_labels = any(item.labels for item in shown)
    labels = [
        f"<td><bdi>{escape(item.told_labels(3) or '–')}</bdi></td>" if has_labels else "" for item in shown
    ]
    rows = "".join(
        f'<tr><td><a href="#category-{item.number}"><span class="swatch {colour_of(item.number)}"></span>'
        f"{item.number}</a></td>{label}<td>{item.uniques:,}</td><td>{_count(item.duplicates)}</td><td>{item.similarity:.2f}</td></tr>"
        for item, label in zip(shown, labels, strict=True)
    )
    heading = "<th>labels</th>" if has_labels else ""
    return (
        f'<section>\n<h2>Categories</h2>\n<div class="scroll"><table><thead><tr><th>category</th>{heading}'
        "<th>uniques</th><th>duplicates</th><th>mean cosine to the centre</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>\n</section>\n"
    )


def _section(item: Category, pictures: Pictures) -> str:
    name = f": label <bdi>{escape(item.name)}</bdi>" if item.name else ""
    facts = [f"{item.uniques:,} unique{'' if item.uniques == 1 else 's'}"]
    if item.duplicates is not None:
        facts.append(f"{item.duplicates:,} duplicate{'' if item.duplicates == 1 else 's'}")
    facts.append(f"mean cosine to the centre {item.similarity:.2f}")
    labels = item.told_labels(MOST_LABELS)
    typical = "".join(
        _figure(each, pictures, f"{each.similarity:.2f}") for each in (item.medoid, *item.typical)
    )
    edges = "".join(_figure(each, pictures, _edge(each)) for each in item.edges)
    edge = (
        f'<h3>At the edge</h3><p class="intro">Closest to another category: the cosine to its own centre, and to the other one.</p><ul class="examples">{edges}</ul>'
        if edges
        else ""
    )
    return (
        f'<section class="category" id="category-{item.number}">\n<h2><span class="swatch {colour_of(item.number)}"></span>'
        f'Category {item.number}{name}</h2>\n<p class="intro">{escape(" · ".join(facts))}'
        + (f" · labels <bdi>{escape(labels)}</bdi>" if labels else "")
        + f'</p>\n<h3>Most typical, the medoid first</h3><p class="intro">Sequence number, label if there is one, and cosine to the '
        f'centre.</p><ul class="examples">{typical}</ul>{edge}\n</section>\n'
    )


def _count(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"


def _edge(example: Example) -> str:
    if example.other is None or example.other_similarity is None:
        return f"{example.similarity:.2f}"
    return f"{example.similarity:.2f} · {example.other_similarity:.2f} to category {example.other}"


def _figure(example: Example, pictures: Pictures, caption: str) -> str:
    label = f" <b><bdi>{escape(example.label)}</bdi></b>" if example.label is not None else ""
    named = escape(example.key or example.id)
    return (
        f'<li title="{named}">{pictures.show(example.sequence, example.key or example.id)}<span class="caption">#{example.sequence:,}{label}'
        f"<br> {escape(caption)}</span></li>"
    )
