#!/usr/bin/env bash
# The first process of a private PID and mount namespace: lays the file system out, then becomes systemd.
# private_systemd.py starts it. What it mounts and writes is seen in here alone, and gone with the namespace.
#   $1 units to know    $2 becomes /etc/dugs-stream    $3 Python's prefix    $4 site-packages    $5 the project
set -euo pipefail
units=$1 configuration=$2 python=$3 packages=$4 project=$5

mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/units /run/generators
cp -r "$units"/. /run/units/
umount -l /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup

for place in etc var opt; do
    mkdir -p "/run/over/$place/upper" "/run/over/$place/work"
    mount -t overlay overlay -o "lowerdir=/$place,upperdir=/run/over/$place/upper,workdir=/run/over/$place/work" "/$place"
done
mkdir -p /etc/dugs-stream /opt/dugs-stream/bin /opt/dugs-stream/python /opt/dugs-stream/packages /opt/dugs-stream/project
cp -r "$configuration"/. /etc/dugs-stream/
mount --bind "$python" /opt/dugs-stream/python
mount --bind "$packages" /opt/dugs-stream/packages
mount --bind "$project" /opt/dugs-stream/project
cat >/opt/dugs-stream/bin/dugs <<'DUGS'
#!/bin/sh
# The same interpreter and packages as the tests', from a place that ProtectHome= does not hide.
at=/opt/dugs-stream
export LD_LIBRARY_PATH=$at/python/lib PYTHONPATH=$at/project:$at/packages PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1
exec $at/python/bin/python3 -m dugs_stream "$@"
DUGS
chmod 0755 /opt/dugs-stream/bin/dugs

export SYSTEMD_UNIT_PATH=/run/units SYSTEMD_GENERATOR_PATH=/run/generators container=dugs-test
exec /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --show-status=0
