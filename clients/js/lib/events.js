/**
 * Checks the data of the stream's events and of polls (PROTOCOL.md, Server-sent events).
 *
 * Each function returns the event's data, or null if it is malformed. An edge of Lore never sends
 * malformed data, so the connection must not be trusted any further.
 */

const isText = (value) => typeof value === "string";
const isCount = (value) => Number.isSafeInteger(value) && value >= 0;

function object(json) {
  try {
    const data = JSON.parse(json);
    return data !== null && typeof data === "object" ? data : null;
  } catch {
    return null;
  }
}

export function chunk(json) {
  const data = object(json);
  if (!data || !isCount(data.seq) || !isText(data.text)) return null;
  return isCount(data.tokens) ? data : { ...data, tokens: 0 };
}

const isState = (data) => isText(data?.status) && isText(data.reason);
const isEnd = (data) => isText(data?.status) && isCount(data.last_seq);

export function state(json) {
  const data = object(json);
  return isState(data) ? data : null;
}

export function end(json) {
  const data = object(json);
  return isEnd(data) ? data : null;
}

/** The data of a poll: a finished response with what follows a position (protocol P18). */
export function poll(json) {
  const data = object(json);
  const placed = isCount(data?.after) && isCount(data.seq) && isText(data.log_id);
  const said = placed && isText(data.text) && isState(data.state);
  return said && (data.end === null || isEnd(data.end)) ? data : null;
}

export function problem(json) {
  const error = object(json)?.error;
  return isText(error?.code) && isText(error.message) ? error : null;
}
