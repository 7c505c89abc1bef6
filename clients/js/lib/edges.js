/** The edges of one Lore and the HTTP calls to them; any edge serves any call (PROTOCOL.md). */

import * as read from "./events.js";

const CREATE_ATTEMPTS = 6;
const RETRY_AFTER_MAX_S = 30;
/** An edge that is silent for so long counts as unreachable. */
const CALL_TIMEOUT_MS = 15_000;

/** A signal that aborts with this one, or in time. Node 18 and older browsers know no `any`. */
export function withTimeout(signal, ms) {
  const signals = [signal, AbortSignal.timeout(ms)];
  if (AbortSignal.any) return AbortSignal.any(signals);
  const first = new AbortController();
  for (const one of signals) one.addEventListener("abort", () => first.abort(one.reason));
  if (signal.aborted) first.abort(signal.reason);
  return first.signal;
}

/** An answer that is an error, with the code that the edge gave it. */
export class ApiError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** The credentials of a program, which has nobody to ask for others. */
export const withKey = (key) => ({
  headers: async () => ({ Authorization: `Bearer ${key}` }),
  refused: async () => false,
});

export class Edges {
  /**
   * @param {string[]} urls base URLs, the preferred edge first
   * @param {object} [credentials] for edges that ask who calls (lore.d.ts)
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
   * Ask the current edge, and the others in turn while one is unreachable or says 503.
   *
   * Returns whatever Response the first other one gives. Throws ApiError when none does.
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

  /** The same, with the JSON of a success. Throws ApiError for anything else. */
  async json(method, path) {
    const response = await this.call(method, path);
    if (!response.ok) throw await failure(response);
    return response.json();
  }

  get asksWhoCalls() {
    return this.#credentials !== null;
  }

  /** What stands in a stream's address instead of a header. Throws ApiError. */
  async streamToken(path) {
    return (await this.json("POST", `${path}/token`)).token;
  }

  /**
   * What follows a position, from the current edge, once there is some or `waitS` are over
   * (protocol P18). Throws ApiError, and whatever fetch does.
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
   * `refused`: its answer, where it is known.
   *
   * `view`: the answer ended and this reader has it all. `error`: it will never open.
   * Neither: the edge cannot be reached, or not now; `waitMs` is what it asked for.
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
      abort.abort(); // Had it opened now, this is not the connection to read it on.
    }
  }

  /**
   * Create a request, on this edge or the next that takes it. Returns the JSON view.
   *
   * Every attempt carries the same Idempotency-Key, so that a lost answer never makes two
   * requests. A full queue or an absent store is asked again after its Retry-After.
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

  /** With the caller's credentials, and again with others while these are refused. */
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

/** What the edge asked for, in seconds; 0 where it says nothing. */
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
 * 128 random bits; crypto.randomUUID is missing on plain http other than localhost. Node 18 has no
 * `crypto` here: the key is no secret, it only has to differ from the caller's other keys.
 */
function randomKey() {
  const bytes =
    globalThis.crypto?.getRandomValues(new Uint8Array(16)) ??
    Uint8Array.from({ length: 16 }, () => 256 * Math.random());
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
