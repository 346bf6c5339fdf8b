#!/bin/sh
# Collects evidence of this boot, inside the guest: quote, event logs, registers, and what a
# derivation needs to be compared with them. Any POSIX shell will do, busybox's too; run it as root.
#
#   sh collect.sh [-r REPORT_DATA] [-n] [-o FILE] [-s DIR]
#
#   -r HEX   the quote's report data: 128 hex digits, such as a verifier's nonce (default: zeros);
#            repeated in the archive, also where there is no quote
#   -n       ask for no quote
#   -o FILE  write to FILE instead of standard output
#   -s DIR   where proc and sys are, if not in / (such as a container's /host)
#
# Written: one line "mrtd.payload/1 LENGTH", then a tar archive of LENGTH bytes, so that what was cut
# off is noticed. `mrtd evidence pack` makes a bundle of it. What could not be got, and why, is said
# on standard error and in the archive (collector/messages); the exit status is 0 all the same, since
# no machine has everything. Nothing of the system is changed, no name of the host is taken.

VERSION=mrtd.collect/1
PATH=${PATH:-/usr/sbin:/usr/bin:/sbin:/bin}
export PATH
LC_ALL=C
export LC_ALL
umask 077

usage() {
    echo "usage: collect.sh [-r 128_HEX_DIGITS] [-n] [-o FILE] [-s DIR]${1:+: $1}" >&2
    exit 2
}

zeros=0000000000000000000000000000000000000000000000000000000000000000
report_data=$zeros$zeros
given=
quote=yes
output=
root=
while getopts r:no:s: option; do
    case $option in
    r)
        report_data=$OPTARG
        given=yes
        ;;
    n) quote=no ;;
    o) output=$OPTARG ;;
    s) root=${OPTARG%/} ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 0 ] || usage "unexpected: $1"
case $report_data in
*[!0-9a-fA-F]*) usage "the report data are not hex digits" ;;
esac
[ ${#report_data} -eq 128 ] || usage "the report data have ${#report_data} digits, not 128"
if [ -z "$output" ] && [ -t 1 ]; then
    usage "standard output is a terminal: redirect it, or name a file with -o"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/mrtd.XXXXXX") || exit 3
report=
finish() {
    [ -z "$report" ] || rmdir "$report"
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' HUP INT TERM
out=$work/out
mkdir -p "$out/collector"
echo "$VERSION" > "$out/collector/version"
: > "$out/collector/messages"

# say WHAT WHY
say() {
    echo "mrtd: $1: $2" >&2
    echo "$1: $2" >> "$out/collector/messages"
}

# copy FROM TO: TO is relative to the archive. Everything is read through copies, because files of
# sysfs, securityfs and configfs do not tell tar how long they are.
copy() {
    if [ ! -e "$1" ]; then
        say "$2" "there is no $1"
        return 1
    fi
    mkdir -p "$out/${2%/*}"
    if ! reason=$(cat "$1" 2>&1 > "$out/$2"); then
        rm -f "$out/$2"
        say "$2" "${reason:-cannot read $1}"
        return 1
    fi
}

# Bytes of hex digits, without a program that a small guest does not have.
unhex() {
    rest=$1
    while [ -n "$rest" ]; do
        tail=${rest#??}
        # shellcheck disable=SC2059 # the format is an octal escape
        printf "\\$(printf %03o "0x${rest%"$tail"}")"
        rest=$tail
    done
}

# Linux Documentation/ABI/testing/configfs-tsm-report: a directory is a request; writing inblob, in
# one write, asks for the quote; generation counts the writes, so that somebody else's is noticed.
take_quote() {
    reports=$root/sys/kernel/config/tsm/report
    if [ ! -d "$reports" ]; then
        say tdx/quote "there is no $reports: not a TD, or no tdx_guest module, or configfs is not mounted (modprobe tdx_guest; mount -t configfs configfs /sys/kernel/config)"
        return
    fi
    if ! reason=$(mkdir "$reports/mrtd.$$" 2>&1); then
        say tdx/quote "$reason"
        return
    fi
    report=$reports/mrtd.$$
    mkdir -p "$out/tdx"
    unhex "$report_data" > "$out/tdx/report_data"
    before=$(cat "$report/generation")
    if ! reason=$(cat "$out/tdx/report_data" 2>&1 > "$report/inblob"); then
        say tdx/quote "the report data were refused: $reason"
        return
    fi
    copy "$report/provider" tdx/provider
    copy "$report/outblob" tdx/quote || return
    after=$(cat "$report/generation")
    if [ "$after" != "$((before + 1))" ]; then
        rm -f "$out/tdx/quote"
        say tdx/quote "somebody else wrote to the request (generation $before, then $after)"
    fi
}

if [ -n "$given" ]; then
    mkdir -p "$out/tdx"
    unhex "$report_data" > "$out/tdx/report_data"
fi
if [ "$quote" = yes ]; then
    take_quote
else
    say tdx/quote "not asked for"
fi

# Linux Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest, since 6.16: 48 bytes each
measurements=$root/sys/devices/virtual/misc/tdx_guest/measurements
if [ -d "$measurements" ]; then
    for name in mrtd rtmr0 rtmr1 rtmr2 rtmr3; do
        from=$measurements/$name:sha384
        [ -e "$from" ] || from=$measurements/$name
        copy "$from" "tdx/$name"
    done
else
    say tdx/rtmr "there is no $measurements: not a TD, or a kernel before 6.16"
fi

copy "$root/sys/firmware/acpi/tables/data/CCEL" log/CCEL
[ ! -e "$root/sys/firmware/acpi/tables/CCEL" ] || copy "$root/sys/firmware/acpi/tables/CCEL" log/CCEL.table

if [ -e "$root/sys/class/tpm/tpm0" ]; then
    [ -d "$root/sys/kernel/security/tpm0" ] ||
        say log/binary_bios_measurements "the TPM has no log here: securityfs is not mounted, or the firmware has no driver for the TPM"
    copy "$root/sys/kernel/security/tpm0/binary_bios_measurements" log/binary_bios_measurements
    if [ -d "$root/sys/class/tpm/tpm0/pcr-sha384" ]; then
        pcr=0
        while [ "$pcr" -lt 24 ]; do
            copy "$root/sys/class/tpm/tpm0/pcr-sha384/$pcr" "pcr-sha384/$pcr"
            pcr=$((pcr + 1))
        done
    else
        say pcr-sha384 "the TPM has no SHA-384 bank"
    fi
else
    say log/binary_bios_measurements "there is no TPM"
fi

# By name, never all of them: reading etc/boot/kernel hangs the guest (seen with QEMU 11.1).
items=$root/sys/firmware/qemu_fw_cfg/by_name
if [ -d "$items" ]; then
    for name in etc/table-loader etc/acpi/rsdp etc/acpi/tables etc/tpm/log etc/e820 bootorder \
        etc/smbios/smbios-tables etc/smbios/smbios-anchor; do
        [ ! -e "$items/$name/raw" ] || copy "$items/$name/raw" "fw_cfg/$name"
    done
else
    say fw_cfg "there is no $items: not under QEMU, or no qemu_fw_cfg module (modprobe qemu_fw_cfg)"
fi

copy "$root/sys/firmware/dmi/tables/DMI" dmi/DMI
copy "$root/sys/firmware/dmi/tables/smbios_entry_point" dmi/smbios_entry_point
copy "$root/proc/cmdline" proc/cmdline
mkdir -p "$out/proc"
uname -srvm > "$out/proc/uname" # not -a, which names the host

if ! reason=$(tar -c -C "$out" -f "$work/payload.tar" . 2>&1); then
    echo "mrtd: tar: $reason" >&2
    exit 3
fi
size=$(wc -c < "$work/payload.tar")
send() {
    echo "mrtd.payload/1 $((size))" && cat "$work/payload.tar"
}
if [ -n "$output" ]; then
    send > "$output" || exit 3
else
    send || exit 3
fi
