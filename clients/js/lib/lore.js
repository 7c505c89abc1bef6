/**
 * A reader of Lore's streams, for browsers and Node. It resumes by itself, on any edge, and loses
 * nothing.
 *
 *     const stream = new LoreStream({ urls: [location.origin], create: { question: "…" } });
 *     stream.addEventListener("text", (event) => out.append(event.detail.text));
 *     stream.addEventListener("end", (event) => console.log(event.detail.status));
 *     await stream.connect();
 *
 * Events, each with a `detail`:
 *   created     the JSON view of the new request
 *   text        {text, seq}      the next piece of the answer, in order, exactly once
 *   state       the request's state from the edge (PROTOCOL.md, Server-sent events)
 *   end         {status, finish_reason, error, last_seq, usage}; the last event
 *   error       {code, message}  final: this reader cannot continue
 *   connection  {status: "connecting" | "open" | "waiting" | "cut" | "closed", edge, polling};
 *               `polling`: it reads finished responses, because something holds the stream back
 *   stats       the `stats` of this object, after each change
 */

import { Connection } from "./connection.js";
import { ApiError, Edges, failure, withKey, withTimeout } from "./edges.js";
import { Receiver } from "./receiver.js";
import { onWakeUp } from "./wakeup.js";

export { ApiError };

const ACK_TIMEOUT_MS = 15_000;
const SENT_AWAY = new Set(["drain", "store_lost"]);
const FINAL_CODES = new Set(["history_lost", "given_up", "not_found", "unauthorized"]);

/** Node 18 has no CustomEvent. */
const Told =
  globalThis.CustomEvent ??
  class extends Event {
    constructor(type, { detail }) {
      super(type);
      this.detail = detail;
    }
  };

export class LoreStream extends EventTarget {
  /**
   * @param {object} options
   * @param {string[]} options.urls base URLs of the edges, the preferred one first
   * @param {string} [options.requestId] the request to read, or
   * @param {object} [options.create] the body of POST /v1/streams for a new one
   * @param {number} [options.after] the seq up to which the caller already has the text
   * @param {string} [options.log] the log in which `after` counts
   * @param {string} [options.apiKey] an API key or a JWT, for edges with authentication
   * @param {object} [options.credentials] in place of `apiKey`, where a person can enter another key
   *   (lore.d.ts)
   */
  constructor({ urls, requestId = null, create = null, after = 0, log = null, apiKey, credentials }) {
    super();
    if (!requestId === !create) throw new TypeError("give either requestId or create");
    this.requestId = requestId;
    this.#edges = new Edges(urls, credentials ?? (apiKey ? withKey(apiKey) : null));
    this.#body = create;
    this.#receiver = new Receiver(after);
    this.#log = log;
    this.#connection = new Connection(this.#edges, {
      path: () => this.#path(),
      begin: () => this.#begin(),
      browserKnows: () => this.#browserKnowsPosition(),
      onStatus: (status) => this.#onStatus(status),
      onDropped: () => this.#receiver.restarted(),
      onMoved: () => this.#acking?.abort(),
      onRefused: (refused) => this.#askWhy(refused),
      onChunk: (chunk, event) => this.#onChunk(chunk, event),
      onState: (state) => this.#onState(state),
      onEnd: (end) => this.#onEnd(end),
      onProblem: (error) => this.#onProblem(error),
      query: () => this.#query(),
      position: () => this.#receiver.seq,
      onPoll: (poll) => this.#onPoll(poll),
    });
  }

  #edges;
  #body;
  #creating = null;
  #receiver;
  #log;
  /** The log of the browser's own position, from the URL or from the last event's id. */
  #namedLog = null;
  #connection;
  #ended = false;
  #timer = null;
  #wakeUps = null;
  /** Aborts the ack under way; null if there is none. */
  #acking = null;
  /** The request's status, as an edge last told it. */
  #status = null;

  get stats() {
    const { seq, acked, tokens, duplicates, early } = this.#receiver;
    const { status: connection } = this.#connection;
    const reconnects = Math.max(0, this.#connection.reconnects);
    const { polls, isPolling: polling } = this.#connection;
    const counts = { seq, acked, tokens, duplicates, early, reconnects, polls };
    return { ...counts, edge: this.edge, connection, polling };
  }

  get edge() {
    return this.#edges.current;
  }

  get ended() {
    return this.#ended;
  }

  /** Start reading, or read on after `disconnect`. Throws ApiError if no request was created. */
  async connect() {
    if (this.#ended || this.#wakeUps) return;
    this.#wakeUps = onWakeUp((networkChanged) => {
      if (this.requestId) this.#connection.wake(networkChanged);
    });
    this.#connection.say("connecting");
    try {
      if (!this.requestId) await (this.#creating ??= this.#create());
    } catch (error) {
      this.#creating = null;
      this.#close("closed");
      throw error;
    }
    if (this.#wakeUps) this.#connection.open();
  }

  /** Stop reading. The request lives on; its window closes when nobody reads (protocol P14). */
  disconnect() {
    if (!this.#ended) this.#close("cut");
  }

  /** Cancel the request for good (protocol P14). Text generated so far still comes, then `end`. */
  async stop() {
    await this.#creating;
    const response = await this.#edges.call("DELETE", this.#path());
    if (!response.ok && response.status !== 409) throw await failure(response);
    await this.connect();
  }

  /** Revive a reaped request (protocol P16). Returns the JSON view. */
  revive() {
    return this.#edges.json("POST", `${this.#path()}/revive`);
  }

  /** The JSON view of the request, from any edge that answers. */
  view() {
    return this.#edges.json("GET", this.#path());
  }

  /** The messages before the answer: the users' and the assistant's (H13). */
  async messages() {
    return (await this.#edges.json("GET", `${this.#path()}/messages`)).messages;
  }

  /** Read on from the next edge in the list. */
  switchEdge() {
    this.#edges.next();
    if (this.#wakeUps && this.requestId) this.#connection.open();
    this.#changed();
  }

  // The connection

  #onStatus(status) {
    this.#emit("connection", { status, edge: this.edge, polling: this.#connection.isPolling });
    this.#changed();
  }

  /** The query with the position. From now on the browser's own position is in this log. */
  #begin() {
    this.#namedLog = this.#log;
    return this.#query();
  }

  /** Whether Last-Event-ID is the reader's position, in the log that it reads (protocol P1, P4). */
  #browserKnowsPosition() {
    return !this.#receiver.gap && this.#namedLog === this.#log;
  }

  async #askWhy(refused) {
    const { error, view, waitMs } = await this.#edges.whyClosed(this.#path(), this.#query(), refused);
    if (!this.#wakeUps || this.#connection.isThere) return;
    if (error) this.#fail(error);
    else if (view) this.#finishFrom(view);
    else this.#connection.retryElsewhere(waitMs);
  }

  #close(status) {
    this.#stopTending();
    this.#wakeUps?.();
    this.#wakeUps = null;
    this.#connection.close(status);
  }

  // Events of the stream

  #onChunk({ seq, text, tokens }, event) {
    const log = event.lastEventId.split(":")[1];
    if (log) this.#log = this.#namedLog = log;
    const ready = this.#receiver.take(seq, text, Date.now(), tokens);
    if (ready) this.#emit("text", { text: ready, seq: this.#receiver.seq });
    this.#changed();
  }

  /** Take the answer to a poll (protocol P18). */
  #onPoll({ log_id, after, seq, text, tokens, state, end }) {
    if (after !== this.#receiver.seq) return false;
    this.#log = log_id;
    const ready = this.#receiver.takeText(seq, text, Date.now(), tokens);
    if (ready) this.#emit("text", { text: ready, seq });
    const isNews = state.status !== this.#status || state.reason !== "open";
    const reason = state.reason === "open" ? "polled" : state.reason;
    if (isNews) this.#onState({ ...state, reason });
    else this.#changed();
    if (end && !this.#ended) this.#onEnd(end);
    return isNews || seq > after;
  }

  #onState(state) {
    this.#status = state.status;
    // The edge has judged our position against the log that this `state` names. A fork later in the
    // stream applies from its first chunk on, whose id names the new log (P4).
    if (state.reason === "open" && state.log_id) this.#log = state.log_id;
    if (state.window > 0) this.#receiver.window = state.window;
    this.#changed();
    this.#emit("state", state);
    if (SENT_AWAY.has(state.reason) && this.#edges.count > 1) this.#connection.retryElsewhere();
  }

  #onEnd(end) {
    if (this.#receiver.end(end.last_seq, Date.now())) this.#finish(end);
    else this.#connection.retryElsewhere();
  }

  #onProblem({ code, message }) {
    if (FINAL_CODES.has(code)) this.#fail(new ApiError(code, message));
    else this.#connection.retryElsewhere();
  }

  #finishFrom(view) {
    const last_seq = view.next_seq - 1;
    if (this.#receiver.seq < last_seq) return this.#connection.retryElsewhere();
    const { status, finish_reason, error, prompt_tokens, generated_tokens } = view;
    const total_tokens = prompt_tokens + generated_tokens;
    const usage = { prompt_tokens, completion_tokens: generated_tokens, total_tokens };
    this.#finish({ status, finish_reason, error, last_seq, usage });
  }

  #finish(end) {
    if (this.#ended) return;
    this.#ended = true;
    this.#close("closed");
    this.#emit("end", end);
  }

  #fail(error) {
    this.#ended = true;
    this.#close("closed");
    this.#emit("error", { code: error.code, message: error.message });
  }

  // Acknowledgments

  /** Do what is due now, and set the one timer for what is due later. */
  #tend() {
    this.#stopTending();
    if (!this.#connection.isThere && !this.#ended) return;
    if (this.#receiver.gapExpired(Date.now())) this.#connection.retryElsewhere();
    else this.#acknowledge();
    const wait = this.#receiver.deadline() - Date.now();
    if (wait === Infinity) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#tend();
    }, Math.max(wait, 0));
  }

  #stopTending() {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  async #acknowledge() {
    const seq = this.#receiver.takeAck(Date.now());
    if (seq === null) return;
    let ok = false;
    const acking = (this.#acking = new AbortController());
    try {
      // keepalive: the last ack is sent even if the page closes right after the end.
      const options = { body: { seq }, keepalive: true, signal: withTimeout(acking.signal, ACK_TIMEOUT_MS) };
      const { status } = await this.#edges.call("POST", `${this.#path()}/ack`, options);
      // A refused ack would be refused again. With 409 it would not: the store is about to get the
      // log back.
      ok = status < 400 || (status < 500 && status !== 409 && status !== 429);
    } catch {
      // It is sent again later, or the ack of a later chunk covers it.
    }
    this.#receiver.ackSettled(ok, Date.now());
    this.#changed();
  }

  // The rest

  async #create() {
    const view = await this.#edges.create(this.#body);
    this.requestId = view.request_id;
    this.#log = view.log_id;
    this.#emit("created", view);
  }

  /** The query with the position (protocol P12). */
  #query() {
    const log = this.#log ? `&log=${encodeURIComponent(this.#log)}` : "";
    return `?after=${this.#receiver.seq}${log}`;
  }

  #path() {
    return `/v1/streams/${encodeURIComponent(this.requestId)}`;
  }

  #changed() {
    this.#tend();
    this.#emit("stats", this.stats);
  }

  #emit(type, detail) {
    this.dispatchEvent(new Told(type, { detail }));
  }
}
