/**
 * Parses server-sent events from text, as in the WHATWG HTML standard (section 9.2.6). An event
 * that a lost connection left incomplete never comes out.
 */
export class SseParser {
  lastEventId = "";
  /** The newest `retry:`, in milliseconds; null if there was none. */
  retryMs = null;
  /** The characters of the incomplete event. */
  pendingChars = 0;

  #afterCr = false;
  #partial = "";
  #type = "";
  #data = [];

  /** Take the next text. Returns the events that it completed. */
  feed(text) {
    // The CR already ended its line; the LF of a divided CRLF is not a second end.
    if (this.#afterCr && text.startsWith("\n")) text = text.slice(1);
    else if (text === "") return [];
    this.#afterCr = text.endsWith("\r");
    this.pendingChars += text.length;
    const [first, ...rest] = text.split(/\r\n|\r|\n/);
    this.#partial += first;
    const events = [];
    for (const following of rest) {
      const event = this.#line(this.#partial);
      if (event) events.push(event);
      this.#partial = following;
    }
    return events;
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#type = value;
    else if (field === "data") this.#data.push(value);
    else if (field === "id" && !value.includes("\0")) this.lastEventId = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.retryMs = Number(value);
    return null;
  }

  #dispatch() {
    const [type, data] = [this.#type || "message", this.#data];
    this.#type = "";
    this.#data = [];
    this.pendingChars = 0;
    if (!data.length) return null;
    return { type, data: data.join("\n"), lastEventId: this.lastEventId };
  }
}
