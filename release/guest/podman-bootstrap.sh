# podman-bootstrap: puts podman in place with the policy that images.toml makes: what is neither
# signed nor excepted does not run. Rendered by `python -m release policy render`.
set -eu
umask 022
state=@state@
bin=@bin@
data=$state/data
home=@home@
folder=@folder@
src=$bin/podman-linux-amd64/usr/local

until [ -x "$src/bin/podman" ]; do sleep 1; done
if [ -b /dev/vdc ]; then
    until mountpoint -q "$data" 2>/dev/null; do sleep 1; done
fi

# An image that is in the storage runs without being asked again, and the disk is the host's: every
# boot begins with an empty storage. What has to stay belongs in a folder of $data (run --volume).
storage=$data/.podman
if grep -qF " $storage/" /proc/mounts; then
    echo 'podman-bootstrap: containers are running: nothing is changed' >&2
    exit 1
fi
rm -rf "$storage"

# The policy before the program: podman refuses every image as long as it finds none.
put() {
    cat >"$1.new"
    mv -f "$1.new" "$1"
}
@files@
chmod 755 "$bin/.dd-podman"

for program in "$src"/bin/* "$src"/lib/podman/*; do
    [ -f "$program" ] || continue
    name=${program##*/}
    if [ "$name" = podman ]; then name=.podman-raw; fi
    cp -f "$program" "$bin/$name"
done

# Podman's locks are in /dev/shm.
if ! mountpoint -q /dev/shm 2>/dev/null; then
    mkdir -p /dev/shm
    mount -t tmpfs -o size=64M tmpfs /dev/shm 2>/dev/null || :
fi
driver=vfs
if mountpoint -q "$data" 2>/dev/null; then driver=overlay; fi

mkdir -p "$storage/storage" "$storage/runroot" "$storage/tmp"
printf '[engine]\nhelper_binaries_dir = ["%s"]\n' "$bin" >"$storage/containers.conf"

cat >"$bin/.podman.new" <<END
#!/bin/sh
# podman with this guest's storage, under its policy: HOME has nothing else in it.
exec env -i HOME=$home TMPDIR=$storage/tmp PATH=$bin:/usr/sbin:/usr/bin:/sbin:/bin \\
    CONTAINERS_CONF=$storage/containers.conf \\
    \${SSL_CERT_FILE:+"SSL_CERT_FILE=\$SSL_CERT_FILE"} \\
    $bin/.podman-raw --conmon=$bin/conmon --runtime=$bin/crun --storage-driver=$driver \\
    --root=$storage/storage --runroot=$storage/runroot --cgroup-manager=cgroupfs "\$@"
END
chmod 755 "$bin/.podman.new"
# a link of that name may be there, which a redirection would follow
mv -f "$bin/.podman.new" "@podman@"
mv -f "$bin/.dd-podman" "$bin/dd-podman"
echo "podman-bootstrap: ok, storage $driver, policy $folder/policy.json"
