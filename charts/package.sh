#!/usr/bin/env bash
# Packs the chart of a release: charts/package.sh VERSION FOLDER. VERSION is that of the images, as PEP 440 writes it (1.2.0, 1.2.0rc1);
# the chart's own is the same as SemVer writes it (1.2.0-rc.1). What CHANGELOG.md says of VERSION becomes the annotation artifacthub.io/changes.
# Needs helm: $HELM, or the one on PATH.
set -euo pipefail
version=$1 folder=$2
chart=$(cd "$(dirname "$0")" && pwd)/p2pnet
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -R "$chart" "$work/p2pnet"
sed -E "s/^(      image: [^ ]+):dev$/\1:$version/" "$chart/Chart.yaml" >"$work/p2pnet/Chart.yaml"
if [[ $version =~ ^[0-9.]+$ ]]; then
    sed -i.bak '/artifacthub.io\/prerelease/d' "$work/p2pnet/Chart.yaml" && rm "$work/p2pnet/Chart.yaml.bak"
fi
# `annotations` are the last key of Chart.yaml. Lines of the changelog become quoted YAML: 047 is the quote.
awk -v version="$version" '
    index($0, "## [" version "]") == 1 { ours = 1; next }
    /^## / { ours = 0 }
    ours && /^### / { kind = tolower($2) }
    ours && /^- / {
        if (!told++) print "  artifacthub.io/changes: |"
        text = substr($0, 3)
        gsub(/\047/, "\047\047", text)
        printf "    - kind: %s\n      description: \047%s\047\n", kind, text
    }
' "$chart/../../CHANGELOG.md" >>"$work/p2pnet/Chart.yaml"
semver=$(sed -E 's/(a|b|rc)([0-9]+)$/-\1.\2/' <<<"$version")
"${HELM:-helm}" package "$work/p2pnet" --version "$semver" --app-version "$version" --destination "$folder"
