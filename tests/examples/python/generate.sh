#!/bin/sh
# Generates the Python client from the .proto files: generate.sh [FOLDER], default ./generated beside this script.
# Needs the packages of requirements.txt; PYTHON says which interpreter has them.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
proto=$(cd "$here/../../../proto" && pwd)
out=${1:-$here/generated}
python=${PYTHON:-python3}
mkdir -p "$out"
# google/rpc/status.proto comes with googleapis-common-protos.
common=$("$python" -c 'import google.rpc, os; print(os.path.abspath(os.path.join(list(google.rpc.__path__)[0], "../..")))')
"$python" -m grpc_tools.protoc -I "$proto" -I "$common" --python_out="$out" --grpc_python_out="$out" "$proto"/recorder/v1/*.proto
