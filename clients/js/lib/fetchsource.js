/** An `EventSource` made of `fetch`, for Node, which has none. It behaves like the browsers'. */

import { SseParser } from "./sse.js";

const RETRY_MS = 3000;
const MAX_EVENT_CHARS = 4 * 1_048_576;

export class FetchSource extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSED = 2;

  readyState = FetchSource.CONNECTING;
  /** The response that was no stream. A browser's EventSource does not show it. */
  refused = null;
  #url;
  #abort = new AbortController();
  #lastEventId = "";
  #retryMs = RETRY_MS;

  constructor(url) {
    super();
    this.#url = url;
    this.#run();
  }

  close() {
    if (this.#closed) return;
    this.readyState = FetchSource.CLOSED;
    this.#abort.abort();
  }

  get #closed() {
    return this.readyState === FetchSource.CLOSED;
  }

  async #run() {
    while (!this.#closed) {
      try {
        const response = await this.#ask();
        if (this.#closed) return;
        if (!isStream(response)) return this.#fail(response);
        this.readyState = FetchSource.OPEN;
        this.#say({ type: "open" });
        await this.#read(response.body);
      } catch {
        // A lost connection is made again, whatever the reason.
      }
      if (this.#closed) return;
      this.readyState = FetchSource.CONNECTING;
      this.#say({ type: "error" });
      await new Promise((done) => setTimeout(done, this.#retryMs));
    }
  }

  #ask() {
    const headers = { Accept: "text/event-stream" };
    if (this.#lastEventId) headers["Last-Event-ID"] = this.#lastEventId;
    return fetch(this.#url, { headers, cache: "no-store", signal: this.#abort.signal });
  }

  async #read(body) {
    const decoder = new TextDecoder(); // keeps the first part of a divided character
    const parser = new SseParser();
    parser.lastEventId = this.#lastEventId;
    const reader = body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const events = parser.feed(decoder.decode(value, { stream: true }));
      this.#retryMs = parser.retryMs ?? this.#retryMs;
      for (const event of events) {
        if (this.#closed) return;
        this.#lastEventId = event.lastEventId;
        this.#say(event);
      }
      if (parser.pendingChars > MAX_EVENT_CHARS) {
        this.close();
        return this.#say({ type: "error" });
      }
    }
  }

  /** The response is no stream: as in a browser, this source is then closed. */
  #fail(response) {
    this.readyState = FetchSource.CLOSED;
    this.refused = response;
    this.#say({ type: "error" });
  }

  #say({ type, ...fields }) {
    this.dispatchEvent(Object.assign(new Event(type), fields));
  }
}

const isStream = ({ status, headers }) =>
  status === 200 && (headers.get("Content-Type") ?? "").startsWith("text/event-stream");
