#!/bin/bash
# SQLite: a database with each of its rollback journals, several writers, and one that is killed. sqlite.sh DIR ROWS
#
# Goal: a transaction that was committed is there, whole; one that was not has left nothing. Method: every row names its
# transaction of ten; integrity_check and counts, with the page cache dropped. The writers take turns by fcntl locks.
set -eu
dir=$1 rows=$2
mkdir -p "$dir"; db=$dir/test.db
sql() { sqlite3 -bail -cmd '.timeout 60000' "$db" "$1"; }
sql 'CREATE TABLE t(tx TEXT, n INTEGER, body BLOB); CREATE INDEX i ON t(tx); CREATE INDEX j ON t(n);'
for journal in delete truncate persist; do
    sql "PRAGMA journal_mode=$journal; PRAGMA synchronous=full; BEGIN; INSERT INTO t
        WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < $rows) SELECT '$journal'||(n/10), n, randomblob(200) FROM c; COMMIT;
        DELETE FROM t WHERE n = 0; UPDATE t SET body = randomblob(300) WHERE n % 3 = 0;" >/dev/null
done
writer() { # name: transactions of ten rows each
    for k in $(seq $((rows / 100))); do
        echo "BEGIN IMMEDIATE; INSERT INTO t WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 10)
            SELECT '$1-$k', n, randomblob(500) FROM c; COMMIT;"
    done | sqlite3 -bail -cmd '.timeout 60000' "$db"
}
writer x & x=$!; writer y & y=$!; writer z & z=$!
wait $x; wait $y; wait $z
# Killed with its transaction half written to the file (a tiny page cache spills), so the next one finds a hot journal.
mkfifo /tmp/sqlite.in
sqlite3 "$db" </tmp/sqlite.in >/tmp/sqlite.out 2>&1 & victim=$!
exec 8>/tmp/sqlite.in
echo "PRAGMA cache_size=5; BEGIN IMMEDIATE; UPDATE t SET body = randomblob(400), tx = 'dead'; SELECT 'spilled';" >&8
for _ in $(seq 600); do ! grep -q spilled /tmp/sqlite.out || break; sleep 0.1; done
grep -q spilled /tmp/sqlite.out && [ -s "$db-journal" ]
kill -9 $victim; wait $victim 2>/dev/null || true
exec 8>&-; rm /tmp/sqlite.in
echo 3 >/proc/sys/vm/drop_caches
[ "$(sql 'PRAGMA integrity_check')" = ok ]
[ "$(sql "SELECT count(*) FROM t WHERE tx = 'dead'")" = 0 ]
want=$((rows * 3 + rows / 100 * 10 * 3))
[ "$(sql 'SELECT count(*) FROM t')" = $want ]
[ "$(sql "SELECT count(*) FROM (SELECT tx FROM t WHERE tx LIKE '%-%' GROUP BY tx HAVING count(*) <> 10)")" = 0 ]
sql 'VACUUM'; [ "$(sql 'PRAGMA integrity_check')" = ok ]
rm -r "$dir"
echo "$want rows, 3 journal modes, 3 writers, 1 killed; integrity_check ok"
