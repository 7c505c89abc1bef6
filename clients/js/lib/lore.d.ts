/** Reads Lore's answer streams in browsers and Node 18 or newer. PROTOCOL.md says what each field means. */

export type Status =
  | "queued" | "generating" | "paused" | "reaped" | "done" | "failed" | "cancelled";

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

/** The JSON view of a request. */
export interface View {
  request_id: string;
  status: Status;
  /** The text so far. */
  text: string;
  log_id: string;
  next_seq: number;
  acked_seq: number;
  generated_tokens: number;
  acked_tokens: number;
  window: number;
  prompt_tokens: number;
  finish_reason: string | null;
  error: string | null;
  stream_url: string;
  edge: string;
  [more: string]: unknown;
}

/** What an edge says of the request. */
export interface State {
  status: Status;
  /** Such as `open`, `claimed`, `paused`, `resumed` or `drain`; `polled` when a poll has told it. */
  reason: string;
  log_id?: string;
  edge?: string;
  window?: number;
  acked_seq?: number;
  generated_tokens?: number;
  rto_ms?: number | null;
  retransmits?: number;
  silence_ms?: number;
}

export interface End {
  status: "done" | "failed" | "cancelled";
  finish_reason: string | null;
  error: string | null;
  last_seq: number;
  usage?: Usage;
}

export interface ConnectionInfo {
  status: "connecting" | "open" | "waiting" | "cut" | "closed";
  edge: string;
  /** Finished responses are read, as something on the way holds the stream back. */
  polling: boolean;
}

export interface Stats {
  seq: number;
  acked: number;
  tokens: number;
  duplicates: number;
  /** Chunks that wait for one before them. */
  early: number;
  reconnects: number;
  polls: number;
  edge: string;
  connection: ConnectionInfo["status"];
  polling: boolean;
}

/** For edges that ask who calls, where somebody can be asked for another key. */
export interface Credentials {
  /** What each call carries. */
  headers(): Promise<Record<string, string>>;
  /** A call with these headers was refused. Whether another try may do better. */
  refused(headers: Record<string, string>): Promise<boolean>;
}

export interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

/** The body of `POST /v1/streams`: a question, messages, or a question after messages. */
export type Create = ({ question: string; messages?: Message[] } | { messages: Message[] }) & {
  max_tokens?: number;
  temperature?: number;
  top_p?: number;
  top_k?: number;
  seed?: number;
  metadata?: Record<string, string>;
  [more: string]: unknown;
};

interface Common {
  /** Base URLs of the edges, the preferred one first. */
  urls: string[];
  /** The seq up to which the text is already here. */
  after?: number;
  /** The log that `after` counts in. */
  log?: string | null;
  /** An API key or a JWT. */
  apiKey?: string;
  /** In place of `apiKey`. */
  credentials?: Credentials | null;
}

/** Either a request to read, or one to make. */
export type Options = Common &
  ({ requestId: string; create?: null } | { create: Create; requestId?: null });

export interface Events {
  created: CustomEvent<View>;
  /** The next piece of the answer, in order, exactly once. */
  text: CustomEvent<{ text: string; seq: number }>;
  state: CustomEvent<State>;
  /** Nothing comes after it. */
  end: CustomEvent<End>;
  /** Final: this reader cannot go on. */
  error: CustomEvent<{ code: string; message: string }>;
  connection: CustomEvent<ConnectionInfo>;
  stats: CustomEvent<Stats>;
}

/** An answer of an edge that is an error, with the code that the edge gave it. */
export class ApiError extends Error {
  constructor(code: string, message: string);
  readonly code: string;
}

export class LoreStream extends EventTarget {
  constructor(options: Options);

  /** Null until the request was made. */
  readonly requestId: string | null;
  get stats(): Stats;
  /** The base URL of the edge in use. */
  get edge(): string;
  get ended(): boolean;

  /** Start reading, or read on after `disconnect`. Throws ApiError if nothing was created. */
  connect(): Promise<void>;
  /** Stop listening. The request lives on. */
  disconnect(): void;
  /** Cancel the request for good. What was said before still comes, then `end`. */
  stop(): Promise<void>;
  /** Ask for a reaped request to be continued. */
  revive(): Promise<View>;
  /** The JSON view, from any edge that answers. */
  view(): Promise<View>;
  /** What the answer was asked with: users' and the assistant's messages. */
  messages(): Promise<Message[]>;
  /** Read on from the next edge in the list. */
  switchEdge(): void;

  addEventListener<Name extends keyof Events>(
    type: Name,
    listener: (event: Events[Name]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}
