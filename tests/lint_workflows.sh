#!/usr/bin/env bash
# Workflows by actionlint, which no package index has ready to run: it is in PATH, or compiled once where Go is. Elsewhere
# this says why it does nothing; P2PNET_REQUIRE_ACTIONLINT=1 makes that an error, for CI.
set -euo pipefail
cd "$(dirname "$0")/.."

VERSION=v1.7.12
BUILD_S=600
folder=${XDG_CACHE_HOME:-$HOME/.cache}/p2pnet-lint/$VERSION

without() {
  echo "workflows are not checked: $1" >&2
  [ "${P2PNET_REQUIRE_ACTIONLINT:-}" != 1 ] || exit 2
  exit 0
}

lint=$(command -v actionlint || true)
if [ -z "$lint" ]; then
  lint=$folder/actionlint
  if [ ! -x "$lint" ]; then
    command -v go >/dev/null || without "no actionlint and no Go in PATH"
    GOBIN=$folder GOFLAGS=-trimpath timeout "$BUILD_S" go install "github.com/rhysd/actionlint/cmd/actionlint@$VERSION" 2>&1 |
      tail -n 3 >&2 || without "actionlint cannot be built"
  fi
fi
# The shellcheck of .venv, which Python packages bring, for what workflows run.
PATH=$PWD/.venv/bin:$PATH "$lint" -shellcheck shellcheck -pyflakes ""
