#!/bin/bash
# git: a repository of many small files, packed, cloned, merged and checked. git.sh DIR FILES
#
# Goal: none of its objects is damaged, and `git status` trusts the attributes it has cached. Method: fsck --strict after each
# step that rewrites the store; clone makes hard links, gc renames and removes.
set -eu
dir=$1 files=$2
mkdir -p "$dir"; cd "$dir"
export GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=e GIT_COMMITTER_NAME=n GIT_COMMITTER_EMAIL=e GIT_CONFIG_GLOBAL=/dev/null
git init -q -b main a; cd a
for i in $(seq "$files"); do mkdir -p d$((i % 7)); echo "line $i" >"d$((i % 7))/f$i"; done
git add .; git commit -qm one
[ -z "$(git status --porcelain)" ]
git switch -qc side; git mv d1 moved; git commit -qm moved
git switch -q main; echo more >>d2/f2; git commit -qam more
git merge -q side -m merge
git fsck --strict --no-progress; git gc -q --prune=now; git fsck --strict --no-progress
git clone -q . ../b; cd ../b
echo 3 >/proc/sys/vm/drop_caches
git fsck --strict --no-progress
[ -z "$(git status --porcelain)" ]
diff -r --exclude=.git ../a .
cd ..; rm -r a b; [ -z "$(ls -A)" ]
echo "$files files: commit, merge, gc, clone, fsck"
