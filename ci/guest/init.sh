#!/bin/busybox sh
# PID 1 of the measuring guest: mounts what the kernel shows, asks the host for the report data, runs
# the collector (mrtd/evidence/collect.sh, collect.sh here), which sends what the firmware and the
# EFI stub measured to the host over the same virtio-serial port, powers off.
#
# All it needs is beside it: in /, or in the folder that ci/guest/carry_root.py puts it into.

here=${0%/*}
PATH=$here/bin
export PATH
"$here/bin/busybox" mkdir -p /proc /sys /dev /tmp
"$here/bin/busybox" --install -s "$here/bin"
mounted() {
    grep -q " $3 $1 " /proc/mounts 2> /dev/null || mount -t "$1" "$2" "$3"
}
mounted proc proc /proc
mounted sysfs sysfs /sys
mounted devtmpfs devtmpfs /dev
mounted securityfs securityfs /sys/kernel/security

for module in "$here"/modules/*.ko; do
    [ -e "$module" ] || continue
    insmod "$module" || echo "mrtd: cannot load $module"
done
[ ! -d /sys/kernel/config ] || mounted configfs configfs /sys/kernel/config

port=
for name in /sys/class/virtio-ports/*/name; do
    [ -r "$name" ] || continue
    [ "$(cat "$name")" = org.mrtd.payload ] || continue
    port=${name%/name}
    port=/dev/${port##*/}
done
# A port is opened by one at a time: once, here, for both directions.
if [ -z "$port" ]; then
    echo "mrtd: no virtio-serial port is named org.mrtd.payload"
elif ! command exec 3<> "$port"; then
    echo "mrtd: cannot open $port"
else
    # Report data come through the port, which is measured, and not in the initrd or on the command
    # line, whose measurements would change with every question. The host answers the greeting: what
    # it sent earlier would be lost to the firmware's driver. A silent host is not waited for.
    echo mrtd.agent/1 >&3
    set --
    # shellcheck disable=SC3045 # busybox's read has a time limit
    if read -r -t 10 kind report_data <&3 && [ "$kind" = mrtd.request/1 ]; then
        [ "$report_data" = - ] || set -- -r "$report_data"
    else
        echo "mrtd: the host asked for nothing in particular"
    fi
    if sh "$here/collect.sh" "$@" >&3; then
        echo "mrtd: payload sent"
    else
        echo "mrtd: the collector failed"
    fi
    exec 3>&-
fi
poweroff -f
