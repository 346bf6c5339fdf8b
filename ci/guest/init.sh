#!/bin/busybox sh
# PID 1 of the measuring guest: mounts what the kernel shows, runs the collector
# (mrtd/evidence/collect.sh, /collect.sh here), which sends what the firmware and the EFI stub
# measured to the host over one virtio-serial port, powers off.

PATH=/bin
export PATH
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t securityfs securityfs /sys/kernel/security

for module in /modules/*.ko; do
    [ -e "$module" ] || continue
    insmod "$module" || echo "mrtd: cannot load $module"
done
[ ! -d /sys/kernel/config ] || mount -t configfs configfs /sys/kernel/config

port=
for name in /sys/class/virtio-ports/*/name; do
    [ -r "$name" ] || continue
    [ "$(cat "$name")" = org.mrtd.payload ] || continue
    port=${name%/name}
    port=/dev/${port##*/}
done
if [ -z "$port" ]; then
    echo "mrtd: no virtio-serial port is named org.mrtd.payload"
elif sh /collect.sh -o "$port"; then
    echo "mrtd: payload sent"
else
    echo "mrtd: the collector failed"
fi
poweroff -f
