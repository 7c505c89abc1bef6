#!/bin/sh
# Ask with curl, be cut off in the middle, and go on at another edge.
#
#   LORE_URL=http://localhost:8080 LORE_OTHER_URL=http://localhost:8081 LORE_API_KEY=lore_… ./curl.sh

set -eu
url=${LORE_URL:-http://localhost:8080}
other=${LORE_OTHER_URL:-http://localhost:8081}
question=${1:-What is a closure?}

call() {
  curl -sS -H "Authorization: Bearer ${LORE_API_KEY:-}" "$@"
}

# Quotes, backslashes, tabs and line ends as JSON writes them.
json() {
  tab=$(printf '\t')
  printf '%s' "$1" | sed -e 's/[\\"]/\\&/g' -e "s/$tab/\\\\t/g" |
    awk 'NR > 1 { printf "\\n" } { printf "%s", $0 }'
}

# Ask. "ack": "socket" lets the edge see from the connection what was read: curl says nothing.
asked=$(call --fail-with-body "$url/v1/streams" -H 'Content-Type: application/json' \
  -d "{\"question\": \"$(json "$question")\", \"ack\": \"socket\"}") ||
  { echo "$asked" >&2; exit 1; }
stream=$(expr "$asked" : '.*"stream_url": *"\([^"]*\)"')
# It begins at the root of the host, also where Lore is below a path.
root() { expr "$1" : '\([a-z]*://[^/]*\)'; }

# Read, and be cut off. Only events that an empty line ends have come whole.
whole_events() {
  awk '{ event = event $0 "\n" } $0 == "" { printf "%s", event; event = "" }'
}
events=$(mktemp)
trap 'rm -f "$events"' EXIT
call -N --max-time "${CUT_AFTER_S:-2}" -H 'Accept: text/event-stream' "$(root "$url")$stream" |
  whole_events >"$events" || true

# Go on elsewhere, after the last chunk that came, until the answer ends.
last=$(sed -n 's/^id: //p' "$events" | tail -n 1)
echo "cut off after chunk ${last:-0}; going on at $other" >&2
call -N -H 'Accept: text/event-stream' -H "Last-Event-ID: ${last:-0}" "$(root "$other")$stream" |
  whole_events >>"$events"
cat "$events"

# Chunks are pieces of the answer's text, written as JSON strings: joined, they are all of it.
read_so=$(sed -nE 's/^data: \{"seq": [0-9]*, "text": "(([^"\\]|\\.)*)".*/\1/p' "$events" | tr -d '\n')
kept=$(call "$(root "$url")${stream%%\?*}" | sed -E 's/.*"text": *"(([^"\\]|\\.)*)".*/\1/')
[ "$read_so" = "$kept" ] || { echo "that is not what the edge has" >&2; exit 1; }
echo "the same text as the edge has, ${#kept} characters of JSON" >&2
