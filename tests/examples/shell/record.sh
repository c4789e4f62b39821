#!/bin/sh
# Records what is published on a domain with nothing but grpcurl and jq: makes a storage, a template and a domain, binds
# them, follows the next recording to its end, and prints its files.
#
#   ./record.sh localhost:7080 push.example.com cam1 [directory in the library]
#
# GRPCURL may name another program or further flags: GRPCURL='grpcurl -plaintext -H "authorization: Bearer ..."'.
set -eu
[ $# -ge 3 ] || { echo "usage: $0 SERVER DOMAIN STREAM [DIRECTORY]" >&2; exit 64; }
server=$1 domain=$2 stream=$3 directory=${4:-examples}
grpcurl=${GRPCURL:-grpcurl -plaintext}

call() { # METHOD JSON
    eval "$grpcurl" -d '"$2"' '"$server"' '"recorder.v1.$1"'
}
create() { # METHOD JSON: what is there already is good, too
    call "$1" "$2" >/dev/null 2>"$errors" || grep -q AlreadyExists "$errors" || { cat "$errors" >&2; exit 1; }
}
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

# A bucket instead: "s3":{"bucket":"...","region":"...","access_key_id":"...","secret_access_key":"..."}
create StorageService/CreateStorage \
    "{\"storage_id\":\"shell\",\"storage\":{\"file_system\":{\"directory\":\"$directory\"}}}"
create TemplateService/CreateTemplate \
    '{"template_id":"shell","template":{"storage":"storages/shell","mp4":{},"hls":{"segment_duration":"2s"}}}'
call DomainService/BindTemplate "{\"template\":\"shell\",\"domains\":[\"$domain\"],\"create_domains\":true}" >/dev/null
until call DomainService/ListBindings "{\"template\":\"shell\",\"domain\":\"$domain\"}" |
    jq -e '.bindings | length > 0 and all(.state == "ACTIVE")' >/dev/null; do
    sleep 0.2
done

of_stream="{\"domain\":\"$domain\",\"app\":\"live\",\"stream\":\"$stream\"}"
newest() { call RecordingService/ListRecordings "{\"stream\":$of_stream,\"page_size\":1}" | jq -c '.recordings[0] // {}'; }
before=$(newest | jq -r '.name // ""')
echo "ready: publish $stream on $domain"

# Polled, because a shell has no use for a stream that never ends; `recctl watch` is the better way.
last=
while :; do
    recording=$(newest)
    name=$(echo "$recording" | jq -r '.name // ""') state=$(echo "$recording" | jq -r '.state // ""')
    if [ -n "$name" ] && [ "$name" != "$before" ]; then
        [ "$state" = "$last" ] || echo "$name $state"
        last=$state
        case $state in SUCCEEDED | INCOMPLETE | FAILED) break ;; esac
    fi
    sleep 0.5
done
call RecordingService/ListFiles "{\"parent\":\"$name\"}" |
    jq -r '.files[]? | "file \(.name | split("/") | last) \(.state) \(.sizeBytes) \(.uri)"'
[ "$state" = SUCCEEDED ]
