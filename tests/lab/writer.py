#!/usr/bin/python3
"""On the client: work on a mount and remember what was acknowledged.

    writer.py work DIR SECONDS LOG [STOP]
                                       fsync'ed files, renames, hard links, directories, removals; every error ends it with
                                       a traceback.  Says how many rounds, and the longest one in ms.  With STOP: ends early
                                       where that file appears, and says of each operation over 50 ms how long it took, at once.
    writer.py verify LOG               reads everything back, past the client's cache

LOG is on the client's own disk: what is in it, an application was told is done.
"""
import collections, hashlib, json, os, sys, time

KEPT = 300      # files; older ones are removed, so that a load of any length can be read back soon
GONE = 1000     # removed names that are looked for at the end
SLOW_S = 0.05


def work(where, seconds, log, stop=None):
    os.makedirs(where)
    last = time.monotonic()

    def done():
        nonlocal last
        now = time.monotonic()
        if stop and now - last > SLOW_S:
            print(json.dumps({"slow_ms": round((now - last) * 1000)}), flush=True)
        last = now

    def remove(name):
        os.unlink(name)
        del expected[name]
        gone.append(name)
        done()

    held = os.open(f"{where}/held", os.O_RDWR | os.O_CREAT | os.O_EXCL)     # its handle outlives the takeover
    expected, gone = {}, collections.deque(maxlen=GONE)
    end, worst, n = time.monotonic() + seconds, 0.0, 0
    while time.monotonic() < end and not (stop and os.path.exists(stop)):
        begin = last = time.monotonic()
        name = f"{where}/f{n:05d}"
        data = os.urandom(512) * 32
        fd = os.open(name + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(fd, data)
        os.fsync(fd)
        os.close(fd)
        done()
        os.rename(name + ".tmp", name)
        done()
        expected[name] = hashlib.sha1(data).hexdigest()
        if n % 4 == 0:
            os.link(name, name + ".link")
            expected[name + ".link"] = expected[name]
            done()
        if n % 5 == 0:
            os.mkdir(name + ".dir")
            os.rmdir(name + ".dir")
            gone.append(name + ".dir")
            done()
        if n % 6 == 5:
            remove(f"{where}/f{n - 5:05d}")
        old = f"{where}/f{n - KEPT:05d}"
        for name in (old, old + ".link"):
            if name in expected:
                remove(name)
        os.pwrite(held, data[:512], n * 512)
        os.fsync(held)
        done()
        worst = max(worst, time.monotonic() - begin)
        n += 1
    size = os.fstat(held).st_size
    assert size == n * 512, (size, n)
    os.close(held)
    with open(log, "w") as f:
        json.dump([expected, list(gone)], f)
    print(json.dumps({"rounds": n, "stall_ms": round(worst * 1000)}))


def verify(log):
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")
    with open(log) as f:
        expected, gone = json.load(f)
    for name, digest in expected.items():
        with open(name, "rb") as f:
            assert hashlib.sha1(f.read()).hexdigest() == digest, f"{name} has other content"
    for name in gone:
        assert not os.path.lexists(name), f"{name} is back"
    print(len(expected), "files as acknowledged")


if sys.argv[1] == "work":
    work(sys.argv[2], float(sys.argv[3]), *sys.argv[4:])
else:
    verify(sys.argv[2])
