/**
 * A reader's decisions, without I/O: order, duplicates, gaps, and when to acknowledge.
 *
 * Time comes in as `now` (milliseconds on any one clock), and `deadline()` returns the next
 * deadline, so that the shell around it needs only one timer (protocol P1, P9, P11).
 */

/** Acks open the window. One is due for each quarter of it, or soon after the first new chunk. */
const ACKS_PER_WINDOW = 4;
const ACK_DELAY_MS = 400;
/** How many chunks to keep behind a gap. More are dropped, and sent again. */
const MAX_EARLY_CHUNKS = 1024;
/** A gap that retransmission has not filled after this time is filled by a new connection. */
const GAP_TIMEOUT_MS = 3000;
const ACK_RETRY_MIN_MS = 250;
const ACK_RETRY_MAX_MS = 5000;

export class Receiver {
  /** @param {number} after the seq up to which the reader already has everything */
  constructor(after = 0) {
    this.seq = after;
    this.acked = 0;
    this.duplicates = 0;
    this.window = 32;
    this.#highest = after;
    this.#sent = after;
  }

  #highest;
  /** The answer's tokens up to `seq`, as far as the edge says them. */
  #tokens = 0;
  #sentTokens = 0;

  #early = new Map();
  #gapSince = null;

  #sent;
  #inFlight = null;
  #owedSince = null;
  #urgent = false;
  #failures = 0;
  #retryAt = 0;

  /** Tokens of the answer up to `seq`; 0 if the edge does not say. */
  get tokens() {
    return this.#tokens;
  }

  get early() {
    return this.#early.size;
  }

  /** Whether a chunk later than the next seq has arrived. */
  get gap() {
    return this.#highest > this.seq;
  }

  /**
   * Take one chunk. Returns the text that is now in order, which may be empty.
   * @param {number} tokens how many the answer has up to here; an older edge does not say
   */
  take(seq, text, now, tokens = 0) {
    if (seq <= this.seq || this.#early.has(seq)) {
      this.duplicates += 1;
      this.#urgent = true;
      return "";
    }
    this.#highest = Math.max(this.#highest, seq);
    if (seq > this.seq + 1) {
      if (this.#early.size < MAX_EARLY_CHUNKS) this.#early.set(seq, [text, tokens]);
      this.#gapSince ??= now;
      return "";
    }
    return this.#advance(text, tokens, now);
  }

  /** Take all chunks up to `seq` in one piece, as a poll brings them. Returns the new text. */
  takeText(seq, text, now, tokens) {
    if (seq <= this.seq) return "";
    this.#owedSince ??= now;
    this.#tokens = tokens || this.#tokens + seq - this.seq;
    this.seq = seq;
    this.#early.clear();
    this.#highest = seq;
    this.#gapSince = null;
    return text;
  }

  #advance(text, tokens, now) {
    this.#owedSince ??= now;
    this.#count(tokens);
    while (this.#early.has(this.seq + 1)) {
      const [more, upToHere] = this.#early.get(this.seq + 1);
      this.#count(upToHere);
      text += more;
      this.#early.delete(this.seq);
    }
    if (this.#gapSince !== null) {
      this.#urgent = true;
      this.#gapSince = this.gap ? now : null;
    }
    return text;
  }

  #count(tokens) {
    this.seq += 1;
    this.#tokens = tokens || this.#tokens + 1;
  }

  /** The log ends at `lastSeq`. Returns whether everything is here; acknowledges at once if so. */
  end(lastSeq, now) {
    this.#highest = Math.max(this.#highest, lastSeq);
    if (this.gap) {
      this.#gapSince ??= now;
      return false;
    }
    this.#urgent = this.seq > this.acked;
    return true;
  }

  /** Whether a gap has waited too long: reconnect at `seq`. */
  gapExpired(now) {
    return this.#gapSince !== null && now - this.#gapSince >= GAP_TIMEOUT_MS;
  }

  /** The connection is gone. The next one starts at `seq`, so chunks behind a gap are dropped. */
  restarted() {
    this.#gapSince = null;
    this.#highest = this.seq;
    this.#early.clear();
    this.#retryAt = 0;
    this.#failures = 0;
  }

  /** The seq to acknowledge now, or null. After a seq, call `ackSettled` exactly once. */
  takeAck(now) {
    if (this.#inFlight !== null || now < this.#ackAt()) return null;
    this.#inFlight = this.seq;
    this.#sent = Math.max(this.#sent, this.seq);
    this.#sentTokens = this.#tokens;
    this.#urgent = false;
    this.#owedSince = null;
    return this.#inFlight;
  }

  /** @param {boolean} ok false when the ack must be sent again */
  ackSettled(ok, now) {
    if (ok) {
      this.acked = Math.max(this.acked, this.#inFlight);
      this.#failures = 0;
      this.#retryAt = 0;
    } else {
      this.#sent = Math.min(this.#sent, this.acked);
      this.#urgent = true;
      this.#retryAt = now + Math.min(ACK_RETRY_MAX_MS, ACK_RETRY_MIN_MS * 2 ** this.#failures);
      this.#failures += 1;
    }
    this.#inFlight = null;
  }

  #ackAt() {
    if (this.seq === 0) return Infinity;
    const news = this.#tokens - this.#sentTokens;
    if (this.#urgent || news * ACKS_PER_WINDOW >= this.window) return this.#retryAt;
    if (this.seq <= this.#sent || this.#owedSince === null) return Infinity;
    return Math.max(this.#retryAt, this.#owedSince + ACK_DELAY_MS);
  }

  /** When `takeAck` or `gapExpired` next has a result; Infinity for never. */
  deadline() {
    const gapAt = this.#gapSince === null ? Infinity : this.#gapSince + GAP_TIMEOUT_MS;
    return Math.min(gapAt, this.#inFlight === null ? this.#ackAt() : Infinity);
  }
}

/** The pause before attempt `n` (from 0): exponential with full jitter, in milliseconds. */
export function backoff(n, random = Math.random) {
  return random() * Math.min(10_000, 250 * 2 ** n);
}
