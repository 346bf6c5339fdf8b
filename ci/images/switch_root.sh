#!/bin/busybox sh
# PID 1 of the initrd of `easyenclave-small`: hands over to /sbin/init of the file system that is
# labelled "root", as its command line says, whatever that file system holds.

PATH=/bin
export PATH
/bin/busybox mkdir -p /dev /proc /root
/bin/busybox --install -s /bin
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
insmod /modules/virtio_blk.ko
mount -t ext4 "$(findfs LABEL=root)" /root
umount /proc
exec switch_root /root /sbin/init
