#!/bin/sh
# Run mypy over the package as it is installed: transports/ and nodes/ belong under amusd_mp/, which no single folder of
# the repository shows, so the check runs on a tree of links. Usage: tests/typecheck.sh PYTHON [mypy options]
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
case $1 in
    /*) python=$1 ;;
    */*) python=$PWD/$1 ;;
    *) python=$(command -v "$1") ;;
esac
shift
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT INT TERM
mkdir "$tree/amusd_mp"
for entry in "$root"/amusd_mp/*; do
    ln -s "$entry" "$tree/amusd_mp/"
done
ln -s "$root/transports" "$tree/amusd_mp/transports"
ln -s "$root/nodes" "$tree/amusd_mp/nodes"
cd "$tree"
"$python" -m mypy --config-file "$root/pyproject.toml" --cache-dir "$root/.mypy_cache" -p amusd_mp "$@"
