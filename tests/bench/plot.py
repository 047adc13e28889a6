"""From the benches' results to README "Performance": a table in Markdown, and one plot.

    .venv/bin/python -m tests.bench.plot FOLDER [--write]

FOLDER holds peers.json, decode.json, arrival.json and lookup.json, those that there are. Prints the section; --write
puts it into README.md between its two marks, and draws tests/bench/performance.svg.
"""

import argparse
import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from tests.bench.peers import ROWS, SERVERS, part
from tests.bench.results import median

ROOT = Path(__file__).parents[2]
SVG = Path(__file__).with_name("performance.svg")
BEGIN, END = "<!-- performance: written by tests/bench/plot.py -->", "<!-- end of performance -->"
NAMES = {
    "ours": "claude-local",
    "mlx-lm": "mlx_lm.server",
    "vllm": "vllm-mlx",
    "vllm-batch": "vllm-mlx, batching",
    "rapid": "rapid-mlx",
}
TITLES = {
    "cold": "first prompt, nothing cached",
    "second": "second turn",
    "terminal": "another terminal, same folder",
    "folder": "another folder",
    "retry": "same again after a cancel at 80 %",
    "restart": "second turn after a restart",
}
COLOURS = {"ours": "#2f81f7", "mlx-lm": "#9a6700", "vllm": "#8a8f98", "vllm-batch": "#bc4c9b", "rapid": "#2da44e"}
"""Readable on white and on black alike."""

Table = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    files = {name: options.folder / f"{name}.json" for name in ("peers", "decode", "arrival", "lookup")}
    found = {name: json.loads(file.read_text("utf-8")) for name, file in files.items() if file.exists()}
    text = section(found)
    print(text)
    if options.write:
        readme = ROOT / "README.md"
        before, mark, rest = readme.read_text("utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
        assert mark and end, f"README.md needs the marks {BEGIN} and {END}"
        readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")
        if "peers" in found:
            SVG.write_text(draw(found["peers"]), "utf-8")


def section(found: Table) -> str:
    """What there are results for."""
    parts = [where(next(iter(found.values())))]
    if "peers" in found:
        parts += [f"![Time to the first word, beside others]({SVG.relative_to(ROOT)})", peers(found["peers"])]
    lines = []
    if "decode" in found:
        lines += decode(found["decode"]["rounds"])
    if "arrival" in found:
        lines += arrival(found["arrival"])
    if "lookup" in found:
        lines += lookup(found["lookup"]["rounds"][0])
    return "\n\n".join([*parts, "\n".join(lines)]).strip()


def where(table: Table) -> str:
    machine = table["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if "mlx" in name)
    return (
        f"{machine['system']}, {machine['cpu']}, {machine['cores']} cores, {versions}, Python {machine['python']}, "
        f"{machine['date']}. Compare columns, not machines."
    )


def peers(table: Table) -> str:
    """One row for each visit; of the rounds' figures, the median."""
    rounds, tokens = [each for each in table["rounds"] if each], table["key"]["tokens"]
    names = [name for name in SERVERS if any(name in each for each in rounds)]
    lines = [
        f"Seconds to the first word of an agent's prompt of {tokens:,} tokens (in brackets: of the same server's first "
        f"prompt), then tokens per second of all streams together. Medians of {len(rounds)} rounds, "
        f"model {table['key']['model']}. Where it says error, the server answered with one.",
        "",
        f"| | {' | '.join(NAMES[name] for name in names)} |",
        "|---|" + "---:|" * len(names),
    ]
    for row in ROWS:
        title = TITLES.get(row, f"{row.removeprefix('streams ')} streams, tokens/s".replace("1 streams", "1 stream"))
        lines.append(f"| {title} | {' | '.join(cell(rounds, name, row) for name in names)} |")
    return "\n".join(lines)


def cell(rounds: list[Table], name: str, row: str) -> str:
    figures = [each[name] for each in rounds if name in each]
    middle = median(each[row] for each in figures)
    if middle is None:
        return "error"
    if row not in TITLES:
        return f"{middle:.0f}"
    share = median(part(each, row) for each in figures)
    return f"{middle:.2f}" if row == "cold" or share is None else f"{middle:.2f} ({share:.1%})"


def decode(rounds: list[Table]) -> list[str]:
    rounds = [each for each in rounds if each]
    ratios = {count: median(each[count]["ours"] / each[count]["bare"] for each in rounds) or 0.0 for count in rounds[0]}
    listed = ", ".join(f"{ratio:.2f} at {count}" for count, ratio in ratios.items())
    return [f"- Decode speed through everything ÷ bare mlx-lm, by number of streams: {listed}."]


def arrival(table: Table) -> list[str]:
    rounds, lines = table["rounds"], []
    for way, words in (("ours", "here"), ("bare", "bare mlx-lm")):
        figures = [each[way] for each in rounds if way in each]
        if figures:
            gap, kept, prefill = (median(each[name] for each in figures) or 0.0 for name in ("gap", "kept", "prefill"))
            lines.append(
                f"- A prompt of {table['key']['tokens']:,} tokens arrives during a stream, {words}: longest gap "
                f"{gap * 1000:,.0f} ms, the stream keeps {kept:.0%} of its speed, the prompt takes {prefill:.2f} times "
                "its time alone."
            )
    return lines


def lookup(done: Table) -> list[str]:
    lines = [
        f"- One lookup among 50 conversations of 12,000 tokens: median {done['lookup']['goes on']:.2f} ms, worst "
        f"{done['lookup']['worst']:.2f} ms."
    ]
    if memory := done.get("memory"):
        lines.append(
            f"- After {memory['requests']:.0f} requests the engine holds {memory['held_mb']:.0f} MB: weights and "
            f"prefix cache as accounted, {memory['excess']:+.1%}."
        )
    return lines


def draw(table: Table) -> str:
    """Bars on a logarithmic scale: seconds to the first word, a group for each visit, a bar for each server."""
    rounds = [each for each in table["rounds"] if each]
    names = [name for name in SERVERS if any(name in each for each in rounds)]
    left, width, bar, gap, top = 232, 820, 13, 16, 62
    low, high = 0.01, 100.0
    group = bar * len(names) + gap
    height = top + group * len(TITLES) + 34

    def x(seconds: float) -> float:
        from math import log10

        return left + (width - left - 70) * log10(max(seconds, low) / low) / log10(high / low)

    shapes = []
    for index, name in enumerate(names):
        place = left + index * 118
        shapes.append(f'<rect x="{place}" y="34" width="10" height="10" fill="{COLOURS[name]}"/>')
        shapes.append(f'<text x="{place + 14}" y="43" class="small">{escape(NAMES[name])}</text>')
    for power in (0.01, 0.1, 1, 10, 100):
        shapes.append(f'<line x1="{x(power):.1f}" y1="{top - 8}" x2="{x(power):.1f}" y2="{height - 28}" class="grid"/>')
        shapes.append(
            f'<text x="{x(power):.1f}" y="{height - 12}" class="small" text-anchor="middle">{power:g} s</text>'
        )
    for number, (row, title) in enumerate(TITLES.items()):
        y = top + number * group
        shapes.append(f'<text x="{left - 10}" y="{y + (group - gap) / 2 + 4}" text-anchor="end">{escape(title)}</text>')
        for index, name in enumerate(names):
            middle = median(each[name][row] for each in rounds if name in each)
            at, end = y + index * bar, x(middle) if middle is not None else x(low)
            label = "error" if middle is None else f"{middle:.2f}"
            shapes.append(
                f'<rect x="{left}" y="{at}" width="{max(1, end - left):.1f}" height="{bar - 2}" '
                f'fill="{COLOURS[name]}"/>'
                f'<text x="{max(end, left) + 4:.1f}" y="{at + 9.5}" class="small">{label}</text>'
            )
    title = f"Seconds to the first word, prompt of {table['key']['tokens']:,} tokens (shorter is better)"
    style = (
        "text{font:12px system-ui,sans-serif;fill:#1f2328}.small{font-size:10px}.grid{stroke:#8884}"
        ".paper{fill:#fff}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.paper{fill:#0d1117}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{escape(title)}"><style>{style}</style>'
        f'<rect class="paper" width="100%" height="100%"/>'
        f'<text x="{left}" y="22" font-weight="bold">{escape(title)}</text>' + "\n".join(shapes) + "</svg>\n"
    )


if __name__ == "__main__":
    main()
