/** Errors in words for the person who asked: what happened, and what to do. */

const BUSY = "Lore cannot answer at the moment. Try again in a minute.";
const ENOUGH = "You have reached the limit for one minute. Try again in a minute.";
const TOO_LONG = "That is longer than Lore accepts. Shorten it and ask again.";

/** By the error's code (F1). Other errors are shown in the edge's words. */
const WORDS = {
  unauthorized: "This Lore requires an API key. Ask again and enter yours; whoever runs this Lore issues the keys.",
  not_found: "This answer is no longer kept, or it was asked with another key. Ask the question again.",
  given_up: "This answer was given up to make room for others. Ask the question again.",
  history_lost: "The rest of this answer was lost. What is here stays; ask again for all of it.",
  already_ended: "The answer had already ended.",
  not_reaped: "The answer is already being continued.",
  queue_full: "Too many questions are waiting. Try again in a minute.",
  too_many_streams: "You have reached the limit of answers at the same time. Stop one, or wait until one ends, and ask again.",
  too_many_requests: ENOUGH,
  too_many_tokens: ENOUGH,
  too_many_connections: "You have too many pages of this Lore open. Close some and try again.",
  prompt_too_long: TOO_LONG,
  body_too_large: TOO_LONG,
  context_length_exceeded: TOO_LONG,
  auth_unavailable: "Your key cannot be checked at the moment. Try again in a minute.",
  store_unavailable: BUSY,
  store_full: BUSY,
  draining: BUSY,
  edge_full: BUSY,
  internal_error: BUSY,
  http_502: BUSY,
  http_503: BUSY,
  http_504: BUSY,
};

const CODES_TOO_LONG = new Set(["prompt_too_long", "body_too_large", "context_length_exceeded"]);
const CONVERSATION_TOO_LONG = "This conversation has become longer than the model accepts. Ask your question in a new one.";

/**
 * @param {{code: string, message: string}} error
 * @param {{isFollowUp?: boolean}} of the question
 */
export function words({ code, message }, { isFollowUp = false } = {}) {
  if (isFollowUp && CODES_TOO_LONG.has(code)) return CONVERSATION_TOO_LONG;
  if (code === "unreachable") {
    return navigator.onLine
      ? "Lore cannot be reached. Check your connection, and try again."
      : "You are offline. Try again once you are connected.";
  }
  return Object.hasOwn(WORDS, code) ? WORDS[code] : message;
}

/** The same for an answer that was opened by its link: it may need the key of whoever asked. */
export function wordsForAnswer(error) {
  return error.code === "unauthorized"
    ? "This answer opens only with the API key that it was asked with. Reload the page and enter it."
    : words(error);
}
