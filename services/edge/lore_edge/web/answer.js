/** A conversation's last answer: its text as it arrives, its state, and what can be done with it. */

import { announce, copy } from "./clipboard.js";
import { codeOf } from "./code.js";
import { GO_ON, titleOf } from "./conversation.js";
import { counted, describe, failureText } from "./fares.js";
import { asksOnEnter, drawQuestion } from "./question.js";
import { MarkdownView } from "./render.js";
import { apart } from "./thinking.js";
import { TOOLS } from "./tools.js";
import { drawTurns } from "./turns.js";
import { words, wordsForAnswer } from "./words.js";

const byId = (id) => document.getElementById(id);
/** A person does not notice a window that closes and opens again faster than this. */
const PAUSE_SHOWN_AFTER_MS = 1200;
/** If new text fills more than this share of the screen at once, it is shown from its top. */
const JUMP_SHARE = 0.5;

export class AnswerView {
  /**
   * @param {object} handlers
   * @param {() => void} handlers.onNew
   * @param {() => void} handlers.onRevived
   * @param {(question: string, earlier: object[]) => void} handlers.onAsk gets a question and the
   *   turns before it
   */
  constructor({ onNew, onRevived, onAsk }) {
    this.#onRevived = onRevived;
    this.#onAsk = onAsk;
    // The second click of a double click was meant for the element that was there before.
    const onClick = (id, act) =>
      byId(id).addEventListener("click", (event) => event.detail < 2 && act(event));
    onClick("stop", () => this.#stop());
    onClick("continue", () => this.#revive());
    onClick("more", () => onAsk(GO_ON, this.#turns()));
    onClick("again", () => onAsk(this.#conversation.question, this.#conversation.earlier));
    onClick("copy", () => copy(byId("copy"), this.#parts.answer));
    onClick("answer", ({ target }) => {
      if (target.matches(".code > .copy")) copy(target, codeOf(target.parentNode));
    });
    onClick("share", () => copy(byId("share"), location.href));
    onClick("new", () => onNew());
    byId("follow-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const question = byId("follow").value.trim();
      if (question) onAsk(question, this.#turns());
    });
    asksOnEnter(byId("follow"));
  }

  /** Whether the address of this page opens an answer for others. */
  canShare = false;
  #onRevived;
  #onAsk;
  #stream = null;
  #conversation = null;
  #view = null;
  #text = "";
  /** The text in parts: what the model thought, and its answer. */
  #parts = apart("");
  #shownThought = "";
  #status = null;
  #end = null;
  #frame = null;
  #pause = null;
  #listening = null;

  /**
   * @param {object} stream
   * @param {{question: string, earlier?: {question: string, answer: string}[]}} conversation
   */
  show(stream, conversation) {
    this.leave();
    this.#stream = stream;
    this.#text = "";
    this.#status = null;
    this.#end = null;
    this.#newView();
    this.#parts = apart("");
    this.#shownThought = "";
    byId("thought").replaceChildren();
    byId("thinking").open = false;
    byId("follow").value = "";
    this.#listen();
    this.tell(conversation);
    this.#problem("");
    byId("answer").hidden = false;
    this.#refresh();
  }

  /** Show what was asked. A device that did not ask it learns it after the answer began. */
  tell({ question, earlier = [] }) {
    this.#conversation = { question, earlier };
    const { signal } = this.#listening;
    drawTurns(byId("earlier"), earlier, this.#onAsk, signal);
    byId("asked").replaceChildren(drawQuestion(question, (text) => this.#onAsk(text, earlier)));
    const title = titleOf(earlier[0]?.question || question) || "A shared answer";
    byId("title").textContent = title;
    document.title = `${title} · Lore`;
    this.#refresh();
  }

  /** The question was refused: it stays in sight, with what to do. */
  refuse(error) {
    this.#end = { status: "refused" };
    this.#refresh();
    this.#problem(words(error, { isFollowUp: this.#conversation.earlier.length > 0 }));
  }

  leave() {
    this.#listening?.abort();
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#pause);
    this.#frame = null;
    this.#pause = null;
    this.#stream = null;
    byId("answer").hidden = true;
  }

  /** Scroll to where reading goes on: to the question, or to where its answer will be. */
  focus() {
    byId("asked").querySelector("h2")?.focus({ preventScroll: true });
    if (this.#conversation.earlier.length) byId("asked").scrollIntoView();
    else scrollTo(0, 0);
  }

  #turns() {
    const { question, earlier } = this.#conversation;
    return [...earlier, { question, answer: this.#parts.answer.trim() }];
  }

  #newView() {
    byId("text").replaceChildren();
    this.#view = new MarkdownView(byId("text"), TOOLS);
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

  #take(text) {
    const before = this.#parts;
    this.#text += text;
    this.#parts = apart(this.#text);
    if (!this.#parts.answer.startsWith(before.answer)) this.#newView(); // it was a thought
    if (!before.answer !== !this.#parts.answer || !before.thought !== !this.#parts.thought) {
      this.#refresh();
      if (this.#parts.answer) announce("The answer has started.");
    }
    this.#draw();
  }

  /** Draws at most once a frame, however fast the chunks come. */
  #draw() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      const page = document.documentElement;
      const before = page.scrollHeight;
      const atEnd = before > innerHeight && innerHeight + scrollY >= before - 40;
      const short = before <= innerHeight;
      if (!this.#view.show(this.#parts.answer, !this.#end)) this.#draw();
      this.#think();
      this.#progress();
      const jumped = page.scrollHeight - before > innerHeight * JUMP_SHARE;
      if ((atEnd || short) && !jumped && !this.#end) scrollTo(0, page.scrollHeight);
    });
  }

  /** Shows the thoughts, folded under one line. */
  #think() {
    const { thought, isThinking } = this.#parts;
    byId("thinking").hidden = !thought;
    byId("thinking-title").textContent = isThinking && !this.#end ? "Thinking" : "What it thought first";
    if (thought === this.#shownThought) return;
    const goesOn = thought.startsWith(this.#shownThought);
    if (goesOn) byId("thought").append(thought.slice(this.#shownThought.length));
    else byId("thought").textContent = thought;
    this.#shownThought = thought;
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
    this.#end = { status: "failed", code: error.code };
    this.#draw();
    this.#refresh();
    this.#problem(wordsForAnswer(error));
  }

  async #stop() {
    byId("stop").disabled = true;
    this.#problem("");
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
      this.#problem("");
      this.#onRevived();
    } catch (error) {
      this.#problem(`The answer was not continued. ${words(error)}`);
    }
  }

  #problem(message) {
    byId("answer-problem").textContent = message;
    byId("answer-problem").hidden = !message;
  }

  /** Shows the progress. It is not announced to screen readers, because it changes with every chunk. */
  #progress() {
    const { tokens } = this.#stream.stats;
    byId("progress").textContent = !this.#end && tokens ? counted(tokens) : "";
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
    this.#offer(kind);
  }

  /** Offers what can be done now. */
  #offer(kind) {
    const { question } = this.#conversation;
    const hasEnded = this.#end !== null;
    const isCutShort = this.#end?.finish_reason === "length" && this.#end.status === "done";
    byId("answer").classList.toggle("ended", hasEnded);
    byId("stop").hidden = hasEnded;
    byId("stop").disabled = !this.#stream.requestId;
    byId("continue").hidden = kind !== "reaped";
    byId("more").hidden = !isCutShort || !this.#parts.answer;
    byId("again").hidden = !hasEnded || !question;
    byId("copy").disabled = !this.#parts.answer;
    byId("share").hidden = !this.canShare;
    byId("share").disabled = !this.#stream.requestId;
    byId("follow-form").hidden = !hasEnded || !this.#parts.answer;
  }

  #describe() {
    const { connection, seq } = this.#stream.stats;
    return describe({
      end: this.#end,
      requestId: this.#stream.requestId,
      connection,
      status: this.#status,
      isHeld: this.#pause === null,
      text: this.#parts.answer,
      hasBegun: seq > 0,
    });
  }
}
