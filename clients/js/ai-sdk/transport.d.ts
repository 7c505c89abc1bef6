/** Has the structure of a `ChatTransport` of the AI SDK (`ai` 7), which is not imported here. */

import type { Credentials } from "../lib/lore.js";

export interface LoreChatTransportOptions {
  /** Base URLs of the edges, the preferred one first. */
  urls: string[];
  /** An API key or a JWT. Whoever reads the page can see a page's own key. */
  apiKey?: string;
  credentials?: Credentials | null;
  /** More members of the body of `POST /v1/streams`, such as `max_tokens`. */
  body?: Record<string, unknown>;
  /** Where the request of each chat is kept, such as `localStorage`. */
  storage?: {
    getItem(name: string): string | null;
    setItem(name: string, value: string): void;
    removeItem(name: string): void;
  };
}

export type LoreChunk =
  | { type: "start"; messageId: string }
  | { type: "text-start"; id: string }
  | { type: "text-delta"; id: string; delta: string }
  | { type: "text-end"; id: string }
  | { type: "finish"; finishReason: "stop" | "length" | "other" }
  | { type: "abort"; reason?: string }
  | { type: "error"; errorText: string };

interface UIMessageLike {
  role: "system" | "user" | "assistant";
  parts: readonly { type: string }[];
}

export class LoreChatTransport {
  constructor(options: LoreChatTransportOptions);
  readonly resumeStreamIsReplay: boolean;
  sendMessages(options: {
    chatId: string;
    messages: readonly UIMessageLike[];
    abortSignal: AbortSignal | undefined;
    body?: object;
  }): Promise<ReadableStream<LoreChunk>>;
  /** The running answer, from its beginning; null if there is none. */
  reconnectToStream(options: {
    chatId: string;
    abortSignal?: AbortSignal;
  }): Promise<ReadableStream<LoreChunk> | null>;
  /** Cancel the running answer for good. `stop` of `useChat` only stops reading it. */
  stop(chatId: string): Promise<void>;
}
