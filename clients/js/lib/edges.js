/** The edges of one Lore and the HTTP calls to them; any edge serves any call (PROTOCOL.md). */

import * as read from "./events.js";

const CREATE_ATTEMPTS = 6;
const RETRY_AFTER_MAX_S = 30;
/** How long a call may take, in ms; then the edge counts as unreachable. */
const CALL_TIMEOUT_MS = 15_000;

/** A signal that aborts with `signal`, or after `ms`. Node 18 and older browsers lack `any`. */
export function withTimeout(signal, ms) {
  const signals = [signal, AbortSignal.timeout(ms)];
  if (AbortSignal.any) return AbortSignal.any(signals);
  const first = new AbortController();
  for (const one of signals) one.addEventListener("abort", () => first.abort(one.reason));
  if (signal.aborted) first.abort(signal.reason);
  return first.signal;
}

/** An error response, with the code that the edge gave it. */
export class ApiError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** The credentials of a program, which cannot ask anybody for another key. */
export const withKey = (key) => ({
  headers: async () => ({ Authorization: `Bearer ${key}` }),
  refused: async () => false,
});

export class Edges {
  /**
   * @param {string[]} urls base URLs, the preferred edge first
   * @param {object} [credentials] for edges with authentication (lore.d.ts)
   */
  constructor(urls, credentials = null) {
    if (!urls?.length) throw new TypeError("give the URL of at least one edge");
    this.#urls = urls.map((url) => url.replace(/\/+$/, ""));
    this.#credentials = credentials;
  }

  #urls;
  #credentials;
  #at = 0;

  get count() {
    return this.#urls.length;
  }

  /** The base URL of the edge in use. */
  get current() {
    return this.#urls[this.#at];
  }

  next() {
    this.#at = (this.#at + 1) % this.#urls.length;
  }

  /**
   * Call the current edge, and the others in turn while one is unreachable or answers 503.
   *
   * Returns the first other Response. Throws ApiError when no edge gives one.
   */
  async call(method, path, options) {
    let problem;
    for (let i = 0; i < this.#urls.length; i += 1) {
      try {
        const edge = this.#urls[(this.#at + i) % this.#urls.length];
        const response = await this.#send(edge, method, path, options);
        if (response.status !== 503) return response;
        problem = await failure(response);
      } catch {
        problem = new ApiError("unreachable", "No edge can be reached.");
      }
    }
    throw problem;
  }

  /** The same; returns the JSON of a success. Throws ApiError for anything else. */
  async json(method, path) {
    const response = await this.call(method, path);
    if (!response.ok) throw await failure(response);
    return response.json();
  }

  get asksWhoCalls() {
    return this.#credentials !== null;
  }

  /** A stream token, which stands in the URL in place of a header (A7). Throws ApiError. */
  async streamToken(path) {
    return (await this.json("POST", `${path}/token`)).token;
  }

  /**
   * Poll the current edge for what follows a position, for `waitS` seconds at most (protocol P18).
   * Throws ApiError, and whatever fetch throws.
   */
  async poll(path, query, waitS, signal) {
    const options = { signal: withTimeout(signal, 1000 * waitS + CALL_TIMEOUT_MS) };
    const response = await this.#send(this.current, "GET", `${path}${query}&wait=${waitS}`, options);
    if (!response.ok) throw await failure(response);
    const answer = read.poll(await response.text());
    if (!answer) throw new ApiError("no_protocol", "The server sent something else.");
    return answer;
  }

  /**
   * Why the current edge closed a stream at once, which a browser's EventSource does not tell.
   * `refused`: the edge's response, if it is known.
   *
   * Returns `view` if the answer ended and this reader has all of it, `error` if the stream will
   * never open, and neither if the edge is unreachable or busy; `waitMs` is the pause it asked for.
   */
  async whyClosed(path, query, refused) {
    const abort = new AbortController();
    const options = { headers: { Accept: "text/event-stream" }, signal: abort.signal };
    try {
      const response =
        refused ?? (await this.#send(this.current, "GET", `${path}${query}`, options));
      if (response.status === 204) return { view: await this.json("GET", path) };
      const forGood = response.status >= 400 && response.status < 500 && response.status !== 429;
      return forGood ? { error: await failure(response) } : { waitMs: 1000 * retryAfterS(response) };
    } catch {
      return {};
    } finally {
      abort.abort(); // It may have opened now: it is not read here.
    }
  }

  /**
   * Create a request, on this edge or the next that accepts it. Returns the JSON view.
   *
   * Every attempt carries the same Idempotency-Key, so that a lost response never makes two
   * requests (H2). A full queue or an absent store is asked again after its Retry-After.
   */
  async create(body) {
    const options = { body, headers: { "Idempotency-Key": randomKey() } };
    for (let attempt = 1; ; attempt += 1) {
      const { view, problem, waitS } = await this.#tryToCreate(options);
      if (view) return view;
      if (waitS === null || attempt === CREATE_ATTEMPTS) throw problem;
      this.next();
      await new Promise((done) => setTimeout(done, waitS * 1000));
    }
  }

  async #tryToCreate(options) {
    let response;
    try {
      response = await this.#send(this.current, "POST", "/v1/streams", options);
    } catch {
      const waitS = this.#at === this.#urls.length - 1 ? 1 : 0;
      return { problem: new ApiError("unreachable", "No edge can be reached."), waitS };
    }
    if (response.ok) return { view: await response.json() };
    const later = response.status === 429 || response.status >= 500;
    const waitS = later ? retryAfterS(response) || 1 : null;
    return { problem: await failure(response), waitS };
  }

  /** Send with the caller's credentials, and again with others while these are refused. */
  async #send(edge, method, path, options) {
    if (!this.#credentials) return send(edge, method, path, options);
    for (;;) {
      const credentials = await this.#credentials.headers();
      const headers = { ...options?.headers, ...credentials };
      const response = await send(edge, method, path, { ...options, headers });
      if (response.status !== 401 || !(await this.#credentials.refused(credentials))) {
        return response;
      }
    }
  }
}

/** The pause that the edge asked for, in seconds; 0 if none. */
function retryAfterS(response) {
  const asked = Number(response.headers.get("Retry-After"));
  return asked > 0 ? Math.min(asked, RETRY_AFTER_MAX_S) : 0;
}

function send(edge, method, path, { body, headers, signal, keepalive = false } = {}) {
  const type = body === undefined ? {} : { "Content-Type": "application/json" };
  return fetch(`${edge}${path}`, {
    method,
    headers: { Accept: "application/json", ...type, ...headers },
    body: JSON.stringify(body),
    cache: "no-store",
    keepalive,
    signal: signal ?? AbortSignal.timeout(CALL_TIMEOUT_MS),
  });
}

/** Turn an error response into an ApiError, whatever its body is. */
export async function failure(response) {
  try {
    const { error } = await response.json();
    return new ApiError(error.code, error.message);
  } catch {
    return new ApiError(`http_${response.status}`, `The server answered ${response.status}.`);
  }
}

/**
 * 128 random bits. crypto.randomUUID is missing on plain HTTP other than localhost, and Node 18 has
 * no `crypto` here. The key is no secret: it only has to differ from the caller's other keys.
 */
function randomKey() {
  const bytes =
    globalThis.crypto?.getRandomValues(new Uint8Array(16)) ??
    Uint8Array.from({ length: 16 }, () => 256 * Math.random());
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
