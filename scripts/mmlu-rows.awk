# mmlu-rows.awk - the questions that lm-evaluation-harness's definitions of a
# translated MMLU carry as examples (YAML, a subject a file), as rows of JSONL with
# the columns of m_mmlu. Reads just what those files hold: scalars plain, in single
# and in double quotes, folded over lines. Every byte of them is ASCII.

function replaced(s, from, to,    at, out) {
    out = ""
    while ((at = index(s, from)) > 0) {
        out = out substr(s, 1, at - 1) to
        s = substr(s, at + length(from))
    }
    return out s
}

# The inside of a JSON string out of the inside of a double-quoted scalar.
function escapes(s,    out, at, c) {
    out = ""
    while ((at = index(s, "\\")) > 0) {
        c = substr(s, at + 1, 1)
        out = out substr(s, 1, at - 1)
        s = substr(s, at + 2)
        if (c == "x") out = out "\\u00"
        else if (c == "_") out = out "\\u00a0"
        else if (c == " ") out = out " "
        else if (index("\"\\ntu", c)) out = out "\\" c
        else fault = "an escape that is not known: \\" c
    }
    return out s
}

# The web's escapes; those of quotes and ampersands last.
function text(s,    quote) {
    quote = substr(s, 1, 1)
    if (quote == "\"") s = escapes(substr(s, 2, length(s) - 2))
    else {
        if (quote == "'") s = replaced(substr(s, 2, length(s) - 2), "''", "'")
        s = replaced(replaced(s, "\\", "\\\\"), "\"", "\\\"")
        s = replaced(s, "\n", "\\n")
    }
    s = replaced(replaced(replaced(s, "&#39;", "'"), "&lt;", "<"), "&gt;", ">")
    return replaced(replaced(s, "&quot;", "\\\""), "&amp;", "\\u0026")
}

function finish(    name) {
    if (!("question" in value)) return
    for (name in value) value[name] = text(value[name])
    if (value["A"] == "" || value["D"] == "" || value["answer"] !~ /^[ABCD]$/) fault = "not a question of four choices"
    if (fault != "") { print FILENAME ": " fault > "/dev/stderr"; failed = 1; exit 1 }
    printf "{\"id\": \"%s/%d\", \"instruction\": \"%s\"", subject, ++count, value["question"]
    printf ", \"option_a\": \"%s\", \"option_b\": \"%s\"", value["A"], value["B"]
    printf ", \"option_c\": \"%s\", \"option_d\": \"%s\"", value["C"], value["D"]
    printf ", \"answer\": \"%s\"}\n", value["answer"]
    split("", value)
}

function begin(name, s) { key = name; value[key] = s; blanks = 0 }

FNR == 1 {
    subject = FILENAME
    sub(/.*mmlu_[a-z]*_/, "", subject)
    sub(/\.yaml$/, "", subject)
    count = 0
}
/^  - input_choice_list:$/ { finish(); key = "list"; next }
/^[a-z]/ { finish(); key = ""; next }
key == "" { next }
key != "question" && /^      [A-D]: / { begin(substr($0, 7, 1), substr($0, 10)); next }
key != "question" && /^    input_correct_responses:$/ { key = "responses"; next }
key == "responses" && /^    - / { begin("answer", substr($0, 7)); next }
key != "question" && /^    input_question: / { begin("question", substr($0, 21)); next }
/^$/ { blanks++; next }
{
    # A scalar goes on: behind "\" at once, behind empty lines on as many new ones, else behind a blank.
    sub(/^ +/, "")
    quoted = substr(value[key], 1, 1) == "\""
    if (quoted && value[key] ~ /(^|[^\\])(\\\\)*\\$/) value[key] = substr(value[key], 1, length(value[key]) - 1)
    else if (!blanks) value[key] = value[key] " "
    for (; blanks > 0; blanks--) value[key] = value[key] (quoted ? "\\n" : "\n")
    value[key] = value[key] $0
}
END { if (!failed) finish(); exit failed }
