#!/bin/busybox sh
# PID 1 of the measuring guest: reads what the firmware and the EFI stub measured, sends it to the
# host over one virtio-serial port, powers off.
#
# On the port: one line "mrtd.payload/1 LENGTH", then a tar archive of LENGTH bytes, so that the
# host notices a payload that was cut off. Everything is read through this script's own copies,
# because sysfs and securityfs files do not tell tar how long they are.
# A file that is not there is left out; the host decides what it cannot do without.

PATH=/bin
export PATH
/bin/busybox mkdir -p /proc /sys /dev /out
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t securityfs securityfs /sys/kernel/security

# copy FROM TO: TO is relative to the payload.
copy() {
    [ -r "$1" ] || return 0
    mkdir -p "/out/${2%/*}"
    cat "$1" > "/out/$2" || echo "mrtd: cannot read $1"
}

for module in /modules/*.ko; do
    [ -e "$module" ] || continue
    insmod "$module" || echo "mrtd: cannot load $module"
done

copy /sys/kernel/security/tpm0/binary_bios_measurements log/binary_bios_measurements
for pcr in /sys/class/tpm/tpm0/pcr-sha384/*; do
    copy "$pcr" "pcr-sha384/${pcr##*/}"
done
copy /proc/cmdline proc/cmdline
copy /sys/firmware/dmi/tables/DMI dmi/DMI
copy /sys/firmware/dmi/tables/smbios_entry_point dmi/smbios_entry_point
mkdir -p /out/proc
uname -a > /out/proc/uname

# By name, never all of them: reading etc/boot/kernel hangs the guest (seen with QEMU 11.1).
items=/sys/firmware/qemu_fw_cfg/by_name
for name in etc/table-loader etc/acpi/rsdp etc/acpi/tables etc/tpm/log etc/e820 bootorder \
    etc/smbios/smbios-tables etc/smbios/smbios-anchor; do
    copy "$items/$name/raw" "fw_cfg/$name"
done

port=
for name in /sys/class/virtio-ports/*/name; do
    [ -r "$name" ] || continue
    [ "$(cat "$name")" = org.mrtd.payload ] || continue
    port=${name%/name}
    port=/dev/${port##*/}
done
if [ -n "$port" ]; then
    tar -c -C /out -f /payload.tar .
    { echo "mrtd.payload/1 $(stat -c %s /payload.tar)"; cat /payload.tar; } > "$port"
    echo "mrtd: payload sent"
else
    echo "mrtd: no virtio-serial port is named org.mrtd.payload"
fi
poweroff -f
