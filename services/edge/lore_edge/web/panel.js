/** "Under the hood": the protocol at work, and two ways to disturb it. */

import { Chart } from "./chart.js";
import { load, save } from "./storage.js";

const byId = (id) => document.getElementById(id);
const POLL_MS = 500;
const MAX_LOG_ENTRIES = 60;
const OPEN_KEY = "lore.panel";
/** How many more polls after the end, while the last ack is under way; then nothing changes. */
const POLLS_AFTER_END = 4;

const REASONS = {
  claimed: "A generator took the request",
  paused: "Window full: decoding paused",
  resumed: "Window open: decoding goes on",
  failed_over: "Another generator took over",
  other_model: "It goes on with another model",
  released: "The generator handed the request back",
  reaped: "Reaped: nobody was reading, the text is kept",
  revived: "Revived: back in the queue",
};
const FILLED = "Window filled and opened again";

export class Panel {
  constructor() {
    byId("panel-toggle").addEventListener("click", () => this.#toggle());
    byId("cut").addEventListener("click", () => this.#cutOrConnect());
    byId("switch").addEventListener("click", () => this.#stream.switchEdge());
    document.addEventListener("visibilitychange", () => this.poll());
    this.#open = load(OPEN_KEY, false);
  }

  /** Whether there is another edge to switch to. */
  canSwitch = false;
  #open;
  #stream = null;
  #chart = null;
  #listening = null;
  #timer = null;
  #polling = false;
  #pollsLeft = 0;
  #startedAt = 0;
  #newest = null;
  #status = null;

  attach(stream) {
    this.#stream = stream;
    this.#chart = new Chart(byId("chart"));
    this.#startedAt = performance.now();
    this.#newest = null;
    this.#status = null;
    byId("log").replaceChildren();
    for (const fact of document.querySelectorAll("[data-fact]")) fact.textContent = "–";
    this.#showWindow(0, 0);
    this.#listen();
    this.#refresh();
    this.#showStats(stream.stats);
    this.poll();
  }

  detach() {
    this.#listening?.abort();
    clearTimeout(this.#timer);
    this.#stream = null;
    this.#refresh();
  }

  #listen() {
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    const on = (type, handler) =>
      this.#stream.addEventListener(type, ({ detail }) => handler(detail), { signal });
    on("created", () => this.poll());
    on("state", (state) => this.#onState(state));
    on("connection", (connection) => this.#onConnection(connection));
    on("stats", (stats) => this.#showStats(stats));
    on("end", ({ status, last_seq }) => this.#onEnd(`${sentence(status)} at seq ${last_seq}`));
    on("error", ({ code }) => this.#onEnd(`Given up: ${code}`));
  }

  #toggle() {
    this.#open = !this.#open;
    save(OPEN_KEY, this.#open);
    this.#refresh();
    this.poll();
  }

  #refresh() {
    const shown = this.#open && this.#stream !== null;
    byId("panel").hidden = !shown;
    byId("page").classList.toggle("with-panel", shown);
    byId("panel-toggle").hidden = this.#stream === null;
    byId("panel-toggle").setAttribute("aria-expanded", String(shown));
    byId("switch").hidden = !this.canSwitch;
    const ended = this.#stream?.ended ?? true;
    byId("cut").disabled = ended;
    byId("switch").disabled = ended;
    const cut = this.#stream?.stats.connection === "cut";
    byId("cut").textContent = cut ? "Reconnect" : "Cut the connection";
    byId("cut").className = cut ? "primary" : "danger";
  }

  #cutOrConnect() {
    if (this.#stream.stats.connection === "cut") this.#stream.connect();
    else this.#stream.disconnect();
  }

  /** Get the JSON view now, and twice a second while somebody can see it change. */
  async poll() {
    clearTimeout(this.#timer);
    const stream = this.#stream;
    if (!this.#open || document.hidden || !stream?.requestId || this.#polling) return;
    this.#polling = true;
    this.#pollsLeft = stream.ended ? this.#pollsLeft - 1 : POLLS_AFTER_END;
    try {
      const view = await stream.view();
      if (stream === this.#stream) this.#showView(view);
    } catch {
      // No edge can be reached at the moment: the next poll tries again.
    } finally {
      this.#polling = false;
    }
    if (stream !== this.#stream) this.poll();
    else if (this.#pollsLeft > 0) this.#timer = setTimeout(() => this.poll(), POLL_MS);
  }

  #onState(state) {
    this.#status = state.status;
    fact("edge", state.edge);
    fact("status", state.status);
    fact("rto", state.rto_ms == null ? "–" : `${Math.round(state.rto_ms)} ms`);
    fact("retransmits", state.retransmits ?? 0);
    if (state.reason === "polled") {
      return; // the connection has reported it
    } else if (state.reason === "open") {
      this.#log(`${state.edge} serves the stream after seq ${this.#stream.stats.seq}`);
    } else if (state.reason === "drain") {
      this.#log(`${state.edge} is shutting down: moving on`);
    } else if (state.reason === "store_lost") {
      this.#log(`${state.edge} cannot reach its store: moving on`);
    } else {
      this.#log(REASONS[state.reason] ?? `${sentence(state.status)} (${state.reason})`);
    }
  }

  #onConnection({ status, polling }) {
    if (status === "open") {
      fact("reading", polling ? "finished responses" : "a stream");
      if (polling) this.#log("Something on the way holds the stream back: reading in parts");
    }
    if (status === "cut" || status === "waiting") fact("edge", "none");
    if (status === "cut") this.#log("You cut the connection");
    if (status === "waiting") this.#log("Connection lost, trying the next edge");
    this.#refresh();
  }

  #onEnd(text) {
    this.#log(text);
    this.#refresh();
    this.poll();
  }

  #showStats({ seq, acked, duplicates, reconnects, polls }) {
    fact("seq", seq);
    fact("acked", acked);
    fact("duplicates", duplicates);
    fact("reconnects", reconnects);
    fact("polls", polls);
  }

  #showView(view) {
    const { status, generated_tokens: generated, acked_tokens: acked, window } = view;
    fact("status", status);
    // Without a stream, only the view tells.
    const told = this.#stream.stats.connection === "open" || status === this.#status;
    if (!told && status === "paused") this.#log(REASONS.paused);
    this.#status = status;
    fact("generated", generated);
    fact("ackedTokens", acked);
    this.#showWindow(generated - acked, window, status === "paused");
    this.#chart.add(performance.now(), generated, acked, acked + window);
  }

  #showWindow(used, size, closed = false) {
    byId("window-used").textContent = used;
    byId("window-size").textContent = size;
    byId("window-closed").hidden = !closed;
    const bar = byId("window-bar");
    bar.setAttribute("aria-valuemax", size);
    bar.setAttribute("aria-valuenow", used);
    bar.classList.toggle("closed", closed);
    bar.firstElementChild.style.width = `${size ? Math.min(100, (100 * used) / size) : 0}%`;
  }

  /** Adds a line, the newest first. A window that fills and opens many times is one line with a count. */
  #log(text) {
    if (text === REASONS.resumed && this.#newest?.text === REASONS.paused) {
      this.#newest.item.remove();
      this.#newest = this.#newest.before;
      text = FILLED;
    }
    if (this.#newest?.text === text) {
      this.#newest.count += 1;
    } else {
      const item = document.createElement("li");
      byId("log").prepend(item);
      this.#newest = { text, count: 1, item, before: this.#newest };
      if (this.#newest.before) this.#newest.before.before = null;
    }
    while (byId("log").childElementCount > MAX_LOG_ENTRIES) byId("log").lastChild.remove();
    const { item, count } = this.#newest;
    const time = document.createElement("time");
    time.textContent = `${((performance.now() - this.#startedAt) / 1000).toFixed(1)} s`;
    item.replaceChildren(time, count > 1 ? `${text} ×${count}` : text);
  }
}

function fact(name, value) {
  document.querySelector(`[data-fact="${name}"]`).textContent = value;
}

const sentence = (word) => word[0].toUpperCase() + word.slice(1);
