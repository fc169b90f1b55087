"""Figures as SVG files without a library: readable on light and on dark pages."""
import math
from html import escape

STYLE = ("svg{--ink:#1f2430;--soft:#5b6472;--line:#d9dde4;--own:#2356c5;--peer:#98a0b0;--a:#2356c5;--b:#b8450b;--c:#5f7a1d;--d:#7b3fa0;"
         "--e:#0b7d86;--f:#7a8190;background:#fff}@media(prefers-color-scheme:dark){svg{--ink:#e8eaef;--soft:#a3abba;--line:#363c48;"
         "--own:#7fa8ff;--peer:#69707f;--a:#7fa8ff;--b:#ff9a5c;--c:#b4d16a;--d:#d19bf0;--e:#5fd0d9;--f:#98a0b0;background:#171a21}}"
         "text{font:12px system-ui,sans-serif;fill:var(--soft)}.ink{fill:var(--ink)}.title{fill:var(--ink);font-weight:600;font-size:13px}"
         ".end{text-anchor:end}.middle{text-anchor:middle}.line{stroke:var(--line)}.own{fill:var(--own)}.peer{fill:var(--peer)}"
         "path{fill:none;stroke-width:2;stroke-linejoin:round}")


def words(x, y, text, kind=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def save(path, width, height, title, about, parts):
    with open(path, "w") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
                f'aria-labelledby="t d"><title id="t">{escape(title)}</title><desc id="d">{escape(about)}</desc><style>{STYLE}</style>'
                + "".join(parts) + "</svg>\n")


def performance(data, path):
    """One panel a test of tokens/s, a bar a contender: nres in colour, peers in grey."""
    titles = {"train": "Training, neutral residues", "lora": "Training, LoRA", "full": "Training, all weights", "forward": "Forward, no gradients",
              "prompt": "Prompt", "generate": "Generation"}
    parts, y, left, room = [], 24, 180, 440
    for test, name in titles.items():
        rows = {n: r for n, r in data.results.get(test, {}).items() if "median" in r}
        if not rows:
            continue
        parts.append(words(12, y, f"{name}: tokens/s", "title"))
        most = max(r["median"] for r in rows.values())
        y += 10
        for contender, row in rows.items():
            length = room * row["median"] / most
            parts.append(words(left - 8, y + 13, contender, "ink end"))
            parts.append(f'<rect x="{left}" y="{y + 2}" width="{length:.1f}" height="14" rx="2" class="{"own" if contender.startswith("nres") else "peer"}"/>')
            parts.append(words(left + length + 6, y + 13, f"{row['median']:.0f}" if row["median"] >= 100 else f"{row['median']:.1f}"))
            y += 20
        y += 26
    if parts:
        about = "Median tokens a second of nres and its peers, one panel a test; longer is faster."
        save(path, 700, y - 10, "Speed of nres and its peers", about, parts)


def ticks(low, high):
    """Powers of two between, every one or every other."""
    first, last = math.floor(math.log2(low)), math.ceil(math.log2(high))
    step = max(1, (last - first) // 6)
    return [2 ** e for e in range(first, last + 1, step)]


def short(v):
    return f"{v / 1024:g}k" if v >= 1024 and v % 1024 == 0 else f"{v:g}"


def lines(x0, y0, width, height, title, series, x_title, unit):
    """A panel with both axes in powers of two; series: {name: [(x, y), ...]}, six at most."""
    points = [p for s in series.values() for p in s]
    x_low, x_high = min(p[0] for p in points), max(p[0] for p in points)
    y_ticks = ticks(min(p[1] for p in points), max(p[1] for p in points))
    y_low, y_high = y_ticks[0], max(y_ticks[-1], max(p[1] for p in points))
    along = lambda v, low, high, size: size * (math.log2(v / low) / math.log2(high / low) if high > low else 0.5)
    at_x = lambda v: x0 + along(v, x_low, x_high, width)
    at_y = lambda v: y0 + height - along(v, y_low, y_high, height)
    parts = [words(x0 - 36, y0 - 12, f"{title}: {unit}", "title")]
    for v in y_ticks:
        parts.append(f'<line class="line" x1="{x0}" x2="{x0 + width}" y1="{at_y(v):.1f}" y2="{at_y(v):.1f}"/>' + words(x0 - 6, at_y(v) + 4, short(v), "end"))
    for v in sorted({p[0] for p in points}):
        parts.append(words(at_x(v), y0 + height + 16, short(v), "middle"))
    parts.append(words(x0 + width / 2, y0 + height + 32, x_title, "middle"))
    for colour, name in zip("abcdef", series):
        parts.append(f'<path style="stroke:var(--{colour})" d="M' + "L".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in sorted(series[name])) + '"/>')
        parts += [f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="2.5" style="fill:var(--{colour})"/>' for x, y in series[name]]
    return parts


def legend(x, y, names):
    """Names in the colours of their lines."""
    return [f'<text x="{x}" y="{y + 18 * i}" style="fill:var(--{c})">{escape(name)}</text>' for i, (c, name) in enumerate(zip("abcdef", names))]
