#!/bin/sh
# dd-podman: runs the container images that images.toml admits, and no others.
# Rendered by `python -m release policy render`: change images.toml, not this file.
#
# An image is named by digest. It is pulled under the policy; the container that is made of it has
# to have that digest; only then it starts. Nothing in the environment has a say.
set -euf
LC_ALL=C
PATH=@path@
export LC_ALL PATH
umask 077

folder=@folder@
home=@home@
podman=@podman@
root=$folder/trusted_root.json
type=https://sigstore.dev/cosign/sign/v1

say() { printf 'dd-podman: %s\n' "$*" >&2; }
refuse() { say "refused: $*"; exit 1; }
unknown() { say "could not be checked: $*"; exit 3; }

usage() {
    [ $# -eq 0 ] || say "$*"
    cat >&2 <<'END'
usage: dd-podman run [OPTION]... REPOSITORY@sha256:DIGEST [ARGUMENT]...
       dd-podman pull REPOSITORY@sha256:DIGEST
       dd-podman exec|images|inspect|kill|logs|port|ps|rm|stats|stop|top|wait ...
options of run, as podman has them:
  -d --detach --rm --init --read-only
  -e --env -l --label -p --publish -u --user -v --volume -w --workdir --cpus --device
  --entrypoint --hostname --memory --name --network --restart --shm-size --stop-timeout
  --tmpfs --ulimit
exit codes: 1 refused, 2 wrong usage, 3 could not be checked; else the container's
END
    exit 2
}

# What images.toml says of an image: sets kind, and for ours identity and issuer, else terms.
rule() {
    kind='' identity='' issuer='' terms=''
    case $repository in
@sources@
    esac
    case $image in
@exceptions@
    esac
}

# The environment of a program: nothing of the caller's but where TLS roots are, which admit no
# image: content goes by digest.
clean() {
    env -i HOME="$home" PATH="$PATH" TMPDIR="${tmp:-/tmp}" LC_ALL=C \
        ${SSL_CERT_FILE:+"SSL_CERT_FILE=$SSL_CERT_FILE"} "$@"
}

# The last line that a program wrote to stderr.
last() { tail -n 1 "$tmp/err" | tr -cd ' -~' | cut -c 1-400; }

parse() {
    image=$1 repository=${1%%@*} hex=${1#*@sha256:}
    case $image in
    *@sha256:*) ;;
    *@*) usage "$image: only sha256 digests are known" ;;
    *) usage "$image: name the image by digest: REPOSITORY@sha256:DIGEST" ;;
    esac
    case $repository@$hex in
    *[!a-z0-9@:/._-]* | *@*@*) usage "this is no name of an image" ;;
    esac
    case $hex in
    *[!0-9a-f]*) usage "$image: a digest has 64 hex digits" ;;
    esac
    [ ${#hex} -eq 64 ] || usage "$image: a digest has 64 hex digits"
}

# The workflow's signature, where the guest has what verifies it. Podman itself cannot.
workflow() {
    bundle=$folder/bundles/sha256-$hex.json
    if [ ! -s "$root" ]; then
        say "key only: the workflow is not checked here: $root is missing"
    elif [ -s "$bundle" ] && command -v sigstore-go-verification >/dev/null; then
        clean sigstore-go-verification -trustedrootJSONpath "$root" \
            -expectedIssuer "$issuer" -expectedSAN "$identity" -artifact-digest "$hex" \
            -artifact-digest-algorithm sha256 "$bundle" \
            </dev/null >"$tmp/out" 2>"$tmp/err" ||
            refuse "$image: sigstore-go: not signed by $identity: $(last)"
        # whatever the workflow attests of an image is signed by it: an SBOM is no release. What
        # comes first is the statement's own type; in its predicate, anything may be written.
        is=$(tr -d ' \n\t' <"$tmp/out" | grep -o '"predicateType":"[^"]*"' | head -n 1)
        [ "$is" = "\"predicateType\":\"$type\"" ] ||
            refuse "$image: sigstore-go: the bundle is no image signature"
        say "workflow verified by sigstore-go: $identity"
    elif [ -s "$bundle" ] && command -v cosign >/dev/null; then
        clean cosign verify-blob-attestation --bundle="$bundle" --trusted-root="$root" \
            --certificate-identity="$identity" --certificate-oidc-issuer="$issuer" \
            --type="$type" --digest="$hex" --digestAlg=sha256 \
            </dev/null >"$tmp/out" 2>"$tmp/err" ||
            refuse "$image: cosign: not signed by $identity: $(last)"
        say "workflow verified by cosign, from the bundle: $identity"
    elif command -v cosign >/dev/null; then
        clean cosign verify --trusted-root="$root" --certificate-identity="$identity" \
            --certificate-oidc-issuer="$issuer" "$image" \
            </dev/null >"$tmp/out" 2>"$tmp/err" || cosign_failed
        signed="\"image\":{\"docker-manifest-digest\":\"sha256:$hex\"},\"type\":\"$type\"}"
        grep -qF "$signed" "$tmp/out" ||
            refuse "$image: cosign: $identity attests something of it, and signed no image"
        say "workflow verified by cosign: $identity"
    else
        say "key only: the workflow is not checked here: neither cosign nor sigstore-go is there"
    fi
}

# cosign exits with 1 for a "no" and for an unreachable registry alike.
cosign_failed() {
    if grep -qE 'no signatures found|no matching (signatures|attestations)' "$tmp/err"; then
        refuse "$image: cosign: not signed by $identity: $(last)"
    fi
    unknown "$image: cosign: $(last)"
}

# Pull an image under the policy: afterwards it is in the storage.
gate() {
    parse "$1"
    rule
    case $kind in
    signed) ;;
    exception) say "exception, unsigned: $terms" ;;
    *) refuse "$image: images.toml has neither this repository nor this digest as an exception" ;;
    esac
    [ -s "$folder/policy.json" ] || unknown "there is no $folder/policy.json"
    if [ "$kind" = signed ]; then workflow; fi
    if ! clean "$podman" pull --quiet --signature-policy="$folder/policy.json" "$image" \
        </dev/null >/dev/null 2>"$tmp/err"; then
        if grep -q 'Source image rejected' "$tmp/err"; then
            refuse "$image: podman: $(last)"
        fi
        unknown "$image: podman: $(last)"
    fi
    if [ "$kind" = signed ]; then say "signed by a key of the policy: $image"; fi
}

# Make a container of an image that was pulled under the policy, look at it, and start it. The words
# go round once: what podman is to have comes back behind them.
run() {
    left=$# detach='' given=''
    while [ "$left" -gt 0 ]; do
        word=$1
        shift
        left=$((left - 1))
        if [ -z "$given" ]; then
            case $word in
            -d | --detach)
                detach=1
                continue
                ;;
            --rm | --init | --read-only) ;;
            -e | -l | -p | -u | -v | -w | --env | --label | --publish | --user | --volume | \
                --workdir | --cpus | --device | --entrypoint | --hostname | --memory | --name | \
                --network | --restart | --shm-size | --stop-timeout | --tmpfs | --ulimit)
                [ "$left" -gt 0 ] || usage "$word needs a value"
                set -- "$@" "$word"
                word=$1
                shift
                left=$((left - 1))
                ;;
            --env=* | --label=* | --publish=* | --user=* | --volume=* | --workdir=* | \
                --cpus=* | --device=* | --entrypoint=* | --hostname=* | --memory=* | --name=* | \
                --network=* | --restart=* | --shm-size=* | --stop-timeout=* | --tmpfs=* | \
                --ulimit=*) ;;
            -*) usage "$word is no option of dd-podman run" ;;
            *) given=$word ;;
            esac
        fi
        set -- "$@" "$word"
    done
    [ -n "$given" ] || usage 'no image is named'
    gate "$given"
    container=$(clean "$podman" create --pull=never "$@" </dev/null 2>"$tmp/err") ||
        unknown "$image: podman create: $(last)"
    is=$(clean "$podman" inspect --type=container --format='{{.ImageDigest}}' "$container" \
        </dev/null 2>"$tmp/err") || is="unknown: $(last)"
    if [ "$is" != "sha256:$hex" ]; then
        clean "$podman" rm --force "$container" </dev/null >/dev/null 2>&1 || :
        refuse "$image: the container has the digest $is"
    fi
    if [ -n "$detach" ]; then
        clean "$podman" start "$container" </dev/null
    else
        clean "$podman" start --attach "$container" </dev/null
    fi
}

[ $# -gt 0 ] || usage
verb=$1
shift
case $verb in
exec | images | inspect | kill | logs | port | ps | rm | stats | stop | top | wait)
    clean "$podman" "$verb" "$@"
    exit
    ;;
run | pull) ;;
-h | --help | help)
    (usage) 2>&1 || :
    exit 0
    ;;
*) usage "$verb is no verb of dd-podman" ;;
esac
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
if [ "$verb" = run ]; then
    run "$@"
else
    [ $# -eq 1 ] || usage 'pull takes one image'
    gate "$1"
fi
