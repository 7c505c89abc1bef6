/** Lore's HTTP calls, by fetch (PROTOCOL.md, HTTP). */

const CREATE_ATTEMPTS = 6;
const RETRY_AFTER_MAX_S = 30;

/** An answer that is an error, with the code that the edge gave it. */
export class ApiError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** @returns {Promise<Response>} rejects only when the edge cannot be reached */
export function call(edge, method, path, { body, headers = {}, keepalive = false } = {}) {
  const init = { method, headers: { Accept: "application/json", ...headers }, cache: "no-store", keepalive };
  if (body !== undefined) {
    init.headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  return fetch(`${edge}${path}`, init);
}

/** Read an error response into an ApiError, whatever its body is. */
export async function failure(response) {
  try {
    const { error } = await response.json();
    return new ApiError(error.code, error.message);
  } catch {
    return new ApiError(`http_${response.status}`, `The server answered ${response.status}.`);
  }
}

/**
 * Create a request on the first edge that takes it, starting with `urls[first]`.
 *
 * Every attempt carries the same Idempotency-Key, so that a lost answer never makes two
 * requests. A full queue or an absent store is asked again after its Retry-After.
 */
export async function createStream(urls, first, body) {
  const headers = { "Idempotency-Key": randomKey() };
  let problem;
  for (let attempt = 0; attempt < CREATE_ATTEMPTS; attempt += 1) {
    const edge = (first + attempt) % urls.length;
    let waitS = 0;
    try {
      const response = await call(urls[edge], "POST", "/v1/streams", { body, headers });
      if (response.ok) return { view: await response.json(), edge };
      problem = await failure(response);
      if (response.status !== 429 && response.status < 500) throw problem;
      waitS = Number(response.headers.get("Retry-After")) || 1;
    } catch (error) {
      if (error instanceof ApiError && error === problem) throw error;
      problem = new ApiError("unreachable", "No edge can be reached.");
      waitS = edge === urls.length - 1 ? 1 : 0;
    }
    await new Promise((done) => setTimeout(done, Math.min(waitS, RETRY_AFTER_MAX_S) * 1000));
  }
  throw problem;
}

/** 128 random bits; crypto.randomUUID is missing on plain http other than localhost. */
function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
