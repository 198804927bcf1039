#!/bin/bash
# Install from Debian what the lab needs on this machine. Starts no daemon.
set -euo pipefail
. "$(dirname "$0")/env.sh"
want="qemu-system-x86 mmdebstrap iproute2 nftables e2fsprogs busybox-static cpio
 kmod python3 tcpdump iputils-arping iputils-ping rpcbind"
miss=$(for p in $want; do dpkg -s "$p" >/dev/null 2>&1 || echo "$p"; done)
[ -n "$miss" ] || exit 0
export DEBIAN_FRONTEND=noninteractive
rc=/usr/sbin/policy-rc.d   # asked by the packages before they start a daemon
if [ ! -e $rc ]; then
    printf '#!/bin/sh\nexit 101\n' >$rc
    chmod +x $rc
    trap 'rm -f $rc' EXIT
fi
apt-get -qq update
apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $miss >"$LAB/install.log" 2>&1 ||
    { tail -20 "$LAB/install.log" >&2; exit 1; }
