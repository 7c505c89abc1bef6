/** One answer on the page: its text as it arrives, how it fares, and what can be done with it. */

import { MarkdownView } from "./render.js";
import { words, wordsForAnswer } from "./words.js";

const byId = (id) => document.getElementById(id);
/** A window that closes and opens again faster than this is no news to a person. */
const PAUSE_SHOWN_AFTER_MS = 1200;
/** Text that fills more than this share of the screen at once is not new: read it from its top. */
const JUMP_SHARE = 0.5;

const ENDINGS = {
  done: (end) => (end.finish_reason === "length" ? "Ended at its length limit" : "Finished"),
  cancelled: () => "Stopped",
  failed: () => "Failed",
};

const HINTS = {
  cancelled: "What was written stays. For a whole answer, ask again.",
  cut: "The answer waits. Reconnect to go on.",
  offline: "The answer goes on by itself once you are connected.",
  reaped: "Continue it, and it goes on where it stopped.",
};

export class AnswerView {
  /** @param {{onNew: () => void, onRevived: () => void}} handlers */
  constructor({ onNew, onRevived }) {
    this.#onRevived = onRevived;
    byId("stop").addEventListener("click", () => this.#stop());
    byId("continue").addEventListener("click", () => this.#revive());
    byId("copy").addEventListener("click", () => copy(byId("copy"), this.#text));
    byId("share").addEventListener("click", () => copy(byId("share"), location.href));
    byId("new").addEventListener("click", onNew);
  }

  #onRevived;
  #stream = null;
  #view = null;
  #text = "";
  #status = null;
  #end = null;
  #frame = null;
  #pause = null;
  #listening = null;

  show(stream, title) {
    this.leave();
    this.#stream = stream;
    this.#text = "";
    this.#status = null;
    this.#end = null;
    byId("text").replaceChildren();
    this.#view = new MarkdownView(byId("text"));
    this.#entitle(title);
    this.#problem("");
    byId("answer").hidden = false;
    this.#listen();
    this.#refresh();
  }

  leave() {
    this.#listening?.abort();
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#pause);
    this.#frame = null;
    this.#stream = null;
    byId("answer").hidden = true;
  }

  #listen() {
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    const on = (type, handler) =>
      this.#stream.addEventListener(type, ({ detail }) => handler(detail), { signal });
    on("created", () => this.#refresh());
    on("text", ({ text }) => this.#take(text));
    on("state", (state) => this.#onState(state));
    on("connection", () => this.#refresh());
    on("end", (end) => this.#onEnd(end));
    on("error", (error) => this.#onError(error));
    for (const type of ["online", "offline"]) {
      addEventListener(type, () => this.#refresh(), { signal });
    }
  }

  #entitle(title) {
    byId("title").textContent = title ?? "A shared answer";
    document.title = `${title ?? "A shared answer"} · Lore`;
  }

  #take(text) {
    const isFirst = !this.#text;
    this.#text += text;
    if (isFirst) {
      this.#refresh();
      announce("The answer has started.");
    }
    this.#draw();
  }

  /** At most once a frame, however fast the chunks come. */
  #draw() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      const page = document.documentElement;
      const before = page.scrollHeight;
      const atEnd = before > innerHeight && innerHeight + scrollY >= before - 40;
      const short = before <= innerHeight;
      if (!this.#view.show(this.#text, !this.#end)) this.#draw();
      this.#progress();
      const jumped = page.scrollHeight - before > innerHeight * JUMP_SHARE;
      if ((atEnd || short) && !jumped && !this.#end) scrollTo(0, page.scrollHeight);
    });
  }

  #onState({ status }) {
    this.#status = status;
    clearTimeout(this.#pause);
    this.#pause = null;
    if (status !== "paused") this.#refresh();
    else this.#pause = setTimeout(() => this.#pausedForLong(), PAUSE_SHOWN_AFTER_MS);
  }

  #pausedForLong() {
    this.#pause = null;
    this.#refresh();
  }

  #onEnd(end) {
    this.#end = end;
    this.#draw();
    this.#refresh();
    if (end.status === "failed") this.#problem(failureText(end.error));
  }

  #onError(error) {
    this.#end = { status: "failed" };
    this.#draw();
    this.#refresh();
    this.#problem(wordsForAnswer(error));
  }

  async #stop() {
    byId("stop").disabled = true;
    try {
      await this.#stream.stop();
    } catch (error) {
      this.#problem(`The answer was not stopped. ${words(error)}`);
      byId("stop").disabled = false;
    }
  }

  async #revive() {
    try {
      await this.#stream.revive();
      this.#onRevived();
    } catch (error) {
      this.#problem(`The answer was not continued. ${words(error)}`);
    }
  }

  #problem(message) {
    byId("answer-problem").textContent = message;
    byId("answer-problem").hidden = !message;
  }

  /** Not announced: it changes with every chunk. */
  #progress() {
    const { tokens } = this.#stream.stats;
    byId("progress").textContent = !this.#end && tokens ? `${tokens} tokens` : "";
  }

  #refresh() {
    const { kind, text, hint = "" } = this.#describe();
    const status = byId("status");
    if (status.dataset.kind !== kind || byId("status-text").textContent !== text) {
      status.dataset.kind = kind;
      byId("status-text").textContent = text;
      byId("status-hint").textContent = hint;
      announce(hint ? `${text}. ${hint}` : text);
    }
    this.#progress();
    byId("text").setAttribute("aria-busy", String(kind === "live"));
    byId("text").classList.toggle("growing", kind === "live");
    byId("stop").hidden = this.#end !== null;
    byId("stop").disabled = !this.#stream?.requestId;
    byId("continue").hidden = kind !== "reaped";
    byId("copy").disabled = !this.#text;
    byId("share").disabled = !this.#stream?.requestId;
  }

  #describe() {
    if (this.#end) {
      const { status, usage } = this.#end;
      const tokens = usage?.completion_tokens ? ` · ${usage.completion_tokens} tokens` : "";
      return { kind: status, text: ENDINGS[status](this.#end) + tokens, hint: HINTS[status] };
    }
    const { connection, seq } = this.#stream.stats;
    if (!this.#stream.requestId) return { kind: "waiting", text: "Asking" };
    if (connection === "cut") return { kind: "cut", text: "Disconnected", hint: HINTS.cut };
    if (connection !== "open" && !navigator.onLine) {
      return { kind: "cut", text: "You are offline", hint: HINTS.offline };
    }
    if (connection !== "open") {
      const text = seq ? "Connection lost, connecting again" : "Connecting";
      return { kind: "waiting", text };
    }
    if (this.#status === "queued") return { kind: "waiting", text: "Waiting for its turn" };
    if (this.#status === "reaped") {
      return { kind: "reaped", text: "Set aside while nobody was reading", hint: HINTS.reaped };
    }
    if (this.#status === "paused" && this.#pause === null) {
      return { kind: "paused", text: "Paused until this is read" };
    }
    return { kind: "live", text: this.#text ? "Writing" : "Thinking" };
  }
}

function failureText(error) {
  const why = error ? ` (${error})` : "";
  return `The answer could not be finished${why}. What is here stays; ask again for all of it.`;
}

/** Said once, politely: the page announces how the answer fares, never its single words. */
function announce(text) {
  byId("announce").textContent = text;
}

async function copy(button, text) {
  const label = button.dataset.label ??= button.textContent;
  const done = await toClipboard(text);
  button.textContent = done ? "Copied" : "Could not copy";
  announce(button.textContent);
  setTimeout(() => (button.textContent = label), 1500);
}

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // The clipboard API is missing on plain http other than localhost.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "sr";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
