#!/usr/bin/python3
"""A source tree with everything that NFSv3 can hold: tree.py make DIR FILES [SEED] | tree.py list DIR

make: directories, small and empty files, a few of 100 to 300 KiB, sparse ones, hard links, symbolic links (dangling too), a
fifo, names of 255 bytes and not UTF-8, all modes, times to the nanosecond, other owners.
list: one line for each of them with all of that and a digest of the content, to be compared with diff.
"""
import hashlib, os, random, stat, sys


def make(top, files, seed):
    r = random.Random(seed)
    os.makedirs(top)
    dirs, plain = [top.encode()], []
    for n in range(files):
        if n % 20 == 0:
            d = os.path.join(r.choice(dirs[-8:]), b"dir%d" % n)
            os.mkdir(d)
            dirs.append(d)
        number = b"%d" % n
        odd = {3: b"\xff\xfe" + number, 7: number.ljust(255, b"x"), 11: "ü ñ€\n".encode() + number, 13: b" -rf *'" + number}
        name = odd.get(n % 40, b"f%d.c" % n)
        path = os.path.join(r.choice(dirs), name)
        kind = n % 30
        if kind == 1 and plain:
            os.link(r.choice(plain), path)
        elif kind == 2:
            os.symlink(os.path.basename(r.choice(plain + [b"no such file"])), path)
        elif kind == 4:
            path = os.path.join(os.path.dirname(path), b"fifo%d" % n)
            os.mkfifo(path)
        elif kind == 5:
            with open(path, "wb") as f:
                for _ in range(3):
                    f.seek(r.randrange(1 << 21))
                    f.write(b"island")
                f.truncate(1 << 21)
            plain.append(path)
        else:
            size = 0 if kind == 6 else r.randrange(100_000, 300_000) if kind == 8 else r.randrange(1, 9000)
            with open(path, "wb") as f:
                f.write(r.randbytes(size))
            plain.append(path)
        if os.stat(path, follow_symlinks=False).st_nlink == 1:
            if r.random() < 0.1:
                os.chown(path, r.randrange(1000), r.randrange(1000), follow_symlinks=False)
            if not os.path.islink(path):
                os.chmod(path, r.choice([0o644, 0o755, 0o600, 0o444, 0o4755, 0o2750, 0o1777, 0o000]))
            os.utime(path, ns=(r.randrange(1, 2**32) * 10**9 + n, r.randrange(1, 2**32) * 10**9 + n), follow_symlinks=False)
    for d in reversed(dirs):
        os.utime(d, ns=(10**18 + len(d), 10**18 + len(d)))


def entries(top):
    yield top
    for where, dirs, files in os.walk(top):
        for name in dirs + files:
            yield os.path.join(where, name)


def show(top):
    first, lines = {}, []
    for path in sorted(entries(os.fsencode(top))):
        s = os.lstat(path)
        name = os.path.relpath(path, os.fsencode(top))
        what = ""
        if stat.S_ISREG(s.st_mode):
            with open(path, "rb") as f:
                what = hashlib.sha1(f.read()).hexdigest()
            what += " same as %r" % first.setdefault(s.st_ino, name)
        elif stat.S_ISLNK(s.st_mode):
            what = repr(os.readlink(path))
        size = 0 if stat.S_ISDIR(s.st_mode) else s.st_size
        nlink = 0 if stat.S_ISDIR(s.st_mode) else s.st_nlink
        lines.append(f"{name!r} {s.st_mode:o} {s.st_uid} {s.st_gid} {nlink} {size} {s.st_mtime_ns} {what}")
    print("\n".join(lines))


if sys.argv[1] == "make":
    make(sys.argv[2], int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else "tree")
else:
    show(sys.argv[2])
