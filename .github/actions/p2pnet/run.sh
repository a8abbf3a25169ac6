#!/usr/bin/env bash
# p2pnet in any CI: makes the target ready, runs scenarios, compares when asked, and keeps what is needed to see what failed.
#
#   run.sh [OPTION...] [SCENARIO.yaml...]
#
#   --on TARGET          kind (the default), cluster, local or sim
#   --cluster NAME       of the kind cluster                                  [default: p2pnet]
#   --trials N           of each scenario
#   --node-image IMAGE   for kind: an image of this machine with your client   [default: this version's]
#   --operator-image IMAGE
#   --base X --head Y    compare them as well: documents, checkouts, images or runs; exit code 6 is a regression
#   --file FILE          the document of checkouts and images
#   --compare-on TARGET  where the comparison's trials run                     [default: in virtual time]
#   --gate GATE          like 'p99:+10%'; repeatable
#   --load OPTIONS       of the comparison, like '--size 4KiB --count 20 --rate 10/s'
#   --comment            write the comparison into a comment on the pull request (GITHUB_TOKEN)
#   --comment-name NAME  which, where a pull request has several comparisons   [default: compare]
#   --results FOLDER     for everything that is written                         [default: p2pnet-results]
#   --delete             the kind cluster goes at the end, if this made it
#
# Every option can be said by a variable: P2PNET_CI_ON, P2PNET_CI_CLUSTER, ... ; scenarios and gates one to a line in
# P2PNET_CI_SCENARIOS and P2PNET_CI_GATE. Patterns in scenarios are expanded.
#
# In the folder: SCENARIO.json, .xml (JUnit), .md, .log and, where it did not pass and kept runs, .tar.gz of them: of several
# trials that of the first that did not pass, and SCENARIO-seed-S.tar.gz of the others; compare.json, .md, .log; install.log;
# summary.md, which $GITHUB_STEP_SUMMARY gets, too; after a failure cluster/, what kubectl and kind say. What a former run wrote
# there is removed first; other files are left alone. A scenario whose name is taken, or summary, compare or install, has a
# number behind it.
#
# The exit code is p2pnet's: that of the first command that did not end with 0; where all did, 1 for a comment that could not be
# written, 2 for one that was not told whereto. No leave to write, no token or no pull request is a warning. All scenarios are
# run whatever the others did.
set -uo pipefail
shopt -s nullglob

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LOGS_S=60 # for kubectl and kind to say what they know, and for a trial to be packed
BUNDLES_MAX=20 # of the trials of one scenario
SUMMARY_BYTES_MAX=900000 # GitHub takes 1 MiB from a step
WRITTEN=.written # what a run wrote, in its folder: names, each with a NUL behind it

usage() {
  echo "run.sh: $1" >&2
  sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

lines() { # VARIABLE: its lines, without blank ones, into the array `found`
  mapfile -t found < <(sed -e 's/^[[:space:]]*//' -e 's/[[:space:]]*$//' -e '/^$/d' <<<"${!1:-}")
}

value() { [ $# -ge 2 ] || usage "$1 wants a value"; }

on=${P2PNET_CI_ON:-kind} cluster=${P2PNET_CI_CLUSTER:-p2pnet} trials=${P2PNET_CI_TRIALS:-} file=${P2PNET_CI_FILE:-}
node_image=${P2PNET_CI_NODE_IMAGE:-} operator_image=${P2PNET_CI_OPERATOR_IMAGE:-}
compare_on=${P2PNET_CI_COMPARE_ON:-} base=${P2PNET_CI_BASE:-} head=${P2PNET_CI_HEAD:-} load=${P2PNET_CI_LOAD:-} results=${P2PNET_CI_RESULTS:-p2pnet-results}
comment=${P2PNET_CI_COMMENT:-false} comment_name=${P2PNET_CI_COMMENT_NAME:-compare} delete=${P2PNET_CI_DELETE:-false}
lines P2PNET_CI_SCENARIOS && patterns=("${found[@]}")
lines P2PNET_CI_GATE && gates=("${found[@]}")

while [ $# -gt 0 ]; do
  case $1 in
    --on) value "$@"; on=$2; shift ;;
    --cluster) value "$@"; cluster=$2; shift ;;
    --trials) value "$@"; trials=$2; shift ;;
    --node-image) value "$@"; node_image=$2; shift ;;
    --operator-image) value "$@"; operator_image=$2; shift ;;
    --base) value "$@"; base=$2; shift ;;
    --head) value "$@"; head=$2; shift ;;
    --file) value "$@"; file=$2; shift ;;
    --compare-on) value "$@"; compare_on=$2; shift ;;
    --gate) value "$@"; gates+=("$2"); shift ;;
    --load) value "$@"; load=$2; shift ;;
    --results) value "$@"; results=$2; shift ;;
    --comment) comment=true ;;
    --comment-name) value "$@"; comment_name=$2; shift ;;
    --delete) delete=true ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) usage "unknown option $1" ;;
    *) patterns+=("$1") ;;
  esac
  shift
done

place_of() { # TARGET: the options that mean it, into the array `place`
  case $1 in
    kind) place=(--on kind --context "kind-$cluster") ;;
    cluster | local | sim) place=(--on "$1") ;;
    *) usage "target $1: kind, cluster, local or sim" ;;
  esac
}

compare_place=()
[ -z "$compare_on" ] || { place_of "$compare_on" && compare_place=("${place[@]}"); }
place_of "$on"
[ "${base:+x}" = "${head:+x}" ] || usage "--base and --head go together"

scenarios=() blanks=$IFS IFS=
for pattern in "${patterns[@]}"; do
  # shellcheck disable=SC2206 # it is expanded here, and not split: blanks are part of names
  matched=($pattern)
  scenarios+=("${matched[@]:-$pattern}") # without a match a file that p2pnet will miss
done
IFS=$blanks
[ ${#scenarios[@]} -gt 0 ] || [ -n "$base" ] || usage "nothing to do: name a scenario, or --base and --head"
command -v p2pnet >/dev/null || { echo "run.sh: p2pnet is not in PATH: pip install p2pnet" >&2; exit 2; }

mkdir -p "$results" || exit 2
results=$(cd "$results" && pwd)
code=0 child='' stopped=0 made=false

# shellcheck disable=SC2317,SC2329 # a trap calls it
stop() { # CI that cancels: p2pnet ends in order and keeps its data
  stopped=1
  [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
}
trap stop INT TERM HUP

forget() { # what a former run wrote: CI that takes all JUnit, or the whole folder, would take it for this one's
  local former one
  mapfile -t -d '' former < <(cat "$results/$WRITTEN" 2>/dev/null)
  rm -f "$results/$WRITTEN"
  for one in "${former[@]}"; do case $one in '' | . | .. | */*) ;; *) rm -rf "${results:?}/$one" ;; esac; done
  [ ${#former[@]} -eq 0 ] || echo "run.sh: what a former run wrote in $results is removed" >&2
}

fresh() { # NAME...: files that this run writes, none of which is there any more
  local one
  printf '%s\0' "$@" >>"$results/$WRITTEN"
  for one in "$@"; do rm -f "$results/$one"; done
}

taken() { # STEM: whether an output has that name, one of this run or a file that is none of its business
  local ending
  case ${1,,} in summary | compare | install) return 0 ;; esac
  for ending in json md xml log tar.gz; do [ ! -e "$results/$1.$ending" ] || return 0; done
  return 1
}

name_for() { # STEM: the first of STEM, STEM-1, STEM-2 ... that is not taken, into `name`
  local number
  name=$1
  for ((number = 1; ; number++)); do
    taken "$name" || return 0
    name=$1-$number
  done
}

attempt() { # LOG COMMAND...: its stdout stays, its stderr is shown and kept; its exit code
  local log=$1 ended tee
  shift
  echo "+ $*" >&2
  exec 4> >(trap '' INT TERM HUP && exec tee "$log" >&2) # Ctrl-C is for p2pnet, whose last words this still takes
  tee=$!
  "$@" 2>&4 4>&- &
  child=$!
  exec 4>&-
  wait "$child"
  ended=$?
  while kill -0 "$child" 2>/dev/null; do # a signal woke this, not the end
    wait "$child"
    ended=$?
  done
  child=''
  for _ in {1..40}; do kill -0 "$tee" 2>/dev/null || break; sleep 0.05; done # its last lines are in the log then
  [ "$ended" = 0 ] || [ "$code" != 0 ] || code=$ended
  return "$ended"
}

summarize() { # FILE, or words where it is not there
  if [ -s "$1" ]; then cat "$1"; else printf '%s\n' "$2"; fi >>"$results/summary.md"
  echo >>"$results/summary.md"
}

kept_trials() { # FILE: `SEED RUN` of each trial that kept runs, the last of them; first those that did not pass
  python3 - "$1" 2>/dev/null <<'END'
import json, sys
told = json.load(open(sys.argv[1]))
steps = {"seed": 0, "runs": [step.get("run") for step in told["steps"]]}
for trial in sorted(told.get("trials") or [steps], key=lambda one: one.get("verdict") == "pass"):
    if runs := [run for run in trial["runs"] if run]:
        print(trial["seed"], runs[-1])
END
}

collect() { # NAME: the runs of a scenario, packed, a bundle for each trial: a run brings all of its trial
  local own=$1 log=$results/$1.log kept packed=0 seed run name
  mapfile -t kept < <(kept_trials "$results/$1.json")
  while [ "$packed" -lt "${#kept[@]}" ]; do
    if [ "$packed" -ge "$BUNDLES_MAX" ] || { [ "$stopped" = 1 ] && [ "$packed" -gt 0 ]; }; then
      echo "run.sh: $own: $packed of ${#kept[@]} trials that kept runs are packed" | tee -a "$log" >&2
      return 0
    fi
    read -r seed run <<<"${kept[packed]}"
    name=$own
    [ "$packed" = 0 ] || { name_for "$own-seed-$seed" && fresh "$name.tar.gz"; }
    timeout "$LOGS_S" p2pnet collect "$run" --output-file "$results/$name.tar.gz" >>"$log" 2>&1 </dev/null ||
      echo "run.sh: $own: run $run is not packed: $(grep '^error:' "$log" | tail -n 1)" >&2
    packed=$((packed + 1))
  done
}

cluster_says() { # what is there, and what it wrote
  local folder=$results/cluster context=()
  case $on in kind) context=(--context "kind-$cluster") ;; cluster) ;; *) return 0 ;; esac
  [ -e "$folder" ] || fresh cluster
  mkdir -p "$folder"
  if command -v kubectl >/dev/null; then
    local ask=(timeout "$LOGS_S" kubectl "${context[@]}")
    "${ask[@]}" get subnets,pods --all-namespaces --output wide >"$folder/objects.txt" 2>&1
    "${ask[@]}" describe subnets --all-namespaces >"$folder/subnets.txt" 2>&1
    "${ask[@]}" get events --all-namespaces --sort-by .lastTimestamp >"$folder/events.txt" 2>&1
    "${ask[@]}" logs --namespace p2pnet-system deployment/p2pnet --tail 2000 >"$folder/operator.log" 2>&1
  fi
  if [ "$on" = kind ]; then timeout "$LOGS_S" kind export logs "$folder/kind" --name "$cluster" >"$folder/kind.log" 2>&1; fi
  return 0
}

prepare() { # the kind cluster, its images and the operator
  [ "$on" = kind ] || return 0
  local more=()
  [ -z "$node_image" ] || more+=(--node-image "$node_image")
  [ -z "$operator_image" ] || more+=(--operator-image "$operator_image")
  kind get clusters 2>/dev/null | grep -qxF "$cluster" || made=true
  fresh install.log
  attempt "$results/install.log" p2pnet install "${place[@]}" "${more[@]}" >/dev/null && return
  summarize "" "**p2pnet install** ended with exit code $code: $(grep -m1 '^error:' "$results/install.log")"
  return "$code"
}

run_scenario() { # FILE
  local stem name more=() ended
  stem=$(basename -- "$1") stem=${stem%.*}
  name_for "$stem"
  [ "$name" = "$stem" ] || echo "run.sh: $1: its files are $name.*, for $stem.* is taken" >&2
  fresh "$name".{json,xml,md,log,tar.gz}
  [ -z "$trials" ] || more+=(--trials "$trials")
  attempt "$results/$name.log" p2pnet run "$1" "${place[@]}" "${more[@]}" --junit "$results/$name.xml" --md "$results/$name.md" \
    --output json >"$results/$name.json"
  ended=$?
  summarize "$results/$name.md" "**$name** ended with exit code $ended: $(grep -m1 '^error:' "$results/$name.log")"
  [ "$ended" = 0 ] || collect "$name"
}

compare() {
  local gate more=() ended
  for gate in "${gates[@]}"; do more+=(--gate "$gate"); done
  [ -z "$file" ] || more+=(--file "$file")
  # shellcheck disable=SC2206 # options, as they were typed
  more+=($load)
  fresh compare.{json,md,log}
  attempt "$results/compare.log" p2pnet compare "$base" "$head" "${compare_place[@]}" "${more[@]}" --md "$results/compare.md" --output json \
    >"$results/compare.json"
  ended=$?
  summarize "$results/compare.md" "**compare** ended with exit code $ended: $(grep -m1 '^error:' "$results/compare.log")"
  [ "$comment" = true ] && [ -s "$results/compare.md" ] || return 0
  python3 "$HERE/comment.py" "$results/compare.md" --name "$comment_name" --optional >&2
  ended=$?
  [ "$code" != 0 ] || code=$ended
}

forget
fresh summary.md
: >"$results/summary.md"
if prepare; then
  for scenario in "${scenarios[@]}"; do [ "$stopped" = 1 ] || run_scenario "$scenario"; done
  [ -z "$base" ] || [ "$stopped" = 1 ] || compare
fi
[ "$stopped" = 0 ] || [ "$code" != 0 ] || code=130
[ "$code" = 0 ] || cluster_says
[ "$delete" != true ] || [ "$made" != true ] || kind delete cluster --name "$cluster" >&2
[ -z "${GITHUB_STEP_SUMMARY:-}" ] || head -c "$SUMMARY_BYTES_MAX" "$results/summary.md" >>"$GITHUB_STEP_SUMMARY"
[ -z "${GITHUB_OUTPUT:-}" ] || printf 'exit-code=%s\nresults=%s\n' "$code" "$results" >>"$GITHUB_OUTPUT"
echo "run.sh: exit code $code; everything is in $results" >&2
exit "$code"
