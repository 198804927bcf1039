#!/bin/bash
# dbench: the calls of an office file server's clients, replayed. dbench.sh DIR SECONDS CLIENTS
#
# Goal: no call fails. Method: dbench ends with an error at the first one that does not go as in its recording.
set -eu
dir=$1 seconds=$2 clients=$3
mkdir -p "$dir"
dbench -t "$seconds" -D "$dir" "$clients" >/tmp/dbench.log 2>&1 || { tail -n 20 /tmp/dbench.log; exit 1; }
! grep -iE 'failed|error' /tmp/dbench.log | grep -v 'barrier semaphore' || exit 1     # its first semaphore has number 0
rm -r "$dir"
echo "$clients clients, $(grep -o '^Throughput [0-9.]* MB/sec' /tmp/dbench.log | tr 'T' 't')"
