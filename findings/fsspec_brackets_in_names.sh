#!/usr/bin/env bash
# fsspec 2026.9.0, its memory store: files whose names hold brackets, as copies of a browser have ("scan[1].csv").
#
# Guess: a name that exists is that file; only names that do not exist are read as patterns. So cat, get, mv and
# rm of "caps[1].csv" act on "caps[1].csv".
# What happened: exists, info, cat_file and get_file do; cat, get, mv and rm read the brackets as a pattern though
# the file is there. cat returns what is in "caps1.csv", a neighbour. get makes a folder with the neighbour in it.
# mv makes a folder, too, and moves the neighbour into it. rm removes the neighbour and leaves the file. Nothing is
# said of it; without a neighbour that fits, each raises FileNotFoundError for a file that is there.
# Output seen: exists True, cat_file b'mine', cat {'/x/caps1.csv': b'other'}, get ['caps1.csv'],
#              after mv ['/x/caps[1].csv', '/x/moved/caps1.csv'], after rm the same.
# Date: 2026-11-30.
#
# Why it matters here: --out, --data and columns of images may be addresses of stores (s3://, gs://), which go through
# these calls, and a table of another system would be evaluated, or removed, in silence. So files are read, written
# and removed by cat_file, get_file, put_file and rm_file alone, and folders are never renamed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet fsspec==2026.9.0
env/bin/python - <<'PY'
import importlib.metadata as md
import os

import fsspec

print({"fsspec": md.version("fsspec")})
store, name = fsspec.filesystem("memory"), "/x/caps[1].csv"
store.pipe_file(name, b"mine")
store.pipe_file("/x/caps1.csv", b"other")
exact = store.exists(name), store.cat_file(name)
other = store.cat(name)
store.get(name, "got")
got = sorted(os.listdir("got"))
store.mv(name, "/x/moved")
moved = sorted(store.find("/x"))
store.pipe_file("/x/caps1.csv", b"other")
store.rm(name)
left = sorted(store.find("/x"))
print(f"exists {exact[0]}, cat_file {exact[1]}, cat {other}, get {got}, after mv {moved}, after rm {left}")
assert exact == (True, b"mine")
assert other == {"/x/caps1.csv": b"other"}
assert got == ["caps1.csv"]
assert moved == left == [name, "/x/moved/caps1.csv"]
PY
