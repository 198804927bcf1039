#!/usr/bin/python3
"""On the client: byte-range locks on a file of a mount, and what they promise.

    locker.py contend FILE WHO SECONDS [flock]   takes and releases random ranges of FILE (or all of it, by flock), shared and
                            exclusive, blocking and not; while it holds one, it looks past the cache whether anybody else
                            wrote where they must not.  Says how often, and the longest wait in ms.
    locker.py hold FILE START LENGTH sh|ex READY RELEASE     takes a lock, makes the file READY, keeps it until the file RELEASE
                            is there; both on the client's own disk
    locker.py try FILE START LENGTH sh|ex        "free" or "taken", and after how many ms the answer came
    locker.py wait FILE START LENGTH sh|ex       waits until it has the lock; says for how many ms
"""
import errno, fcntl, json, os, random, struct, sys, time

SLOTS, SLOT_BYTES = 8, 64
EMPTY = bytes(SLOT_BYTES)


def ms(since):
    return round((time.monotonic() - since) * 1000)


def lock(fd, kind, start, length, wait=True):
    """True if it is held now; False if it is taken."""
    how = {"sh": fcntl.LOCK_SH, "ex": fcntl.LOCK_EX}[kind] | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.lockf(fd, how, length, start)
    except OSError as e:
        if not wait and e.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


class Slots:
    """A file of slots; who holds an exclusive lock on one has its name in it."""

    def __init__(self, path, who):
        self.who = who.encode().ljust(SLOT_BYTES, b".")
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT)      # past the cache: what others wrote is seen

    def read(self, first, n):
        data = os.pread(self.fd, n * SLOT_BYTES, first * SLOT_BYTES).ljust(n * SLOT_BYTES, b"\0")
        return [data[i * SLOT_BYTES:(i + 1) * SLOT_BYTES] for i in range(n)]

    def expect(self, first, n, what, when):
        for slot in self.read(first, n):
            if slot != what:
                raise SystemExit(f"{self.who} {when}: slot of {first}+{n} has {slot}, expected {what}")

    def write(self, first, n, what):
        os.pwrite(self.fd, what * n, first * SLOT_BYTES)


def contend(path, who, seconds, by_flock):
    slots = Slots(path, who)
    taken, refused, longest, end = 0, 0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        first = 0 if by_flock else random.randrange(SLOTS)
        n = SLOTS if by_flock else random.randint(1, SLOTS - first)
        kind, wait = random.choice(("sh", "ex", "ex")), random.random() < 0.7
        begin = time.monotonic()
        if by_flock:
            try:
                fcntl.flock(slots.fd, (fcntl.LOCK_SH if kind == "sh" else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
                held = True
            except BlockingIOError:
                held = False
        else:
            held = lock(slots.fd, kind, first * SLOT_BYTES, n * SLOT_BYTES, wait)
        longest = max(longest, ms(begin))
        if not held:
            refused += 1
            time.sleep(0.02)
            continue
        taken += 1
        slots.expect(first, n, EMPTY, "took the lock")
        if kind == "ex":
            slots.write(first, n, slots.who)
        time.sleep(random.random() * 0.03)
        slots.expect(first, n, slots.who if kind == "ex" else EMPTY, "held the lock")
        if kind == "ex":
            slots.write(first, n, EMPTY)
        if by_flock:
            fcntl.flock(slots.fd, fcntl.LOCK_UN)
        else:
            fcntl.lockf(slots.fd, fcntl.LOCK_UN, n * SLOT_BYTES, first * SLOT_BYTES)
    print(json.dumps({"taken": taken, "refused": refused, "wait_ms": longest}))


def main(what, path, *args):
    if what == "contend":
        return contend(path, args[0], float(args[1]), args[2:] == ("flock",))
    start, length, kind, *files = int(args[0]), int(args[1]), *args[2:]
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    begin = time.monotonic()
    if what == "try":
        free = lock(fd, kind, start, length, wait=False)
        print("free" if free else "taken", ms(begin))
    elif what == "wait":
        lock(fd, kind, start, length)
        print("waited", ms(begin))
    elif what == "hold":
        lock(fd, kind, start, length)
        open(files[0], "w").close()
        while not os.path.exists(files[1]):
            time.sleep(0.02)
    else:
        raise SystemExit(__doc__)


main(*sys.argv[1:])
