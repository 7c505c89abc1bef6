/** The state of an answer in words for its reader: what happened, and what to do. */

const NOT_THERE = new Set(["not_found", "given_up", "unauthorized"]);

const ENDINGS = {
  done: ({ finish_reason }) => (finish_reason === "length" ? "Ended at its length limit" : "Finished"),
  cancelled: () => "Stopped",
  failed: ({ code }) => (NOT_THERE.has(code) ? "Not available" : "Failed"),
  refused: () => "Not asked",
};

const HINTS = {
  done: ({ finish_reason }) => (finish_reason === "length" ? "Continue asks for the rest." : ""),
  cancelled: () => "The text so far stays. For a complete answer, ask again.",
};

const CUT = "The answer waits. Reconnect under the hood to go on.";
const OFFLINE = "The answer goes on by itself once you are connected.";
const REAPED = "Continue it, and it goes on where it stopped.";

/**
 * @param {object} answer
 * @param {object|null} answer.end
 * @param {string|null} answer.requestId
 * @param {string} answer.connection
 * @param {string|null} answer.status of the request, as an edge last told it
 * @param {boolean} answer.isHeld whether its window has been full for long enough to notice
 * @param {string} answer.text without the model's thoughts
 * @param {boolean} answer.hasBegun
 * @returns {{kind: string, text: string, hint?: string}}
 */
export function describe({ end, requestId, connection, status, isHeld, text, hasBegun }) {
  if (end) {
    const tokens = end.usage?.completion_tokens ? ` · ${counted(end.usage.completion_tokens)}` : "";
    return { kind: end.status, text: ENDINGS[end.status](end) + tokens, hint: HINTS[end.status]?.(end) };
  }
  if (!requestId) return { kind: "waiting", text: "Asking" };
  if (connection === "cut") return { kind: "cut", text: "Disconnected", hint: CUT };
  if (connection !== "open") return onTheWay(hasBegun);
  if (status === "queued") return { kind: "waiting", text: "Waiting for its turn" };
  if (status === "reaped") {
    return { kind: "reaped", text: "Set aside while nobody was reading", hint: REAPED };
  }
  if (status === "paused" && isHeld) return { kind: "paused", text: "Paused until this is read" };
  return { kind: "live", text: text ? "Writing" : "Thinking" };
}

function onTheWay(hasBegun) {
  if (!navigator.onLine) return { kind: "cut", text: "You are offline", hint: OFFLINE };
  return { kind: "waiting", text: hasBegun ? "Connection lost, connecting again" : "Connecting" };
}

export function failureText(error) {
  const why = error ? ` (${error})` : "";
  return `The answer could not be finished${why}. What is here stays; ask again for all of it.`;
}

/** @param {number} tokens */
export function counted(tokens) {
  return tokens === 1 ? "1 token" : `${tokens} tokens`;
}
