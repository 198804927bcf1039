#!/usr/bin/python3
"""On the client: work on a mount and remember what was acknowledged.

    writer.py work DIR SECONDS LOG     fsync'ed files, renames, hard links, directories, removals; every error ends it with
                                       a traceback.  Says how many rounds, and the longest one in ms.
    writer.py verify LOG               reads everything back, past the client's cache

LOG is on the client's own disk: what is in it, an application was told is done.
"""
import hashlib, json, os, sys, time


def work(where, seconds, log):
    os.makedirs(where)
    held = os.open(f"{where}/held", os.O_RDWR | os.O_CREAT | os.O_EXCL)     # its handle outlives the takeover
    expected, gone = {}, []
    end, worst, n = time.monotonic() + seconds, 0.0, 0
    while time.monotonic() < end:
        begin = time.monotonic()
        name = f"{where}/f{n:05d}"
        data = os.urandom(512) * 32
        fd = os.open(name + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(fd, data)
        os.fsync(fd)
        os.close(fd)
        os.rename(name + ".tmp", name)
        expected[name] = hashlib.sha1(data).hexdigest()
        if n % 4 == 0:
            os.link(name, name + ".link")
            expected[name + ".link"] = expected[name]
        if n % 5 == 0:
            os.mkdir(name + ".dir")
            os.rmdir(name + ".dir")
            gone.append(name + ".dir")
        if n % 6 == 5:
            os.unlink(f"{where}/f{n - 5:05d}")
            del expected[f"{where}/f{n - 5:05d}"]
            gone.append(f"{where}/f{n - 5:05d}")
        os.pwrite(held, data[:512], n * 512)
        os.fsync(held)
        worst = max(worst, time.monotonic() - begin)
        n += 1
    size = os.fstat(held).st_size
    assert size == n * 512, (size, n)
    os.close(held)
    with open(log, "w") as f:
        json.dump([expected, gone], f)
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
    work(sys.argv[2], float(sys.argv[3]), sys.argv[4])
else:
    verify(sys.argv[2])
