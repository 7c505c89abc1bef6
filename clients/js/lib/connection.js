/**
 * A reader's connection: to one edge after the other, with pauses. It is a stream, or polls where
 * something on the way holds streams back (polls.js).
 *
 * What arrives is checked (events.js) and handed to the reader, which says where to continue.
 */

import { backoff } from "./receiver.js";
import * as read from "./events.js";
import { FetchSource } from "./fetchsource.js";
import { CATCH_UP_MS, Fallback, WAIT_S } from "./polls.js";

const CONNECT_TIMEOUT_MS = 10_000;
/** A connection that is silent this long is replaced, until an edge names its own limit. */
const QUIET_MS = 20_000;
/** Each silence in a row doubles the patience, this often at most, for slow networks (E6). */
const MAX_DOUBLINGS = 3;
/** A connection that lasted this long, or brought a chunk, ends the backoff. */
const STEADY_MS = 5000;

const Source = globalThis.EventSource ?? FetchSource;

export class Connection {
  /**
   * @param {import("./edges.js").Edges} edges
   * @param {object} reader
   * @param {() => string} reader.path the path of the request
   * @param {() => string} reader.begin the query with the position, for a new EventSource
   * @param {() => boolean} reader.browserKnows whether Last-Event-ID is the reader's position
   * @param {(status: string) => void} reader.onStatus
   * @param {() => void} reader.onDropped what was not passed on yet will come again
   * @param {() => void} reader.onMoved another edge is in use: calls to the old one may get no answer
   * @param {(refused?: Response) => void} reader.onRefused the edge answered, but with no stream
   * @param {(chunk: object, event: MessageEvent) => void} reader.onChunk
   * @param {(state: object) => void} reader.onState
   * @param {(end: object) => void} reader.onEnd
   * @param {(error: {code: string, message: string}) => void} reader.onProblem
   * @param {() => string} reader.query the query with the position, for a poll
   * @param {() => number} reader.position
   * @param {(poll: object) => boolean} reader.onPoll returns whether it brought anything new
   */
  constructor(edges, reader) {
    this.status = "closed";
    this.reconnects = -1;
    this.#edges = edges;
    this.#reader = reader;
  }

  #edges;
  #reader;
  #source = null;
  /** The attempt to open a stream, while it waits for its token. */
  #opening = null;
  #timer = null;
  #attempt = 0;
  #openedAt = 0;
  #lastHeard = 0;
  #watch = null;
  #silenceMs = QUIET_MS;
  #silences = 0;
  #fallback = new Fallback();
  /** The timer for a poll beside a silent stream. */
  #beside = null;
  /** Aborts the polls, also those beside a stream. */
  #asking = null;
  polls = 0;

  /** Whether there is a connection, or the browser is about to make one. */
  get isThere() {
    return this.#source !== null || this.isPolling;
  }

  /** Whether it reads finished responses, because something on the way holds streams back. */
  isPolling = false;

  open() {
    this.#drop();
    this.say("connecting");
    if (this.#fallback.isPolling(Date.now())) this.#poll();
    else if (this.#edges.asksWhoCalls) this.#openWithToken();
    else this.#listen("");
  }

  /** @param {number} waitMs the least pause, where this edge asked for it and is the only one */
  retryElsewhere(waitMs = 0) {
    this.#drop();
    if (this.status === "open" && Date.now() - this.#openedAt > STEADY_MS) this.#attempt = 0;
    this.#edges.next();
    this.#reader.onMoved();
    this.say("waiting");
    const leastMs = this.#edges.count === 1 ? waitMs : 0;
    this.#after(Math.max(leastMs, backoff(this.#attempt)), () => this.open());
    this.#attempt += 1;
  }

  /** Retry at once: the network came back, or the page is shown again. */
  wake(networkChanged) {
    const quiet = !this.isPolling && Date.now() - this.#lastHeard > this.#patienceMs;
    if (networkChanged) this.#fallback.onMoved();
    if (networkChanged || quiet || this.status === "waiting") this.open();
  }

  close(status) {
    this.#drop();
    this.say(status);
  }

  say(status) {
    this.status = status;
    this.#reader.onStatus(status);
  }

  /** Each attempt gets a token of its own; one that expired while the browser was away is a 401. */
  async #openWithToken() {
    const opening = (this.#opening = {});
    try {
      const token = await this.#edges.streamToken(this.#reader.path());
      if (this.#opening === opening) this.#listen(`&token=${encodeURIComponent(token)}`);
    } catch (error) {
      if (this.#opening === opening) this.#reader.onProblem(error);
    }
  }

  #listen(token) {
    const reader = this.#reader;
    const url = `${this.#edges.current}${reader.path()}${reader.begin()}&heartbeat=event${token}`;
    const source = (this.#source = new Source(url));
    this.#after(CONNECT_TIMEOUT_MS, () => this.retryElsewhere());
    this.#fallback.onAsked(Date.now());
    this.#askBeside();
    const on = (name, handler) =>
      source.addEventListener(name, (event) => {
        if (source !== this.#source) return;
        this.#lastHeard = Date.now();
        this.#fallback.onHeard(this.#lastHeard);
        handler(event);
      });
    const onData = (check, handler) => (event) => {
      const data = check(event.data);
      if (data) handler(data, event);
      else this.retryElsewhere(); // not the protocol: nothing on this connection can be trusted
    };
    const onProblem = onData(read.problem, (error) => reader.onProblem(error));
    on("open", () => this.#opened());
    on("message", onData(read.chunk, (chunk, event) => this.#onChunk(chunk, event)));
    on("state", onData(read.state, (state) => this.#onState(state)));
    on("heartbeat", () => {});
    on("end", onData(read.end, (end) => reader.onEnd(end)));
    on("error", (event) => {
      if (event.data === undefined) this.#onLost();
      else onProblem(event);
    });
  }

  #opened() {
    this.#after(null);
    this.#watchForSilence();
    this.#openedAt = Date.now();
    this.reconnects += 1;
    this.say("open");
  }

  get #patienceMs() {
    return this.#silenceMs * 2 ** Math.min(this.#silences, MAX_DOUBLINGS);
  }

  /** Replace a connection without even a heartbeat: the edge stands still, or the path is dead. */
  #watchForSilence() {
    this.#stopWatching();
    const left = this.#lastHeard + this.#patienceMs - Date.now();
    this.#watch = setTimeout(() => {
      this.#watch = null;
      if (Date.now() < this.#lastHeard + this.#patienceMs) return this.#watchForSilence();
      this.#silences += 1;
      this.retryElsewhere();
    }, Math.max(left, 0));
  }

  #stopWatching() {
    if (this.#watch !== null) clearTimeout(this.#watch);
    this.#watch = null;
  }

  #onState(state) {
    this.#fallback.onTold(state.silence_ms ?? 0);
    if (state.silence_ms > 0) {
      this.#silenceMs = state.silence_ms;
      this.#watchForSilence();
    }
    this.#reader.onState(state);
  }

  #onChunk(chunk, event) {
    this.#attempt = 0;
    this.#silences = 0;
    this.#reader.onChunk(chunk, event);
  }

  // Polls

  /** When the stream is silent, find out whether it is held back on its way. */
  #askBeside() {
    const fallback = this.#fallback;
    this.#beside = setTimeout(async () => {
      if (Date.now() < fallback.askAt) return this.#askBeside();
      const { heardAt } = fallback;
      const asking = (this.#asking = new AbortController());
      const answer = await this.#ask(fallback.told ? WAIT_S : 0, asking);
      if (asking.signal.aborted) return;
      const ahead = answer.poll && fallback.isAhead(answer.poll, this.#reader.position());
      // The stream will find out about an edge that does not answer.
      this.#beside = setTimeout(() => {
        if (fallback.heardAt !== heardAt || !ahead) return this.#askBeside();
        fallback.onHeldBack(Date.now());
        this.#drop();
        this.#poll(answer.poll);
      }, answer.error ? 1000 * WAIT_S : CATCH_UP_MS);
    }, Math.max(fallback.askAt - Date.now(), CATCH_UP_MS));
  }

  async #ask(waitS, asking) {
    const reader = this.#reader;
    try {
      const { signal } = asking;
      return { poll: await this.#edges.poll(reader.path(), reader.query(), waitS, signal) };
    } catch (error) {
      return { error };
    }
  }

  /** Read finished responses, until a stream is worth another try. `poll` is the first of them. */
  async #poll(poll = null) {
    const asking = (this.#asking = new AbortController());
    this.isPolling = true;
    this.status = "connecting";
    while (this.#fallback.isPolling(Date.now())) {
      const answer = poll ? { poll } : await this.#ask(WAIT_S, asking);
      poll = null;
      if (asking.signal.aborted) return;
      if (answer.error) return this.#reader.onProblem(answer.error);
      this.#onPolled();
      const isNews = this.#reader.onPoll(answer.poll);
      if (asking.signal.aborted) return;
      if (!isNews) await new Promise((done) => setTimeout(done, CATCH_UP_MS));
      if (asking.signal.aborted) return;
    }
    this.open();
  }

  #onPolled() {
    this.polls += 1;
    this.#attempt = 0;
    if (this.status === "open") return;
    this.#openedAt = Date.now();
    this.say("open");
  }

  #onLost() {
    this.#stopWatching();
    if (this.#source.readyState === Source.CLOSED) {
      const { refused } = this.#source;
      this.#drop();
      this.say("connecting");
      this.#reader.onRefused(refused);
    } else if (this.status === "open" && this.#reader.browserKnows()) {
      // The browser reconnects by itself, after the server's `retry:`, with Last-Event-ID.
      this.say("connecting");
      this.#after(CONNECT_TIMEOUT_MS, () => this.retryElsewhere());
    } else {
      this.retryElsewhere();
    }
  }

  /** Only one timer runs at a time. */
  #after(ms, act) {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (ms === null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      act();
    }, ms);
  }

  #drop() {
    this.#after(null);
    this.#stopWatching();
    clearTimeout(this.#beside);
    this.#asking?.abort();
    this.#asking = null;
    this.isPolling = false;
    this.#source?.close();
    this.#source = null;
    this.#opening = null;
    this.#reader.onDropped();
  }
}
