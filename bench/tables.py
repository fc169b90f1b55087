"""From the CSV of a run to tables: for the terminal (80 columns) and for docs/PERFORMANCE.md.

A row of the CSV is one fact: test, contender, compute, round, measure, value.
A contender's figure of a round is the median of its counted repetitions; shown
are the best round and the median of the rounds. Ratios are of medians, peer
against nres in the same compute type.

The bound: the machine's best of the run. Where nres measures it beside each of
its repetitions (generation), each is held against the rates right before and
after it, and peers against the median of those rates.
"""
import csv
import statistics


class Data:
    """A run read back: description (dict), results {test: {contender: row}}, bounds."""

    def __init__(self):
        self.description, self.results, self.bounds, self.library = {}, {}, {}, {}


def read(path):
    data, raw = Data(), {}
    with open(path, newline="") as f:
        for r in csv.DictReader(f):
            if r["test"] == "description":
                data.description[r["measure"]] = r["value"]
            elif r["test"] == "machine":
                for of in (data.bounds,) if r["contender"] == "nres" else (data.bounds, data.library):
                    of[r["measure"]] = max(of.get(r["measure"], 0), float(r["value"]))
            else:
                row = raw.setdefault(r["test"], {}).setdefault(r["contender"], {"compute": r["compute"], "rounds": {}})
                row["rounds"].setdefault(r["round"], {})[r["measure"]] = r["value"]
    for test, rows in raw.items():
        found = rates_of(rows)
        data.results[test] = {name: digest(row, {**data.bounds, **found}) for name, row in sorted(rows.items(), key=lambda r: place(r[0]))}
    for rows in data.results.values():
        compare(rows)
    return data


def place(name):
    """nres first, then by name, the file's own type last."""
    return (not name.startswith("nres"), name.endswith("in file"), name)


def rate_of(measures):
    """Tokens or bytes a second, or seconds where it is those that count; None for a failure."""
    if "ready_seconds" in measures:
        return float(measures["ready_seconds"])
    if "seconds" not in measures:
        return None
    per = statistics.median(numbers(measures["seconds"]))
    return float(measures.get("tokens") or measures["bytes"]) / per


def numbers(text):
    return [float(word) for word in text.split()]


def bound_of(compute, measures):
    """The name of the rate that bounds a row."""
    return "read_bytes_per_second" if "bytes_per_token" in measures else "flops_" + compute


def rates_of(rows):
    """The medians of the rates that were measured beside nres's repetitions."""
    found = {}
    for row in rows.values():
        for r in row["rounds"].values():
            if "bound_rates" in r and ("flops_per_token" in r or "bytes_per_token" in r):
                found.setdefault(bound_of(row["compute"], r), []).extend(numbers(r["bound_rates"]))
    return {name: statistics.median(rates) for name, rates in found.items()}


def shares(row, rounds, bounds):
    """What every repetition, or where the bound wasn't measured beside it every round, used of the bound."""
    out = []
    for r in rounds:
        work = float(r.get("flops_per_token") or r["bytes_per_token"])
        if "bound_rates" not in r:
            bound = bounds.get(bound_of(row["compute"], r))
            out += [rate_of(r) * work / bound] if bound else []
            continue
        rates = numbers(r["bound_rates"])
        out += [float(r["tokens"]) / s * work / max(rates[i:i + 2]) for i, s in enumerate(numbers(r["seconds"]))]
    return out


def digest(row, bounds):
    rounds = [r for r in row["rounds"].values() if rate_of(r) is not None]
    out = {"compute": row["compute"], "rounds": len(rounds), "failed": next((r["failed"] for r in row["rounds"].values() if "failed" in r), None)}
    if not rounds:
        return out
    out["kind"] = "seconds" if "ready_seconds" in rounds[0] else "bytes" if "bytes" in rounds[0] else "tokens"
    rates = [rate_of(r) for r in rounds]
    out["best"], out["median"] = (min if out["kind"] == "seconds" else max)(rates), statistics.median(rates)
    out["peak"] = max(float(r["peak_bytes"]) for r in rounds)
    if "flops_per_token" in rounds[0] or "bytes_per_token" in rounds[0]:
        used = shares(row, rounds, bounds)
        out["share"] = statistics.median(used) if used else None
    return out


def own_of(rows, compute):
    """nres's row that a contender of this type is held against: the same type; for a quantised file, the faster."""
    own = {name: row for name, row in rows.items() if name.startswith("nres") and "median" in row}
    same = [r for r in own.values() if r["compute"] == compute]
    return same[0] if same else max(own.values(), key=lambda r: r["median"] if r["kind"] != "seconds" else -r["median"], default=None)


def compare(rows):
    for name, row in rows.items():
        own = own_of(rows, row["compute"])
        if name.startswith("nres") or own is None or "median" not in row:
            continue
        row["speed"] = row["median"] / own["median"] if row["kind"] == "seconds" else own["median"] / row["median"]
        row["memory"] = own["peak"] / row["peak"]


# ---- cells ----

def figure(row, key):
    if key not in row:
        return "-"
    v = row[key]
    return f"{v:.2f}" if row["kind"] == "seconds" else f"{v / 1e6:.2f}" if row["kind"] == "bytes" else f"{v:.0f}" if v >= 100 else f"{v:.1f}"


def cells(row):
    """best, median, nres's speed over it, GiB, nres's memory over it, share of the bound."""
    return [figure(row, "best"), figure(row, "median"), f"{row['speed']:.2f} x" if "speed" in row else "",
            f"{row['peak'] / 2**30:.2f}" if "peak" in row else "-", f"{row['memory']:.2f} x" if "memory" in row else "",
            f"{100 * row['share']:.0f} %" if row.get("share") else ""]


def unit_of(rows):
    kinds = {r["kind"] for r in rows.values() if "kind" in r}
    return {"seconds": "seconds", "bytes": "MB/s"}.get(next(iter(kinds), ""), "tokens/s")


def title(test, titles, description):
    return titles.get(test, test).format(**{**dict.fromkeys(("width", "rank", "batch_size", "context", "prompt", "generate"), "?"), **description})


def missing(test, rows):
    """What a table has to say of an nres that isn't in it."""
    if test == "full" and not any(n.startswith("nres") for n in rows):
        return "nres does not train the backbone's own weights."
    return ""


def bound_line(data):
    b, library = data.bounds, data.library
    parts = [f"{name} products {b[key] / 1e9:.0f} GFLOP/s" + (f" ({library[key] / 1e9:.0f} by the library)" if library.get(key) else "")
             for name, key in (("fp32", "flops_fp32"), ("bf16", "flops_bf16")) if b.get(key)]
    parts += [f"memory {word} {b[key] / 1e9:.1f} GB/s" for key, word in (("read_bytes_per_second", "read"), ("copy_bytes_per_second", "copied"))
              if b.get(key)]
    return ", ".join(parts)


# ---- the terminal ----

def text(data, titles):
    out = []
    for test, rows in data.results.items():
        name = title(test, titles, data.description)
        out += ["", name[0].upper() + name[1:]]
        out.append(f"{unit_of(rows):29s}{'best':>8s}{'median':>8s}{'nres':>9s}{'GiB':>7s}{'nres':>9s}{'of bound':>9s}")
        for contender, row in rows.items():
            if "median" not in row:
                out.append(f"{contender:29s}  failed: {row['failed']}"[:80])
                continue
            best, median, speed, peak, memory, share = cells(row)
            out.append(f"{contender:29s}{best:>8s}{median:>8s}{speed:>9s}{peak:>7s}{memory:>9s}{share:>9s}".rstrip())
        out += [missing(test, rows)] if missing(test, rows) else []
    out += ["", "nres: its speed over the peer's, its memory over the peer's, same type.", "Bounds: " + bound_line(data).replace(", memory read", ",\n        memory read")]
    return "\n".join(out)


# ---- the page ----

def markdown(data, titles):
    d, out = data.description, []
    about = ["cpu", "cores", "threads", "instruction sets", "memory", "model", "nres", "commit", "torch", "torch's instruction set",
             "transformers", "peft", "tokenizers", "llama-cpp-python", "llama.cpp", "tokenizers' text", "load when it started", "date"]
    out += ["| | |", "|---|---|"] + [f"| {k} | {d[k].replace('|', ';').strip('; ')} |" for k in about if d.get(k)]
    out += [f"| bounds | {bound_line(data)} |", ""]
    for test, rows in data.results.items():
        name = title(test, titles, d)
        out += [f"### {name[0].upper() + name[1:]}", ""]
        out += [f"| {unit_of(rows)} | best | median | nres: speed | peak GiB | nres: memory | of the bound |", "|---|---:|---:|---:|---:|---:|---:|"]
        for contender, row in rows.items():
            if "median" in row:
                out.append(f"| {contender} | " + " | ".join(cells(row)) + " |")
            else:
                out.append(f"| {contender} | failed | | | | | |")
        out += ["", missing(test, rows), ""] if missing(test, rows) else [""]
    return "\n".join(line.rstrip() for line in out)


def into_page(path, name, lines):
    """Replaces what stands between <!-- begin NAME --> and <!-- end NAME --> of a page."""
    with open(path) as f:
        page = f.read()
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    head, found, rest = page.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{path}: expected the lines {begin} and {end}")
    with open(path, "w") as f:
        f.write(head + begin + "\n\n" + lines.strip() + "\n\n" + end + tail)
