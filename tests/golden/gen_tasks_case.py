"""gen_tasks_case.py OUT.inc - the case of letters as Python has it, for str.capitalize: to a single other letter only.

Each run {first, last, step, delta}: first, first + step, ... last turn into themselves + delta.
"""
import sys


def runs(turn):
    pairs = [(c, ord(turn(chr(c))) - c) for c in range(0x110000)
             if not 0xD800 <= c < 0xE000 and len(turn(chr(c))) == 1 and turn(chr(c)) != chr(c)]
    made = []
    for c, delta in pairs:
        last = made[-1] if made else None
        if last and last[3] == delta and c - last[1] in (1, 2) and last[2] in (0, c - last[1]):
            last[2], last[1] = c - last[1], c
        else:
            made.append([c, c, 0, delta])
    return [(a, b, step or 1, delta) for a, b, step, delta in made]


def write(out, name, made):
    out.write(f"static const case_run {name}[] = {{\n")
    for i in range(0, len(made), 4):
        out.write("    " + " ".join("{0x%04X, 0x%04X, %d, %d}," % run for run in made[i:i + 4]) + "\n")
    out.write("};\n")


with open(sys.argv[1], "w", encoding="ascii") as f:
    f.write("/* Made by tests/golden/gen_tasks_case.py. */\n")
    write(f, "lower_runs", runs(str.lower))
    write(f, "title_runs", runs(str.title))
