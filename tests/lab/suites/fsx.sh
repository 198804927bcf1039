#!/bin/bash
# fsx: random reads, writes, mappings, truncations of one file, each read compared with what must be there. fsx.sh DIR OPS
# [direct]
#
# Goal: no byte lost, stale or misplaced between the client's cache, its mappings and the server. Method: the seed is printed;
# HANFS_SEED repeats it. `direct` opens the file with O_DIRECT, and the client's own counters have to show it.
set -eu
dir=$1 ops=$2 mode=${3:-buffered}
here=$(cd "$(dirname "$0")" && pwd)
seed=${HANFS_SEED:-$((SRANDOM % 1000000000))}
art=$(mktemp -d)
mkdir -p "$dir"
# Field 4 of "bytes": written with O_DIRECT (fs/nfs/iostat.h).
direct_bytes() { awk -v m="$(stat -c %m "$dir")" '$1 == "device" { on = $5 == m } on && $1 == "bytes:" { print $5; exit }' /proc/self/mountstats; }
before=$(direct_bytes)
config=$here/fsx.toml preload=
[ "$mode" = buffered ] || config=$here/fsx-direct.toml preload=/usr/local/lib/direct.so
LD_PRELOAD=$preload fsx -f "$config" -N "$ops" -S "$seed" -P "$art" "$dir/fsx.$mode" >"$art/log" 2>&1 ||
    { tail -n 40 "$art/log"; echo "fsx $mode failed: HANFS_SEED=$seed $0 $*"; exit 1; }
[ "$mode" = buffered ] || [ "$(direct_bytes)" -gt "$before" ] || { echo "nothing was written with O_DIRECT"; exit 1; }
rm "$dir/fsx.$mode"
echo "$ops operations $mode, seed $seed"
