#!/usr/bin/python3
"""Close-to-open between two clients: coherence.py serve DIR | coherence.py lead DIR PEER ROUNDS

Goal: what one client wrote and closed, or changed in a directory, the other sees when it opens the file or the directory, although
it has the old state in its caches. Method: both run this program on the same export. They take turns: in odd rounds the
leader changes and the peer looks, in even rounds the other way round. Before each change the one who will look fills its caches.
A remark on what is not promised is at the check that leaves it out.
"""
import os, random, socket, sys

PORT = 7799


def read(path):
    with open(path, "rb") as f:
        return f.read()


def attributes(path):
    fd = os.open(path, os.O_RDONLY)     # the open is what makes the client ask
    try:
        s = os.fstat(fd)
        return [s.st_mode, s.st_uid, s.st_gid, s.st_size, s.st_mtime_ns, s.st_nlink]
    finally:
        os.close(fd)


def listing(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


class Side:
    """What one client does when it is told to."""

    def __init__(self, top):
        self.top = top
        self.file, self.dir, self.victim = f"{top}/file", f"{top}/dir", f"{top}/victim"

    def fill(self):
        """Has everything in the caches, a missing name too."""
        read(self.file), attributes(self.file), listing(self.dir), read(self.victim)
        assert not os.path.exists(f"{self.dir}/later")

    def change(self, seed):
        """Changes everything; the state that must be seen from the moment this returns."""
        r = random.Random(seed)
        content = r.randbytes(r.randrange(1, 200_000))
        with open(self.file, "r+b") as f:
            f.write(content)
            f.truncate()
        with open(self.file, "ab") as f:
            f.write(b"appended")
        with open(self.file, "r+b") as f:
            f.seek(len(content) // 2)
            f.write(b"!")
        os.chmod(self.file, r.choice([0o600, 0o644, 0o755]))
        os.chown(self.file, r.randrange(1000), r.randrange(1000))
        os.utime(self.file, ns=(seed * 10**9, seed * 10**9 + 1))
        for name in listing(self.dir)[::2]:
            os.rename(f"{self.dir}/{name}", f"{self.dir}/r{seed}-{name}"[:100])
        for name in listing(self.dir)[5:]:
            os.unlink(f"{self.dir}/{name}")
        open(f"{self.dir}/n{seed}", "x").close()
        with open(f"{self.top}/new", "wb") as f:
            f.write(b"%d" % seed)
        os.rename(f"{self.top}/new", self.victim)   # the old inode is gone: a cached handle is stale
        with open(f"{self.dir}/later", "x") as f:
            f.write(str(seed))

    def state(self, seed):
        """Everything as this client sees it, opened anew. The directory first: that makes it forget the missing name."""
        names = listing(self.dir)
        return [names, attributes(self.file), hash_of(read(self.file)), read(self.victim).decode(),
                read(f"{self.dir}/later").decode()]

    def tidy(self, _):
        os.unlink(f"{self.dir}/later")

    def gone(self, _):
        """After the other one's tidy: an open of what is cached as being there."""
        try:
            read(f"{self.dir}/later")
        except FileNotFoundError:
            return True
        return False


def hash_of(data):
    import hashlib
    return hashlib.sha1(data).hexdigest()


def call(side, line):
    what, seed = line.split()
    if what == "fill":
        side.fill()
        return None
    return getattr(side, what)(int(seed))


def serve(top):
    side = Side(top)
    with socket.create_server(("", PORT)) as listener:
        link = listener.accept()[0].makefile("rw")
        for line in link:
            link.write(repr(call(side, line)) + "\n")
            link.flush()


def lead(top, peer, rounds):
    me = Side(top)
    os.makedirs(me.dir)
    for path in (me.file, me.victim):
        with open(path, "wb") as f:
            f.write(b"first")
    link = socket.create_connection((peer, PORT)).makefile("rw")

    def there(what, seed):
        link.write(f"{what} {seed}\n")
        link.flush()
        answer = link.readline()
        assert answer, "the peer failed"
        return answer.strip()

    def here(what, seed):
        return repr(call(me, f"{what} {seed}"))
    for n in range(1, rounds + 1):
        writer, looker = (here, there) if n % 2 else (there, here)
        looker("fill", n)
        writer("change", n)
        want, got = writer("state", n), looker("state", n)
        assert want == got, f"round {n}: changed to\n{want}\nthe other sees\n{got}"
        writer("tidy", n)
        assert looker("gone", n) == "True", f"round {n}: the other still opens what was removed"
    print(f"{rounds} rounds, each seen by the other client")


if sys.argv[1] == "serve":
    serve(sys.argv[2])
else:
    lead(sys.argv[2], sys.argv[3], int(sys.argv[4]))
