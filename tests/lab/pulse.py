#!/usr/bin/python3
"""On the client: one small operation after the other, so that one is always under way; says which took long.

    pulse.py write|lock FILE READY STOP

write: 16 bytes and fsync, a WRITE and nothing else on the wire; lock: a byte-range lock and its release, NLM calls.  Makes the file
READY once it is under way and ends when STOP appears (both on the client's own disk); any error ends it with a traceback.  Says,
as JSON, how many operations there were, those over 50 ms (when they began, after how many ms they ended), and which states
its connections to NFS servers were seen in (/proc/net/tcp) while one of those was under way.
"""
import fcntl, json, os, sys, threading, time

SLOW_S = 0.05
NAMES = {1: "ESTABLISHED", 2: "SYN_SENT", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT", 8: "CLOSE_WAIT", 9: "LAST_ACK"}
what, path, ready, stop = sys.argv[1:]
began, over, states = time.monotonic(), False, set()


def watch():
    while not over:
        if time.monotonic() - began > SLOW_S:
            with open("/proc/net/tcp") as f:
                for line in f.readlines()[1:]:
                    remote, state = line.split()[2:4]
                    if remote.endswith(":0801"):
                        states.add(NAMES.get(int(state, 16), state))
        time.sleep(0.02)


fd = os.open(path, os.O_RDWR | os.O_CREAT)
os.write(fd, bytes(16))
os.fsync(fd)
watcher = threading.Thread(target=watch)
watcher.start()
slow, n = [], 0
try:
    while not os.path.exists(stop):
        at, began = time.time(), time.monotonic()
        if what == "write":
            os.pwrite(fd, n.to_bytes(16, "big"), 0)
            os.fsync(fd)
        else:
            fcntl.lockf(fd, fcntl.LOCK_EX, 8, 0)
            fcntl.lockf(fd, fcntl.LOCK_UN, 8, 0)
        took = time.monotonic() - began
        if took > SLOW_S:
            slow.append([at, round(took * 1000)])
        n += 1
        if n == 20:
            open(ready, "w").close()
            states.clear()
            slow.clear()
        time.sleep(0.005)
        began = time.monotonic()
finally:
    over = True
    watcher.join()
print(json.dumps({"operations": n, "slow": slow, "states": sorted(states)}))
