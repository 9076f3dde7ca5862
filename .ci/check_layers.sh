#!/bin/sh
# Fails when a file includes a header of a layer above its own, goes round the public header, or takes part in a cycle.
#   shm < workers < pmap: each includes itself and what is below, written from the top folder: "shm/arena.h"
#   cli, examples: <pmap/pmap.h>, <pmap/call.h> and their own headers only
#   tests: anything but examples; nobody includes tests or cli from below
# usage: .ci/check_layers.sh [source folder]
cd "${1:-.}" || exit 2
files=$(find shm workers pmap cli examples tests -name '*.[ch]' | sort)
[ -n "$files" ] || { echo "check_layers: no sources in $(pwd)"; exit 2; }
printf '%s\n' "$files" | awk '
function folder(p) { sub(/\/.*/, "", p); return p }
function refuse(f, h, why) { printf "%s:%d: \"%s\" %s\n", f, line_number, h, why; errors++ }
function visit(f,   n, names, i) {
    if (state[f] == 2) return
    if (state[f] == 1) { printf "%s: is in a cycle of includes\n", f; errors++; return }
    state[f] = 1
    n = split(includes[f], names, " ")
    for (i = 1; i <= n; i++) if (names[i] in known) visit(names[i])
    state[f] = 2
}
BEGIN { level["shm"] = 1; level["workers"] = 2; level["pmap"] = 3; level["cli"] = 4; level["examples"] = 4; level["tests"] = 5 }
{
    f = $0; from = folder(f); known[f] = 1; line_number = 0
    while ((getline line < f) > 0) {
        line_number++
        if (line !~ /^[ \t]*#[ \t]*include[ \t]*["<]/) continue
        quoted = line ~ /include[ \t]*"/
        h = line; sub(/^[^"<]*["<]/, "", h); sub(/[">].*/, "", h)
        to = folder(h)
        ours = index(h, "/") && (to in level)
        if (h == "config.h" || (!quoted && !ours)) continue
        if (!ours) { refuse(f, h, "is not written from the top folder"); continue }
        includes[f] = includes[f] " " h
        if (from == "cli" || from == "examples") {
            if (to != from && h != "pmap/pmap.h" && h != "pmap/call.h") refuse(f, h, "goes round <pmap/pmap.h>")
        } else if (to == "examples") refuse(f, h, "is an example")
        else if (level[to] > level[from]) refuse(f, h, "is of a higher layer")
    }
    close(f)
}
END { for (f in known) visit(f); exit errors > 0 }'
