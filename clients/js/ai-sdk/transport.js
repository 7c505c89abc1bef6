/**
 * A transport for the AI SDK's `useChat`: the page talks to Lore's edges directly, and an answer
 * survives lost connections and reloads. Nothing of the SDK is imported here.
 *
 *     const transport = new LoreChatTransport({ urls: ["https://lore.example"], storage: localStorage });
 *     useChat({ id, transport, resume: true });
 *
 * `storage` keeps which request belongs to a chat, so that a reload finds it.
 */

import { LoreStream } from "../lib/lore.js";

const PREFIX = "lore.chat.";
/** Lore's finish reasons that the SDK knows too. */
const FINISH_REASONS = new Set(["stop", "length"]);

export class LoreChatTransport {
  /** A resumed answer comes from its beginning, and replaces what was shown. */
  resumeStreamIsReplay = true;

  /**
   * @param {object} options as for LoreStream: `urls`, `apiKey`, `credentials`; and
   * @param {object} [options.body] more members of `POST /v1/streams`, such as `max_tokens`
   * @param {Pick<Storage, "getItem" | "setItem" | "removeItem">} [options.storage] where the
   *   request of each chat is kept; without it, in this object only
   */
  constructor({ urls, apiKey, credentials, body = {}, storage = new MemoryStorage() }) {
    this.#edges = { urls, apiKey, credentials };
    this.#body = body;
    this.#storage = storage;
  }

  #edges;
  #body;
  #storage;

  /** Create a request. Throws if none was created; TypeError for content other than text. */
  async sendMessages({ chatId, messages, body, abortSignal }) {
    const create = { ...this.#body, ...body, messages: messages.map(asText) };
    this.#storage.removeItem(PREFIX + chatId);
    const stream = new LoreStream({ ...this.#edges, create });
    stream.addEventListener("created", ({ detail }) => {
      this.#storage.setItem(PREFIX + chatId, detail.request_id);
    });
    return this.#read(chatId, stream, abortSignal);
  }

  /** The running answer, from its beginning; null if there is none. */
  async reconnectToStream({ chatId, abortSignal }) {
    const requestId = this.#storage.getItem(PREFIX + chatId);
    if (!requestId) return null;
    return this.#read(chatId, new LoreStream({ ...this.#edges, requestId }), abortSignal);
  }

  /**
   * Cancel the running answer for good (protocol P14). `stop` of `useChat` only stops reading it: the
   * SDK aborts a reader whenever another one replaces it.
   */
  async stop(chatId) {
    const requestId = this.#storage.getItem(PREFIX + chatId);
    if (!requestId) return;
    this.#forget(chatId, requestId);
    const stream = new LoreStream({ ...this.#edges, requestId });
    await stream.stop();
    stream.disconnect();
  }

  /** Forget the chat's request, unless the chat has asked something else meanwhile. */
  #forget(chatId, requestId) {
    const name = PREFIX + chatId;
    if (this.#storage.getItem(name) === requestId) this.#storage.removeItem(name);
  }

  async #read(chatId, stream, abortSignal) {
    await stream.connect();
    return new ReadableStream({
      start: (controller) => {
        const id = stream.requestId;
        let isOver = false;
        const end = (...chunks) => {
          if (isOver) return;
          isOver = true;
          for (const chunk of chunks) controller.enqueue(chunk);
          controller.close();
        };
        const leave = () => {
          stream.disconnect();
          end({ type: "abort" });
        };
        controller.enqueue({ type: "start", messageId: id });
        controller.enqueue({ type: "text-start", id });
        stream.addEventListener("text", ({ detail }) => {
          if (!isOver) controller.enqueue({ type: "text-delta", id, delta: detail.text });
        });
        stream.addEventListener("end", ({ detail }) => {
          this.#forget(chatId, id);
          end({ type: "text-end", id }, lastChunk(detail));
        });
        stream.addEventListener("error", ({ detail }) => {
          this.#forget(chatId, id);
          end({ type: "text-end", id }, { type: "error", errorText: detail.message });
        });
        abortSignal?.addEventListener("abort", leave);
        if (abortSignal?.aborted) leave();
      },
      cancel: () => stream.disconnect(),
    });
  }
}

function lastChunk({ status, finish_reason, error }) {
  if (status === "failed") return { type: "error", errorText: error ?? "The answer failed." };
  if (status === "cancelled") return { type: "abort", reason: "the request was stopped" };
  return { type: "finish", finishReason: FINISH_REASONS.has(finish_reason) ? finish_reason : "other" };
}

const asText = ({ role, parts }) => {
  const other = parts.find(({ type }) => type === "file");
  if (other) throw new TypeError("Lore takes text alone, and this message has a file");
  const texts = parts.filter(({ type }) => type === "text");
  return { role, content: texts.map(({ text }) => text).join("") };
};

class MemoryStorage {
  #items = new Map();
  getItem = (name) => this.#items.get(name) ?? null;
  setItem = (name, value) => this.#items.set(name, value);
  removeItem = (name) => this.#items.delete(name);
}
