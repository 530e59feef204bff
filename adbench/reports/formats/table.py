"""Plain text for a terminal: tables as wide as it is, with short headings that a line below explains."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from itertools import pairwise, zip_longest
from textwrap import wrap

from adbench.reports.formats import Cell, Report, Table, register
from adbench.reports.keys import KEYS

ABBREVIATIONS = {  # header: its short form, what it is
    "image_auroc": ("I-AUROC", "area under the ROC curve, images"),
    "image_ap": ("I-AP", "average precision, images"),
    "image_f1max": ("I-F1", "highest F1, images"),
    "pixel_auroc": ("P-AUROC", "area under the ROC curve, pixels"),
    "pixel_ap": ("P-AP", "average precision, pixels"),
    "pixel_f1max": ("P-F1", "highest F1, pixels"),
    "aupro": ("AU-PRO", "overlap with defect regions"),
    "image_f1": ("I-F1 at t", "F1 of images at a threshold set on good images"),
    "image_recall": ("recall", "share of defective images found at that threshold"),
    "image_fpr": ("FPR", "share of good images above that threshold"),
    "seg_f1": ("seg F1", "F1 of pixels at a threshold set on good images"),
    "RRF": ("RRF", "receptive field / image size"),
    "image_size": ("px", "side of the input"),
    "rotations": ("rot.", "turned copies of each training image"),
    "tile": ("tile", "side of the tiles, 0 = none"),
    "shots": ("shots", "good images that are fitted"),
    "eval_size": ("eval px", "side of the evaluation grid"),
    "categories": ("cat.", "categories done / all"),
    "jobs": ("jobs", "jobs done / all"),
    "images/s": ("img/s", "images scored per second"),
    "state MB": ("MB", "size of the fitted detector"),
}
_COMMAND = ": adbench "
_SHARED = "all rows: "
_GAP, _LEAST = 2, 8  # characters between columns; the least width to which a label is broken


@register("table")
def table(report: Report) -> str:
    """Return each table in columns of text; the best of a column is *marked*, or bold where the terminal supports it."""
    # each abbreviation is explained once, by a note or below a table
    sentences = [sentence for note in report.notes for sentence in note.split(". ")]
    explained = {short for short, _ in ABBREVIATIONS.values() if any(s.startswith(f"{short}: ") for s in sentences)}
    parts = [_table(report.table, report, explained), *_paragraphs(report.notes, report.width)]
    for section in report.sections:
        title = f"\033[1m{section.title}\033[0m" if report.bold else section.title
        tables = [part for data in section.tables for part in (_table(data, report, explained), "")]
        parts += ["", title, "", *tables, *_paragraphs(section.notes, report.width)]
        while not parts[-1]:
            parts.pop()
    return "\n".join(parts).rstrip() + "\n"


def _table(table: Table, report: Report, explained: set[str]) -> str:
    """Return the caption, the table, and what its headings and marks mean."""
    table = _without_constant_labels(table)
    rows = [[_mark(cell, report.bold) for cell in row] for row in table.rows]
    headers = [ABBREVIATIONS.get(header, (header,))[0] for header in table.headers]
    blocks = [_columns(headers, rows, table.alignment, chosen) for chosen in _blocks(headers, rows, table, report.width)]
    legend = [f"{_mark(Cell('best', best=True), report.bold)}: the best of its column"] * any(
        c.best for r in table.rows for c in r
    )
    known = [ABBREVIATIONS[name] for name in table.headers if name in ABBREVIATIONS]
    legend += ["; ".join(f"{short}: {text}" for short, text in known if short not in explained)]
    lines = [line for text in legend if text and text not in explained for line in _lines(text, report.width)]
    explained |= {short for short, _ in known} | set(legend)
    return "\n".join([*_lines(table.caption, report.width), "", "\n\n".join(blocks), *([""] if lines else []), *lines])


def _without_constant_labels(table: Table) -> Table:
    """Return the table with keys that are the same in all of its rows said in the caption, if another label is left."""
    labels = range(table.num_labels)
    keys = [i for i in labels if table.headers[i] in (*KEYS, "configuration") and len(table.rows) > 1]
    constant = [i for i in keys if len({row[i].text for row in table.rows}) == 1]
    if not constant or len(constant) == len(labels):
        return table
    kept = [i for i in range(len(table.headers)) if i not in constant]
    shared = ", ".join(f"{table.headers[i]} {table.rows[0][i].text}" for i in constant)
    rows = [[row[i] for i in kept] for row in table.rows]
    joint = ", " if _SHARED in table.caption else f"; {_SHARED}"
    return Table(f"{table.caption}{joint}{shared}", [table.headers[i] for i in kept], rows, len(labels) - len(constant))


def _columns(headers: Sequence[str], rows: Sequence[Sequence[str]], sides: Sequence[str], chosen: dict[int, int]) -> str:
    """Return the table of some columns, {index: width}; a longer text is broken into lines."""
    heads = [_pieces(headers[i], width) for i, width in chosen.items()]
    rule = [["-" * width] for width in chosen.values()]
    body = [[_pieces(row[i], width) for i, width in chosen.items()] for row in rows]
    lines = []
    for row in (heads, rule, *body):
        for texts in zip_longest(*row, fillvalue=""):
            columns = zip(texts, chosen.items(), strict=True)
            lines.append((" " * _GAP).join(_padded(text, width, sides[i]) for text, (i, width) in columns).rstrip())
    return "\n".join(lines)


def _padded(text: str, width: int, side: str) -> str:
    space = " " * (width - _length(text))
    return f"{text}{space}" if side == "left" else f"{space}{text}"


def _blocks(headers: Sequence[str], rows: Sequence[Sequence[str]], table: Table, width: int | None) -> list[dict[int, int]]:
    """Return the columns of each block of a table, {index: width}: those that fit beside the labels, which every block has.

    Where it is too wide, the parts of headings stand above each other, then labels are broken, then there are several blocks.
    """
    texts = [[_length(row[i]) for row in rows] for i in range(len(headers))]
    widths = [max([len(header), *own]) for header, own in zip(headers, texts, strict=True)]
    if width is None or _total(widths) <= width:
        return [dict(enumerate(widths))]
    labels, values = range(table.num_labels), range(table.num_labels, len(headers))
    for breaks in (r"\s|(?<=\+)", r"\s|(?<=[+._/-])"):
        for i in range(len(headers)):
            widths[i] = max([*map(len, re.split(breaks, headers[i])), *texts[i]])
        if _total(widths) <= width:
            break
    wanted = sum(widths[i] + _GAP for i in values)
    least = max([width // 2, *(widths[i] + _GAP for i in values)])  # values have half of the width if they need it
    beside = _shrunk([widths[i] for i in labels], width - min(wanted, least) - _GAP * (len(labels) - 1))
    blocks = [dict(zip(labels, beside, strict=True))]
    for i in values:
        if len(blocks[-1]) > len(labels) and _total([*blocks[-1].values(), widths[i]]) > width:
            blocks.append(dict(zip(labels, beside, strict=True)))
        blocks[-1][i] = widths[i]
    return blocks


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _shrunk(widths: Sequence[int], room: int) -> list[int]:
    """Return the widths, of which the largest are cut until their sum is at most `room`, or all are at their least."""
    widths = list(widths)
    while widths and sum(widths) > room and max(widths) > _LEAST:
        widths[widths.index(max(widths))] -= 1
    return widths


def _pieces(text: str, width: int) -> list[str]:
    """Return the lines of a text of at most `width` characters each, broken at spaces, else behind + . _ or anywhere."""
    if _length(text) <= width or text.startswith(("\033", "*")):
        return [text]
    lines = [""]
    for word in text.split():
        for number, piece in enumerate(_breakable(word, width)):
            glue = " " if lines[-1] and number == 0 else ""
            if lines[-1] and len(lines[-1]) + len(glue) + len(piece) > width:
                lines.append(piece)
            else:
                lines[-1] += glue + piece
    return lines


def _breakable(word: str, width: int) -> list[str]:
    """Return a word in pieces of at most `width`, itself if it fits."""
    if len(word) <= width:
        return [word]
    pieces = [""]
    for letter in word:
        pieces[-1] += letter
        if letter in "+._/-":
            pieces.append("")
    return [piece[i : i + width] for piece in pieces for i in range(0, len(piece), width)]


def _paragraphs(notes: Iterable[str], width: int | None) -> list[str]:
    return [line for note in notes for line in _lines(note, width)]


def _lines(text: str, width: int | None) -> list[str]:
    """Return a text in lines; a command at its end stands below it, in lines that a shell reads as one."""
    if width is None:
        return [text]
    said, colon, command = text.partition(_COMMAND)
    if not colon or len(text) <= width:
        return wrap(text, width, subsequent_indent="  ", break_on_hyphens=False) or [""]
    lines = [""]
    for words in _arguments(shlex.split(f"adbench {command}")):
        if lines[-1] and len(lines[-1]) + len(words) + 3 > width:
            lines.append("")
        lines[-1] += f" {words}" if lines[-1] else f"  {words}"
    return [
        *wrap(f"{said}:", width, subsequent_indent="  ", break_on_hyphens=False),
        *(f"{line} \\" for line in lines[:-1]),
        lines[-1],
    ]


def _arguments(words: Sequence[str]) -> list[str]:
    """Return the words of a command as a shell reads them, each option together with its value."""
    found: list[str] = []
    for before, word in pairwise(["", *words]):
        text = shlex.quote(word)
        if before.startswith("--") and not word.startswith("--"):
            found[-1] += f" {text}"
        else:
            found.append(text)
    return found


def _length(text: str) -> int:
    return len(text.removeprefix("\033[1m").removesuffix("\033[0m"))


def _mark(cell: Cell, bold: bool) -> str:
    if not cell.best:
        return cell.text
    return f"\033[1m{cell.text}\033[0m" if bold else f"*{cell.text}*"
