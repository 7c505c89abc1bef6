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

/** The request's state, from an edge. */
export interface State {
  status: Status;
  /** Such as `open`, `claimed`, `paused`, `resumed` or `drain`; `polled` if a poll brought it. */
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
  /** Whether it reads finished responses, because something on the way holds the stream back. */
  polling: boolean;
}

export interface Stats {
  seq: number;
  acked: number;
  tokens: number;
  duplicates: number;
  /** Chunks that wait for an earlier one. */
  early: number;
  reconnects: number;
  polls: number;
  edge: string;
  connection: ConnectionInfo["status"];
  polling: boolean;
}

/** Credentials for edges with authentication, where a person can enter another key. */
export interface Credentials {
  /** The headers of each call. */
  headers(): Promise<Record<string, string>>;
  /** A call with these headers was refused. Resolves to whether to try again. */
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
  /** The most tokens a second that the reader takes while others wait; 0: as fast as possible. */
  pace?: number;
  metadata?: Record<string, string>;
  [more: string]: unknown;
};

interface Common {
  /** Base URLs of the edges, the preferred one first. */
  urls: string[];
  /** The seq up to which the caller already has the text. */
  after?: number;
  /** The log in which `after` counts. */
  log?: string | null;
  /** An API key or a JWT. */
  apiKey?: string;
  /** In place of `apiKey`. */
  credentials?: Credentials | null;
}

/** Either a request to read, or one to create. */
export type Options = Common &
  ({ requestId: string; create?: null } | { create: Create; requestId?: null });

export interface Events {
  created: CustomEvent<View>;
  /** The next piece of the answer, in order, exactly once. */
  text: CustomEvent<{ text: string; seq: number }>;
  state: CustomEvent<State>;
  /** The last event. */
  end: CustomEvent<End>;
  /** Final: this reader cannot continue. */
  error: CustomEvent<{ code: string; message: string }>;
  connection: CustomEvent<ConnectionInfo>;
  stats: CustomEvent<Stats>;
}

/** An error response of an edge, with the code that the edge gave it. */
export class ApiError extends Error {
  constructor(code: string, message: string);
  readonly code: string;
}

export class LoreStream extends EventTarget {
  constructor(options: Options);

  /** Null until the request is created. */
  readonly requestId: string | null;
  get stats(): Stats;
  /** The base URL of the edge in use. */
  get edge(): string;
  get ended(): boolean;

  /** Start reading, or read on after `disconnect`. Throws ApiError if no request was created. */
  connect(): Promise<void>;
  /** Stop reading. The request lives on. */
  disconnect(): void;
  /** Cancel the request for good. Text generated so far still comes, then `end`. */
  stop(): Promise<void>;
  /** Revive a reaped request. */
  revive(): Promise<View>;
  /** The JSON view, from any edge that answers. */
  view(): Promise<View>;
  /** The messages before the answer: the users' and the assistant's. */
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
