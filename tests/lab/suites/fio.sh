#!/bin/bash
# fio: blocks with a checksum each, written in random order, read back past the client's cache. fio.sh DIR MIB
#
# Goal: what was written is there, where it was written. Method: buffered, with the page cache dropped before a second fio
# verifies; then O_DIRECT, several writes in flight, verified by the same run.
set -eu
dir=$1 mib=$2
mkdir -p "$dir"
run() { fio --directory="$dir" --size="${mib}m" --rw=randwrite --randrepeat=0 --verify=crc32c --verify_fatal=1 "$@" --output=/tmp/fio.log ||
    { cat /tmp/fio.log; exit 1; }; }
buffered="--name=buffered --ioengine=psync --bs=16k --allrandrepeat=1 --randseed=$SRANDOM"
run $buffered --do_verify=0 --end_fsync=1
echo 3 >/proc/sys/vm/drop_caches
run $buffered --verify_only
run --name=direct --ioengine=libaio --iodepth=8 --bs=64k --direct=1 --do_verify=1
rm "$dir"/buffered* "$dir"/direct*
echo "$mib MiB buffered and $mib MiB O_DIRECT, every block verified"
