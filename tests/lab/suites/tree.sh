#!/bin/bash
# A source tree, handled by the tools that people use: cp, mv, diff, find, rsync, tar, rm. tree.sh DIR FILES
#
# Goal: every name, byte, hole, link, mode, owner and time arrives and stays. Method: made on a local file system (tree.py);
# each copy is listed with the page cache dropped and has to give the same listing as the original.
set -eu
dir=$1 files=$2
here=$(cd "$(dirname "$0")" && pwd)
local=$(mktemp -d)
trap 'rm -rf "$local"' EXIT
python3 "$here/tree.py" make "$local/t" "$files" "$SRANDOM"
python3 "$here/tree.py" list "$local/t" >"$local/want"
same() { # directory, what made it
    echo 3 >/proc/sys/vm/drop_caches
    python3 "$here/tree.py" list "$1" >"$local/got"
    diff "$local/want" "$local/got" >"$local/diff" || { head -n 20 "$local/diff"; echo "not the same after $2"; exit 1; }
}
mkdir -p "$dir"; cd "$dir"
cp -a "$local/t" copied;                                  same copied "cp -a"
mv copied moved;                                          same moved mv
diff -r --no-dereference --exclude='fifo*' "$local/t" moved
[ "$(find moved | wc -l)" = "$(find "$local/t" | wc -l)" ]
rsync -aH "$local/t/" synced/;                            same synced "rsync -aH"
changed=$(rsync -aHni --checksum --delete "$local/t/" synced/)
[ -z "$changed" ] || { echo "rsync --checksum would change: $changed"; exit 1; }
tar --format=posix --warning=no-timestamp --numeric-owner -cSf tree.tar -C moved .
mkdir untarred; tar --warning=no-timestamp --numeric-owner -xpSf tree.tar -C untarred; same untarred "tar -S"
kib=$(du -sk untarred | cut -f1); apparent=$(du -sk --apparent-size untarred | cut -f1)
[ "$kib" -lt $((apparent / 2)) ] || { echo "holes were filled: $kib of $apparent KiB"; exit 1; }
rm -r moved synced untarred tree.tar
[ -z "$(ls -A)" ] || { echo "left: $(ls -A)"; exit 1; }
echo "$(wc -l <"$local/want") entries: cp, mv, find, rsync, tar, rm"
