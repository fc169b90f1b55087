# nres data: a small site in two languages through extract, clean and split.
. "$SOURCE/tests/cli/lib.sh"

mkdir -p site/b site/a
french() { echo "<p>Le fichier numéro $1 est écrit dans le dossier $2 lorsque la commande se termine sans erreur.</p>"; }
for i in one two three four five six seven eight nine ten; do
  {
    echo "<html><head><title>x</title></head><body><nav>Accueil</nav><h1>Page $i</h1>"
    french "$i" "$i$i"
    echo "<p>Cette phrase est la même dans toutes les pages de ce site, et elle ne doit rester qu'une fois.</p>"
    echo "<p>This sentence is in English, and it must not be in the result of the command.</p>"
    echo "<div class=aside2><p>La barre de côté est dans une classe que nous ne voulons pas avoir.</p></div>"
    echo "<h2>Voir aussi</h2><p>Tout ce qui est sous ce titre est à laisser de côté dans le résultat.</p></body></html>"
  } >"site/a/$i.html"
done
cp site/a/one.html site/b/other.bin
ln -s ../a site/b/loop

expect 0 "$NRES" data extract site -o raw.jsonl --label test --drop-class aside2 --drop-section "Voir aussi" "Autre titre"
says out 'files read                                             10'
says raw.jsonl '"source":"test/a/one.html"'
! grep -q 'barre de côté\|sous ce titre\|Accueil' raw.jsonl || fail "kept what is to be left out"
cut -d'"' -f4 raw.jsonl | sort -c || fail "documents are not in the order of their sources"

expect 0 "$NRES" data clean raw.jsonl -o clean.jsonl --language fr --min-document-bytes 50 --near 1 --json
says out '"command":"clean"'
says out '"documents":10'
says out '"dropped_duplicate":9'
says out '"dropped_language":10'
[ "$(wc -l <out)" -eq 1 ] || fail "--json prints more than one line"

expect 0 "$NRES" data split clean.jsonl -o part --validation-share 0.3 --test-share 0.3
cat part.train.jsonl part.validation.jsonl part.test.jsonl | sort >parts
sort clean.jsonl | cmp - parts || fail "a document was lost or changed"
cp part.test.jsonl first.jsonl
expect 0 "$NRES" data split clean.jsonl -o part --validation-share 0.3 --test-share 0.3
cmp part.test.jsonl first.jsonl || fail "the same deal twice isn't the same"

printf 'Un.\nDeux.\n\nTrois.\n' >plain.txt
expect 0 "$NRES" data extract plain.txt -o plain.jsonl
says plain.jsonl '"text":"Un. Deux.\n\nTrois."'
printf '{"source": "s", "text": "one a\\n\\ntwo b\\n\\nthree"}\n{"text": "four"}\n' >long.jsonl
expect 0 "$NRES" data extract long.jsonl -o cut.jsonl --document-bytes 9
[ "$(cat cut.jsonl)" = '{"source":"s:1","text":"one a\n\ntwo b"}
{"source":"s","text":"three"}
{"source":"long.jsonl:2","text":"four"}' ] || fail "rows are cut otherwise: $(cat cut.jsonl)"
expect 0 "$NRES" data extract plain.txt -o plain.jsonl --lines --document-bytes 1
says plain.jsonl '{"source":"plain.txt:1","text":"Un.\n\nDeux."}'
printf '{"passage":"Context (1): Un.\\nContext (22): Deux.\\n"}\n' >rows.jsonl
expect 0 "$NRES" data extract rows.jsonl -o rows.out --field passage --lines --strip 'Context (#): '
says rows.out '"text":"Un.\n\nDeux."'

# Wrong words are usage errors; bad files name themselves; nothing half-written stays.
expect 2 "$NRES" data
one_line err
expect 2 "$NRES" data wash raw.jsonl -o x
says err 'found "wash"'
expect 2 "$NRES" data clean raw.jsonl
says err '-o is needed'
expect 2 "$NRES" data clean -o x
expect 2 "$NRES" data clean raw.jsonl -o x --language xx
expect 2 "$NRES" data extract site -o x --kind pdf
expect 2 "$NRES" data split clean.jsonl -o x --validation-share 0.6 --test-share 0.6
expect 1 "$NRES" data clean absent.jsonl -o x
says err absent.jsonl
one_line err
echo '{"text": 3}' >bad.jsonl
expect 1 "$NRES" data clean bad.jsonl -o x
says err bad.jsonl
expect 1 "$NRES" data extract site/a/one.html -o no-such-folder/x
[ ! -e x ] || fail "a failed command left its output"
