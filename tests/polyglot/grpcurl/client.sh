#!/usr/bin/env bash
# A client made of grpcurl and jq: see ../README.md.
set -euo pipefail
shopt -s inherit_errexit
trap '[ $? = 0 ] || exit 1' EXIT

address=$1
scenario=$2

# The folders PROTO and GOOGLEAPIS have the .proto files. grpcurl does not ask the server for its reflection, except in `reflection`.
options=(
  -plaintext -format-error
  -import-path "$PROTO" -proto stepwave/v1/orchestrator.proto
  -import-path "$GOOGLEAPIS" -proto google/rpc/error_details.proto
)
service=stepwave.v1.OrchestratorService

diamond='{"name": "diamond", "steps": [
  {"id": "a", "action": "core.echo", "input": {"json": "1"}},
  {"id": "b", "action": "core.echo", "depends_on": ["a"]},
  {"id": "c", "action": "core.echo", "depends_on": ["a"]},
  {"id": "d", "action": "core.echo", "depends_on": ["b", "c"]}
]}'
cycle='{"name": "cycle", "steps": [
  {"id": "a", "action": "core.echo", "depends_on": ["b"]},
  {"id": "b", "action": "missing", "depends_on": ["a"]}
]}'
sleeping='{"name": "sleeping", "steps": [{"id": "a", "action": "core.sleep", "input": {"json": "{\"seconds\": 600}"}}]}'

# Make a call, and print its messages, one per line. If it fails, its status is printed on standard error, as JSON.
call() { # METHOD REQUEST [OPTION…]
  grpcurl "${options[@]}" "${@:3}" -d "$2" "$address" "$service/$1" | jq --unbuffered -c .
}

# Make a call that must fail, and print its status.
refused() { # METHOD REQUEST [OPTION…]
  ! { call "$@" >/dev/null; } 2>&1
}

# Print the name of the code of a status.
code_name() { # STATUS
  sed -nE "s/^ *([A-Z_]+) = $(jq .code <<<"$1");/\1/p" "$GOOGLEAPIS/google/rpc/code.proto"
}

# Whether a message has an event of this kind.
has() { # KIND MESSAGE
  jq -e --arg kind "$1" 'any(.events[]?; has($kind))' <<<"$2" >/dev/null
}

# Read messages, and print the list of their numbered events. The sequences must be 1, 2, 3 …
events() {
  jq -sc 'map(.events[]? | select(.sequence > 0))
    | if map(.sequence) == [range(1; length + 1)] then . else error("sequences \(map(.sequence))") end'
}

plan() {
  call PlanWorkflow "{\"workflow\": $diamond}" | jq -c '.plan | {wave_sizes: .waveSizes, steps: [.steps[].stepId]}'
}

execute() {
  call ExecuteWorkflow "{\"workflow\": $diamond}" | events |
    jq -c '{events: length} + (last.runFinished.result | {state, output: .outputs.d.json})'
}

resume() {
  local run_id stream watching message first='' last
  run_id=$(call StartRun "{\"workflow\": $sleeping}" | jq .run.runId)
  exec {stream}< <(exec grpcurl "${options[@]}" -d "{\"run_id\": $run_id}" "$address" "$service/WatchRun")
  watching=$!
  while read -r message; do
    first+=$message
    if has stepStarted "$message"; then break; fi
  done < <(jq --unbuffered -c . <&"$stream")
  kill "$watching"
  call CancelRun "{\"run_id\": $run_id}" >/dev/null
  last=$(jq -s 'map(.lastSequence // 0) | max' <<<"$first")
  { echo "$first"; call WatchRun "{\"run_id\": $run_id, \"after_sequence\": $last}"; } | events |
    jq -c 'last.runFinished.result | {state}'
}

invalid() {
  local status
  status=$(refused ExecuteWorkflow "{\"workflow\": $cycle}")
  jq -c --arg code "$(code_name "$status")" '
    def detail($name): .details[] | select(.["@type"] == "type.googleapis.com/google.rpc." + $name);
    {$code} + (detail("ErrorInfo") | {reason, domain}) + {fields: [detail("BadRequest").fieldViolations[].field]}
  ' <<<"$status"
}

cancel() {
  local message
  call ExecuteWorkflow "{\"workflow\": $sleeping}" |
    while read -r message; do
      echo "$message"
      if has stepStarted "$message"; then call CancelRun "$(jq -c '{run_id: .events[0].runId}' <<<"$message")" >/dev/null; fi
    done | events | jq -c 'last.runFinished.result | {state}'
}

deadline() {
  local run_id="grpcurl-deadline-$$" status
  # grpcurl counts its own start, and the parsing of the .proto files.
  status=$(refused ExecuteWorkflow "{\"workflow\": $sleeping, \"run_id\": \"$run_id\"}" -max-time 2)
  call WatchRun "{\"run_id\": \"$run_id\"}" | events |
    jq -c --arg code "$(code_name "$status")" '{$code} + (last.runFinished.result | {state})'
}

named() {
  local required status
  required=$(call ListWorkflows '{}' |
    jq -c '.workflows[] | select(.name == "greeting").inputSchema | fromjson.required')
  status=$(refused ExecuteWorkflow '{"workflow_name": "greeting", "input": {"json": "{\"name\": 3}"}}')
  call ExecuteWorkflow '{"workflow_name": "greeting", "input": {"json": "{\"name\": \"Ada\"}"}}' | events |
    jq -c --argjson required "$required" --arg code "$(code_name "$status")" --argjson status "$status" '
      {$required} + (last.runFinished.result | {state, output: .outputs.hello.json}) + {$code, problem:
        $status.details[] | select(.["@type"] == "type.googleapis.com/google.rpc.BadRequest").fieldViolations[0].description}
    '
}

paging() {
  local labels="{\"set\": \"grpcurl-paging-$$\"}" page pages='' token=''
  for _ in 1 2 3 4 5; do
    call StartRun "{\"workflow\": $(jq -c --argjson labels "$labels" '. + {$labels}' <<<"$diamond")}" >/dev/null
  done
  while true; do
    page=$(call ListRuns "{\"labels\": $labels, \"page_size\": 2, \"page_token\": \"$token\"}")
    pages+=$page
    token=$(jq -r '.nextPageToken // ""' <<<"$page")
    [ -n "$token" ] || break
  done
  jq -sc '{pages: map(.runs | length), runs: [.[].runs[].runId] | unique | length}' <<<"$pages"
}

reflection() {
  options=(-plaintext) # the names of fields are then those of the .proto files
  local services method steps result
  services=$(grpcurl -plaintext "$address" list | jq -Rsc 'split("\n") | map(select(startswith("stepwave.")))')
  method=$(grpcurl -plaintext "$address" describe "$service.WatchRun" | grep rpc)
  steps=$(call PlanWorkflow '{"workflow_name": "greeting"}' | jq -c '[.plan.steps[].step_id]')
  result=$(call ExecuteWorkflow '{"workflow_name": "greeting", "input": {"json": "{\"name\": \"Ada\"}"}}' | events)
  jq -c --argjson services "$services" --arg method "$method" --argjson steps "$steps" '
    {$services, $method, $steps} + (last.run_finished.result | {state, output: .outputs.hello.json})
  ' <<<"$result"
}

case $scenario in
  plan | execute | resume | invalid | cancel | deadline | named | paging | reflection) "$scenario" ;;
  *)
    echo "unknown scenario $scenario" >&2
    exit 1
    ;;
esac
